/* SPDX-License-Identifier: MIT
 *
 * Payloads by reference, lent to many readers: which blocks are still held. pool.c has the blocks,
 * and reader.c the readers' side.
 *
 * A block is for all readers that were there when its message was published. It may be used again
 * when none of them holds it:
 *
 *     a reader that the writer waits for    has returned this lending
 *     one that the writer does not wait     has returned it; or has not begun to take it, and
 *     for, or has let go                    may no longer: its message counts as overwritten
 *     one that has closed                   has returned it, or has never taken it
 *     one that has died                     holds nothing
 *
 *     (L)  A reader stores in its memory that it takes the block, fences, and looks whether the
 *          message is whole (rb_mark_block). The writer stores claim_index, fences, and looks
 *          whether the reader takes the block. At least one of them sees the other.
 *
 * The slots of such a message may be whole for long; so the writer moves claim_index further than
 * it writes.
 */
#include "passed.h"
#include "readers.h"

/* How often a writer that waits for a block looks whether a reader that has closed returned it. */
#define LOOK (5 * RB_MS)

static const uint8_t *taken_of(const struct rb_reader *reader)
{
	return reader->page.start + rb_whole_pages(1);
}

/* Whether the writer waits for no reader, and one may still take the message at an index. */
bool rb_readers_may_overtake(const struct rb_producer *producer, uint64_t index)
{
	const struct rb_readers *readers = producer->readers;

	return readers->newest && readers->claimed - index <= producer->count;
}

/* From now on no reader may take it, nor those before it. */
void rb_readers_overtake(struct rb_producer *producer, uint64_t index)
{
	rb_readers_claim_to(producer, index + producer->count + 1);
}

/* Whether a message that lies at an index is, or was, for a reader. */
static bool is_for(const struct rb_reader *reader, uint64_t index)
{
	return reader && (int64_t)(index - reader->start) >= 0;
}

static bool is_waited_for(const struct rb_readers *readers, const struct rb_reader *reader)
{
	return !readers->newest && !reader->let_go && !reader->left;
}

/* (G) as in pool.c. */
static bool has_returned(const struct rb_reader *reader, uint32_t block, uint8_t lending)
{
	return rb_load_acquire_byte(&reader->reach.theirs->blocks_returned[block]) == lending;
}

/* Whether no reader that the writer waits for holds a block, or may still take it. */
static bool returned_by_waited(const struct rb_readers *readers, uint32_t block, uint8_t lending,
			       uint64_t index)
{
	for (uint64_t i = 0; i < readers->used; i++) {
		const struct rb_reader *reader = readers->places[i];
		if (is_for(reader, index) && is_waited_for(readers, reader) &&
		    !has_returned(reader, block, lending))
			return false;
	}
	return true;
}

/* The same for the others. */
static bool returned_by_others(struct rb_producer *producer, uint32_t block, uint8_t lending,
			       uint64_t index)
{
	struct rb_readers *readers = producer->readers;
	bool claimed = false;

	for (uint64_t i = 0; i < readers->used; i++) {
		const struct rb_reader *reader = readers->places[i];
		if (!is_for(reader, index) || is_waited_for(readers, reader))
			continue;
		if (!claimed) {
			/* Those that the writer waits for have taken this message. */
			rb_readers_overtake(producer, index);
			/* (L) pairs with the fence in rb_mark_block. */
			rb_fence_full();
			claimed = true;
		}
		if (rb_load_acquire_byte(&taken_of(reader)[block]) == lending &&
		    !has_returned(reader, block, lending))
			return false;
	}
	return true;
}

/* Whether no reader holds a block, whose message lies at an index, and none will take it. */
bool rb_readers_returned(struct rb_producer *producer, uint32_t block, uint8_t lending,
			 uint64_t index)
{
	struct rb_readers *readers = producer->readers;

	if (rb_readers_may_overtake(producer, index))
		return false;
	pthread_mutex_lock(&readers->lock);
	bool returned = returned_by_waited(readers, block, lending, index) &&
			returned_by_others(producer, block, lending, index);
	pthread_mutex_unlock(&readers->lock);
	return returned;
}

/* The writer waits for a block, and this one may be held. */
void rb_readers_blame(struct rb_producer *producer, uint32_t block, uint8_t lending, uint64_t index)
{
	struct rb_readers *readers = producer->readers;
	uint64_t now = rb_now_ns();

	pthread_mutex_lock(&readers->lock);
	for (uint64_t i = 0; i < readers->used; i++) {
		struct rb_reader *reader = readers->places[i];
		if (!is_for(reader, index) || has_returned(reader, block, lending))
			continue;
		if (reader->left)
			rb_look_again_at(readers, now + LOOK); /* it can no longer kick */
		else if (rb_look_at_reader(producer, reader))
			rb_hold_against(readers, reader, now);
	}
	pthread_mutex_unlock(&readers->lock);
}

/* Passes the pool to all readers; those that come later get it when they come. */
int rb_readers_pass_pool(struct rb_producer *producer, int fd)
{
	struct rb_readers *readers = producer->readers;

	pthread_mutex_lock(&readers->lock);
	readers->pool_fd = fd;
	for (uint64_t i = 0; i < readers->used; i++)
		if (readers->places[i] && !readers->places[i]->left)
			rb_pass(&readers->places[i]->reach, RB_PASSES_POOL, fd);
	pthread_mutex_unlock(&readers->lock);
	return 0;
}

/* Whether a reader that has closed may still hold a block. */
bool rb_reader_holds_blocks(const struct rb_reader *reader)
{
	const uint8_t *taken = taken_of(reader);

	for (unsigned int block = 0; block < RB_BLOCKS; block++)
		if (rb_load_acquire_byte(&taken[block]) !=
		    rb_load_acquire_byte(&reader->reach.theirs->blocks_returned[block]))
			return true;
	return false;
}
