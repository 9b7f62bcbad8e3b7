/* SPDX-License-Identifier: MIT
 *
 * What csrc/ stands on, as Relacy models it: the shared words, the fences, the eventfds. Included
 * before the sources, which then are compiled as they are: it replaces the compiler's builtins and
 * the system calls under them. So the orders that are searched are those of ordering.h itself.
 *
 * For one ring: `mine` of its producer is controls[PRODUCER], of its consumer controls[CONSUMER].
 */
#ifndef RB_TEST_MODELLED_MEMORY_H
#define RB_TEST_MODELLED_MEMORY_H

/* All that the sources include, before its names are taken. */
#include <errno.h>
#include <poll.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Relacy checks itself: above all, that the same choices give the same execution. */
#define RL_DO_ASSERT 1
#include <relacy/relacy.hpp>

#include "layout.h"

namespace modelled
{

enum { PRODUCER, CONSUMER };

/* Every word that one side writes and the other decides by. The counters and the goodbye are none:
 * they stay plain memory, so that the search has no choices at them. */
struct word {
	int side;
	size_t offset;
};

static const word words[] = {
	{PRODUCER, offsetof(rb_control, write_index)},
	{PRODUCER, offsetof(rb_control, claim_index)}, /* of a writer of many; and: */
	{PRODUCER, offsetof(rb_control, newest_index)},
	{PRODUCER, offsetof(rb_control, space_event)},
	{CONSUMER, offsetof(rb_control, read_index)},
	{CONSUMER, offsetof(rb_control, data_event)},
	{CONSUMER, offsetof(rb_control, moderation_entries)},
	{CONSUMER, offsetof(rb_control, moderation_ns)},
	/* Only in tests of blocks; in all others nobody decides by them. */
	{PRODUCER, offsetof(rb_control, block_event)},
	{CONSUMER, offsetof(rb_control, blocks_returned)}, /* of the first block */
};

/* An eventfd: a counter that is slept on until it is not 0. A kick synchronises with the drain that
 * takes it, as the kernel's lock does. To find that none has come synchronises with nothing, or the
 * kernel would be the fence that is searched for. */
struct eventfd {
	rl::atomic<uint64_t> kicks;

	void kick()
	{
		kicks.fetch_add(1, rl::mo_acq_rel, $);
		kicks.wake(rl::ctx(), 1, $);
	}

	/* False when the time is over, which it is at any time if it ever is. */
	bool sleep(bool bounded)
	{
		while (!kicks.fetch_add(0, rl::mo_relaxed, $))
			if (kicks.wait(rl::ctx(), bounded, false, $) == rl::unpark_reason_timeout)
				return false;
		return true;
	}

	uint64_t drain()
	{
		return kicks.exchange(0, rl::mo_acq_rel, $);
	}
};

/* Numbers of descriptors. */
enum { NONE = -1, CONSUMER_FD = 100, PRODUCER_FD = 101 }; /* whom it wakes */

/* What both sides map: the addresses of the words, and the contents of all others. */
static rb_control controls[2];

/* The contents of the words, and the eventfds, made anew for each execution. */
struct memory {
	rl::atomic<uint64_t> atomics[sizeof(words) / sizeof(*words)];
	eventfd eventfds[2];
	bool has_blocks;

	void begin(uint64_t write_index, uint64_t read_index);
};

static memory *shared;

static inline void fail(const char *what)
{
	fprintf(stderr, "the model has no %s\n", what);
	exit(2);
}

/* The modelled word at an address in a control area, or none for plain memory. */
static inline rl::atomic<uint64_t> *find(const void *address)
{
	for (int side = 0; side < 2; side++) {
		size_t offset = (const char *)address - (const char *)&controls[side];
		bool plain = offset >= offsetof(rb_control, producer);
		if (plain && !shared->has_blocks)
			continue;
		for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
			if (words[i].side == side && words[i].offset == offset)
				return &shared->atomics[i];
		if (!plain)
			fail("such shared word");
	}
	return NULL;
}

static inline eventfd *find(int fd)
{
	if (fd != CONSUMER_FD && fd != PRODUCER_FD)
		fail("such descriptor");
	return &shared->eventfds[fd - CONSUMER_FD];
}

static inline rl::memory_order order_of(int order)
{
	switch (order) {
	case __ATOMIC_RELAXED:
		return rl::mo_relaxed;
	case __ATOMIC_ACQUIRE:
		return rl::mo_acquire;
	case __ATOMIC_RELEASE:
		return rl::mo_release;
	case __ATOMIC_ACQ_REL:
		return rl::mo_acq_rel;
	case __ATOMIC_SEQ_CST:
		return rl::mo_seq_cst;
	}
	fail("such order");
	return rl::mo_relaxed;
}

template <typename T> T load(const T *address, int order, rl::debug_info_param where)
{
	rl::atomic<uint64_t> *word = find(address);

	return word ? (T)word->load(order_of(order), where) : *address;
}

template <typename T> void store(T *address, T value, int order, rl::debug_info_param where)
{
	rl::atomic<uint64_t> *word = find(address);

	if (word)
		word->store((uint64_t)value, order_of(order), where);
	else
		*address = value;
}

template <typename T> T exchange(T *address, T value, int order, rl::debug_info_param where)
{
	rl::atomic<uint64_t> *word = find(address);
	T before = *address;

	if (word)
		return (T)word->exchange(value, order_of(order), where);
	*address = value;
	return before;
}

static inline ssize_t write(int fd, const void *, size_t size)
{
	find(fd)->kick();
	return (ssize_t)size;
}

static inline ssize_t read(int fd, void *kicks, size_t size)
{
	*(uint64_t *)kicks = find(fd)->drain();
	return (ssize_t)size;
}

static inline int set_timer(int fd, const struct itimerspec *when)
{
	if (when->it_value.tv_nsec)
		find(fd)->kick();
	return 0;
}

/* Sleeps on the one eventfd among the descriptors; the socket and the others never say a word. */
static inline int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout)
{
	struct pollfd *slept_on = NULL;

	for (nfds_t i = 0; i < count; i++) {
		fds[i].revents = 0;
		if (fds[i].fd == NONE)
			continue;
		if (slept_on)
			fail("sleep on two eventfds");
		slept_on = &fds[i];
	}
	if (!slept_on || !find(slept_on->fd)->sleep(timeout != NULL))
		return 0;
	slept_on->revents = POLLIN;
	return 1;
}

void memory::begin(uint64_t write_index, uint64_t read_index)
{
	shared = this;
	has_blocks = false;
	for (rb_control &control : controls)
		control.producer = control.consumer = rb_counters(), control.goodbye = 0;
	/* As rb_channel_open leaves them. What is added to `words` starts with 0. */
	for (rl::atomic<uint64_t> &word : atomics)
		word.store(0, rl::mo_relaxed, $);
	find(&controls[PRODUCER].write_index)->store(write_index, rl::mo_relaxed, $);
	find(&controls[PRODUCER].space_event)->store(read_index - 1, rl::mo_relaxed, $);
	find(&controls[CONSUMER].read_index)->store(read_index, rl::mo_relaxed, $);
	find(&controls[CONSUMER].data_event)->store(read_index - 1, rl::mo_relaxed, $);
	for (eventfd &fd : eventfds)
		fd.kicks.store(0, rl::mo_relaxed, $);
}

} /* namespace modelled */

#define __atomic_load_n(word, order) modelled::load(word, order, $)
#define __atomic_store_n(word, value, order) modelled::store(word, value, order, $)
#define __atomic_exchange_n(word, value, order) modelled::exchange(word, value, order, $)
#define __atomic_thread_fence(order) rl::atomic_thread_fence(modelled::order_of(order), $)
#define __atomic_signal_fence(order) rl::atomic_signal_fence(modelled::order_of(order), $)
#define write(fd, bytes, size) modelled::write(fd, bytes, size)
#define read(fd, bytes, size) modelled::read(fd, bytes, size)
#define ppoll(fds, count, timeout, signals) modelled::ppoll(fds, count, timeout)
/* Time stands still, and the peer lives. A timer is an eventfd that is kicked when the
 * timer is set: it may be over at once, and a side that waits for it waits in any case. */
#define clock_gettime(clock, now) (void)(*(now) = timespec())
/* The control socket never ends, and no counter is ever full. */
#define poll(fds, count, timeout) ((fds)->revents = (fds)->events & POLLOUT, (fds)->revents != 0)
/* preadv2 */
#define syscall(number, fd, into, count, low, high, flags)                                         \
	(modelled::read)(fd, (into)->iov_base, (into)->iov_len)
/* One thread of each side: nobody else is asleep, and no timer is passed. */
#define pthread_mutex_lock(mutex) ((void)(mutex))
#define pthread_mutex_unlock(mutex) ((void)(mutex))
#define timerfd_gettime(fd, left) (modelled::fail("timer to look at"), 0)
#define timerfd_settime(fd, flags, when, before) modelled::set_timer(fd, when)

#endif
