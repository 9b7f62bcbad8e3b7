/* SPDX-License-Identifier: MIT
 *
 * Large payloads by reference: the sender's side of it. blocks.c has the messages, and the
 * receiver's side.
 *
 * A pool is a memfd of the sender's for one direction of one channel. It is made when it is first
 * needed, sealed, and passed over the control socket (passed.c); or it is made with a pipe, whose
 * socket passes nothing. The receiver maps all of it, read-only. A message in a block is a frame in
 * the ring that says where the message lies.
 *
 *     the sender takes a block and writes it; the frame's slots, as any frame's, lend it
 *     the receiver copies the message or holds the block, and gives the slots back at once
 *     the receiver is done and stores the number of this lending in blocks_returned
 *     the sender finds that number there, and may use the block again
 *
 * Only the sender knows which blocks are in use, and for which lending. The receiver writes one
 * byte for each block, in its own control page; the sender compares it and believes nothing else.
 * So a receiver that returns a block twice, or one that it does not hold, spoils only what it reads
 * itself.
 *
 *     (G)  the byte is stored by release and loaded by acquire: the receiver has read the block
 *          before the sender writes it again
 *     (H)  a sender that finds no free block stores block_event, fences and looks (rb_arm); a
 *          receiver stores the byte, fences and loads block_event (rb_block_return): at least one
 *          of them sees the other, so the sender finds the block or is kicked
 *
 * That is the pair (C), (D) for blocks. A sender waits for room in the ring and for a block as one:
 * rb_look finds both or nothing.
 *
 * The first gap that is large enough is taken. So a sender whose receiver keeps up writes the same
 * few pages again and again. Memory is reserved as far as the pool has been used, because a page
 * that is missing later would be a SIGBUS.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel.h"
#include "owned.h"
#include "passed.h"

/* The end of the circle of blocks in use. */
#define END RB_BLOCKS

/* Memory is reserved in parts of this size: a signal makes the kernel begin a part again. */
#define PART (4ULL << 20)

/* And at most so much in one call, which is enough for RB_BLOCK_PART. */
#define AT_ONCE (2 * RB_BLOCK_PART)

#ifndef MADV_POPULATE_WRITE /* of Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

void rb_channel_blocks(rb_channel *channel, uint64_t bytes, uint64_t least, int copies)
{
	struct rb_pool *pool = &channel->producer.pool;

	pool->bytes = rb_whole_pages(bytes);
	pool->least = least;
	pool->copies = copies != 0;
}

/* ---- blocks in use ---- */

static void start_notes(struct rb_pool *pool)
{
	struct rb_block_note *notes = pool->notes;

	notes[END] = (struct rb_block_note){.before = END, .after = END};
	for (uint32_t i = 0; i < RB_BLOCKS; i++)
		notes[i].after = i + 1; /* that of the last one is RB_BLOCKS, none */
	pool->unused = 0;
	pool->reserved = pool->filling = RB_BLOCKS;
}

/* Takes the first unused number for a block that lies before the block `next`. */
static uint32_t begin_use(struct rb_pool *pool, uint64_t start, uint64_t bytes, uint32_t next)
{
	struct rb_block_note *notes = pool->notes;
	uint32_t block = pool->unused, last = notes[next].before;

	pool->unused = notes[block].after;
	notes[block].start = start;
	notes[block].stop = start + bytes;
	notes[block].before = last;
	notes[block].after = next;
	notes[last].after = notes[next].before = block;
	notes[block].lending = (uint8_t)(notes[block].lending % UINT8_MAX + 1);
	return block;
}

static void end_use(struct rb_pool *pool, uint32_t block)
{
	struct rb_block_note *notes = pool->notes;

	notes[notes[block].before].after = notes[block].after;
	notes[notes[block].after].before = notes[block].before;
	notes[block].after = pool->unused;
	pool->unused = block;
}

/* Whether nobody has the block any longer. */
static bool is_returned(struct rb_producer *producer, uint32_t block)
{
	const struct rb_block_note *note = &producer->pool.notes[block];

	if (producer->readers)
		return rb_readers_returned(producer, block, note->lending, note->index);
	/* (G) pairs with the release in rb_block_return: the receiver must be done with the block
	 * before it is written again. The receiver may store anything at any time; then it has only
	 * spoilt what it reads. */
	return rb_load_acquire_byte(&producer->theirs->blocks_returned[block]) == note->lending;
}

/* Ends the use of all blocks that the receiver has returned, and of one that was reserved and given
 * up: perhaps by another thread, so that is noted here, by the thread that sends. */
static void reclaim(struct rb_producer *producer)
{
	struct rb_pool *pool = &producer->pool;
	uint64_t lent = 0;

	if (pool->reserved != RB_BLOCKS && (!rb_load_relaxed(&producer->reserved) ||
					    pool->reserved_for != producer->reservation)) {
		end_use(pool, pool->reserved);
		pool->reserved = RB_BLOCKS;
	}
	for (uint32_t block = pool->notes[END].after, next; block != END; block = next) {
		next = pool->notes[block].after;
		if (block != pool->reserved && block != pool->filling &&
		    is_returned(producer, block))
			end_use(pool, block);
		else
			lent++;
	}
	rb_store_relaxed(&producer->mine->blocks_lent, lent);
}

/* A writer that waits for no reader: from now on no reader may take the oldest message in a block
 * that one may take now. False when there is none. */
static bool overtake_oldest(struct rb_producer *producer)
{
	const struct rb_block_note *notes = producer->pool.notes;
	const struct rb_block_note *oldest = NULL;

	if (!producer->readers)
		return false;
	for (uint32_t block = notes[END].after; block != END; block = notes[block].after) {
		const struct rb_block_note *note = &notes[block];
		bool lends = block != producer->pool.reserved && block != producer->pool.filling;
		if (lends && rb_readers_may_overtake(producer, note->index) &&
		    (!oldest || producer->write - note->index > producer->write - oldest->index))
			oldest = note;
	}
	if (oldest)
		rb_readers_overtake(producer, oldest->index);
	return oldest;
}

/* Finds the first gap of that size: gives its start, and the block behind it; or returns false. */
static bool find_gap(const struct rb_pool *pool, uint64_t bytes, uint64_t *start, uint32_t *next)
{
	const struct rb_block_note *notes = pool->notes;

	*start = 0;
	for (*next = notes[END].after; *next != END; *next = notes[*next].after) {
		if (notes[*next].start - *start >= bytes)
			return true;
		*start = notes[*next].stop;
	}
	return pool->bytes - *start >= bytes;
}

/* ---- the memory ---- */

static int make_memory(struct rb_pool *pool)
{
	int status = rb_memory_make(&pool->memory, RB_MEMORY_MEMFD);

	if (status)
		return status;
	return ftruncate(pool->memory.fd, (off_t)pool->bytes) ? -errno : 0;
}

static int map_memory(struct rb_pool *pool)
{
	int protection = PROT_READ | PROT_WRITE;
	void *start = mmap(NULL, pool->bytes, protection, MAP_SHARED, pool->memory.fd, 0);

	if (start == MAP_FAILED)
		return -errno;
	pool->start = (uint8_t *)start;
	return 0;
}

static int seal_and_pass(struct rb_producer *producer)
{
	int fd = producer->pool.memory.fd;
	int status = rb_memory_seal_for_writer(fd);

	if (status)
		return status;
	return producer->readers ? rb_readers_pass_pool(producer, fd)
				 : rb_pass(producer, RB_PASSES_POOL, fd);
}

/* Makes the pool and passes it to the receiver, before the first frame that needs it. If that
 * fails, there is no pool, and the next payload tries again. */
static int make_pool(struct rb_producer *producer)
{
	struct rb_pool *pool = &producer->pool;
	int status = -ENOMEM;

	pool->reached = 0;
	pool->notes = (struct rb_block_note *)calloc(RB_BLOCKS + 1, sizeof(*pool->notes));
	if (pool->notes)
		status = pool->given ? 0 : make_memory(pool);
	if (!status)
		status = map_memory(pool);
	if (!status && !pool->given)
		status = seal_and_pass(producer);
	if (status) {
		if (!pool->given)
			rb_pool_close(pool);
		rb_pool_free(pool);
		return status;
	}
	start_notes(pool);
	return 0;
}

/* Reserves memory up to there, or a good part of it: then it returns -EINTR, so that the caller can
 * look for signals, and calls again. */
static int reach(struct rb_pool *pool, uint64_t stop)
{
	uint64_t began = pool->reached;

	while (pool->reached < stop) {
		if (pool->reached - began >= AT_ONCE)
			return -EINTR;
		uint64_t part = pool->bytes - pool->reached;
		if (part > PART)
			part = PART;
		int failed = fallocate(pool->memory.fd, 0, (off_t)pool->reached, (off_t)part);
		if (failed && errno != EINTR)
			return -errno;
		if (failed)
			continue;
		/* Quicker than a fault for each page; without it the pages are faulted in. */
		madvise(pool->start + pool->reached, part, MADV_POPULATE_WRITE);
		pool->reached += part;
	}
	return 0;
}

/* A block that was taken is not sent. */
void rb_pool_give_up(struct rb_pool *pool, uint32_t block)
{
	end_use(pool, block);
}

/* The descriptor is no longer needed. */
void rb_pool_close(struct rb_pool *pool)
{
	rb_owned_close(&pool->memory);
}

/* Nobody uses the pool any longer on this side; the receiver has a mapping of its own. */
void rb_pool_free(struct rb_pool *pool)
{
	if (pool->start)
		munmap(pool->start, pool->bytes);
	pool->start = NULL;
	free(pool->notes);
	pool->notes = NULL;
}

/* ---- for blocks.c and wait.c ---- */

/* Whether a block of that size is free now. The caller waits for one, so there is a pool. */
bool rb_pool_has(struct rb_producer *producer, uint64_t length)
{
	struct rb_pool *pool = &producer->pool;
	uint64_t start;
	uint32_t next;

	if (!pool->notes)
		return true;
	reclaim(producer);
	if (pool->unused != RB_BLOCKS && find_gap(pool, rb_whole_pages(length), &start, &next))
		return true;
	for (uint32_t block = pool->notes[END].after; producer->readers && block != END;
	     block = pool->notes[block].after)
		rb_readers_blame(producer, block, pool->notes[block].lending,
				 pool->notes[block].index);
	return false;
}

/* Takes a block to be written. -EAGAIN when none of that size is free; -EINTR when the caller has
 * to call again, see `reach`; -EMSGSIZE when the pool is smaller; another -errno when there is no
 * pool, or no memory for it. */
int rb_pool_take(struct rb_producer *producer, uint64_t length, uint32_t *block)
{
	struct rb_pool *pool = &producer->pool;
	uint64_t bytes = rb_whole_pages(length), start;
	uint32_t next;

	if (length > pool->bytes)
		return -EMSGSIZE;
	int status = pool->notes ? 0 : make_pool(producer);
	if (status)
		return status;
	reclaim(producer);
	while (pool->unused == RB_BLOCKS || !find_gap(pool, bytes, &start, &next)) {
		if (!overtake_oldest(producer))
			return -EAGAIN;
		reclaim(producer);
	}
	status = reach(pool, start + bytes);
	if (!status)
		*block = begin_use(pool, start, bytes, next);
	return status;
}
