/* SPDX-License-Identifier: MIT
 *
 * Closing a side while threads may be inside of its ends, asleep or at work.
 *
 * An end notes the thread that is inside (rb_enter, rb_leave in life.h). A side is closed in three
 * steps:
 *
 *     rb_channel_stop     1. `dead` is set: a thread inside fails at its next step.
 *                         2. The reading half of our own control socket is shut down, which ends
 *                            every sleep of this side.
 *     rb_channel_finish   3. Once nobody is inside: the goodbye, the socket's end, `over`.
 *     or rb_channel_left
 *
 * The closing thread does step 3, if it may wait for the threads inside. It may not wait if it is
 * inside itself: a signal handler closes the channel that its own thread waits in. Then the last
 * thread that leaves does step 3. The descriptors are closed after `over`, so no thread uses a
 * number that has become another descriptor's: before `over` a thread may be inside, and a thread
 * that enters later finds `dead` first.
 *
 * No sleep misses step 2, and it needs no pair of fences. A sleep watches the socket, and a half
 * that is shut down stays readable. So a thread that looked before step 1 and sleeps after step 2
 * is woken at once. The peer notices nothing but that it can no longer pass a timer: then it kicks
 * at once.
 */
#include <sys/socket.h>

#include "channel.h"
#include "life.h"

/* How often rb_channel_finish looks whether the threads inside have left. A condition variable with
 * the monotonic clock would bind to the newest C library. */
#define RB_CLOSING_LOOK (100 * RB_US)

void rb_closing_begin(struct rb_closing *closing)
{
	pthread_mutex_init(&closing->lock, NULL);
}

void rb_closing_end(struct rb_closing *closing)
{
	pthread_mutex_destroy(&closing->lock);
}

/* Steps 1 and 2. A second call does nothing: the first call decides about the goodbye. */
void rb_channel_stop(rb_channel *channel, int goodbye)
{
	struct rb_closing *closing = &channel->closing;

	pthread_mutex_lock(&closing->lock);
	if (rb_dead(channel) != -EBADF) {
		closing->goodbye = goodbye != 0;
		rb_end_life(channel);
		shutdown(channel->control_fd, SHUT_RD);
		rb_waiter_is_told_of_close(channel);
	}
	/* Pairs with the fence in rb_leave. */
	rb_fence_full();
	pthread_mutex_unlock(&closing->lock);
}

/* Step 3, unless a thread is inside. The caller holds the lock. Entering both ends keeps all other
 * threads out. */
static bool try_to_finish(rb_channel *channel)
{
	struct rb_closing *closing = &channel->closing;

	if (rb_load_relaxed_bool(&closing->over))
		return true;
	if (!rb_enter(&channel->producer.inside))
		return false;
	if (rb_enter(&channel->consumer.inside)) {
		rb_unmark_block(channel);
		if (closing->goodbye)
			rb_say_goodbye(channel);
		/* Wakes the peer, even while a forked child holds a copy of the socket. */
		shutdown(channel->control_fd, SHUT_RDWR);
		rb_readers_goodbye(&channel->producer);
		rb_waiter_is_told_of_end(channel);
		rb_set(&closing->over);
		rb_close_own(channel);
		rb_place_give(&channel->consumer.inside);
	}
	rb_place_give(&channel->producer.inside);
	return rb_load_relaxed_bool(&closing->over);
}

static bool am_inside(const rb_channel *channel)
{
	return rb_load_relaxed(&channel->producer.inside) == rb_this_thread() ||
	       rb_load_relaxed(&channel->consumer.inside) == rb_this_thread();
}

/* After rb_channel_stop. Waits for the threads that are inside, at most `wait_ns`. Returns 0 when
 * the side is closed; then its descriptors may be closed. Otherwise the last thread that leaves
 * closes the side: -EBUSY when the time is over, -EDEADLK when the calling thread is inside. */
int rb_channel_finish(rb_channel *channel, uint64_t wait_ns)
{
	struct rb_closing *closing = &channel->closing;
	const struct timespec pause = {.tv_nsec = RB_CLOSING_LOOK};
	uint64_t until_ns = rb_now_ns() + wait_ns;
	int status = 0;

	pthread_mutex_lock(&closing->lock);
	while (!try_to_finish(channel) && !status) {
		if (am_inside(channel)) {
			status = -EDEADLK;
		} else if (rb_now_ns() >= until_ns) {
			status = -EBUSY;
		} else {
			pthread_mutex_unlock(&closing->lock);
			nanosleep(&pause, NULL);
			pthread_mutex_lock(&closing->lock);
		}
	}
	if (rb_load_relaxed_bool(&closing->over))
		status = 0;
	pthread_mutex_unlock(&closing->lock);
	return status;
}

/* For a thread that has left and found that the side is being closed. True when this closed it. */
bool rb_channel_left(rb_channel *channel)
{
	struct rb_closing *closing = &channel->closing;

	/* Checked without the lock: in a forked child another thread of the parent may hold it. */
	if (rb_load_acquire_bool(&closing->over))
		return false;
	pthread_mutex_lock(&closing->lock);
	bool before = rb_load_relaxed_bool(&closing->over);
	bool now = try_to_finish(channel);
	pthread_mutex_unlock(&closing->lock);
	return now && !before;
}

/* Both in one, for a C program: it holds no lock of its own around them. */
int rb_channel_close(rb_channel *channel, int goodbye, uint64_t wait_ns)
{
	rb_channel_stop(channel, goodbye);
	return rb_channel_finish(channel, wait_ns);
}

/* In a forked child: the parent owns the channel. Only the thread that forked goes on in the child,
 * and it is in no step. */
void rb_channel_disown(rb_channel *channel)
{
	channel->disowned = true;
	rb_end_life(channel);
	rb_set(&channel->closing.over);
}

/* Whether this side has been closed, or is being closed. */
int rb_channel_closed(const rb_channel *channel)
{
	return rb_dead(channel) == -EBADF;
}
