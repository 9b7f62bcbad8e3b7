/* SPDX-License-Identifier: MIT
 *
 * What the ends of a ring do, whatever its slots hold: make room, reserve, publish, await an entry.
 */
#include "channel.h"
#include "life.h"

int rb_may_produce(rb_channel *channel)
{
	int status = rb_may_publish(channel);

	if (status)
		return status;
	return rb_load_relaxed(&channel->producer.reserved) ? -EBUSY : 0;
}

/* 0 when that many slots are free, else -EAGAIN or another error. */
int rb_make_room(rb_channel *channel, uint64_t slots, int64_t patience_ns)
{
	struct rb_producer *producer = &channel->producer;
	int room = rb_producer_room(producer, slots);

	if (room > 0)
		return 0;
	if (room < 0)
		return rb_corrupt(channel);
	rb_count(&producer->mine->producer.stalls, 1);
	rb_producer_ring_full(producer);
	producer->needed = slots;
	int ready = rb_wait_poll(channel, RB_SPACE, patience_ns);
	if (ready < 0)
		return ready;
	return ready ? 0 : -EAGAIN;
}

/* Offers the next slots, with so many entries and bytes of payload in them, and kicks. */
void rb_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries, uint64_t bytes)
{
	enum rb_wake wake = rb_producer_publish(producer, slots, entries);

	rb_count(&producer->mine->producer.entries, entries);
	rb_count(&producer->mine->producer.bytes, bytes);
	rb_producer_kick(producer, wake, entries);
}

/* Hands out the next slots to be written in place; returns the first one's number in the ring. */
uint64_t rb_begin_reservation(struct rb_producer *producer, uint64_t slots)
{
	rb_store_relaxed(&producer->reserved, slots);
	rb_count(&producer->reservation, 1);
	return producer->write & (producer->count - 1);
}

/* Names what was reserved last, so that nobody commits or gives up another's. */
uint64_t rb_reservation(rb_channel *channel)
{
	return rb_load_relaxed(&channel->producer.reservation);
}

/* 0 when that many of the reserved slots may be published now; they are reserved no longer. */
int rb_end_reservation(rb_channel *channel, uint64_t reservation, uint64_t slots)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t reserved = rb_load_relaxed(&producer->reserved);

	if (rb_dead(channel))
		return rb_dead(channel);
	if (!reserved || reservation != rb_load_relaxed(&producer->reservation))
		return -EALREADY;
	if (slots > reserved)
		return -EMSGSIZE;
	rb_store_relaxed(&producer->reserved, 0);
	return rb_may_produce(channel);
}

void rb_unreserve(rb_channel *channel, uint64_t reservation)
{
	if (reservation == rb_load_relaxed(&channel->producer.reservation))
		rb_store_relaxed(&channel->producer.reserved, 0);
}

/* Waits for an entry within the patience; returns 0 when there is one, or -errno. */
int rb_await_entry(rb_channel *channel, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;
	int available = rb_consumer_available(consumer);

	if (available < 0)
		return rb_corrupt(channel);
	if (available)
		return 0;
	rb_count(&consumer->mine->consumer.stalls, 1);
	int ready = rb_wait_poll(channel, RB_DATA, patience_ns);
	if (ready < 0)
		return ready;
	return ready ? 0 : -EAGAIN;
}

/* For a producer that has published its last: -EPIPE or -ECONNRESET when the peer closed or died
 * before it took all of it, and no call has said so yet; else 0. */
int rb_untold_loss(rb_channel *channel)
{
	const struct rb_producer *producer = &channel->producer;

	if (rb_dead(channel) || rb_peer_gone(channel))
		return 0;
	rb_look_for_peer(channel);
	int lost = rb_may_publish(channel);
	bool taken = rb_load_acquire(&producer->theirs->read_index) == producer->write;
	return taken ? 0 : lost;
}

/* The index up to which entries have arrived by now. */
uint64_t rb_arrived(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (rb_consumer_look(consumer) < 0)
		return consumer->next; /* the next take says what is wrong */
	return consumer->write_seen;
}
