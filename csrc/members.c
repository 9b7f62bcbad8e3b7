/* SPDX-License-Identifier: MIT
 *
 * The members of a waiter: who they are, who of them is awake, and which descriptors the kernel
 * watches for them. waiter.c waits.
 *
 * Only the thread that waits adds and removes members. But other threads use the channels of the
 * members, and may close them. `closing.lock` of a channel guards what they do to its member:
 *
 *     close                       the kernel watches its descriptors no longer, and the waiter is
 *                                 told. The peer has the same open files, so they stay open, and
 *                                 the kernel would go on to say things about them.
 *     a sleep on wake_fd          the waiter watches the consumer's eventfd as well; see sleepers.c
 *     coalesce                    the waiter sends the kicks that are held back before it sleeps
 *
 * A descriptor that is no channel is the caller's. If he closes it too early, and somebody else has
 * the open file, the kernel still tells of the member. So its memory stays until the waiter goes.
 */
#include <stdlib.h>
#include <sys/epoll.h>

#include "life.h"
#include "members.h"
#include "owned.h"

/* ---- awake or armed ---- */

void rb_member_wake(struct rb_waiter *waiter, struct rb_member *member)
{
	member->vain = 0;
	if (member->after)
		return;
	/* Behind all others. */
	member->before = waiter->awake.before;
	member->after = &waiter->awake;
	member->before->after = member->after->before = member;
}

void rb_member_leave_the_awake(struct rb_member *member)
{
	if (!member->after)
		return;
	member->before->after = member->after;
	member->after->before = member->before;
	member->before = member->after = NULL;
}

/* ---- what the kernel watches ---- */

int rb_waiter_watch(struct rb_waiter *waiter, int fd, uint32_t events, uintptr_t what)
{
	struct epoll_event event = {.events = events, .data = {.u64 = what}};

	return epoll_ctl(waiter->epoll.fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* A kick wakes the waiter as well; `fd` is an eventfd or a timer of the member's channel. */
int rb_waiter_watches(struct rb_waiter *waiter, struct rb_member *member, int fd)
{
	int status = rb_waiter_watch(waiter, fd, EPOLLIN | EPOLLET, (uintptr_t)member);

	return status == -EEXIST ? 0 : status;
}

static int watch_channel(struct rb_waiter *waiter, struct rb_member *member)
{
	rb_channel *channel = member->channel;
	int status = rb_waiter_watches(waiter, member, channel->wake_fd);

	if (!status)
		status = rb_waiter_watch(waiter, channel->control_fd, EPOLLIN | EPOLLRDHUP,
					 (uintptr_t)member | RB_SOCKET);
	if (!status && channel->consumer.timer.fd)
		status = rb_waiter_watches(waiter, member, channel->consumer.timer.fd);
	/* A thread that sleeps already may drain the kick that is for the waiter. */
	if (!status && channel->asleep.first)
		status = rb_let_waiter_watch(channel);
	return status;
}

static bool unwatch(const struct rb_waiter *waiter, int fd)
{
	return fd >= 0 && !epoll_ctl(waiter->epoll.fd, EPOLL_CTL_DEL, fd, NULL);
}

static void unwatch_channel(const struct rb_waiter *waiter, rb_channel *channel)
{
	unwatch(waiter, channel->wake_fd);
	unwatch(waiter, channel->control_fd);
	unwatch(waiter, rb_owned_fd(&channel->consumer.timer));
	unwatch(waiter, rb_own_fd(channel, RB_DATA));
}

/* ---- coming and going ---- */

static void join(struct rb_waiter *waiter, struct rb_member *member, uint64_t key)
{
	member->key = key;
	member->next = waiter->all;
	if (member->next)
		member->next->previous = member;
	waiter->all = member;
}

static void part(struct rb_waiter *waiter, struct rb_member *member)
{
	rb_member_leave_the_awake(member);
	if (member->previous)
		member->previous->next = member->next;
	else
		waiter->all = member->next;
	if (member->next)
		member->next->previous = member->previous;
}

static void bury(struct rb_waiter *waiter, struct rb_member *member)
{
	member->gone = true;
	member->next = waiter->gone;
	waiter->gone = member;
}

void rb_waiter_forget_gone(struct rb_waiter *waiter)
{
	for (struct rb_member *member = waiter->gone, *next; member; member = next) {
		next = member->next;
		free(member);
	}
	waiter->gone = NULL;
}

/* The caller holds the lock. */
static int begin_to_watch(struct rb_waiter *waiter, struct rb_member *member)
{
	rb_channel *channel = member->channel;
	struct rb_asleep *asleep = &channel->asleep;

	if (rb_dead(channel) == -EBADF)
		return -EBADF;
	if (asleep->waiter)
		return -EBUSY;
	asleep->waiter = waiter;
	asleep->member = member;
	int status = watch_channel(waiter, member);
	if (status) {
		unwatch_channel(waiter, channel);
		asleep->waiter = NULL;
		asleep->member = NULL;
		return status;
	}
	waiter->timer_lost = waiter->timer_lost || channel->consumer.timer_lost;
	if (rb_load_relaxed(&channel->producer.deferral.block))
		rb_set(&waiter->defers);
	return 0;
}

/* The waiter waits for data in the channel, too. The caller uses the consumer's end in the thread
 * that waits, and removes the member before it frees the channel. Returns 0; -EBUSY when a waiter
 * has the channel already, -EBADF when it is closed, -ENOMEM, or what epoll_ctl returns. */
int rb_waiter_add(rb_waiter *waiter, rb_channel *channel, uint64_t key, rb_member **added)
{
	/* Before the lock: in a forked child another thread of the parent may hold it. */
	if (rb_dead(channel) == -EBADF)
		return -EBADF;
	struct rb_member *member = calloc(1, sizeof(*member));
	if (!member)
		return -ENOMEM;
	member->channel = channel;
	pthread_mutex_lock(&channel->closing.lock);
	int status = begin_to_watch(waiter, member);
	pthread_mutex_unlock(&channel->closing.lock);
	if (status) {
		free(member);
		return status;
	}
	join(waiter, member, key);
	rb_member_wake(waiter, member);
	if (waiter->pollable)
		rb_kick(waiter->closes.fd); /* it has not armed yet */
	*added = member;
	return 0;
}

/* The waiter waits until the descriptor is readable or at its end, too. Returns 0; -EEXIST when it
 * waits for that number already, perhaps for one that has been closed; -ENOMEM, or what epoll_ctl
 * returns. */
int rb_waiter_add_fd(rb_waiter *waiter, int fd, uint64_t key, rb_member **added)
{
	for (struct rb_member *member = waiter->all; member; member = member->next)
		if (!member->channel && member->fd == fd)
			return -EEXIST;
	struct rb_member *member = calloc(1, sizeof(*member));
	int status = member ? rb_waiter_watch(waiter, fd, EPOLLIN | EPOLLRDHUP, (uintptr_t)member)
			    : -ENOMEM;
	if (status) {
		free(member);
		return status;
	}
	member->fd = fd;
	join(waiter, member, key);
	*added = member;
	return 0;
}

/* Of a descriptor it has to be called before the descriptor is closed. */
void rb_waiter_remove(rb_waiter *waiter, rb_member *member)
{
	rb_channel *channel = member->channel;

	part(waiter, member);
	if (rb_waiter_fd(waiter) < 0) {
		/* A forked child has no part in what the kernel watches for the parent. */
		if (channel)
			channel->asleep.waiter = NULL;
	} else if (channel) {
		pthread_mutex_lock(&channel->closing.lock);
		if (!rb_load_relaxed_bool(&channel->closing.over))
			unwatch_channel(waiter, channel);
		channel->asleep.waiter = NULL;
		channel->asleep.member = NULL;
		pthread_mutex_unlock(&channel->closing.lock);
	} else if (!unwatch(waiter, member->fd)) {
		bury(waiter, member);
		return;
	}
	free(member);
}

/* ---- what the threads of a channel tell its waiter ---- */

/* A channel is closed, perhaps while the waiter sleeps. The caller holds the lock. */
void rb_waiter_is_told_of_close(rb_channel *channel)
{
	if (channel->asleep.waiter)
		rb_kick(channel->asleep.waiter->closes.fd);
}

/* Its descriptors will be closed now. The caller holds the lock. */
void rb_waiter_is_told_of_end(rb_channel *channel)
{
	if (channel->asleep.waiter)
		unwatch_channel(channel->asleep.waiter, channel);
}

/* Kicks are held back from now on. The caller holds the lock. */
void rb_waiter_is_told_of_block(rb_channel *channel)
{
	if (channel->asleep.waiter)
		rb_set(&channel->asleep.waiter->defers);
}

/* The peer's timer cannot be slept on. This is the thread that waits. */
void rb_waiter_is_told_of_lost_timer(rb_channel *channel)
{
	if (channel->asleep.waiter)
		channel->asleep.waiter->timer_lost = true;
}
