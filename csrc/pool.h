/* SPDX-License-Identifier: MIT
 *
 * The blocks of one side, private memory of the sender: which parts of its pool are lent, and to
 * which number in blocks_returned each belongs. pool.c tells the whole.
 */
#ifndef RB_POOL_H
#define RB_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "ends.h"
#include "layout.h"

struct rb_producer;

/* A message of at most so many bytes is copied into its block in one call. */
#define RB_BLOCK_PART (16ULL << 20)

/* A block that is in use. The blocks in use are in a circle, in the order of the pool; the note
 * behind the last number is the circle's end. The others are in a list by `after`. */
struct rb_block_note {
	uint64_t start, stop; /* in the pool, in whole pages */
	uint32_t before, after;
	uint64_t index;  /* of the frame that lends it */
	uint8_t lending; /* counts, from 1 to 255 and around */
};

struct rb_pool {
	uint64_t least;   /* bytes of a payload that goes by reference; UINT64_MAX: none does */
	uint64_t bytes;   /* of the pool */
	bool copies;      /* what finds no free block goes through the ring, and does not wait */
	uint64_t needed;  /* bytes of the block that the last message did not find; 0: it lacks none
			   */
	rb_owned memory;  /* made for the first payload that goes by reference */
	bool given;       /* or made with the pipe, so that the receiver has it already */
	uint8_t *start;   /* of the mapping, or NULL */
	uint64_t reached; /* so many bytes of it have memory behind them */
	struct rb_block_note *notes;
	uint32_t filling;  /* the block that a message is copied into part by part, or RB_BLOCKS */
	uint32_t unused;   /* the first of the numbers that are not in use, or RB_BLOCKS */
	uint32_t reserved; /* the block that is written in place, or RB_BLOCKS */
	uint64_t reserved_for; /* the reservation that it belongs to */
};

/* pool.c */
int rb_pool_take(struct rb_producer *producer, uint64_t length, uint32_t *block);
bool rb_pool_has(struct rb_producer *producer, uint64_t length);
void rb_pool_give_up(struct rb_pool *pool, uint32_t block);
void rb_pool_close(struct rb_pool *pool);
void rb_pool_free(struct rb_pool *pool);

#endif
