/* SPDX-License-Identifier: MIT
 *
 * Records on a ring: one in a slot, of one size, without a header. Slots are mapped twice in a row,
 * so any batch of them is one piece, and is lent and released as one.
 */
#include <string.h>

#include "channel.h"
#include "quick.h"
#include "reader.h"

/* ---- producing ---- */

/* How many records may be published next, at most `most`; 0 when the ring is full. */
static uint64_t room_for(struct rb_producer *producer, uint64_t most)
{
	uint64_t room = producer->count - (producer->write - producer->read_seen);

	if (room >= most)
		return most;
	/* Called because it looks at the peer's index. */
	rb_producer_room(producer, most);
	room = producer->count - (producer->write - producer->read_seen);
	return room < most ? room : most;
}

/* Copies as many records into the ring as fit, and publishes them; returns how many. It publishes
 * at most a quarter of the ring at a time, so that both sides copy at the same time. */
int64_t rb_write(rb_channel *channel, const void *records, uint64_t count)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t size = producer->slot_size;
	uint64_t most = producer->count >= 4 ? producer->count / 4 : 1;
	uint64_t written = 0;

	while (written < count) {
		int status = rb_may_produce(channel);
		if (!status)
			status = rb_make_room(channel, 1, 0);
		if (status)
			return written ? (int64_t)written : status;
		uint64_t left = count - written;
		uint64_t next = room_for(producer, left < most ? left : most);
		rb_claim(producer, next);
		memcpy(rb_producer_slot(producer, producer->write),
		       (const uint8_t *)records + written * size, next * size);
		producer->last_entry = producer->write + next - 1;
		rb_publish(producer, next, next, next * size);
		written += next;
	}
	return (int64_t)written;
}

/* Hands out room for records to be written in place; returns the slot of the first. */
int64_t rb_reserve_records(rb_channel *channel, uint64_t count)
{
	int status = rb_may_produce(channel);

	if (status)
		return status;
	if (count > rb_most_slots(&channel->producer))
		return -EMSGSIZE;
	status = rb_make_room(channel, count, 0);
	if (status)
		return status;
	return (int64_t)rb_begin_reservation(&channel->producer, count);
}

/* Publishes the first `count` of the records that were reserved. */
int rb_commit_records(rb_channel *channel, uint64_t reservation, uint64_t count)
{
	struct rb_producer *producer = &channel->producer;
	int status = rb_end_reservation(channel, reservation, count);

	if (status || !count)
		return status;
	producer->last_entry = producer->write + count - 1;
	rb_publish(producer, count, count, count * producer->slot_size);
	return 0;
}

/* ---- consuming ---- */

/* 0 when there is a record to be taken, from `read` on. */
static int find_records(rb_channel *channel, uint64_t most, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;

	consumer->next = consumer->read;
	if (consumer->skips_to_newest)
		rb_go_to_newest(channel);
	if (consumer->write_seen == consumer->read) {
		int status = rb_await_entry(channel, patience_ns);
		if (status)
			return status;
	} else if (consumer->write_seen - consumer->read < most && rb_consumer_look(consumer) < 0) {
		return rb_corrupt(channel);
	}
	if (!rb_is_whole(consumer, consumer->read))
		return -ESTALE;
	return consumer->write_seen - consumer->read > consumer->count ? rb_corrupt(channel) : 0;
}

/* Lends all records that have arrived, from the first that was not returned, but at most `most`;
 * returns how many. frame.start is the slot of the first. */
int64_t rb_borrow(rb_channel *channel, uint64_t most, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;
	int status;

	if (rb_dead(channel))
		return rb_dead(channel);
	while ((status = find_records(channel, most, patience_ns)) == -ESTALE) {
		status = rb_overtaken(channel);
		if (status)
			return status;
	}
	if (status)
		return status;
	uint64_t arrived = consumer->write_seen - consumer->read;
	uint64_t lent = arrived < most ? arrived : most;
	consumer->next = consumer->read + lent;
	consumer->frame.index = consumer->read;
	consumer->frame.start = consumer->read & (consumer->count - 1);
	return (int64_t)lent;
}

/* Gives the first `count` of the lent records back to the producer. -ESTALE when the writer of many
 * readers has overwritten some of them meanwhile: this side did not get them, and goes on. */
int rb_return(rb_channel *channel, uint64_t count)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (rb_dead(channel))
		return rb_dead(channel);
	if (count > consumer->next - consumer->read)
		return -EALREADY;
	int status;
	if (!rb_still_whole(channel, &status))
		return status;
	rb_count(&consumer->mine->consumer.entries, count);
	rb_count(&consumer->mine->consumer.bytes, count * consumer->slot_size);
	rb_kick_producer_if(consumer, rb_consumer_release_to(consumer, consumer->read + count));
	rb_fetch_arrived(consumer);
	return 0;
}
