/* SPDX-License-Identifier: MIT
 *
 * The steps of a message when nothing is in its way. They are inline, because they take no longer
 * than a call would. The longer ways are in ends.c and kick.c.
 */
#ifndef RB_QUICK_H
#define RB_QUICK_H

#include <string.h>

#include "channel.h"
#include "life.h"
#include "readers.h"

#define RB_HEADER ((uint64_t)sizeof(struct rb_frame_header))

/* How many slots a frame takes whose payload has that length. */
static inline uint64_t rb_slots_of(uint64_t length)
{
	return (RB_HEADER + length + RB_SLOT - 1) / RB_SLOT;
}

/* Before the next slots are written. Readers that the writer does not wait for may look at them. */
static inline void rb_claim(struct rb_producer *producer, uint64_t slots)
{
	if (producer->readers)
		rb_readers_claim(producer, slots);
}

/* 0 when this side may publish, or hand out room to be written in place. */
static inline int rb_may_produce(rb_channel *channel)
{
	int status = rb_may_publish(channel);

	if (status)
		return status;
	return rb_load_relaxed(&channel->producer.reserved) ? -EBUSY : 0;
}

/* 0 when that many slots are free, else -EAGAIN or another error. */
static inline int rb_make_room(rb_channel *channel, uint64_t slots, int64_t patience_ns)
{
	struct rb_producer *producer = &channel->producer;

	if (producer->write + slots - producer->read_seen > producer->count) {
		int status = rb_wait_for_room(channel, slots, patience_ns);
		if (status)
			return status;
	}
	rb_claim(producer, slots);
	return 0;
}

/* Fetches the cache line of a slot that will be written soon, if that slot is known to be free.
 * Otherwise the CPU fetches the line at the write, and the fence of that publish waits for it. */
static inline void rb_fetch_free(const struct rb_producer *producer)
{
	uint64_t ahead = producer->write + producer->ahead;

	if (ahead - producer->read_seen < producer->count)
		rb_prefetch_for_writing(rb_producer_slot(producer, ahead));
}

/* The same for a slot that will be read soon, if it is known to have an entry. */
static inline void rb_fetch_arrived(const struct rb_consumer *consumer)
{
	if (consumer->write_seen - consumer->next > consumer->ahead)
		rb_prefetch(rb_consumer_slot(consumer, consumer->next + consumer->ahead));
}

/* Offers the next slots, with so many entries and bytes of payload in them, and kicks. */
static inline void rb_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries,
			      uint64_t bytes)
{
	struct rb_counters *counters = &producer->mine->producer;
	enum rb_wake wake = RB_WAKE_NOT;

	if (producer->readers)
		rb_readers_publish(producer, slots, entries);
	else
		wake = rb_producer_publish(producer, slots, entries);
	rb_fetch_free(producer);

	rb_count(&counters->entries, entries);
	rb_count(&counters->bytes, bytes);
	if (producer->readers)
		return;
	if (wake == RB_WAKE_NOT && !producer->deferral.block && !producer->always_kick)
		rb_count(&counters->kicks_saved, 1);
	else
		rb_producer_kick(producer, wake, entries);
	if (producer->chimes)
		rb_chime(producer);
}

/* Waits for an entry within the patience; returns 0 when there is one, or -errno. */
static inline int rb_await_entry(rb_channel *channel, int64_t patience_ns)
{
	const struct rb_consumer *consumer = &channel->consumer;

	if (consumer->write_seen != consumer->next)
		return 0;
	return rb_wait_for_entry(channel, patience_ns);
}

/* Takes the next slots, with `entries` frames in them, and is done with them at once. They are
 * given back together with the held frame before them, so they need not be noted. */
static inline void rb_consumer_skip(struct rb_consumer *consumer, uint64_t slots, uint64_t entries,
				    uint64_t bytes)
{
	struct rb_counters *counters = &consumer->mine->consumer;

	consumer->next += slots;
	rb_fetch_arrived(consumer);
	rb_count(&counters->entries, entries);
	rb_count(&counters->bytes, bytes);
}

/* After slots have been given back. */
static inline void rb_kick_producer_if(struct rb_consumer *consumer, bool asleep)
{
	if (asleep)
		rb_kick_producer(consumer);
	else
		rb_count(&consumer->mine->consumer.kicks_saved, 1);
}

/* Copies `length` bytes of the parts of a payload, from byte `done` on. */
static inline void rb_copy_parts(uint8_t *target, const struct rb_place *part, uint64_t done,
				 uint64_t length)
{
	for (; length; part++) {
		if (done >= part->length) {
			done -= part->length;
			continue;
		}
		uint64_t some = part->length - done < length ? part->length - done : length;
		memcpy(target, (const uint8_t *)part->start + done, some);
		target += some;
		length -= some;
		done = 0;
	}
}

/* Copies `length` bytes of a payload, from byte `done` on. */
static inline void rb_copy_payload(uint8_t *target, const struct rb_payload *payload, uint64_t done,
				   uint64_t length)
{
	if (payload->parts)
		rb_copy_parts(target, payload->parts, done, length);
	else
		memcpy(target, (const uint8_t *)payload->start + done, length);
}

#endif
