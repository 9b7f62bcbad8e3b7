/* SPDX-License-Identifier: MIT
 *
 * One thread that waits for many channels at once, and for other descriptors.
 *
 * Each member is awake or armed. The waiter looks at those that are awake. The others have armed,
 * so their peers kick when something arrives, and the kernel collects the kicks in one epoll
 * descriptor. So a look costs as much as there are members awake, however many there are.
 *
 *     awake -> armed    one by one, when RB_COOLING looks in a row found nothing in it; all that
 * are left, before the waiter sleeps. Each is looked at once more after it has armed. armed ->
 * awake    when its peer has kicked, its socket has ended, or a call has slept on it
 *
 * A descriptor that is no channel is always armed: the kernel says when it is readable. While
 * members are awake, the waiter asks the kernel about the others every RB_KERNEL_INTERVAL, so that
 * who is busy does not hide who is not. Those that are ready are given in turn.
 *
 * The eventfds are watched by edges and are not drained: each kick is an edge, also if the counter
 * was not 0. tests/model/waiter.pml searches this in full.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "channel.h"
#include "life.h"
#include "owned.h"
#include "waiter.h"

/* So many looks in vain, and a member is armed though others are busy. */
#define RB_COOLING 64U
/* How long kicks may wait in the kernel while the waiter is busy. */
#define RB_KERNEL_INTERVAL (20 * RB_US)
/* Kicks that are collected in one step. */
#define RB_EVENTS 64
/* Rounds of looks between two looks at the clock. */
#define RB_ROUNDS 8

struct rb_member {
	struct rb_member *next, *previous; /* of all */
	struct rb_member *before, *after;  /* among the awake, in a ring; NULL: armed */
	rb_channel *channel;               /* NULL: only a descriptor */
	int fd;                            /* of that */
	uint64_t key;                      /* the caller's name for it */
	unsigned int vain;                 /* looks in a row that found nothing */
	bool readable;                     /* the kernel has said so */
};

struct rb_waiter {
	rb_owned epoll;
	rb_owned closes; /* kicked when a channel of a member is closed */
	struct rb_member *all;
	struct rb_member awake; /* the head of the ring */
	struct rb_poller poller;
	struct rb_counters counters;
	uint64_t asked_ns; /* when the kernel was asked last */
};

/* What an event is about: a member, and in the lowest bit whether it is the member's socket. */
#define SOCKET ((uintptr_t)1)

/* ---- members ---- */

static void wake(struct rb_waiter *waiter, struct rb_member *member)
{
	member->vain = 0;
	if (member->after)
		return;
	/* Behind all others. */
	member->before = waiter->awake.before;
	member->after = &waiter->awake;
	member->before->after = member->after->before = member;
}

static void leave_the_awake(struct rb_member *member)
{
	if (!member->after)
		return;
	member->before->after = member->after;
	member->after->before = member->before;
	member->before = member->after = NULL;
}

static int watch(struct rb_waiter *waiter, int fd, uint32_t events, uintptr_t what)
{
	struct epoll_event event = {.events = events, .data = {.u64 = what}};

	return epoll_ctl(waiter->epoll.fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* A kick wakes the waiter as well; `fd` is an eventfd or a timer of the member's channel. */
int rb_waiter_watches(struct rb_waiter *waiter, struct rb_member *member, int fd)
{
	return watch(waiter, fd, EPOLLIN | EPOLLET, (uintptr_t)member);
}

static int watch_channel(struct rb_waiter *waiter, struct rb_member *member)
{
	rb_channel *channel = member->channel;
	int status = rb_waiter_watches(waiter, member, channel->wake_fd);

	if (!status)
		status = watch(waiter, channel->control_fd, EPOLLIN | EPOLLRDHUP,
			       (uintptr_t)member | SOCKET);
	if (!status && channel->consumer.timer.fd)
		status = rb_waiter_watches(waiter, member, channel->consumer.timer.fd);
	return status;
}

static void unwatch(const struct rb_waiter *waiter, int fd)
{
	if (fd >= 0)
		epoll_ctl(waiter->epoll.fd, EPOLL_CTL_DEL, fd, NULL);
}

static void unwatch_channel(const struct rb_waiter *waiter, rb_channel *channel)
{
	unwatch(waiter, channel->wake_fd);
	unwatch(waiter, channel->control_fd);
	unwatch(waiter, rb_owned_fd(&channel->consumer.timer));
	unwatch(waiter, rb_own_fd(channel, RB_DATA));
}

static void join(struct rb_waiter *waiter, struct rb_member *member, uint64_t key)
{
	member->key = key;
	member->next = waiter->all;
	if (member->next)
		member->next->previous = member;
	waiter->all = member;
}

static void forget(struct rb_waiter *waiter, struct rb_member *member)
{
	leave_the_awake(member);
	if (member->previous)
		member->previous->next = member->next;
	else
		waiter->all = member->next;
	if (member->next)
		member->next->previous = member->previous;
	free(member);
}

/* The waiter waits for data in the channel, too. The caller uses the consumer's end in the thread
 * that waits, and removes the member before it frees the channel. Returns 0; -EBUSY when a waiter
 * has the channel already, -EBADF when it is closed, -ENOMEM, or what epoll_ctl returns. */
int rb_waiter_add(rb_waiter *waiter, rb_channel *channel, uint64_t key, rb_member **added)
{
	struct rb_member *member = calloc(1, sizeof(*member));
	int status;

	if (!member)
		return -ENOMEM;
	member->channel = channel;
	pthread_mutex_lock(&channel->closing.lock);
	if (rb_dead(channel) == -EBADF)
		status = -EBADF;
	else if (channel->asleep.waiter)
		status = -EBUSY;
	else
		status = watch_channel(waiter, member);
	if (!status) {
		channel->asleep.waiter = waiter;
		channel->asleep.member = member;
	} else if (status != -EBUSY) {
		unwatch_channel(waiter, channel);
	}
	pthread_mutex_unlock(&channel->closing.lock);
	if (status) {
		free(member);
		return status;
	}
	join(waiter, member, key);
	wake(waiter, member);
	*added = member;
	return 0;
}

/* The waiter waits until the descriptor is readable or at its end, too. */
int rb_waiter_add_fd(rb_waiter *waiter, int fd, uint64_t key, rb_member **added)
{
	struct rb_member *member = calloc(1, sizeof(*member));
	int status = member ? watch(waiter, fd, EPOLLIN | EPOLLRDHUP, (uintptr_t)member) : -ENOMEM;

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

	if (channel) {
		pthread_mutex_lock(&channel->closing.lock);
		if (!rb_load_relaxed_bool(&channel->closing.over))
			unwatch_channel(waiter, channel);
		channel->asleep.waiter = NULL;
		channel->asleep.member = NULL;
		pthread_mutex_unlock(&channel->closing.lock);
	} else {
		unwatch(waiter, member->fd);
	}
	forget(waiter, member);
}

/* Some thread has closed a channel, perhaps while the waiter sleeps. Once its descriptors are
 * closed the kernel says nothing about them. The caller holds the lock that rb_waiter_remove takes.
 */
void rb_waiter_is_told_of_close(rb_channel *channel)
{
	if (channel->asleep.waiter)
		rb_kick(channel->asleep.waiter->closes.fd);
}

static void wake_the_closed(struct rb_waiter *waiter)
{
	rb_drain(waiter->closes.fd);
	for (struct rb_member *member = waiter->all; member; member = member->next)
		if (member->channel && rb_dead(member->channel))
			wake(waiter, member);
}

/* ---- looking ---- */

/* Whether the caller should take from the member now, or learn from a take why nothing comes. */
static bool is_ready(struct rb_member *member)
{
	rb_channel *channel = member->channel;

	if (!channel)
		return member->readable;
	if (rb_load_relaxed_bool(&channel->consumer.in_hand))
		return true;
	return rb_look(channel, channel->asleep.waits_for, channel->producer.needed) != 0;
}

static struct rb_counters *counters_of(const rb_channel *channel)
{
	struct rb_control *mine = channel->producer.mine;

	return channel->asleep.waits_for == RB_SPACE ? &mine->producer : &mine->consumer;
}

/* Arms a member and looks once more; true when it stays armed. */
static bool cools(struct rb_member *member)
{
	rb_channel *channel = member->channel;

	rb_arm(channel, channel->asleep.waits_for, channel->producer.needed);
	if (is_ready(member)) {
		rb_disarm(channel, channel->asleep.waits_for);
		return false;
	}
	leave_the_awake(member);
	rb_count(&counters_of(channel)->sleeps, 1);
	return true;
}

/* Gives the keys of those that are ready, at most `most`, and puts these at the end of the ring. */
static int give_ready(struct rb_waiter *waiter, uint64_t *keys, int most)
{
	struct rb_member *last = waiter->awake.before;
	int given = 0;

	for (struct rb_member *member = waiter->awake.after, *next; member != &waiter->awake;
	     member = next) {
		bool at_last = member == last;
		next = member->after;
		if (is_ready(member)) {
			keys[given++] = member->key;
			leave_the_awake(member);
			/* What is no channel is looked at again when the kernel says so again. */
			if (member->channel)
				wake(waiter, member);
			member->readable = false;
		} else if (!member->channel) {
			leave_the_awake(member);
		} else if (++member->vain >= RB_COOLING) {
			cools(member);
		}
		if (at_last || given == most)
			break;
	}
	return given;
}

static void wake_channel(rb_channel *channel)
{
	struct rb_counters *counters = counters_of(channel);
	int ready = rb_look(channel, channel->asleep.waits_for, channel->producer.needed);

	rb_disarm(channel, channel->asleep.waits_for);
	rb_count(ready ? &counters->wakeups : &counters->spurious_wakeups, 1);
}

/* Wakes the members that the kernel knows of. Waits at most that many milliseconds; -1 is for ever.
 */
static int ask_kernel(struct rb_waiter *waiter, int timeout_ms)
{
	struct epoll_event events[RB_EVENTS];
	int count = epoll_wait(waiter->epoll.fd, events, RB_EVENTS, timeout_ms);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		uintptr_t what = (uintptr_t)events[i].data.u64;
		struct rb_member *member = (struct rb_member *)(what & ~SOCKET);
		bool is_socket = what & SOCKET;
		if (!member) {
			wake_the_closed(waiter);
			continue;
		}
		if (member->channel && !member->after)
			wake_channel(member->channel);
		if (is_socket && events[i].events & EPOLLIN)
			rb_take_timer(member->channel); /* of an error the next take tells */
		if (is_socket && events[i].events & ~(uint32_t)EPOLLIN)
			rb_note_socket_ended(member->channel);
		member->readable = true;
		wake(waiter, member);
	}
	waiter->asked_ns = rb_now_ns();
	return count;
}

/* ---- waiting ---- */

int rb_waiter_open(rb_waiter **opened)
{
	struct rb_waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return -ENOMEM;
	int status = rb_owned_epoll(&waiter->epoll);
	if (!status)
		status = rb_owned_eventfd(&waiter->closes);
	if (!status)
		status = watch(waiter, waiter->closes.fd, EPOLLIN, 0);
	if (status) {
		rb_waiter_free(waiter);
		return status;
	}
	waiter->awake.before = waiter->awake.after = &waiter->awake;
	*opened = waiter;
	return 0;
}

/* Removes the members that are left. */
void rb_waiter_free(rb_waiter *waiter)
{
	while (waiter->all)
		rb_waiter_remove(waiter, waiter->all);
	rb_owned_close(&waiter->closes);
	rb_owned_close(&waiter->epoll);
	free(waiter);
}

/* The descriptor that rb_waiter_sleep sleeps on: readable when a member may be ready. */
int rb_waiter_fd(const rb_waiter *waiter)
{
	return rb_owned_fd(&waiter->epoll);
}

/* How the waiter polls, as rb_channel_policy has it. */
void rb_waiter_policy(rb_waiter *waiter, int polling, uint64_t max_poll_ns)
{
	waiter->poller = (struct rb_poller){
		.polling = polling,
		.max_ns = max_poll_ns,
		.budget_ns = polling == RB_POLL_ADAPTIVE ? max_poll_ns / 2 : 0,
		.max_share = RB_SHARE_ALL,
	};
}

/* Looks once. Writes the keys of the members that are ready, at most `most`, and returns how many.
 */
int rb_waiter_look(rb_waiter *waiter, uint64_t *keys, int most)
{
	if (rb_now_ns() - waiter->asked_ns >= RB_KERNEL_INTERVAL) {
		int status = ask_kernel(waiter, 0);
		if (status < 0)
			return status;
	}
	return give_ready(waiter, keys, most);
}

/* Looks for as long as the waiter polls: at most `patience_ns`, if that is not negative. */
int rb_waiter_poll(rb_waiter *waiter, uint64_t *keys, int most, int64_t patience_ns)
{
	uint64_t began = rb_now_ns(), now = began;
	uint64_t budget = rb_poller_budget(&waiter->poller, &waiter->counters, began);
	int ready = rb_waiter_look(waiter, keys, most);

	if (patience_ns >= 0 && (uint64_t)patience_ns < budget)
		budget = (uint64_t)patience_ns;
	waiter->poller.began_ns = began;
	while (!ready && now - began < budget) {
		for (int i = 0; i < RB_ROUNDS && !ready; i++) {
			rb_cpu_relax();
			ready = give_ready(waiter, keys, most);
		}
		now = rb_now_ns();
		if (!ready && now - waiter->asked_ns >= RB_KERNEL_INTERVAL)
			ready = rb_waiter_look(waiter, keys, most);
	}
	if (budget)
		rb_poller_polled(&waiter->poller, &waiter->counters, now - began, ready > 0);
	return ready;
}

/* Arms all members. Returns 0 when nothing is ready, so that the caller may sleep. */
static int arm_all(struct rb_waiter *waiter, uint64_t *keys, int most)
{
	for (struct rb_member *member = waiter->awake.after, *next; member != &waiter->awake;
	     member = next) {
		next = member->after;
		if (!member->channel)
			leave_the_awake(member);
		else
			cools(member);
	}
	/* Those that found something after they had armed are still awake. */
	return waiter->awake.after == &waiter->awake ? 0 : give_ready(waiter, keys, most);
}

/* Sleeps until a member is ready: once, for whatever arrives. When signal_fd becomes readable, the
 * sleep ends with -EINTR; -1 is none. A negative timeout is for ever. Returns as rb_waiter_look,
 * and 0 when the time is over. */
int rb_waiter_sleep(rb_waiter *waiter, uint64_t *keys, int most, int64_t timeout_ns, int signal_fd)
{
	uint64_t until = timeout_ns < 0 ? UINT64_MAX : rb_now_ns() + (uint64_t)timeout_ns;

	for (;;) {
		int ready = arm_all(waiter, keys, most);
		if (ready)
			return ready;
		uint64_t now = rb_now_ns();
		uint64_t left = until == UINT64_MAX ? UINT64_MAX : until > now ? until - now : 0;
		rb_count(&waiter->counters.sleeps, 1);
		int status = rb_sleep_for(waiter->epoll.fd, signal_fd, left);
		if (status < 0)
			return status;
		status = ask_kernel(waiter, 0);
		ready = status < 0 ? status : give_ready(waiter, keys, most);
		if (ready > 0) {
			rb_count(&waiter->counters.wakeups, 1);
			rb_poller_slept(&waiter->poller, &waiter->counters,
					rb_now_ns() - waiter->poller.began_ns);
		}
		if (ready || !left)
			return ready;
		rb_count(&waiter->counters.spurious_wakeups, 1);
	}
}

/* How often it slept, was woken, and was woken for nothing. */
void rb_waiter_stats(const rb_waiter *waiter, uint64_t *words)
{
	words[0] = rb_load_relaxed(&waiter->counters.sleeps);
	words[1] = rb_load_relaxed(&waiter->counters.wakeups);
	words[2] = rb_load_relaxed(&waiter->counters.spurious_wakeups);
}
