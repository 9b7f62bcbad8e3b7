/* SPDX-License-Identifier: MIT
 *
 * Waking the other side: now, later, or once for many entries. The only file that writes or reads
 * an eventfd or a timer.
 *
 * Each side has one eventfd, which the other side kicks. If a kick is to come later, a timer of the
 * kernel stands for it. The producer makes the timer when it first needs one, and passes it to the
 * consumer over the control socket; the consumer sleeps on it, too. What each verb does:
 *
 *     verb                               sends         the timer
 *     rb_kick                            a kick        is not touched
 *     rb_kick_consumer                   a kick        is cancelled
 *     rb_kick_consumer_leaving_timer     a kick        is not touched
 *     kick_later                         nothing yet   is set
 *     kick_sooner                        nothing yet   is set anew, if it would end later
 *     defer                              nothing yet   as the block's max_delay says
 *     rb_kick_if_owed                    a kick (1)    is cancelled
 *     rb_kick_if_owed_leaving_timer      a kick (1)    is not touched
 *
 * (1) if one was held back. Only the producer's own thread touches the timer. The other end of the
 * same side, perhaps in another thread, uses the verbs that leave the timer.
 */
#include <poll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel.h"
#include "life.h"
#include "owned.h"
#include "passed.h"

/* The peer has the same open files, and O_NONBLOCK is a flag of the open file. So the peer may fill
 * the counter and make our descriptor block. Nothing here relies on that flag. */

void rb_kick(int eventfd)
{
	struct pollfd counter = {.fd = eventfd, .events = POLLOUT};
	uint64_t one = 1;

	/* A full counter is readable, so the kick is there already. If the peer fills it after this
	 * look, the write may block; a signal ends that, and the next look finds it full. */
	while (poll(&counter, 1, 0) > 0 && counter.revents & POLLOUT &&
	       write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Empties an eventfd, or a timer that is over, and never blocks. If a signal keeps it from that,
 * the sleeper only wakes once more. */
void rb_drain(int fd)
{
	struct pollfd counter = {.fd = fd, .events = POLLIN};
	uint64_t kicks;
	struct iovec into = {.iov_base = &kicks, .iov_len = sizeof(kicks)};

	/* As a system call, because not every C library has preadv2. */
	if (syscall(SYS_preadv2, fd, &into, 1, -1L, -1L, RWF_NOWAIT) >= 0 || errno == EAGAIN)
		return;
	/* The kernel does not support the flag (for timers: before 6.10). */
	if (poll(&counter, 1, 0) > 0 && read(fd, &kicks, sizeof(kicks)) < 0)
		return;
}

/* The timer of one ring, for kicks that come later. Returns a descriptor, or -errno. */
int rb_timer_make(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* From now on no sleep of the consumer may be long. */
static int lose_timer(rb_channel *channel, int status)
{
	channel->consumer.timer_lost = true;
	rb_waiter_is_told_of_lost_timer(channel);
	return status;
}

/* The consumer takes the timer that its producer has passed. Returns 1; 0 when there is none, as at
 * the socket's end; -EMFILE when this process has no descriptor left for the timer, which is then
 * lost; -EPROTO when the producer passed something else. */
int rb_take_timer(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	rb_owned *timer = &consumer->timer;
	struct itimerspec left;
	char text[2];
	int came, room = timer->fd ? 0 : 1;
	int length =
		rb_socket_receive(channel->control_fd, text, sizeof(text), &timer, room, &came);

	if (length == -EMFILE || length == -ENFILE)
		return lose_timer(channel, length);
	if (length <= 0)
		return 0;
	bool passed = came == 1 && room && length == 1 && text[0] == RB_PASSES_TIMER;
	if (!passed || timerfd_gettime(timer->fd, &left))
		return rb_corrupt(channel);
	int status = rb_watch_timer(channel);
	return status ? lose_timer(channel, status) : 1;
}

/* ---- waking the consumer ---- */

void rb_kick_consumer_leaving_timer(struct rb_producer *producer)
{
	/* Both threads of a side may move this counter. */
	rb_add(&producer->mine->producer.kicks_sent, 1);
	rb_kick(producer->kick_fd);
}

/* The timer wakes the consumer after `delay_ns`; 0 cancels it. */
static void set_timer(struct rb_producer *producer, uint64_t delay_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(delay_ns / 1000000000ULL),
					       .tv_nsec = (long)(delay_ns % 1000000000ULL)}};

	timerfd_settime(producer->timer.fd, 0, &when, NULL);
	producer->timer_over_ns = delay_ns ? rb_now_ns() + delay_ns : 0;
}

/* False when this side or the peer has no room for a timer. */
static bool has_timer(struct rb_producer *producer)
{
	if (producer->timer.fd)
		return true;
	if (rb_owned_timer(&producer->timer))
		return false;
	if (!rb_pass(producer, RB_PASSES_TIMER, producer->timer.fd))
		return true;
	rb_owned_close(&producer->timer);
	return false;
}

static void kick_later(struct rb_producer *producer, uint64_t delay_ns)
{
	if (!has_timer(producer)) {
		rb_kick_consumer_leaving_timer(producer);
		return;
	}
	rb_count(&producer->mine->producer.kicks_late, 1);
	set_timer(producer, delay_ns ? delay_ns : 1);
}

static void kick_sooner(struct rb_producer *producer, uint64_t delay_ns)
{
	if (producer->timer_over_ns > rb_now_ns() + delay_ns)
		set_timer(producer, delay_ns);
}

void rb_kick_consumer(struct rb_producer *producer)
{
	rb_kick_consumer_leaving_timer(producer);
	/* The producer sets the timer anew only when the consumer has armed anew. So this cancels
	 * the timer that the kick replaces, and no other. */
	if (producer->timer_over_ns)
		set_timer(producer, 0);
}

/* ---- kicks that are held back ---- */

void rb_kick_if_owed(struct rb_producer *producer)
{
	if (rb_clear(&producer->deferral.owed))
		rb_kick_consumer(producer);
}

/* For a thread of this side that waits. It may be the other end's thread, while the producer's
 * thread sets the timer for the consumer's next sleep; so it does not touch the timer. It clears
 * the flag before it kicks, because the producer's thread may owe the next kick already. */
void rb_kick_if_owed_leaving_timer(struct rb_producer *producer)
{
	if (rb_clear(&producer->deferral.owed))
		rb_kick_consumer_leaving_timer(producer);
}

/* Holds a kick back, unless enough entries have been held back already. */
static void defer(struct rb_producer *producer, enum rb_wake wake, uint64_t entries)
{
	struct rb_deferral *deferral = &producer->deferral;

	if (wake == RB_WAKE_NOW && deferral->max_ns)
		kick_later(producer, deferral->max_ns);
	if (wake == RB_WAKE_ENOUGH && deferral->max_ns)
		kick_sooner(producer, deferral->max_ns);
	if (wake == RB_WAKE_NOW || wake == RB_WAKE_ENOUGH)
		rb_set(&deferral->owed);
	deferral->entries += entries;
	if (deferral->max_entries && deferral->entries >= deferral->max_entries) {
		deferral->entries = 0;
		rb_kick_if_owed(producer);
	}
}

/* Wakes the consumer in the way that it wants, after `entries` entries have been published. */
void rb_producer_kick(struct rb_producer *producer, enum rb_wake wake, uint64_t entries)
{
	struct rb_counters *counters = &producer->mine->producer;

	if (wake == RB_WAKE_LATER)
		kick_later(producer, rb_load_relaxed(&producer->theirs->moderation_ns));
	if (producer->deferral.block) {
		rb_count(&counters->kicks_saved, 1);
		defer(producer, wake, entries);
	} else if (wake == RB_WAKE_NOW || wake == RB_WAKE_ENOUGH || producer->always_kick) {
		rb_kick_consumer(producer);
	} else {
		rb_count(&counters->kicks_saved, 1);
	}
}

/* Holds kicks back until rb_defer_end. Sends one earlier when `max_entries` entries have been
 * published, or `max_delay_ns` after a kick was due; 0 is no bound. A timer of the kernel watches
 * the delay, so the caller need not come back in time. `block` is the caller's name for the block,
 * so that nobody ends another one. */
int rb_defer_begin(rb_channel *channel, uint64_t block, uint64_t max_entries, uint64_t max_delay_ns)
{
	struct rb_deferral *deferral = &channel->producer.deferral;

	if (rb_dead(channel))
		return rb_dead(channel);
	if (deferral->block)
		return -EALREADY;
	/* `owed` is false outside of a block and is not set here: the other end's thread may read
	 * it. */
	pthread_mutex_lock(&channel->closing.lock);
	rb_store_relaxed(&deferral->block, block);
	rb_waiter_is_told_of_block(channel);
	pthread_mutex_unlock(&channel->closing.lock);
	deferral->entries = 0;
	deferral->max_entries = max_entries;
	deferral->max_ns = max_delay_ns;
	return 0;
}

/* Ends the block with that name; does nothing when another block has begun, or none. */
void rb_defer_end(rb_channel *channel, uint64_t block)
{
	if (channel->producer.deferral.block != block)
		return;
	rb_store_relaxed(&channel->producer.deferral.block, 0);
	if (rb_dead(channel))
		return;
	if (channel->producer.readers)
		rb_readers_kick_owed(&channel->producer);
	else
		rb_kick_if_owed(&channel->producer);
}

/* The same when the block's object is dropped, even if another thread is inside of the end. The
 * lock keeps the side open meanwhile, because this may use a descriptor. */
void rb_defer_drop(rb_channel *channel, uint64_t block)
{
	if (rb_dead(channel))
		return;
	pthread_mutex_lock(&channel->closing.lock);
	rb_defer_end(channel, block);
	pthread_mutex_unlock(&channel->closing.lock);
}

/* Before the producer waits for room: wakes a sleeping consumer now that a timer would wake later.
 * Otherwise the consumer would make no room until then. */
void rb_producer_ring_full(struct rb_producer *producer)
{
	if (producer->readers) {
		rb_readers_ring_full(producer);
		return;
	}
	rb_kick_if_owed(producer);
	if (producer->moderated_left) {
		producer->moderated_left = 0;
		rb_kick_consumer(producer);
	}
}

/* ---- waking the producer ---- */

void rb_kick_producer(struct rb_consumer *consumer)
{
	/* Any thread may return a block. */
	rb_add(&consumer->mine->consumer.kicks_sent, 1);
	rb_kick(consumer->kick_fd);
}
