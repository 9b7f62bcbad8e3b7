/* SPDX-License-Identifier: MIT
 *
 * What boost.cpp has for one_by_one.c: the loops of both sides, as boost is used inline, on a
 * queue in memory that both processes have mapped.
 */
#ifndef RB_BENCH_QUEUES_H
#define RB_BENCH_QUEUES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUEUE_BYTES 65536 /* of elements, whatever their size */
#define QUEUE_STEP 64     /* elements between two looks at the clock */

/* Each returns how many elements it moved; size is 8 or 64. */
uint64_t boost_memory(uint64_t size); /* how many bytes a queue takes */
void boost_make(void *memory, uint64_t size);
uint64_t boost_send_until(void *memory, uint64_t size, uint64_t over_ns);
uint64_t boost_take_all(void *memory, uint64_t size, const uint64_t *done, uint64_t *wrong);

#ifdef __cplusplus
}
#endif

#endif
