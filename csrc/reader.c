/* SPDX-License-Identifier: MIT
 *
 * One writer, many readers: the reader's side. readers.c has the other one.
 *
 * A reader is a consumer whose `theirs` is the writer's area, as ever, and whose `mine` is its own
 * control page. All that a consumer does is as in any stream. What is different:
 *
 *     The writer may overwrite what this side reads: always if the ring keeps the newest only;
 *     otherwise when it has let this side go. So whatever was read is believed only after
 *     rb_is_whole, a frame header as well as a payload. If it is not whole, rb_overtaken says how
 *     to go on.
 *
 *     The entries that this side did not get are counted. A message has its number in the place of
 *     its token; a record's number is its index.
 */
#include <string.h>

#include "blocks.h"
#include "life.h"
#include "quick.h"
#include "reader.h"

/* Tries to find an entry that stays whole. Only a writer that fills the ring again and again within
 * a few nanoseconds makes more of them necessary. */
#define TRIES 1000

/* ---- blocks ---- */

/* For each block, the last lending of it that this side has begun to take. They lie where the slots
 * of this side would lie, had it a ring. */
static uint8_t *taken_of(rb_channel *channel)
{
	return channel->producer.slots;
}

static void mark(rb_channel *channel, const rb_block *block)
{
	rb_store_release_byte(&taken_of(channel)[block->number], (uint8_t)block->lending);
}

/* Before this side looks at a block. 0, or -ESTALE when the writer may have overwritten it. */
int rb_mark_block(rb_channel *channel, const rb_block *block)
{
	struct rb_consumer *consumer = &channel->consumer;

	mark(channel, block);
	/* (L) pairs with the fence in rb_readers_returned: either the writer sees that this side
	 * takes the block, or we see that the message counts as overwritten. */
	rb_fence_full();
	consumer->marked = true;
	return rb_is_whole(consumer, consumer->next) ? 0 : -ESTALE;
}

/* This side goes on, or closes, without the frame that it peeked at. */
void rb_unmark_block(rb_channel *channel)
{
	if (channel->consumer.marked)
		rb_block_return(channel, &channel->consumer.frame.block);
	channel->consumer.marked = false;
}

/* Gives back the blocks of the messages before `stop`, which this side passes over. The writer
 * waits for this side, so they are whole. */
static void return_passed(rb_channel *channel, uint64_t stop)
{
	const struct rb_consumer *consumer = &channel->consumer;

	for (uint64_t index = consumer->next; (int64_t)(stop - index) > 0;) {
		const uint8_t *slot = rb_consumer_slot(consumer, index);
		struct rb_frame_header header;
		struct rb_block_place place;
		memcpy(&header, slot, sizeof(header));
		memcpy(&place, slot + sizeof(header), sizeof(place));
		if (!rb_is_whole(consumer, index))
			return; /* it was let go meanwhile */
		rb_block block = {.number = place.block, .lending = place.lending};
		if (header.flags & RB_FLAG_BLOCK && block.number < RB_BLOCKS) {
			mark(channel, &block);
			rb_block_return(channel, &block);
		}
		index += rb_slots_of(header.length);
	}
}

/* ---- going on ---- */

/* Goes on at an entry that the writer has told, if that is further on and is whole. */
static bool resume_at(rb_channel *channel, const uint64_t *told)
{
	struct rb_consumer *consumer = &channel->consumer;
	/* In this order, so that the entry lies before `write`. */
	uint64_t start = rb_load_acquire(told);
	uint64_t write = rb_load_acquire(&consumer->theirs->write_index);

	if ((int64_t)(start - consumer->next) < 0 || write - start > consumer->count ||
	    !rb_is_whole(consumer, start))
		return false;
	if (consumer->records)
		rb_count(&consumer->missed, start - consumer->next);
	rb_unmark_block(channel);
	consumer->read = consumer->next = start;
	consumer->write_seen = write;
	return true;
}

/* What was found at `next` is not whole: goes on further on. Returns 0; -EAGAIN when nothing that
 * stays whole was found; -ETIMEDOUT when the writer has let this side go; -EBADF when this side has
 * closed meanwhile, in a signal handler or another thread. */
int rb_overtaken(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	const struct rb_control *theirs = consumer->theirs;

	/* The writer waits for nobody who has closed. */
	if (rb_dead(channel))
		return rb_dead(channel);
	if (!consumer->takes_newest)
		return rb_note_peer_gone(channel, -ETIMEDOUT);
	for (int i = 0; i < TRIES; i++) {
		if (resume_at(channel, &theirs->resume_index) ||
		    resume_at(channel, &theirs->newest_index))
			return 0;
		rb_cpu_relax();
	}
	/* Not even the newest: the pool of its blocks is small, or the writer is no good one. */
	uint64_t write = rb_load_acquire(&theirs->write_index);
	if (consumer->records)
		rb_count(&consumer->missed, write - consumer->next);
	rb_unmark_block(channel);
	consumer->read = consumer->next = consumer->write_seen = write;
	return -EAGAIN;
}

/* What the caller has read is not whole. Returns -ESTALE when this side goes on at another entry,
 * or -ETIMEDOUT as above. */
int rb_torn(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (consumer->records)
		consumer->next = consumer->read; /* what was lent counts as missed */
	int status = rb_overtaken(channel);
	return !status || status == -EAGAIN ? -ESTALE : status;
}

/* Learns the number of the message at `next`, so that from there on those that are missed can be
 * counted. False when that is not whole. */
static bool learn_number(struct rb_consumer *consumer)
{
	struct rb_frame_header header;

	memcpy(&header, rb_consumer_slot(consumer, consumer->next), sizeof(header));
	if (!rb_is_whole(consumer, consumer->next))
		return false;
	if (!(header.flags & RB_FLAG_MORE)) /* the first piece has a length there */
		consumer->number = header.token;
	return true;
}

/* Begins where the writer lets this side begin; or at the newest message, if the writer has
 * overwritten that one, because nobody knows its number any more. */
void rb_reader_begin(struct rb_consumer *consumer, uint64_t first)
{
	consumer->read = consumer->next = rb_load_relaxed(&consumer->mine->read_index);
	if (consumer->next == first)
		consumer->number = 1; /* of the first message */
	else if (consumer->takes_newest && !consumer->records)
		for (int i = 0; !learn_number(consumer) && i < TRIES; i++)
			consumer->read = consumer->next =
				rb_load_acquire(&consumer->theirs->newest_index);
	consumer->write_seen = consumer->next;
}

/* Goes on at the newest entry, if this side has not taken it. What lies before it is given back. */
void rb_go_to_newest(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	/* In this order, as above. */
	uint64_t newest = rb_load_acquire(&consumer->theirs->newest_index);
	uint64_t write = rb_load_acquire(&consumer->theirs->write_index);

	if ((int64_t)(newest - consumer->next) <= 0 || write - newest > consumer->count)
		return;
	if (!consumer->takes_newest && newest - consumer->next > consumer->count)
		return; /* it was let go, or the writer is no good one: the next look tells */
	if (consumer->records)
		rb_count(&consumer->missed, newest - consumer->next);
	else if (!consumer->number)
		learn_number(consumer);
	rb_unmark_block(channel);
	if (!consumer->records && !consumer->takes_newest)
		return_passed(channel, newest);
	consumer->next = newest;
	consumer->write_seen = write;
	rb_kick_producer_if(consumer, rb_consumer_release_to(consumer, newest));
}

/* Notes that messages were taken: `count` of them, and the first had this number. */
void rb_note_number(struct rb_consumer *consumer, uint64_t first, uint64_t count)
{
	if (consumer->number && (int64_t)(first - consumer->number) > 0)
		rb_count(&consumer->missed, first - consumer->number);
	consumer->number = first + count;
}

/* How many entries this side did not get, since it came. */
uint64_t rb_missed(const rb_channel *channel)
{
	return rb_load_relaxed(&channel->consumer.missed);
}

/* Whether what this side found at an index is whole still; also after it has closed. */
int rb_reader_is_whole(const rb_channel *channel, uint64_t index)
{
	return rb_is_whole(&channel->consumer, index);
}

/* Whether the writer waits for nobody. */
int rb_reader_takes_newest(const rb_channel *channel)
{
	return channel->consumer.takes_newest;
}

/* From now on each take is of the newest entry, or waits for one that is newer than the last one
 * taken; 0 ends that. */
void rb_takes_newest(rb_channel *channel, int newest)
{
	channel->consumer.skips_to_newest = newest != 0;
}
