/* SPDX-License-Identifier: MIT
 *
 * What a producer passes to its consumer over the control socket once the two have met: a timer,
 * for kicks that come later (kick.c), and the pool of its blocks (pool.c). Each is a datagram of
 * one letter with a descriptor, passed at most once. The socket of a pipe has chimes in it instead,
 * so both sides of a pipe get the pools when they get its other descriptors.
 *
 * A reader that is admitted when there is a pool gets it with the text that says so.
 *
 * The consumer's sleeps watch the socket. A frame in a block needs the pool at once, and finds it
 * there, because the pool is passed before the frame is published.
 *
 * If the consumer has no descriptor left, a timer is lost, and its later sleeps are short. A pool
 * stays in the socket: it is looked at first, and taken out once it is mapped. So a call that finds
 * no descriptor for it fails, and takes nothing; a later call tries again. Once it is mapped, it
 * needs no descriptor.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "life.h"
#include "owned.h"
#include "passed.h"

/* Passes a descriptor; -errno when this side has no room for that, or the peer has gone. */
int rb_pass(struct rb_producer *producer, char what, int fd)
{
	return rb_socket_send(producer->control_fd, &what, 1, &fd, 1);
}

/* Maps the pool that a descriptor stands for. -EPROTO for what is no pool: a receiver must not meet
 * a page that is missing, so the pool has to be sealed against getting shorter. */
static int map_pool(struct rb_consumer *consumer, int fd)
{
	/* Not fstat, which binds to a newer C library. */
	off_t size = rb_memory_kind(fd) == RB_MEMORY_MEMFD ? lseek(fd, 0, SEEK_END) : -1;

	if (size <= 0 || rb_whole_pages((uint64_t)size) != (uint64_t)size)
		return -EPROTO;
	size_t bytes = (size_t)size;
	void *start = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (start == MAP_FAILED)
		return -errno;
	consumer->their_pool = (struct rb_area){start, bytes};
	rb_set(&consumer->has_pool);
	return 0;
}

static int take_pool(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	rb_owned pool = {0}, *owner = &pool;
	char text[2];
	int came;
	int length = rb_socket_look(channel->control_fd, text, sizeof(text), &owner, 1, &came);

	if (length < 0 || consumer->has_pool || length != 1 || came != 1) {
		rb_owned_close(&pool);
		return length < 0 ? length : rb_corrupt(channel);
	}
	int status = map_pool(consumer, pool.fd);
	rb_owned_close(&pool);
	if (status)
		return status == -EPROTO ? rb_corrupt(channel) : status;
	rb_socket_receive(channel->control_fd, text, sizeof(text), NULL, 0, &came);
	return 1;
}

/* For a side of a pipe, before it is used: both pools, the driver's first, were made with the pipe.
 * -1 stands for none. The caller still owns the descriptors. */
int rb_take_given_pools(rb_channel *channel, const int *pools)
{
	int mine = pools[channel->side], theirs = pools[!channel->side];
	struct rb_pool *pool = &channel->producer.pool;
	int status = mine < 0 ? 0 : rb_owned_copy(&pool->memory, mine);

	pool->given = mine >= 0;
	return status || theirs < 0 ? status : map_pool(&channel->consumer, theirs);
}

/* For a reader among many, before it is used: the writer's pool, which came with the text that
 * admitted it. The caller still owns the descriptor. */
int rb_reader_take_pool(rb_channel *channel, int fd)
{
	return map_pool(&channel->consumer, fd);
}

/* Takes what the producer has passed. The caller holds the lock of closing.c. Returns 1; 0 when
 * there is nothing, as at the socket's end; -EMFILE when this process has no descriptor left for
 * it; -EPROTO when the producer passed something else. */
int rb_take_passed(rb_channel *channel)
{
	char text[2];
	int came;
	int length = rb_socket_look(channel->control_fd, text, sizeof(text), NULL, 0, &came);

	if (length <= 0)
		return 0;
	if (text[0] == RB_PASSES_TIMER)
		return rb_take_timer(channel);
	if (text[0] == RB_PASSES_POOL)
		return take_pool(channel);
	if (text[0] == RB_LETS_GO && channel->consumer.one_of_many) {
		rb_note_peer_gone(channel, -ETIMEDOUT);
		return 0; /* it stays in the socket, which has ended */
	}
	return rb_corrupt(channel);
}

/* The writer's socket has ended. Its last word may be that it has let this reader go, behind a
 * timer or a pool that nobody has taken yet. Then that is noted, and this is true. */
bool rb_hears_let_go(rb_channel *channel)
{
	/* Another thread may take it for a waiter, or close this side. */
	pthread_mutex_lock(&channel->closing.lock);
	while (!rb_load_relaxed_bool(&channel->closing.over) && rb_take_passed(channel) > 0)
		;
	pthread_mutex_unlock(&channel->closing.lock);
	return rb_peer_gone(channel) == -ETIMEDOUT;
}
