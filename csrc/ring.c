/* SPDX-License-Identifier: MIT
 *
 * One ring: room, publish, available, hold, release. No system calls, and nothing about messages.
 *
 * Indices are free-running and compared only by unsigned differences. Two lettered pairs make a
 * lost wake-up impossible: (A) and (B) for data, (C) and (D) for space. wait.c holds the other half
 * of (B) and (D).
 */
#include "channel.h"

/* 1 when that many slots are free, 0 when not, -EPROTO when the peer's index is nonsense. */
int rb_producer_room(struct rb_producer *producer, uint64_t slots)
{
	if (producer->write + slots - producer->read_seen <= producer->count)
		return 1;
	/* The peer can change this at any time: load once, check the copy, use the copy.
	 * (C) pairs with the release in rb_consumer_release_to: the reader must be done with the
	 * slots before we overwrite them. */
	uint64_t read = rb_load_acquire(&producer->theirs->read_index);
	if (producer->write - read > producer->count)
		return -EPROTO;
	producer->read_seen = read;
	return producer->write + slots - read <= producer->count;
}

/* Whether the consumer sleeps on one of the entries in [old, old + slots), and what it wants. */
static enum rb_wake wake_for(struct rb_producer *producer, uint64_t old, uint64_t slots,
			     uint64_t entries)
{
	/* (E) pairs with the release in arm: what else lies there belongs to this event. */
	uint64_t event = rb_load_acquire(&producer->theirs->data_event);

	if (event - old < slots) {
		uint64_t enough = rb_load_relaxed(&producer->theirs->moderation_entries);
		producer->moderated_event = event;
		producer->moderated_left = enough > entries ? enough - entries : 0;
		return enough > entries ? RB_WAKE_LATER : RB_WAKE_NOW;
	}
	/* Counted here, as the consumer cannot know how many slots its entries will take. If it is
	 * not counted right, because the consumer has gone on meanwhile, the timer is still set. */
	if (event != producer->moderated_event)
		producer->moderated_left = 0; /* it has woken up */
	if (!producer->moderated_left)
		return RB_WAKE_NOT;
	bool enough = entries >= producer->moderated_left;
	producer->moderated_left -= enough ? producer->moderated_left : entries;
	return enough ? RB_WAKE_ENOUGH : RB_WAKE_NOT;
}

/* Offers the next slots, so many entries, to the consumer; tells whether it must be woken. */
enum rb_wake rb_producer_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries)
{
	uint64_t old = producer->write;

	producer->write = old + slots;
	/* (A) pairs with the acquire in rb_consumer_available: the slots must be whole before the
	 * index that offers them, or the consumer reads the previous lap's bytes. */
	rb_store_release(&producer->mine->write_index, producer->write);
	/* (B) pairs with the fence in rb_wait_sleep: either we see that the consumer has armed, or
	 * it sees this index. Without it both can miss, and the consumer sleeps on an entry. */
	rb_fence_full();
	return wake_for(producer, old, slots, entries);
}

/* 1 when there is something to take, 0 when not, -EPROTO when the peer's index is nonsense. */
int rb_consumer_available(struct rb_consumer *consumer)
{
	return consumer->write_seen != consumer->next ? 1 : rb_consumer_look(consumer);
}

/* The same for one who wants to know of all that has arrived. */
int rb_consumer_look(struct rb_consumer *consumer)
{
	/* (A): load once, check the copy, use the copy. */
	uint64_t write = rb_load_acquire(&consumer->theirs->write_index);
	uint64_t held = consumer->next - consumer->read;
	if (write - consumer->next > consumer->count - held)
		return -EPROTO;
	consumer->write_seen = write;
	return write != consumer->next;
}

/* Takes the next slots as one frame, to be released by its index. */
void rb_consumer_hold(struct rb_consumer *consumer, uint64_t slots, uint64_t token, uint32_t bytes)
{
	struct rb_hold *hold = &consumer->holds[consumer->next & (consumer->count - 1)];

	hold->token = token;
	hold->slots = (uint32_t)slots;
	hold->bytes = bytes;
	hold->released = false;
	consumer->next += slots;
	consumer->held++;
}

bool rb_consumer_holds(const struct rb_consumer *consumer, uint64_t index)
{
	const struct rb_hold *hold = &consumer->holds[index & (consumer->count - 1)];

	return index - consumer->read < consumer->next - consumer->read && hold->slots != 0 &&
	       !hold->released;
}

/* A held frame is no longer needed. */
void rb_consumer_mark_released(struct rb_consumer *consumer, uint64_t index)
{
	struct rb_hold *hold = &consumer->holds[index & (consumer->count - 1)];

	hold->released = true;
	consumer->held--;
	rb_count(&consumer->mine->consumer.entries, 1);
	rb_count(&consumer->mine->consumer.bytes, hold->bytes);
}

/* Takes the next slots as one frame that is no longer needed. Where nothing is held before it, no
 * entry is kept of it: all before `next` may be given back. */
void rb_consumer_skip(struct rb_consumer *consumer, uint64_t slots, uint32_t bytes)
{
	uint64_t index = consumer->next;

	if (consumer->held) {
		rb_consumer_hold(consumer, slots, 0, bytes);
		rb_consumer_mark_released(consumer, index);
		return;
	}
	consumer->next += slots;
	rb_count(&consumer->mine->consumer.entries, 1);
	rb_count(&consumer->mine->consumer.bytes, bytes);
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
	/* (D) pairs with the fence in rb_wait_sleep: either we see that the producer has armed, or
	 * it sees this index. */
	rb_fence_full();
	uint64_t event = rb_load_relaxed(&consumer->theirs->space_event);
	return event - old < read - old;
}

/* Gives slots back. Frames may be released in any order; slots become free in order, each when it
 * and all before it are released. */
bool rb_consumer_free_released(struct rb_consumer *consumer)
{
	uint64_t mask = consumer->count - 1;
	uint64_t read = consumer->read;

	if (!consumer->held)
		return rb_consumer_release_to(consumer, consumer->next);
	while (read != consumer->next) {
		struct rb_hold *hold = &consumer->holds[read & mask];
		if (!hold->released)
			break;
		read += hold->slots;
		hold->slots = 0;
		hold->released = false;
	}
	return rb_consumer_release_to(consumer, read);
}

bool rb_consumer_release(struct rb_consumer *consumer, uint64_t index)
{
	rb_consumer_mark_released(consumer, index);
	return rb_consumer_free_released(consumer);
}
