/* SPDX-License-Identifier: MIT
 *
 * Polling, arming, sleeping and kicking. The only file that touches an eventfd or a timer.
 *
 * A wait has two steps. rb_wait_poll looks at shared memory for the poll budget. If that was in
 * vain, rb_wait_sleep arms, fences, looks again, and sleeps on {eventfd, timer, control socket}.
 */
#include <poll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"

#define RB_US 1000ULL
#define RB_MS 1000000ULL

/* Budgets below this are not worth a look at the clock; growing starts here. */
#define RB_BUDGET_LEAST (4 * RB_US)
/* What a wake-up may add to a wait, on both sides together: an entry that arrived so much later
 * than the budget's bound would still have been found by polling. */
#define RB_WAKE_COST (100 * RB_US)
/* With RB_POLL_ALWAYS, how long one call polls before the caller may handle a signal. */
#define RB_POLL_SLICE (5 * RB_MS)
/* How long polling may leave the control socket unwatched. */
#define RB_LIFE_INTERVAL (10 * RB_MS)
/* How long a producer may sleep for a good part of the ring while its own message would fit. */
#define RB_GOOD_PART_SLEEP (200 * RB_US)
/* Looks at the index between two looks at the clock. */
#define RB_LOOKS 32
/* Looks at the index before a wait begins at all. */
#define RB_GLANCES 64
/* Polling that keeps finding nothing is tried again after 2^this waits less one. */
#define RB_VAIN_MOST 6U
/* What a bound on polling's share of the time may save up while nothing is polled for. */
#define RB_CREDIT_MOST RB_MS

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* ---- the poll budget: the one place that decides ---- */

/* What the share of the time that polling may take has left; less than nothing after a poll that
 * took longer than it was to. */
static int64_t poller_credit(struct rb_poller *poller, uint64_t now)
{
	if (poller->max_share >= RB_SHARE_ALL)
		return INT64_MAX;
	int64_t most = (int64_t)(poller->max_ns > RB_CREDIT_MOST ? poller->max_ns : RB_CREDIT_MOST);
	uint64_t passed = now - poller->credited_ns;
	/* So that the product has room; the share of one hour is more than can be saved up. */
	if (passed > 3600 * 1000 * RB_MS)
		passed = 3600 * 1000 * RB_MS;
	poller->credited_ns = now;
	poller->credit_ns += (int64_t)(passed * poller->max_share / RB_SHARE_ALL);
	if (poller->credit_ns > most)
		poller->credit_ns = most;
	return poller->credit_ns;
}

/* How long the wait that begins now may poll. */
static uint64_t poller_budget(struct rb_poller *poller, struct rb_counters *counters, uint64_t now)
{
	if (poller->polling == RB_POLL_NEVER)
		return 0;
	if (poller->polling == RB_POLL_ALWAYS)
		return RB_POLL_SLICE;
	if (poller->rest) {
		poller->rest--;
		return 0;
	}
	if (!poller->budget_ns)
		return 0;
	int64_t credit = poller_credit(poller, now);
	if (credit >= (int64_t)poller->budget_ns)
		return poller->budget_ns;
	rb_count(&counters->polls_capped, 1);
	return credit < (int64_t)RB_BUDGET_LEAST ? 0 : (uint64_t)credit;
}

/* Learns from a poll. One that took the longest budget and found nothing was in vain: no permitted
 * look would have found the entry. The more of these in a row, the more waits do without, as a
 * stream that is always a little too slow for polling would burn a CPU for nothing. */
static void poller_polled(struct rb_poller *poller, struct rb_counters *counters, uint64_t spent_ns,
			  bool found)
{
	rb_count(&counters->polled_ns, spent_ns);
	poller->credit_ns -= (int64_t)spent_ns;
	if (found) {
		rb_count(&counters->polls_found, 1);
		poller->vain = 0;
		return;
	}
	rb_count(&counters->polls_missed, 1);
	if (poller->polling != RB_POLL_ADAPTIVE || spent_ns < poller->max_ns)
		return;
	poller->rest = (1U << poller->vain) - 1;
	rb_count(&counters->budget_shrunk, poller->rest ? 1 : 0);
	if (poller->vain < RB_VAIN_MOST)
		poller->vain++;
}

/* Learns from a wait that polling did not end. After QEMU's AioContext: grow when a longer look
 * would have found the entry, shrink when no permitted look would have. */
static void poller_slept(struct rb_poller *poller, struct rb_counters *counters, uint64_t waited_ns)
{
	if (poller->polling != RB_POLL_ADAPTIVE)
		return;
	uint64_t before = poller->budget_ns;
	uint64_t budget = before ? before * 2 : RB_BUDGET_LEAST;

	if (waited_ns > poller->max_ns + RB_WAKE_COST)
		budget = before / 2 < RB_BUDGET_LEAST ? 0 : before / 2;
	else if (budget > poller->max_ns)
		budget = poller->max_ns;
	poller->budget_ns = budget;
	rb_store_relaxed(&counters->budget_ns, budget);
	rb_count(budget > before ? &counters->budget_grown : &counters->budget_shrunk,
		 budget != before);
}

/* ---- kicking ---- */

static void kick(int eventfd)
{
	uint64_t one = 1;

	/* EAGAIN means that its counter is full, so that it is readable: as good as written. */
	while (write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Empties an eventfd, or a timer that is over. Not tried again after a signal: the peer could have
 * made it block, and what is not emptied only wakes us once more. */
static void drain(int fd)
{
	uint64_t kicks;

	if (read(fd, &kicks, sizeof(kicks)) < 0)
		return;
}

/* A kick that comes by itself after `delay_ns`; 0 takes it back. */
static void set_timer(struct rb_producer *producer, uint64_t delay_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(delay_ns / 1000000000ULL),
					       .tv_nsec = (long)(delay_ns % 1000000000ULL)}};

	timerfd_settime(producer->timer_fd, 0, &when, NULL);
	producer->timer_over_ns = delay_ns ? now_ns() + delay_ns : 0;
}

static void kick_later(struct rb_producer *producer, uint64_t delay_ns)
{
	rb_count(&producer->mine->producer.kicks_late, 1);
	set_timer(producer, delay_ns ? delay_ns : 1);
}

/* Sets it to an earlier time, if it is not over before that. */
static void kick_sooner(struct rb_producer *producer, uint64_t delay_ns)
{
	if (producer->timer_over_ns > now_ns() + delay_ns)
		set_timer(producer, delay_ns);
}

static void kick_leaving_timer(struct rb_producer *producer)
{
	/* The one counter that both threads of a side may move. */
	rb_add(&producer->mine->producer.kicks_sent, 1);
	kick(producer->data_fd);
}

static void kick_consumer(struct rb_producer *producer)
{
	kick_leaving_timer(producer);
	/* A timer is set only for a consumer that has armed anew, so this takes back no other than
	 * the one that the kick stands for. */
	if (producer->timer_over_ns)
		set_timer(producer, 0);
}

/* Sends the kick that was held back, if there is one. */
static void kick_if_owed(struct rb_producer *producer)
{
	if (rb_clear(&producer->deferral.owed))
		kick_consumer(producer);
}

/* The same for whoever waits on this side: perhaps in the other end's thread, so the timer may be
 * about to be set for the consumer's next sleep. Cleared before the kick, as that thread may owe
 * the next one already. */
static void kick_if_owed_leaving_timer(struct rb_producer *producer)
{
	if (rb_clear(&producer->deferral.owed))
		kick_leaving_timer(producer);
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
		kick_if_owed(producer);
	}
}

/* Wakes the consumer as it wants to be woken, after so many entries have been published. */
void rb_producer_kick(struct rb_producer *producer, enum rb_wake wake, uint64_t entries)
{
	struct rb_counters *counters = &producer->mine->producer;

	if (wake == RB_WAKE_LATER)
		kick_later(producer, rb_load_relaxed(&producer->theirs->moderation_ns));
	if (producer->deferral.block) {
		rb_count(&counters->kicks_saved, 1);
		defer(producer, wake, entries);
	} else if (wake == RB_WAKE_NOW || wake == RB_WAKE_ENOUGH || producer->always_kick) {
		kick_consumer(producer);
	} else {
		rb_count(&counters->kicks_saved, 1);
	}
}

/* Holds kicks back until rb_defer_end, or until `max_entries` entries have been published, or
 * `max_delay_ns` are over after one was due; 0 of either is no bound. A timer that the kernel
 * keeps sees to the delay, so the caller need not come back for it. `block` is the caller's name
 * for it, so that nobody ends another's. */
int rb_defer_begin(rb_channel *channel, uint64_t block, uint64_t max_entries, uint64_t max_delay_ns)
{
	struct rb_deferral *deferral = &channel->producer.deferral;

	if (channel->dead)
		return channel->dead;
	if (deferral->block)
		return -EALREADY;
	/* Not `owed`, which is false outside of a block: the other end's thread may look at it. */
	deferral->block = block;
	deferral->entries = 0;
	deferral->max_entries = max_entries;
	deferral->max_ns = max_delay_ns;
	return 0;
}

/* Ends that block; nothing when another one has begun, or none. */
void rb_defer_end(rb_channel *channel, uint64_t block)
{
	if (channel->producer.deferral.block != block)
		return;
	channel->producer.deferral.block = 0;
	if (!channel->dead)
		kick_if_owed(&channel->producer);
}

/* Before waiting for room: what a consumer that sleeps was to be told later, it is told now, or it
 * would make no room meanwhile. */
void rb_producer_ring_full(struct rb_producer *producer)
{
	kick_if_owed(producer);
	if (producer->moderated_left) {
		producer->moderated_left = 0;
		kick_consumer(producer);
	}
}

void rb_consumer_kick(struct rb_consumer *consumer, bool asleep)
{
	struct rb_counters *counters = &consumer->mine->consumer;

	if (asleep) {
		rb_count(&counters->kicks_sent, 1);
		kick(consumer->space_fd);
	} else {
		rb_count(&counters->kicks_saved, 1);
	}
}

/* ---- looking ---- */

static bool control_socket_hung_up(const rb_channel *channel)
{
	struct pollfd socket = {.fd = channel->control_fd, .events = POLLRDHUP};

	return poll(&socket, 1, 0) > 0;
}

/* The socket tells that the peer is gone; its goodbye in shared memory tells which way. */
static void note_peer_gone(rb_channel *channel)
{
	bool closed = rb_load_acquire(&channel->consumer.theirs->goodbye) != 0;

	channel->peer_gone = closed ? -EPIPE : -ECONNRESET;
}

void rb_look_for_peer(rb_channel *channel)
{
	if (!channel->peer_gone && control_socket_hung_up(channel))
		note_peer_gone(channel);
}

/* For one who has published its last: -EPIPE or -ECONNRESET when the peer closed or died before it
 * took all of it, and no call has said so yet. */
int rb_peer_lost(rb_channel *channel)
{
	const struct rb_producer *producer = &channel->producer;

	if (channel->dead || channel->peer_gone)
		return 0;
	rb_look_for_peer(channel);
	if (!channel->peer_gone && rb_load_acquire(&producer->theirs->goodbye))
		channel->peer_gone = -EPIPE;
	bool taken = rb_load_acquire(&producer->theirs->read_index) == producer->write;
	return taken ? 0 : channel->peer_gone;
}

/* `needed` is the room that is enough. */
static int look_at_rings(rb_channel *channel, int want, uint64_t needed)
{
	int ready = 0;

	if (want & RB_DATA) {
		int available = rb_consumer_available(&channel->consumer);
		if (available < 0)
			return available;
		if (available)
			ready |= RB_DATA;
	}
	if (want & RB_SPACE) {
		int room = rb_producer_room(&channel->producer, needed);
		if (room < 0)
			return room;
		if (room && !channel->peer_gone)
			ready |= RB_SPACE;
	}
	return ready;
}

/* What of `want` is ready; 0 when nothing is and may still come; -errno when nothing will. */
static int look(rb_channel *channel, int want, uint64_t needed)
{
	int ready = look_at_rings(channel, want, needed);

	if (ready == 0) {
		int gone = channel->peer_gone;
		if (!gone && rb_load_acquire(&channel->consumer.theirs->goodbye))
			gone = -EPIPE;
		/* It may have published between our look and its leaving, never after that. */
		if (gone) {
			ready = look_at_rings(channel, want & RB_DATA, 0);
			if (ready == 0)
				ready = gone;
		}
	}
	if (ready == -EPROTO)
		channel->dead = -EPROTO;
	return ready;
}

/* ---- arming ---- */

/* Says from which index on we want a kick, for all that we wait for. */
static void arm(rb_channel *channel, int want, uint64_t needed)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	if (want & RB_DATA) {
		rb_store_relaxed(&consumer->mine->moderation_entries, consumer->moderation_entries);
		rb_store_relaxed(&consumer->mine->moderation_ns, consumer->moderation_ns);
		/* (E) pairs with the acquire in rb_producer_publish. */
		rb_store_release(&consumer->mine->data_event, consumer->next);
	}
	if (want & RB_SPACE) {
		/* Room for `needed` is there once read_index reaches write + needed - count; that
		 * is once the reader passes the index before it. */
		uint64_t enough = producer->write + needed - producer->count;
		rb_store_relaxed(&producer->mine->space_event, enough - 1);
	}
	/* (B) and (D) pair with the fences in rb_producer_publish and rb_consumer_release_to:
	 * either the peer sees that we armed and kicks, or our next look sees its index. */
	rb_fence_full();
}

/* Puts the events behind again, so that a peer that is on time does not kick a side that is
 * awake. */
static void disarm(rb_channel *channel, int want)
{
	if (want & RB_DATA)
		rb_store_relaxed(&channel->consumer.mine->data_event, channel->consumer.next - 1);
	if (want & RB_SPACE)
		rb_store_relaxed(&channel->producer.mine->space_event,
				 channel->producer.read_seen - 1);
}

/* Asks the kernel to wait; returns whether a kick came, or -EINTR. */
static int sleep_on(rb_channel *channel, int want, uint64_t timeout_ns, int signal_fd)
{
	struct pollfd fds[5] = {
		{.fd = channel->control_fd, .events = POLLRDHUP},
		{.fd = want & RB_DATA ? channel->consumer.data_fd : -1, .events = POLLIN},
		{.fd = want & RB_DATA ? channel->consumer.timer_fd : -1, .events = POLLIN},
		{.fd = want & RB_SPACE ? channel->producer.space_fd : -1, .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
	};
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000ULL),
		.tv_nsec = (long)(timeout_ns % 1000000000ULL),
	};
	int kicked = 0;

	if (ppoll(fds, 5, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0)
		return -errno;
	/* Drained before the last look, never after it: a kick that is drained unlooked is lost. */
	for (int i = 1; i <= 3; i++) {
		if (fds[i].revents) {
			drain(fds[i].fd);
			kicked = 1;
		}
	}
	if (fds[0].revents)
		note_peer_gone(channel);
	return fds[4].revents ? -EINTR : kicked;
}

/* ---- pollable mode ---- */

/* The caller sleeps on the descriptors by itself, so they stay readable while there is something to
 * take, and the consumer stays armed while there is not. It kicks itself when what it drained may
 * have been the kick for more than it takes. */
static void stay_readable_if(rb_channel *channel, bool ready)
{
	if (ready || channel->consumer.in_hand)
		kick(channel->consumer.data_fd);
}

/* Whether the caller has messages in hand that an event loop has still to be told of. */
void rb_in_hand(rb_channel *channel, int in_hand)
{
	channel->consumer.in_hand = in_hand != 0;
	if (in_hand && channel->consumer.pollable && !channel->dead)
		kick(channel->consumer.data_fd);
}

/* A look has found nothing, so the caller may go to sleep. The order is that of a sleep here. */
static int settle(rb_channel *channel)
{
	kick_if_owed_leaving_timer(&channel->producer);
	sleep_on(channel, RB_DATA, 0, -1);
	arm(channel, RB_DATA, 0);
	int ready = look(channel, RB_DATA, 0);
	stay_readable_if(channel, ready != 0);
	return ready;
}

/* From now on the data eventfd and the timer of the consumer, and the control socket, say when
 * there is something to take: level-triggered, and now and then for nothing. */
int rb_pollable(rb_channel *channel)
{
	if (channel->dead)
		return channel->dead;
	channel->consumer.pollable = true;
	settle(channel);
	return 0;
}

/* ---- polling ---- */

static struct rb_poller *poller_of(rb_channel *channel, int want)
{
	return want & RB_SPACE ? &channel->producer.poller : &channel->consumer.poller;
}

static struct rb_counters *counters_of(rb_channel *channel, int want)
{
	return want & RB_SPACE ? &channel->producer.mine->producer
			       : &channel->consumer.mine->consumer;
}

static void watch_life(rb_channel *channel, uint64_t now)
{
	if (now - channel->life_seen_ns < RB_LIFE_INTERVAL)
		return;
	channel->life_seen_ns = now;
	if (control_socket_hung_up(channel))
		note_peer_gone(channel);
}

/* Polls within the budget. A producer that found the ring full looks for a good part of it, so that
 * it does not stop again after one message, and takes what it needs when the budget is over. */
int rb_wait_poll(rb_channel *channel, int want, int64_t patience_ns)
{
	if (channel->dead)
		return channel->dead;
	struct rb_poller *poller = poller_of(channel, want);
	struct rb_counters *counters = counters_of(channel, want);
	uint64_t began = now_ns();
	uint64_t budget = patience_ns ? poller_budget(poller, counters, began) : 0;
	if (patience_ns >= 0 && (uint64_t)patience_ns < budget)
		budget = (uint64_t)patience_ns;
	poller->began_ns = began;
	watch_life(channel, began);

	/* Copies: the other end of this side may be in use by another thread. */
	uint64_t enough = want & RB_SPACE ? channel->producer.needed : 0;
	uint64_t needed = enough;
	if (want == RB_SPACE && budget && needed < channel->producer.count / 8)
		needed = channel->producer.count / 8;
	int ready = look(channel, want, needed);
	/* Who waits cannot come back for the kick that it holds back. */
	if (!ready && budget)
		kick_if_owed_leaving_timer(&channel->producer);
	uint64_t now = began;
	for (; !ready && now - began < budget; now = now_ns()) {
		watch_life(channel, now);
		for (int i = 0; i < RB_LOOKS && !ready; i++) {
			rb_cpu_relax();
			ready = look(channel, want, needed);
		}
	}
	if (!ready && needed != enough)
		ready = look(channel, want, enough);
	if (!ready && want & RB_DATA && channel->consumer.pollable)
		ready = settle(channel);
	if (budget)
		poller_polled(poller, counters, now - began, ready > 0);
	return ready;
}

/* A few looks for whoever has something to give up before a real wait (Python's GIL): enough for
 * what comes within a microsecond. None where the wait that begins now would not poll, or where
 * polling is bounded, as these are not counted. */
int rb_glance(rb_channel *channel, int want)
{
	const struct rb_poller *poller = poller_of(channel, want);
	bool polls = poller->polling == RB_POLL_ALWAYS ||
		     (poller->polling == RB_POLL_ADAPTIVE && poller->budget_ns && !poller->rest &&
		      poller->max_share >= RB_SHARE_ALL);
	int ready = 0;

	if (channel->dead || !polls)
		return 0;
	for (int i = 0; i < RB_GLANCES && !ready; i++) {
		rb_cpu_relax();
		ready = look_at_rings(channel, want, channel->producer.needed);
	}
	return ready;
}

/* ---- sleeping ---- */

/* A producer asks first to be woken when a good part of the ring is free; see sleep_bound. */
static uint64_t at_first(const struct rb_producer *producer, uint64_t enough)
{
	uint64_t good_part = producer->count / 2;

	return enough < good_part ? good_part : enough;
}

static uint64_t sleep_bound(uint64_t left_ns, bool for_good_part)
{
	return for_good_part && left_ns > RB_GOOD_PART_SLEEP ? RB_GOOD_PART_SLEEP : left_ns;
}

static uint64_t time_left(uint64_t began, uint64_t timeout_ns)
{
	if (timeout_ns == UINT64_MAX)
		return UINT64_MAX;
	uint64_t passed = now_ns() - began;
	return passed < timeout_ns ? timeout_ns - passed : 0;
}

/* Sleeps until something of `want` is ready. signal_fd, if it is not -1, ends the sleep as a signal
 * does when it becomes readable. A negative timeout is for ever. */
int rb_wait_sleep(rb_channel *channel, int want, int64_t timeout_ns, int signal_fd)
{
	if (channel->dead)
		return channel->dead;
	kick_if_owed_leaving_timer(&channel->producer);
	struct rb_counters *counters = counters_of(channel, want);
	struct rb_poller *poller = poller_of(channel, want);
	uint64_t timeout = timeout_ns < 0 ? UINT64_MAX : (uint64_t)timeout_ns;
	uint64_t began = now_ns();
	uint64_t enough = want & RB_SPACE ? channel->producer.needed : 0;
	bool patient = want & RB_SPACE;
	int ready;

	for (;;) {
		uint64_t needed = patient ? at_first(&channel->producer, enough) : enough;
		arm(channel, want, needed);
		ready = look(channel, want, enough);
		uint64_t left = time_left(began, timeout);
		if (ready || !left)
			break;
		rb_count(&counters->sleeps, 1);
		int kicked =
			sleep_on(channel, want, sleep_bound(left, needed != enough), signal_fd);
		ready = kicked < 0 ? kicked : look(channel, want, enough);
		if (ready > 0) {
			rb_count(&counters->wakeups, 1);
			poller_slept(poller, counters, now_ns() - poller->began_ns);
		} else if (kicked > 0) {
			rb_count(&counters->spurious_wakeups, 1);
		}
		if (ready)
			break;
		patient = false;
	}
	if (want & RB_DATA && channel->consumer.pollable) {
		/* It stays armed while there is nothing to take. */
		stay_readable_if(channel, ready != 0);
		want &= ~RB_DATA;
	}
	disarm(channel, want);
	return ready;
}

/* ---- options ---- */

/* `max_share` bounds the time that adaptive polling may take, of RB_SHARE_ALL. */
void rb_channel_policy(rb_channel *channel, int polling, uint64_t max_poll_ns, uint64_t max_share,
		       int always_kick)
{
	bool adaptive = polling == RB_POLL_ADAPTIVE;
	struct rb_poller poller = {
		.polling = polling,
		.max_ns = max_poll_ns,
		/* Something to begin with, so that the first wait is not a sleep by decree. */
		.budget_ns = adaptive ? max_poll_ns / 2 : 0,
		.max_share = max_share,
		.credited_ns = now_ns(),
	};

	channel->producer.poller = channel->consumer.poller = poller;
	rb_store_relaxed(&channel->producer.mine->producer.budget_ns, poller.budget_ns);
	rb_store_relaxed(&channel->producer.mine->consumer.budget_ns, poller.budget_ns);
	channel->producer.always_kick = always_kick != 0;
}

/* When the consumer sleeps it is woken after so many entries, or so long after the first of them,
 * whichever is first. 1 entry is the default: woken at once. For the sleeps that begin from now on.
 */
void rb_channel_moderation(rb_channel *channel, uint64_t entries, uint64_t delay_ns)
{
	channel->consumer.moderation_entries = entries;
	channel->consumer.moderation_ns = delay_ns;
}

/* The timer of one ring, for kicks that come later. Returns a descriptor, or -errno. */
int rb_timer_make(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
