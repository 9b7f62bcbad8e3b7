/* SPDX-License-Identifier: MIT
 *
 * One ring: room, publish, available, hold, release. No system calls, and nothing about messages.
 *
 * Indices are free-running and compared only by unsigned differences. Two lettered pairs make a
 * lost wake-up impossible: (A) and (B) for data, (C) and (D) for room. `rb_arm` in wait.c holds the
 * other half of (B) and (D).
 *
 * How slots go back to the producer. A consumer of messages takes frames in order and may be done
 * with them in any order; a consumer of records only moves its index.
 *
 *     rb_consumer_hold            `next` moves over a frame, which is noted in `holds`
 *     rb_consumer_skip            `next` moves over a frame that the caller is done with
 *     rb_consumer_release_to      read_index moves: the producer may write all slots before it
 *     rb_consumer_free_released   release_to, up to the first held frame, or to `next`
 *     rb_consumer_release         the caller is done with a held frame; then free_released
 */
#include "channel.h"

/* Whether an index that moves from `old` to `new` passes the event, that is, whether the event lies
 * in [old, new). Then the side that set the event wants a kick. The same as vring_need_event of
 * VIRTIO, and need_event of Linux's tools/virtio/ringtest. */
static bool need_event(uint64_t event, uint64_t old, uint64_t new_index)
{
	return event - old < new_index - old;
}

/* 1 when that many slots are free, 0 when not, -EPROTO when the peer's index is nonsense. */
int rb_producer_room(struct rb_producer *producer, uint64_t slots)
{
	if (producer->write + slots - producer->read_seen <= producer->count)
		return 1;
	if (producer->readers)
		return rb_readers_room(producer, slots);
	/* The peer can change this at any time: load once, check the copy, use the copy.
	 * (C) pairs with the release in rb_consumer_release_to: the reader must be done with the
	 * slots before we overwrite them. */
	uint64_t read = rb_load_acquire(&producer->theirs->read_index);
	if (!rb_ring_valid(read, read, producer->write, producer->count))
		return -EPROTO;
	producer->read_seen = read;
	return producer->write + slots - read <= producer->count;
}

/* Whether the consumer sleeps on one of the entries in [old, old + slots), and what it wants. A
 * part of each publish, so that the load of the event comes right behind the fence. */
inline __attribute__((always_inline)) enum rb_wake
rb_wake_for(struct rb_producer *producer, uint64_t old, uint64_t slots, uint64_t entries)
{
	/* (E) pairs with the release in rb_arm: the moderation beside it belongs to this event. */
	uint64_t event = rb_load_acquire(&producer->theirs->data_event);

	if (need_event(event, old, old + slots)) {
		uint64_t enough = rb_load_relaxed(&producer->theirs->moderation_entries);
		producer->moderated_event = event;
		producer->moderated_left = enough > entries ? enough - entries : 0;
		return enough > entries ? RB_WAKE_LATER : RB_WAKE_NOW;
	}
	/* We count the entries, because the consumer cannot know how many slots they will take. If
	 * the consumer has gone on meanwhile, the count is wrong, but the timer is still set. */
	if (event != producer->moderated_event)
		producer->moderated_left = 0; /* it has woken up */
	if (!producer->moderated_left)
		return RB_WAKE_NOT;
	bool enough = entries >= producer->moderated_left;
	producer->moderated_left -= enough ? producer->moderated_left : entries;
	return enough ? RB_WAKE_ENOUGH : RB_WAKE_NOT;
}

/* Offers the next slots, with `entries` entries, to the consumer; tells how to wake it. */
enum rb_wake rb_producer_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries)
{
	uint64_t old = producer->write;

	producer->write = old + slots;
	/* (A) pairs with the acquire in rb_consumer_look: the slots must be whole before the
	 * index that offers them, or the consumer reads the previous lap's bytes. */
	rb_store_release(&producer->mine->write_index, producer->write);
	/* (B) pairs with the fence in rb_arm: either we see that the consumer has armed, or it sees
	 * this index. Without the fence both can miss, and the consumer sleeps on an entry. */
	rb_fence_full();
	return rb_wake_for(producer, old, slots, entries);
}

/* 1 when there is something to take, 0 when not, -EPROTO when the peer's index is nonsense. */
int rb_consumer_available(struct rb_consumer *consumer)
{
	return consumer->write_seen != consumer->next ? 1 : rb_consumer_look(consumer);
}

/* The same, with a new look at the index: for a caller that takes everything that has arrived. */
int rb_consumer_look(struct rb_consumer *consumer)
{
	/* (A) pairs with the release in rb_producer_publish. Load once, check the copy, use the
	 * copy. */
	uint64_t write = rb_load_acquire(&consumer->theirs->write_index);
	/* A writer that overtakes this side is found out later, see reader.c. */
	if (!consumer->one_of_many &&
	    !rb_ring_valid(consumer->read, consumer->next, write, consumer->count))
		return -EPROTO;
	consumer->write_seen = write;
	return write != consumer->next;
}

/* Takes the next slots as one frame, for which `holds` has room; the frame's index names it when it
 * is released. */
void rb_consumer_hold(struct rb_consumer *consumer, uint64_t slots, uint64_t token, uint64_t bytes)
{
	rb_holds_add(&consumer->holds, consumer->next, token, bytes);
	consumer->next += slots;
}

/* Gives the slots before `read` back. True when the producer sleeps and must be kicked. */
bool rb_consumer_release_to(struct rb_consumer *consumer, uint64_t read)
{
	uint64_t old = consumer->read;

	if (read == old)
		return false;
	consumer->read = read;
	/* (C) pairs with the acquire in rb_producer_room. */
	rb_store_release(&consumer->mine->read_index, read);
	if (consumer->takes_newest)
		return false; /* nobody waits for it */
	/* (D) pairs with the fence in rb_arm: either we see that the producer has armed, or
	 * it sees this index. */
	rb_fence_full();
	uint64_t event = rb_load_relaxed(&consumer->theirs->space_event);
	return need_event(event, old, read);
}

/* Gives back the slots before the first frame that is still held. True when the producer sleeps and
 * must be kicked. */
bool rb_consumer_free_released(struct rb_consumer *consumer)
{
	const struct rb_holds *holds = &consumer->holds;
	uint64_t first = holds->count ? rb_holds_at(holds, 0)->index : consumer->next;

	return rb_consumer_release_to(consumer, first);
}

/* A held frame is no longer needed. True as above. */
bool rb_consumer_release(struct rb_consumer *consumer, struct rb_hold *hold)
{
	struct rb_counters *counters = &consumer->mine->consumer;

	rb_count(&counters->entries, 1);
	rb_count(&counters->bytes, hold->bytes);
	rb_holds_release(&consumer->holds, hold);
	return rb_consumer_free_released(consumer);
}

/* ---- for tests and tools: whether a ring is as it should be, as one end sees it ---- */

bool rb_producer_valid(const struct rb_producer *producer)
{
	uint64_t read = rb_load_acquire(&producer->theirs->read_index);

	/* The reader only goes forward. */
	return rb_ring_valid(producer->read_seen, read, producer->write, producer->count) &&
	       rb_load_relaxed(&producer->mine->write_index) == producer->write;
}

bool rb_consumer_valid(const struct rb_consumer *consumer)
{
	uint64_t write = rb_load_acquire(&consumer->theirs->write_index);

	/* And so does the writer. */
	return rb_ring_valid(consumer->read, consumer->next, write, consumer->count) &&
	       consumer->write_seen - consumer->next <= write - consumer->next &&
	       rb_load_relaxed(&consumer->mine->read_index) == consumer->read;
}
