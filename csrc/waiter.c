/* SPDX-License-Identifier: MIT
 *
 * One thread that waits for many channels at once, and for other descriptors.
 *
 * Each member is awake or armed. The waiter looks at those that are awake. The others have armed,
 * so their peers kick when something arrives, and the kernel collects the kicks in one epoll
 * descriptor. So a look costs as much as there are members awake, however many there are.
 *
 *     awake -> armed    when RB_COOLING looks in a row found nothing in it, but something in others
 *     awake -> armed    all that are left, before the waiter sleeps
 *     armed -> awake    when its peer has kicked, its socket has ended, it has been closed, or a
 *                       call has slept on it
 *
 * Each is looked at once more after it has armed. A descriptor that is no channel is always armed:
 * the kernel says when it is readable. While members are awake, the waiter asks the kernel about
 * the others every RB_KERNEL_INTERVAL, so that who is busy does not hide who is not. Those that are
 * ready are given in turn.
 *
 * The eventfds are watched by edges and are not drained: each kick is an edge, also if the counter
 * was not 0. tests/model/waiter.pml searches this in full.
 */
#include <stdlib.h>
#include <sys/epoll.h>

#include "life.h"
#include "members.h"
#include "owned.h"
#include "passed.h"

/* So many looks in vain while others are busy, and a member is armed. */
#define RB_COOLING 64U
/* How long kicks may wait in the kernel while the waiter is busy. */
#define RB_KERNEL_INTERVAL (20 * RB_US)
/* Kicks that are collected in one step. */
#define RB_EVENTS 64
/* Rounds of looks between two looks at the clock. */
#define RB_ROUNDS 8

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

/* Arms a member and looks once more. If that finds something, it stays awake. */
static void cool(struct rb_member *member)
{
	rb_channel *channel = member->channel;

	rb_arm(channel, channel->asleep.waits_for, channel->producer.needed);
	if (is_ready(member)) {
		rb_disarm(channel, channel->asleep.waits_for);
		return;
	}
	rb_member_leave_the_awake(member);
	rb_count(&counters_of(channel)->sleeps, 1);
}

/* Gives the keys of those that are ready, at most `most`, and puts these at the end of the ring.
 * Only looks that follow a find count as looks in vain: while nothing is found, a look hides
 * nobody, and a kick would be slower than the look. */
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
			rb_member_leave_the_awake(member);
			/* What is no channel is looked at again when the kernel says so again. */
			if (member->channel)
				rb_member_wake(waiter, member);
			member->readable = false;
		} else if (!member->channel) {
			rb_member_leave_the_awake(member);
		} else if (waiter->found && ++member->vain >= RB_COOLING) {
			cool(member);
		}
		if (at_last || given == most)
			break;
	}
	waiter->found = given > 0;
	return given;
}

/* ---- what the kernel knows ---- */

static void wake_the_closed(struct rb_waiter *waiter)
{
	rb_drain(waiter->closes.fd);
	for (struct rb_member *member = waiter->all; member; member = member->next)
		if (member->channel && rb_dead(member->channel))
			rb_member_wake(waiter, member);
}

/* The kernel has told of a member that was armed. */
static void disarm(rb_channel *channel)
{
	struct rb_counters *counters = counters_of(channel);
	int ready = rb_look(channel, channel->asleep.waits_for, channel->producer.needed);

	rb_disarm(channel, channel->asleep.waits_for);
	rb_count(ready ? &counters->wakeups : &counters->spurious_wakeups, 1);
}

/* The socket of a member has something to say. Another thread may be closing it. */
static void note_socket(rb_channel *channel, uint32_t events)
{
	pthread_mutex_lock(&channel->closing.lock);
	if (events & EPOLLIN && !rb_load_relaxed_bool(&channel->closing.over))
		rb_take_passed(channel);
	pthread_mutex_unlock(&channel->closing.lock);
	if (events & ~(uint32_t)EPOLLIN)
		rb_note_socket_ended(channel);
}

static void note_event(struct rb_waiter *waiter, const struct epoll_event *event)
{
	uintptr_t what = (uintptr_t)event->data.u64;
	struct rb_member *member = (struct rb_member *)(what & ~RB_SOCKET);

	if (!member) {
		wake_the_closed(waiter);
		return;
	}
	if (member->gone)
		return;
	if (member->channel && !member->after)
		disarm(member->channel);
	if (what & RB_SOCKET)
		note_socket(member->channel, event->events);
	member->readable = true;
	rb_member_wake(waiter, member);
}

/* Wakes the members that the kernel knows of. */
static int ask_kernel(struct rb_waiter *waiter)
{
	struct epoll_event events[RB_EVENTS];
	int count = epoll_wait(waiter->epoll.fd, events, RB_EVENTS, 0);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++)
		note_event(waiter, &events[i]);
	waiter->asked_ns = rb_now_ns();
	return 0;
}

/* ---- opening and freeing ---- */

int rb_waiter_open(rb_waiter **opened)
{
	struct rb_waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return -ENOMEM;
	int status = rb_owned_epoll(&waiter->epoll);
	if (!status)
		status = rb_owned_eventfd(&waiter->closes);
	if (!status)
		status = rb_waiter_watch(waiter, waiter->closes.fd, EPOLLIN, 0);
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
	rb_waiter_forget_gone(waiter);
	rb_owned_close(&waiter->closes);
	rb_owned_close(&waiter->epoll);
	free(waiter);
}

/* The descriptor that rb_waiter_sleep sleeps on: readable when a member may be ready. -1 in a
 * forked child: the waiter belongs to the parent. */
int rb_waiter_fd(const rb_waiter *waiter)
{
	return rb_owned_fd(&waiter->epoll);
}

/* From now on an event loop sleeps on the descriptor of rb_waiter_fd, which this returns. It is
 * readable while a member is awake that may have something, and so at first. The loop has to wait
 * with a patience of 0, until nothing is ready, before it sleeps: then all have armed. */
int rb_waiter_pollable(rb_waiter *waiter)
{
	if (!waiter->pollable)
		rb_kick(waiter->closes.fd);
	waiter->pollable = true;
	return rb_waiter_fd(waiter);
}

/* How the waiter polls, as rb_channel_policy has it. */
void rb_waiter_policy(rb_waiter *waiter, int polling, uint64_t max_poll_ns, uint64_t max_share)
{
	waiter->poller = (struct rb_poller){
		.polling = polling,
		.max_ns = max_poll_ns,
		.budget_ns = polling == RB_POLL_ADAPTIVE ? max_poll_ns / 2 : 0,
		.max_share = max_share,
		.credited_ns = rb_now_ns(),
	};
}

/* How often it slept, was woken, and was woken for nothing. */
void rb_waiter_stats(const rb_waiter *waiter, uint64_t *words)
{
	words[0] = rb_load_relaxed(&waiter->counters.sleeps);
	words[1] = rb_load_relaxed(&waiter->counters.wakeups);
	words[2] = rb_load_relaxed(&waiter->counters.spurious_wakeups);
}

/* ---- polling ---- */

/* Looks once. Writes the keys of the members that are ready, at most `most`, and returns how many.
 */
int rb_waiter_look(rb_waiter *waiter, uint64_t *keys, int most)
{
	if (rb_now_ns() - waiter->asked_ns >= RB_KERNEL_INTERVAL) {
		int status = ask_kernel(waiter);
		if (status < 0)
			return status;
	}
	return give_ready(waiter, keys, most);
}

/* Who waits cannot send later the kicks that he holds back. */
static void send_owed(struct rb_waiter *waiter)
{
	if (!rb_load_relaxed_bool(&waiter->defers))
		return;
	for (struct rb_member *member = waiter->all; member; member = member->next) {
		rb_channel *channel = member->channel;
		if (!channel || !rb_load_relaxed_bool(&channel->producer.deferral.owed))
			continue;
		/* Another thread may be closing it. */
		pthread_mutex_lock(&channel->closing.lock);
		if (!rb_load_relaxed_bool(&channel->closing.over))
			rb_kick_if_owed_leaving_timer(&channel->producer);
		pthread_mutex_unlock(&channel->closing.lock);
	}
}

/* Looks for as long as the waiter polls: at most `patience_ns`, if that is not negative. What has
 * arrived before the call is found, however short that is. */
int rb_waiter_poll(rb_waiter *waiter, uint64_t *keys, int most, int64_t patience_ns)
{
	uint64_t began = rb_now_ns(), now = began;
	uint64_t budget = rb_poller_budget(&waiter->poller, &waiter->counters, began);

	if (patience_ns >= 0 && (uint64_t)patience_ns < budget)
		budget = (uint64_t)patience_ns;
	if (patience_ns >= 0 && (uint64_t)patience_ns < RB_KERNEL_INTERVAL)
		waiter->asked_ns = 0;
	int ready = rb_waiter_look(waiter, keys, most);
	if (!ready)
		send_owed(waiter);
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
	/* The order is that of a sleep: arm, look, ask the kernel. Who asks next is the loop. */
	if (!ready && waiter->pollable)
		ready = rb_waiter_sleep(waiter, keys, most, 0, -1);
	return ready;
}

/* ---- sleeping ---- */

/* Arms all members. Those that have something then are still awake. */
static void arm_all(struct rb_waiter *waiter)
{
	for (struct rb_member *member = waiter->awake.after, *next; member != &waiter->awake;
	     member = next) {
		next = member->after;
		if (member->channel)
			cool(member);
		else
			rb_member_leave_the_awake(member);
	}
}

/* No timer of theirs wakes the waiter, so it looks at them after each sleep. */
static void wake_those_without_timer(struct rb_waiter *waiter)
{
	for (struct rb_member *member = waiter->all; member; member = member->next)
		if (member->channel && member->channel->consumer.timer_lost)
			rb_member_wake(waiter, member);
}

/* Sleeps once, at most `left_ns`. Returns whether something woke it, or -errno. */
static int sleep_once(struct rb_waiter *waiter, int signal_fd, uint64_t left_ns, bool goes_on)
{
	if (waiter->timer_lost && left_ns > RB_SLEEP_WITHOUT_TIMER)
		left_ns = RB_SLEEP_WITHOUT_TIMER;
	rb_count(&waiter->counters.sleeps, !goes_on);
	int woken = rb_sleep_for(waiter->epoll.fd, signal_fd, left_ns);
	if (waiter->timer_lost)
		wake_those_without_timer(waiter);
	int status = woken < 0 ? woken : ask_kernel(waiter);
	return status < 0 ? status : woken;
}

/* Sleeps until a member is ready: once, for whatever arrives. When signal_fd becomes readable, the
 * sleep ends with -EINTR; -1 is none. A sleep with it goes on with one without it, and is not
 * counted again. A negative timeout is for ever. Returns as rb_waiter_look, and 0 when the time is
 * over. */
int rb_waiter_sleep(rb_waiter *waiter, uint64_t *keys, int most, int64_t timeout_ns, int signal_fd)
{
	uint64_t until = timeout_ns < 0 ? UINT64_MAX : rb_now_ns() + (uint64_t)timeout_ns;
	bool goes_on = signal_fd >= 0;

	send_owed(waiter);
	for (;;) {
		arm_all(waiter);
		if (waiter->awake.after != &waiter->awake)
			return give_ready(waiter, keys, most);
		uint64_t now = rb_now_ns();
		uint64_t left = until == UINT64_MAX ? UINT64_MAX : until > now ? until - now : 0;
		int woken = sleep_once(waiter, signal_fd, left, goes_on);
		goes_on = false;
		int ready = woken < 0 ? woken : give_ready(waiter, keys, most);
		if (ready > 0) {
			rb_count(&waiter->counters.wakeups, 1);
			rb_poller_slept(&waiter->poller, &waiter->counters,
					rb_now_ns() - waiter->poller.began_ns);
		}
		if (ready || !left || (!woken && rb_now_ns() >= until))
			return ready;
		rb_count(&waiter->counters.spurious_wakeups, woken ? 1 : 0);
	}
}
