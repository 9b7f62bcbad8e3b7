/* SPDX-License-Identifier: MIT
 *
 * One writer, many readers: the writer's thread. admission.c has the thread that admits readers and
 * removes them, reader.c the other side.
 *
 * The ring is that of any stream: one area that the writer writes, and all readers map it
 * read-only. Each reader has a control page in memory of its own, so no reader can write what
 * another one or the writer reads. The writer makes that memory and starts its words; then the
 * reader maps it to write, and the writer maps it to read.
 *
 * A reader is for the writer what a consumer is for a producer. So the pairs (A) to (E) hold for
 * each reader by itself: publish, fence once, then look at the data_event of each and kick those
 * that sleep. All readers look at the same space_event: it is an index, and each kicks when it
 * passes that.
 *
 * There are two kinds. Either the slowest reader holds the writer back. Or the writer waits for
 * nobody, and a reader finds out that what it read was written anew meanwhile: pair (I).
 *
 * The writer's thread publishes without a lock. Another thread admits readers and removes them,
 * at any time, also while the writer publishes or sleeps:
 *
 *     (J)  admit stores the place before it tells the reader that it is in. A reader sleeps only
 *          once it was told; so a publish that it sleeps for finds the place. An entry that
 *          publish does not offer to the reader is found by the reader's first look, or lies
 *          before the index at which it begins.
 *     (K)  remove empties the place, fences, and loads `walking`; publish stores `walking`,
 *          fences, and loads the places. So remove waits for a publish that may have found the
 *          reader, and no later one finds it.
 *
 * The lock is for the slow way of the writer, which looks for room: what that has found free is
 * free for a reader that is admitted later, because such a reader begins at write_index or later.
 */
#include "life.h"
#include "passed.h"
#include "readers.h"

/* How long a sleep of the writer may be while there are readers. */
#define LONGEST_SLEEP (100 * RB_MS)

/* ---- the writer's thread ---- */

/* Kicks a reader if it sleeps; true if that took a kick or a timer. */
static bool wake_reader(struct rb_producer *producer, struct rb_reader *reader, uint64_t old,
			uint64_t slots, uint64_t entries)
{
	struct rb_producer *reach = &reader->reach;
	enum rb_wake wake = rb_wake_for(reach, old, slots, entries);

	if (producer->deferral.block != reach->deferral.block) {
		reach->deferral.block = producer->deferral.block;
		reach->deferral.entries = 0;
		reach->deferral.max_entries = producer->deferral.max_entries;
		reach->deferral.max_ns = producer->deferral.max_ns;
	}
	reach->always_kick = producer->always_kick;
	if (wake == RB_WAKE_NOT && !reach->deferral.block && !reach->always_kick)
		return false;
	rb_producer_kick(reach, wake, entries);
	return true;
}

/* Returns how many places to look at. */
static uint64_t begin_walk(struct rb_readers *readers)
{
	rb_store_relaxed_bool(&readers->walking, true);
	/* (B) for every reader, and (K). */
	rb_fence_full();
	return rb_load_acquire(&readers->used);
}

static void end_walk(struct rb_readers *readers)
{
	rb_flag_give(&readers->walking);
}

/* Where a reader that fell behind goes on: at the first entry of this half of the ring that we know
 * of. It then has about half the ring before it is overtaken again. */
static void move_resume(struct rb_producer *producer)
{
	uint64_t half = producer->count / 2, last = producer->last_entry;

	/* Whether the two lie in different halves. A ring of one slot has none. */
	if ((last ^ producer->mine->resume_index) & ~(half - 1))
		rb_store_release(&producer->mine->resume_index, last);
}

/* Offers the next slots to all readers, and wakes those that sleep. */
void rb_readers_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries)
{
	struct rb_readers *readers = producer->readers;
	struct rb_control *mine = producer->mine;
	uint64_t old = producer->write;
	bool kicked = false;

	producer->write = old + slots;
	if (readers->newest)
		producer->read_seen = producer->write; /* there is room at any time */
	/* (A) as in rb_producer_publish. The indices behind it are of entries before it. */
	rb_store_release(&mine->write_index, producer->write);
	rb_store_release(&mine->newest_index, producer->last_entry);
	move_resume(producer);
	uint64_t used = begin_walk(readers);
	for (uint64_t i = 0; i < used; i++) {
		struct rb_reader *reader = rb_load_acquire_reader(&readers->places[i]);
		if (reader && !rb_load_relaxed_bool(&reader->left) &&
		    wake_reader(producer, reader, old, slots, entries))
			kicked = true;
	}
	end_walk(readers);
	if (!kicked)
		rb_count(&mine->producer.kicks_saved, 1);
}

/* For each reader: sends a kick that was held back; and ends the block if the writer's has ended.
 * Another thread may drop the block while the writer publishes, so this takes the lock: of two that
 * walk without it, the first to end would end the walk of the other. */
void rb_readers_kick_owed(struct rb_producer *producer)
{
	struct rb_readers *readers = producer->readers;

	pthread_mutex_lock(&readers->lock);
	for (uint64_t i = 0; i < readers->used; i++) {
		struct rb_reader *reader = readers->places[i];
		if (reader && !reader->left) {
			reader->reach.deferral.block = producer->deferral.block;
			rb_kick_if_owed(&reader->reach);
		}
	}
	pthread_mutex_unlock(&readers->lock);
}

/* rb_producer_ring_full for each reader. */
void rb_readers_ring_full(struct rb_producer *producer)
{
	struct rb_readers *readers = producer->readers;

	pthread_mutex_lock(&readers->lock);
	for (uint64_t i = 0; i < readers->used; i++) {
		struct rb_reader *reader = readers->places[i];
		if (reader && !reader->left)
			rb_producer_ring_full(&reader->reach);
	}
	pthread_mutex_unlock(&readers->lock);
}

/* ---- room ---- */

/* From now on the reader holds nobody back, and may be overtaken. It is told, and its socket ends,
 * so that whoever admitted it removes it. */
static void let_go(struct rb_reader *reader)
{
	char text = RB_LETS_GO;

	reader->let_go = true;
	rb_socket_send(reader->reach.control_fd, &text, 1, NULL, 0);
	rb_socket_shutdown(reader->reach.control_fd);
}

/* Looks how far a reader is; false when it no longer counts. */
bool rb_look_at_reader(const struct rb_producer *producer, struct rb_reader *reader)
{
	if (reader->let_go || reader->left)
		return false;
	/* (C) as in rb_producer_room. Load once, check the copy, use the copy. A reader only goes
	 * forward. One that writes nonsense is let go, and has hurt nobody else. */
	uint64_t read = rb_load_acquire(&reader->reach.theirs->read_index);
	if (read - reader->seen > producer->write - reader->seen) {
		let_go(reader);
		return false;
	}
	if (read != reader->seen)
		reader->held_since_ns = 0;
	reader->seen = read;
	return true;
}

/* The ring is full, or the pool, because of this reader, perhaps with others: lets it go if that
 * has been so for too long. */
void rb_hold_against(struct rb_readers *readers, struct rb_reader *reader, uint64_t now)
{
	if (!readers->stall_ns)
		return;
	if (!reader->held_since_ns)
		reader->held_since_ns = now;
	uint64_t over = reader->held_since_ns + readers->stall_ns;
	if (now >= over)
		let_go(reader);
	else
		rb_look_again_at(readers, over);
}

/* Whether all readers have room for that many slots. Sets read_seen to where the last one is. */
static bool all_have_room(struct rb_producer *producer, uint64_t slots)
{
	struct rb_readers *readers = producer->readers;
	uint64_t behind = 0, now = 0; /* how many slots the last reader lies behind */

	for (uint64_t i = 0; i < readers->used; i++) {
		struct rb_reader *reader = readers->places[i];
		if (!reader || !rb_look_at_reader(producer, reader))
			continue;
		if (producer->write - reader->seen + slots > producer->count) {
			now = now ? now : rb_now_ns();
			rb_hold_against(readers, reader, now);
		}
		if (!reader->let_go && producer->write - reader->seen > behind)
			behind = producer->write - reader->seen;
	}
	producer->read_seen = producer->write - behind;
	return behind + slots <= producer->count;
}

/* 1 when that many slots are free, else 0. The first entry has no room before enough readers have
 * come. */
int rb_readers_room(struct rb_producer *producer, uint64_t slots)
{
	struct rb_readers *readers = producer->readers;
	bool room = false;

	pthread_mutex_lock(&readers->lock);
	readers->look_again_ns = 0;
	if (readers->count >= readers->awaited) {
		readers->awaited = 0;
		room = readers->newest || all_have_room(producer, slots);
		if (readers->newest)
			producer->read_seen = producer->write;
	}
	pthread_mutex_unlock(&readers->lock);
	return room;
}

/* When the writer, which waits for room, has to look again because a reader may be let go; 0:
 * never. */
uint64_t rb_readers_look_again_ns(const struct rb_producer *producer)
{
	struct rb_readers *readers = producer->readers;

	if (!readers)
		return 0;
	/* Every reader has the eventfd that wakes the writer, and may take a kick of another one.
	 */
	pthread_mutex_lock(&readers->lock);
	if (readers->count)
		rb_look_again_at(readers, rb_now_ns() + LONGEST_SLEEP);
	uint64_t again = readers->look_again_ns;
	pthread_mutex_unlock(&readers->lock);
	return again;
}

/* ---- closing ---- */

/* The writer has said goodbye, or not: wakes all readers, which then see which. */
void rb_readers_goodbye(struct rb_producer *producer)
{
	struct rb_readers *readers = producer->readers;

	if (!readers)
		return;
	pthread_mutex_lock(&readers->lock);
	for (uint64_t i = 0; i < readers->used; i++)
		if (readers->places[i] && !readers->places[i]->left)
			rb_socket_shutdown(readers->places[i]->reach.control_fd);
	readers->pool_fd = 0; /* it is closed next */
	pthread_mutex_unlock(&readers->lock);
}
