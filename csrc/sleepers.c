/* SPDX-License-Identifier: MIT
 *
 * Sleeping. The only file that sleeps. Two threads of one side may sleep at the same time.
 *
 * The peer kicks one eventfd, wake_fd, for data and for room alike. If two threads slept on it, one
 * could drain the kick that is for the other. So one thread sleeps on it at a time:
 *
 *     the first       sleeps on wake_fd. When it leaves, it wakes the second.
 *     the second      comes while the first is asleep. It sleeps on an eventfd of its own end.
 *                     Woken, it looks; if it sleeps again, it may be the first.
 *     an event loop   sleeps on wake_fd at any time, and on the eventfd of the consumer's end. When
 *     or a waiter     a thread that waits for room has drained wake_fd, it kicks that eventfd.
 *
 * The first drains wake_fd, and then wakes the others. So after each drain everybody looks for whom
 * the kick may have been. tests/model/sleepers.pml searches this in full.
 */
#include <poll.h>

#include "channel.h"
#include "life.h"
#include "owned.h"
#include "passed.h"
#include "waiter.h"

static rb_owned *own(rb_channel *channel, int want)
{
	return want & RB_DATA ? &channel->asleep.data : &channel->asleep.space;
}

/* The eventfd of the end that waits for `want`, or -1 when there is none yet. */
int rb_own_fd(rb_channel *channel, int want)
{
	return rb_owned_fd(own(channel, want));
}

/* Whether an event loop or a waiter may sleep for data. */
bool rb_is_watched(const rb_channel *channel)
{
	return channel->asleep.epoll.fd || channel->asleep.waiter;
}

/* The waiter watches the consumer's eventfd from the first sleep on that is not its own. The caller
 * holds the lock. */
int rb_let_waiter_watch(rb_channel *channel)
{
	struct rb_asleep *asleep = &channel->asleep;
	int status = 0;

	if (!asleep->data.fd)
		status = rb_owned_eventfd(&asleep->data);
	if (!status)
		status = rb_waiter_watches(asleep->waiter, asleep->member, asleep->data.fd);
	return status;
}

/* A thread counts as asleep from here on, before it arms and looks for the last time: whoever
 * drains wake_fd after that look wakes it as well. Returns 0, or -errno when there is no descriptor
 * for the second; then it is not asleep. */
int rb_begin_sleep(rb_channel *channel, struct rb_sleep *sleep)
{
	struct rb_asleep *asleep = &channel->asleep;
	rb_owned *mine = own(channel, sleep->want);

	sleep->drained = false;
	pthread_mutex_lock(&channel->closing.lock);
	sleep->first = !asleep->first;
	int status = asleep->waiter ? rb_let_waiter_watch(channel) : 0;
	if (!status && !sleep->first && !mine->fd)
		status = rb_owned_eventfd(mine);
	if (!status && sleep->first)
		asleep->first = sleep->want;
	else if (!status)
		asleep->second = sleep->want;
	pthread_mutex_unlock(&channel->closing.lock);
	return status;
}

/* It is awake. */
void rb_end_sleep(rb_channel *channel, const struct rb_sleep *sleep)
{
	struct rb_asleep *asleep = &channel->asleep;

	pthread_mutex_lock(&channel->closing.lock);
	if (!sleep->first)
		asleep->second = 0;
	else
		asleep->first = 0;
	if (sleep->first && asleep->second)
		rb_kick(rb_own_fd(channel, asleep->second));
	else if (sleep->drained && !(sleep->want & RB_DATA) && rb_is_watched(channel))
		rb_kick(rb_own_fd(channel, RB_DATA));
	pthread_mutex_unlock(&channel->closing.lock);
}

/* ---- the sleep ---- */

/* What a sleep watches. */
enum { CONTROL, WAKE, OWN, TIMER, SIGNAL, WATCHED };

/* Takes what has woken the sleep; returns how it ended, -EINTR, or another error. */
static int drain(rb_channel *channel, struct rb_sleep *sleep, const struct pollfd *fds)
{
	int ended = RB_TIME_OVER, status = 0;

	/* Before the last look, never after it: a kick that is drained and not looked for is lost.
	 */
	for (int i = WAKE; i <= TIMER; i++) {
		if (fds[i].revents) {
			rb_drain(fds[i].fd);
			ended = RB_KICKED;
		}
	}
	sleep->drained = sleep->drained || fds[WAKE].revents;
	if (fds[CONTROL].revents & POLLIN) {
		pthread_mutex_lock(&channel->closing.lock);
		status = rb_take_passed(channel);
		pthread_mutex_unlock(&channel->closing.lock);
		if (status > 0)
			status = ended ? ended : RB_PASSED;
	}
	if (fds[CONTROL].revents & ~POLLIN)
		rb_note_socket_ended(channel);
	if (fds[SIGNAL].revents)
		return -EINTR;
	return status ? status : ended;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / 1000000000ULL),
		.tv_nsec = (long)(ns % 1000000000ULL),
	};
}

/* Asks the kernel to wait; returns what `drain` returns. */
int rb_sleep_on(rb_channel *channel, struct rb_sleep *sleep, uint64_t timeout_ns)
{
	bool data = sleep->want & RB_DATA;
	/* Of both ends only the consumer takes what the peer passes. What lies in the socket of a
	 * pipe is for whoever watches the socket. */
	bool passed = data && !channel->consumer.chime.on;
	short socket_events = passed ? POLLRDHUP | POLLIN : POLLRDHUP;
	struct pollfd fds[WATCHED] = {
		{.fd = channel->control_fd, .events = socket_events},
		{.fd = sleep->first ? channel->wake_fd : -1, .events = POLLIN},
		{.fd = rb_own_fd(channel, sleep->want), .events = POLLIN},
		{.fd = data ? rb_owned_fd(&channel->consumer.timer) : -1, .events = POLLIN},
		{.fd = sleep->signal_fd, .events = POLLIN},
	};
	struct timespec timeout = timespec_of(timeout_ns);

	if (ppoll(fds, WATCHED, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0)
		return -errno;
	return drain(channel, sleep, fds);
}

/* The same for a descriptor that is not a channel's; returns whether it is readable, or -EINTR. */
int rb_sleep_for(int fd, int signal_fd, uint64_t timeout_ns)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
	struct timespec timeout = timespec_of(timeout_ns);

	if (ppoll(fds, 2, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0)
		return -errno;
	return fds[1].revents ? -EINTR : fds[0].revents != 0;
}

/* ---- an event loop ---- */

/* The peer has passed its timer. */
int rb_watch_timer(rb_channel *channel)
{
	struct rb_asleep *asleep = &channel->asleep;
	int fd = channel->consumer.timer.fd;
	int status = asleep->epoll.fd ? rb_epoll_watch(asleep->epoll.fd, fd) : 0;

	if (!status && asleep->waiter)
		status = rb_waiter_watches(asleep->waiter, asleep->member, fd);
	return status;
}

static int make_epoll(rb_channel *channel)
{
	struct rb_asleep *asleep = &channel->asleep;
	int status = asleep->data.fd ? 0 : rb_owned_eventfd(&asleep->data);

	if (!status)
		status = rb_owned_epoll(&asleep->epoll);
	if (!status)
		status = rb_epoll_watch(asleep->epoll.fd, channel->wake_fd);
	if (!status)
		status = rb_epoll_watch(asleep->epoll.fd, asleep->data.fd);
	if (!status)
		status = rb_epoll_watch(asleep->epoll.fd, channel->control_fd);
	if (!status && channel->consumer.timer.fd)
		status = rb_epoll_watch(asleep->epoll.fd, channel->consumer.timer.fd);
	if (status)
		rb_owned_close(&asleep->epoll);
	return status;
}

/* Makes the descriptor for an event loop, once. */
int rb_make_pollable(rb_channel *channel)
{
	int status = 0;

	pthread_mutex_lock(&channel->closing.lock);
	if (!channel->asleep.epoll.fd)
		status = rb_dead(channel) ? rb_dead(channel) : make_epoll(channel);
	pthread_mutex_unlock(&channel->closing.lock);
	return status;
}

/* The descriptor that rb_pollable has made, or -1. */
int rb_pollable_fd(const rb_channel *channel)
{
	return rb_owned_fd(&channel->asleep.epoll);
}

/* ---- closing ---- */

/* Closes the descriptors that were made for this file, the timers and the pool. Nobody is asleep
 * any more. */
void rb_close_own(rb_channel *channel)
{
	rb_owned_close(&channel->asleep.epoll);
	rb_owned_close(&channel->asleep.data);
	rb_owned_close(&channel->asleep.space);
	rb_owned_close(&channel->producer.timer);
	rb_owned_close(&channel->consumer.timer);
	rb_pool_close(&channel->producer.pool);
}
