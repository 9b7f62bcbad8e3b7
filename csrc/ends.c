/* SPDX-License-Identifier: MIT
 *
 * The work of the ends that is the same for messages and records: make room, reserve, publish,
 * await an entry.
 */
#include "channel.h"
#include "quick.h"

/* The slow way of rb_make_room: the peer's index has to be looked at. */
int rb_wait_for_room(rb_channel *channel, uint64_t slots, int64_t patience_ns)
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
	producer->pool.needed = 0;
	int ready = rb_wait_poll(channel, RB_SPACE, patience_ns);
	if (ready < 0)
		return ready;
	return ready ? 0 : -EAGAIN;
}

/* Hands out the next slots to be written in place; returns the number of the first in the ring. */
uint64_t rb_begin_reservation(struct rb_producer *producer, uint64_t slots)
{
	rb_store_relaxed(&producer->reserved, slots);
	rb_count(&producer->reservation, 1);
	return producer->write & (producer->count - 1);
}

/* Names the last reservation, so that nobody commits or gives up another one. */
uint64_t rb_reservation(rb_channel *channel)
{
	return rb_load_relaxed(&channel->producer.reservation);
}

/* Ends a reservation. 0 when the caller may publish that many of its slots now. */
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

/* Fetches the first lines of the entries that a look has found. rb_fetch_arrived fetches the
 * rest. */
static void fetch_arrived(const struct rb_consumer *consumer)
{
	uint64_t bytes = (consumer->write_seen - consumer->next) * consumer->slot_size;
	const uint8_t *first = rb_consumer_slot(consumer, consumer->next);

	if (bytes > RB_AHEAD)
		bytes = RB_AHEAD;
	for (uint64_t i = RB_CACHE_LINE; i < bytes; i += RB_CACHE_LINE)
		rb_prefetch(first + i);
}

/* A look of a consumer that has caught up, after a pause if that is worth it. */
static int look_in_time(struct rb_consumer *consumer)
{
	struct rb_pace *pace = &consumer->pace;

	if (pace->paces)
		rb_pace_pause(pace);
	int available = rb_consumer_look(consumer);
	fetch_arrived(consumer);
	if (pace->paces)
		rb_pace_found(pace, consumer->write_seen - consumer->next);
	else if (available > 0)
		rb_pace_waited(pace, 0);
	return available;
}

/* The slow way of rb_await_entry: all entries that were seen have been taken. */
int rb_wait_for_entry(rb_channel *channel, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;
	int available = look_in_time(consumer);

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

/* For a producer that will publish nothing more: -EPIPE or -ECONNRESET when the peer closed or died
 * before it took everything, and no call has said so yet; otherwise 0. */
int rb_untold_loss(rb_channel *channel)
{
	const struct rb_producer *producer = &channel->producer;
	int lost = 0;

	/* A reader among many publishes nothing, and its look takes the lock itself. */
	if (rb_dead(channel) || rb_peer_gone(channel) || channel->consumer.one_of_many)
		return 0;
	/* Another thread may close this side meanwhile; the lock keeps the descriptors open. */
	pthread_mutex_lock(&channel->closing.lock);
	if (!rb_dead(channel)) {
		rb_look_for_peer(channel);
		lost = rb_peer_gone(channel);
		if (!lost && rb_said_goodbye(channel))
			lost = rb_note_peer_gone(channel, -EPIPE);
	}
	pthread_mutex_unlock(&channel->closing.lock);
	uint64_t goodbye = rb_load_acquire(&producer->theirs->goodbye);
	uint64_t taken = rb_load_acquire(&producer->theirs->read_index);
	if (goodbye)
		taken += goodbye - 1;
	return taken == rb_load_relaxed(&producer->mine->write_index) ? 0 : lost;
}

/* Sets how many slots from the read index on the user has in hand. If this side closes now, they
 * count as taken; if it dies, they do not. */
void rb_lend(rb_channel *channel, uint64_t slots)
{
	rb_store_relaxed(&channel->consumer.lent, slots);
}

/* The index up to which entries have arrived by now. */
uint64_t rb_arrived(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (rb_consumer_look(consumer) < 0)
		return consumer->next; /* the next take says what is wrong */
	return consumer->write_seen;
}

/* Frees the channel that rb_channel_open has stored here, if it has. The caller makes the place
 * first, with this as its end, so no signal handler of the caller's language can lose a channel. */
void rb_channel_drop(rb_channel **opened)
{
	if (*opened)
		rb_channel_free(*opened);
}
