/* SPDX-License-Identifier: MIT
 *
 * Admitting readers to one writer, and removing them: what another thread than the writer's does.
 * readers.c has the rules.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "life.h"
#include "owned.h"
#include "readers.h"

/* How often rb_readers_remove looks whether the writer is still in the places. */
#define LOOK (20 * RB_US)

/* A forked child parts with the readers, too, and only one thread has come with it. The others of
 * the parent may have held the lock, or walked, when it forked: there they do so for ever. */
static struct rb_readers *lock(rb_channel *channel)
{
	if (!channel->disowned)
		pthread_mutex_lock(&channel->producer.readers->lock);
	return channel->producer.readers;
}

static void unlock(rb_channel *channel)
{
	if (!channel->disowned)
		pthread_mutex_unlock(&channel->producer.readers->lock);
}

/* Makes a writer's channel, which was opened as a driver's, one of many readers. Its control socket
 * is one of a pair. The first entry waits for `awaited` readers. If `newest`, no entry waits for a
 * reader; otherwise a reader that holds the writer back for `stall_ns` is let go, with 0 never. */
int rb_readers_begin(rb_channel *channel, int newest, uint64_t awaited, uint64_t stall_ns)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_readers *readers = calloc(1, sizeof(*readers));

	if (!readers)
		return -ENOMEM;
	pthread_mutex_init(&readers->lock, NULL);
	readers->newest = newest != 0;
	readers->awaited = awaited;
	readers->stall_ns = stall_ns;
	readers->number = 1;
	readers->claimed = producer->write;
	rb_store_relaxed(&producer->mine->claim_index, producer->write);
	rb_store_relaxed(&producer->mine->newest_index, producer->write);
	rb_store_relaxed(&producer->mine->resume_index, producer->write);
	/* The first look at the room is the slow one. */
	producer->read_seen = producer->write - producer->count;
	producer->readers = readers;
	rb_count_cpus(channel);
	return 0;
}

static void count_readers(rb_channel *channel, uint64_t count)
{
	channel->producer.readers->count = count;
	rb_store_relaxed(&channel->producer.mine->readers, count);
}

static struct rb_reader *make_reader(rb_channel *channel, int page_fd, int kick_fd, int control_fd)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	void *page = mmap(NULL, rb_reader_bytes(), PROT_READ, MAP_SHARED, page_fd, 0);
	if (page == MAP_FAILED) {
		free(reader);
		return NULL;
	}
	reader->page = (struct rb_area){page, rb_reader_bytes()};
	reader->reach.mine = producer->mine;
	reader->reach.theirs = (const struct rb_control *)page;
	reader->reach.kick_fd = kick_fd;
	reader->reach.control_fd = control_fd;
	return reader;
}

static void free_reader(struct rb_reader *reader)
{
	rb_owned_close(&reader->reach.timer);
	rb_area_unmap(&reader->page);
	free(reader);
}

/* Wakes the writer if it waits for room, so that it looks again. */
static void wake_writer(rb_channel *channel)
{
	if (channel->disowned)
		return;
	/* Another thread may close this side meanwhile; the lock keeps the descriptors open. */
	pthread_mutex_lock(&channel->closing.lock);
	if (!rb_dead(channel))
		rb_kick(channel->wake_fd);
	pthread_mutex_unlock(&channel->closing.lock);
}

/* Starts the words of a reader, before the writer looks at them: in a page of zeros it would seem
 * to sleep for entry 0. Returns 0 or -errno. The caller holds the lock. */
static int start_reader(const struct rb_producer *producer, struct rb_reader *reader, int page_fd)
{
	/* One that is offered the newest may have the one that is there. */
	reader->seen = rb_load_acquire(producer->readers->newest ? &producer->mine->newest_index
								 : &producer->mine->write_index);
	reader->start = reader->seen;
	return rb_write_first_words(page_fd, 0, reader->seen);
}

/* Puts a reader in a place. The caller holds the lock. */
static void put_in_place(rb_channel *channel, struct rb_reader *reader, unsigned int place)
{
	struct rb_readers *readers = channel->producer.readers;

	/* (J) before `welcome`. No fence is needed behind it: the lock keeps the writer from
	 * finding room without this reader. */
	rb_store_release_reader(&readers->places[place], reader);
	if (place >= readers->used)
		rb_store_release(&readers->used, place + 1);
	count_readers(channel, readers->count + 1);
}

/* Tells a reader that it has been admitted, and passes the pool in the same datagram: the reader
 * may find a message in a block as soon as it hears the text. The caller holds the lock, so the
 * reader hears this text first. */
static int welcome(const struct rb_readers *readers, struct rb_reader *reader, const char *text,
		   size_t length)
{
	return rb_socket_send(reader->reach.control_fd, text, length, &readers->pool_fd,
			      readers->pool_fd != 0);
}

/* Admits a reader, whose page is that memory of rb_reader_bytes: starts its words, and sends it the
 * text. The caller owns the descriptors, until rb_readers_remove. Returns the place, or -EUSERS
 * when all places are taken, or another -errno. */
int rb_readers_admit(rb_channel *channel, int page_fd, int kick_fd, int control_fd,
		     const char *text, size_t length)
{
	struct rb_readers *readers = channel->producer.readers;
	struct rb_reader *reader = make_reader(channel, page_fd, kick_fd, control_fd);
	int place = 0, status;

	if (!reader)
		return -ENOMEM;
	lock(channel);
	while (place < (int)RB_READERS && readers->places[place])
		place++;
	status = place < (int)RB_READERS ? start_reader(&channel->producer, reader, page_fd)
					 : -EUSERS;
	bool in_place = !status;
	if (in_place) {
		put_in_place(channel, reader, (unsigned int)place);
		status = welcome(readers, reader, text, length);
	}
	unlock(channel);
	if (!in_place)
		free_reader(reader);
	else if (status)
		rb_readers_remove(channel, place);
	else
		wake_writer(channel);
	return status ? status : place;
}

/* After the writer was told, by a place or a flag, to leave a reader alone. */
static void wait_for_walk(const rb_channel *channel)
{
	const struct rb_readers *readers = channel->producer.readers;
	const struct timespec pause = {.tv_nsec = LOOK};

	/* (K) pairs with the fence in begin_walk. */
	rb_fence_full();
	while (!channel->disowned && rb_load_acquire_bool(&readers->walking))
		nanosleep(&pause, NULL);
}

/* A reader has gone. Afterwards the writer uses none of its descriptors. */
void rb_readers_remove(rb_channel *channel, int place)
{
	struct rb_readers *readers = lock(channel);

	struct rb_reader *reader = readers->places[place];
	rb_store_release_reader(&readers->places[place], NULL);
	while (readers->used && !readers->places[readers->used - 1])
		rb_store_relaxed(&readers->used, readers->used - 1);
	count_readers(channel, readers->count - !reader->left);
	unlock(channel);
	wait_for_walk(channel);
	free_reader(reader);
	wake_writer(channel);
}

/* A reader has closed, and may hold blocks, or the writer has let it go. Nothing of it is used from
 * now on but the memory that tells which blocks it has returned; the caller may close its
 * descriptors. Returns whether it holds any; if not, it is removed. */
int rb_readers_leave(rb_channel *channel, int place)
{
	struct rb_readers *readers = lock(channel);

	struct rb_reader *reader = readers->places[place];
	bool told = reader->let_go || rb_load_acquire(&reader->reach.theirs->goodbye);
	bool holds = told && readers->pool_fd && rb_reader_holds_blocks(reader);
	if (holds && !reader->left) {
		rb_store_relaxed_bool(&reader->left, true);
		count_readers(channel, readers->count - 1);
	}
	unlock(channel);
	if (!holds) {
		rb_readers_remove(channel, place);
		return false;
	}
	wait_for_walk(channel);
	wake_writer(channel);
	return true;
}

/* Whether the writer has let a reader go. */
int rb_readers_let_go(rb_channel *channel, int place)
{
	struct rb_readers *readers = lock(channel);

	bool let_go = readers->places[place] && readers->places[place]->let_go;
	unlock(channel);
	return let_go;
}

/* How many slots a reader has not given back yet. */
uint64_t rb_readers_behind(rb_channel *channel, int place)
{
	struct rb_readers *readers = lock(channel);
	uint64_t behind = 0;

	const struct rb_reader *reader = readers->places[place];
	if (reader)
		behind = rb_load_relaxed(&channel->producer.mine->write_index) -
			 rb_load_relaxed(&reader->reach.theirs->read_index);
	unlock(channel);
	return behind;
}

/* The counters of a reader, as in rb_channel_stats. */
void rb_readers_counters(rb_channel *channel, int place, uint64_t *words)
{
	struct rb_readers *readers = lock(channel);

	const struct rb_reader *reader = readers->places[place];
	if (reader)
		rb_copy_counters(words, &reader->reach.theirs->consumer);
	unlock(channel);
}

/* The bytes of the memory of a reader: its page, and a ring that nobody uses. */
uint64_t rb_reader_bytes(void)
{
	return 2 * rb_whole_pages(1);
}

/* ---- closing ---- */

void rb_readers_free(struct rb_producer *producer)
{
	struct rb_readers *readers = producer->readers;

	if (!readers)
		return;
	for (uint64_t i = 0; i < readers->used; i++)
		if (readers->places[i])
			free_reader(readers->places[i]);
	pthread_mutex_destroy(&readers->lock);
	free(readers);
	producer->readers = NULL;
}
