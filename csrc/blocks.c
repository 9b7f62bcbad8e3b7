/* SPDX-License-Identifier: MIT
 *
 * Messages that lie in blocks: sent, found, given back. pool.c has the protocol.
 */
#include <string.h>

#include "blocks.h"
#include "passed.h"
#include "quick.h"
#include "reader.h"

/* ---- the sender ---- */

/* Takes a block, with room in the ring for its frame. -ENOBUFS when the payload has to go through
 * the ring instead, which it can if it `fits` there; -EAGAIN when the caller has to wait; -EINTR
 * when it has to call again. */
static int take(rb_channel *channel, uint64_t length, bool fits, int64_t patience_ns,
		uint32_t *block)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_pool *pool = &producer->pool;
	int status = rb_make_room(channel, 1, patience_ns);

	if (status)
		return status;
	while ((status = rb_pool_take(producer, length, block)) == -EAGAIN) {
		if (fits && pool->copies)
			break;
		/* From now on rb_look looks for a block as well. */
		producer->needed = 1;
		pool->needed = length;
		int ready = rb_wait_poll(channel, RB_SPACE, patience_ns);
		if (ready <= 0)
			return ready ? ready : -EAGAIN;
	}
	return status && status != -EINTR && fits ? -ENOBUFS : status;
}

static uint8_t *start_of(const struct rb_pool *pool, uint32_t block)
{
	return pool->start + pool->notes[block].start;
}

/* Lends a block that has been written. */
static void publish(struct rb_producer *producer, uint32_t block, uint64_t length, uint64_t token,
		    int kind)
{
	struct rb_block_note *note = &producer->pool.notes[block];
	uint8_t *slot = rb_producer_slot(producer, producer->write);
	struct rb_frame_header header = {sizeof(struct rb_block_place), (uint16_t)kind,
					 RB_FLAG_BLOCK, token};
	struct rb_block_place place = {note->start, length, block, note->lending};

	note->index = producer->write;
	rb_number_frame(producer, &header, 0);
	memcpy(slot, &header, sizeof(header));
	memcpy(slot + sizeof(header), &place, sizeof(place));
	rb_count(&producer->mine->blocks_sent, 1);
	rb_count(&producer->mine->blocks_lent, 1);
	rb_publish(producer, 1, 1, length);
}

/* Copies a payload into a block and sends it. */
int rb_send_block(rb_channel *channel, const struct rb_payload *payload, uint64_t token, int kind,
		  int64_t patience_ns)
{
	struct rb_producer *producer = &channel->producer;
	uint32_t block;
	int status = take(channel, payload->length, true, patience_ns, &block);

	if (status)
		return status;
	rb_copy_payload(start_of(&producer->pool, block), payload, 0, payload->length);
	publish(producer, block, payload->length, token, kind);
	return 0;
}

/* Whether a message is copied into a block part by part, and is not sent yet. */
bool rb_fills_block(const rb_channel *channel)
{
	const struct rb_pool *pool = &channel->producer.pool;

	return pool->notes && pool->filling != RB_BLOCKS;
}

/* The same for a message of any size, part by part, so that the caller can look for signals. `done`
 * bytes have been copied before; returns how many have been copied in all, and with the last of
 * them the message is sent. Returns 0 when the caller has to call again. */
int64_t rb_send_block_part(rb_channel *channel, const struct rb_payload *payload, uint64_t done,
			   uint64_t token, int kind)
{
	uint64_t length = payload->length;
	struct rb_producer *producer = &channel->producer;
	struct rb_pool *pool = &producer->pool;

	if (!done) {
		uint32_t block;
		int status = take(channel, length, true, 0, &block);
		if (status)
			return status == -EINTR ? 0 : status;
		pool->filling = block;
		producer->in_pieces = true;
	}
	uint64_t part = length - done < RB_BLOCK_PART ? length - done : RB_BLOCK_PART;
	rb_copy_payload(start_of(pool, pool->filling) + done, payload, done, part);
	done += part;
	if (done == length) {
		uint32_t block = pool->filling;
		pool->filling = RB_BLOCKS;
		producer->in_pieces = false;
		publish(producer, block, length, token, kind);
	}
	return (int64_t)done;
}

/* Gives up a message that was copied in part. */
void rb_abandon_block(struct rb_producer *producer)
{
	rb_pool_give_up(&producer->pool, producer->pool.filling);
	producer->pool.filling = RB_BLOCKS;
}

/* Hands out a block to be written in place. */
int rb_reserve_block(rb_channel *channel, uint64_t length, bool fits, void **payload)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_pool *pool = &producer->pool;
	uint32_t block;
	int status = take(channel, length, fits, 0, &block);

	if (status)
		return status;
	rb_begin_reservation(producer, 1);
	pool->reserved = block;
	pool->reserved_for = producer->reservation;
	*payload = start_of(pool, block);
	return 0;
}

/* Whether a reservation is a block, and how many bytes that has; 0 when it is not. */
uint64_t rb_reserved_block(const struct rb_producer *producer, uint64_t reservation)
{
	const struct rb_pool *pool = &producer->pool;

	if (!pool->notes || pool->reserved == RB_BLOCKS || pool->reserved_for != reservation)
		return 0;
	return pool->notes[pool->reserved].stop - pool->notes[pool->reserved].start;
}

/* After rb_end_reservation: sends the block that was reserved. */
void rb_publish_reserved(struct rb_producer *producer, uint64_t length, uint64_t token)
{
	uint32_t block = producer->pool.reserved;

	producer->pool.reserved = RB_BLOCKS;
	publish(producer, block, length, token, RB_MESSAGE);
}

/* ---- the receiver ---- */

static int await_pool(rb_channel *channel)
{
	int status;

	/* Another thread may take it for a waiter. */
	pthread_mutex_lock(&channel->closing.lock);
	do
		status = channel->consumer.has_pool ? 0 : rb_take_passed(channel);
	while (status > 0);
	bool has = channel->consumer.has_pool;
	pthread_mutex_unlock(&channel->closing.lock);
	if (rb_dead(channel))
		return rb_dead(channel);
	return has ? 0 : status ? status : rb_corrupt(channel);
}

/* Finds the message that the payload of a frame stands for. Returns 0; -EMFILE when this process
 * has no descriptor left to map the sender's pool, -ENOMEM when it cannot map that; -EPROTO; or
 * -ESTALE when the writer of many readers may have overwritten the frame. */
int rb_find_block(rb_channel *channel, const uint8_t *payload, rb_block *block)
{
	const struct rb_consumer *consumer = &channel->consumer;
	struct rb_block_place place;

	/* The peer can change this at any time: copy it once, check the copy, use the copy. */
	memcpy(&place, payload, sizeof(place));
	if (!rb_is_whole(consumer, consumer->next))
		return -ESTALE;
	int status = rb_load_acquire_bool(&consumer->has_pool) ? 0 : await_pool(channel);
	if (status)
		return status;
	uint64_t bytes = consumer->their_pool.bytes;
	if (place.length > bytes || place.offset > bytes - place.length ||
	    place.block >= RB_BLOCKS || !place.lending || place.lending > UINT8_MAX)
		return rb_corrupt(channel);
	*block = (rb_block){consumer->their_pool.start + place.offset, place.length, place.block,
			    place.lending};
	return consumer->one_of_many ? rb_mark_block(channel, block) : 0;
}

/* Gives a block back to its sender; any thread may do that, at any time before rb_channel_free.
 * Once this side has closed, or in a forked child, it does nothing; but one reader among many may
 * have closed. */
void rb_block_return(rb_channel *channel, const rb_block *block)
{
	struct rb_consumer *consumer = &channel->consumer;

	/* A writer of many goes on when this side has closed, and wants its block all the same. */
	if (rb_dead(channel) && (!consumer->one_of_many || channel->disowned))
		return;
	/* (G) pairs with the acquire in `is_returned` of pool.c: this side is done with the block.
	 */
	rb_store_release_byte(&consumer->mine->blocks_returned[block->number],
			      (uint8_t)block->lending);
	/* (H) pairs with the fence in rb_arm: either we see that the sender has armed, or it sees
	 * this byte. */
	rb_fence_full();
	if (rb_dead(channel) || !rb_load_relaxed(&consumer->theirs->block_event))
		return;
	/* Another thread may close this side meanwhile; the lock keeps the descriptors open. */
	pthread_mutex_lock(&channel->closing.lock);
	if (!rb_dead(channel))
		rb_kick_producer(consumer);
	pthread_mutex_unlock(&channel->closing.lock);
}
