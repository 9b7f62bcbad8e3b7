/* SPDX-License-Identifier: MIT
 *
 * What is passed over the control socket once the two sides have met; see passed.c.
 */
#ifndef RB_PASSED_H
#define RB_PASSED_H

#include "channel.h"

/* The datagrams that pass something. */
enum { RB_PASSES_TIMER = 't', RB_PASSES_POOL = 'p' };
/* And one that passes nothing: the writer lets this reader go (readers.c). */
enum { RB_LETS_GO = 'l' };

int rb_pass(struct rb_producer *producer, char what, int fd);
int rb_take_passed(rb_channel *channel);
int rb_take_given_pools(rb_channel *channel, const int *pools);

#endif
