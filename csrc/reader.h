/* SPDX-License-Identifier: MIT
 *
 * One reader among many: reader.c tells the whole.
 */
#ifndef RB_READER_H
#define RB_READER_H

#include "channel.h"

/* Whether nothing that this side has read, from an index of the ring on, can have been written anew
 * meanwhile. To be asked after the reading, before anything read is believed. */
static inline bool rb_is_whole(const struct rb_consumer *consumer, uint64_t index)
{
	if (!consumer->one_of_many)
		return true;
	/* (I) pairs with the fence in rb_readers_claim_to. Asked before the reading, or without the
	 * fence, it would miss what is written meanwhile. */
	rb_fence_acquire();
	return rb_load_relaxed(&consumer->theirs->claim_index) - index <= consumer->count;
}

int rb_torn(rb_channel *channel);

/* Whether the frame that rb_peek found, or the records that rb_borrow lent, are whole after the
 * caller has read them. If not, the caller believes nothing and has taken nothing, and *status is
 * what rb_torn returns. */
static inline bool rb_still_whole(rb_channel *channel, int *status)
{
	if (rb_is_whole(&channel->consumer, channel->consumer.frame.index))
		return true;
	*status = rb_torn(channel);
	return false;
}

#endif
