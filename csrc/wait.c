/* SPDX-License-Identifier: MIT
 *
 * Looking, arming, polling, and going to sleep.
 *
 * A wait has two steps. rb_wait_poll looks at shared memory for the poll budget. If that finds
 * nothing, rb_wait_sleep arms, fences, looks again, and sleeps on {eventfd, timer, control socket}.
 * sleepers.c sleeps.
 */
#include <poll.h>
#include <sched.h>

#include "channel.h"
#include "life.h"

/* How long a producer may sleep for a good part of the ring while its own message would fit. */
#define RB_GOOD_PART_SLEEP (200 * RB_US)
/* Looks at the index between two looks at the clock. */
#define RB_LOOKS 32
/* Looks at the index before a wait begins at all. */
#define RB_GLANCES 64

/* ---- looking ---- */

/* Whether the message that waits for room needs no block, or finds one. */
static bool producer_has_block(struct rb_producer *producer)
{
	return !producer->pool.needed || rb_pool_has(producer, producer->pool.needed);
}

/* `needed` is how many free slots are enough. */
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
		if (room && producer_has_block(&channel->producer) && !rb_peer_gone(channel))
			ready |= RB_SPACE;
	}
	return ready;
}

/* The part of `want` that is ready; 0 when nothing is ready yet; -errno when nothing will come. */
int rb_look(rb_channel *channel, int want, uint64_t needed)
{
	int ready = look_at_rings(channel, want, needed);

	if (ready == 0) {
		int gone = rb_no_more_comes(channel);
		/* The peer may have published after our look and before it left, but not later. */
		if (gone) {
			ready = look_at_rings(channel, want & RB_DATA, 0);
			if (ready == 0)
				ready = gone;
		}
	}
	return ready == -EPROTO ? rb_corrupt(channel) : ready;
}

/* ---- arming ---- */

/* Tells the peer from which index on we want a kick, for everything in `want`. */
void rb_arm(rb_channel *channel, int want, uint64_t needed)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	if (want & RB_DATA) {
		rb_store_relaxed(&consumer->mine->moderation_entries,
				 rb_load_relaxed(&consumer->moderation_entries));
		rb_store_relaxed(&consumer->mine->moderation_ns,
				 rb_load_relaxed(&consumer->moderation_ns));
		/* (E) pairs with the acquire in rb_wake_for: a producer that sees this event sees
		 * the moderation that belongs to it. */
		rb_store_release(&consumer->mine->data_event, consumer->next);
	}
	if (want & RB_SPACE) {
		/* There is room for `needed` once read_index reaches write + needed - count, that
		 * is, once the reader passes the index before it. */
		uint64_t enough = producer->write + needed - producer->count;
		rb_store_relaxed(&producer->mine->space_event, enough - 1);
		rb_store_relaxed(&producer->mine->block_event, producer->pool.needed != 0);
	}
	/* (B), (D) and (H) pair with the fences in rb_producer_publish, rb_consumer_release_to and
	 * rb_block_return: either the peer sees that we armed and kicks, or our next look sees its
	 * index, or the block. */
	rb_fence_full();
}

/* Moves the events behind their indices again, so that the peer does not kick a side that is
 * awake. */
void rb_disarm(rb_channel *channel, int want)
{
	if (want & RB_DATA)
		rb_store_relaxed(&channel->consumer.mine->data_event, channel->consumer.next - 1);
	if (want & RB_SPACE)
		rb_store_relaxed(&channel->producer.mine->space_event,
				 channel->producer.read_seen - 1);
	if (want & RB_SPACE)
		rb_store_relaxed(&channel->producer.mine->block_event, 0);
}

/* ---- pollable mode ---- */

static bool is_pollable(const rb_channel *channel)
{
	return rb_load_relaxed_bool(&channel->consumer.pollable);
}

/* The caller sleeps on the descriptors by itself. So they stay readable while there is something to
 * take, and the consumer stays armed while there is not. The kick that it drained may have been for
 * more entries than the caller takes, so it kicks itself. */
static void stay_readable_if(rb_channel *channel, bool ready)
{
	if (ready || rb_load_relaxed_bool(&channel->consumer.in_hand))
		rb_kick(rb_own_fd(channel, RB_DATA));
}

/* Sets whether the caller keeps messages that it took and that its event loop does not know of. */
void rb_in_hand(rb_channel *channel, int in_hand)
{
	rb_store_relaxed_bool(&channel->consumer.in_hand, in_hand != 0);
	if (in_hand && is_pollable(channel) && !rb_dead(channel))
		rb_kick(rb_own_fd(channel, RB_DATA));
}

/* A look has found nothing, so the caller may sleep. The order is that of a sleep: drain, arm,
 * look. */
static int settle(rb_channel *channel)
{
	rb_kick_if_owed_leaving_timer(&channel->producer);
	struct rb_sleep sleep = {.want = RB_DATA, .signal_fd = -1};
	int status = rb_begin_sleep(channel, &sleep);
	if (!status) {
		status = rb_sleep_on(channel, &sleep, 0);
		rb_end_sleep(channel, &sleep);
	}
	rb_arm(channel, RB_DATA, 0);
	int ready = rb_look(channel, RB_DATA, 0);
	stay_readable_if(channel, ready != 0);
	return ready || status >= 0 ? ready : status;
}

/* From now on rb_pollable_fd is readable while there is something to take, and sometimes when there
 * is nothing. It is an epoll descriptor over all that a consumer sleeps on. */
int rb_pollable(rb_channel *channel)
{
	int status = rb_make_pollable(channel);

	if (status)
		return status;
	if (is_pollable(channel))
		return 0;
	rb_store_relaxed_bool(&channel->consumer.pollable, true);
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

/* For an end of a publication, when it is opened. */
void rb_count_cpus(rb_channel *channel)
{
	cpu_set_t allowed;

	/* It fails where there are more than 1,024: enough for all ends. */
	if (!sched_getaffinity(0, sizeof(allowed), &allowed))
		channel->cpus = (uint64_t)CPU_COUNT(&allowed);
}

/* Whether a publication has more ends than CPUs. One that polls then keeps a CPU which another one
 * needs, perhaps the very one that it waits for. */
static bool is_crowded(const rb_channel *channel)
{
	if (!channel->cpus)
		return false;
	const struct rb_control *writer =
		channel->producer.readers ? channel->producer.mine : channel->consumer.theirs;
	return rb_load_relaxed(&writer->readers) >= channel->cpus;
}

static void yield(struct rb_poller *poller, uint64_t now)
{
	sched_yield();
	rb_poller_yielded(poller, now, rb_now_ns());
}

/* Polls within the budget. A producer that found the ring full looks for a good part of the ring,
 * so that it does not stop again after one message. When the budget is over, the room of its
 * message is enough. */
int rb_wait_poll(rb_channel *channel, int want, int64_t patience_ns)
{
	if (rb_dead(channel))
		return rb_dead(channel);
	struct rb_poller *poller = poller_of(channel, want);
	struct rb_counters *counters = counters_of(channel, want);
	uint64_t began = rb_now_ns();
	uint64_t budget = patience_ns ? rb_poller_budget(poller, counters, began) : 0;
	if (patience_ns >= 0 && (uint64_t)patience_ns < budget)
		budget = (uint64_t)patience_ns;
	poller->began_ns = began;
	rb_look_for_peer_at_times(channel, began);

	/* Read only if wanted: another thread may use the other end of this side. */
	uint64_t enough = want & RB_SPACE ? channel->producer.needed : 0;
	uint64_t needed = enough;
	if (want == RB_SPACE && budget && needed < channel->producer.count / 8)
		needed = channel->producer.count / 8;
	int ready = rb_look(channel, want, needed);
	/* A side that waits cannot send later the kick that it holds back. */
	if (!ready && budget)
		rb_kick_if_owed_leaving_timer(&channel->producer);
	bool crowded = budget && is_crowded(channel);
	uint64_t now = began, looks = 0;
	for (; !ready && now - began < budget; now = rb_now_ns()) {
		rb_look_for_peer_at_times(channel, now);
		if (crowded && rb_poller_yields(poller, began, now))
			yield(poller, now);
		for (int i = 0; i < RB_LOOKS && !ready; i++) {
			rb_cpu_relax();
			ready = rb_look(channel, want, needed);
			looks++;
		}
	}
	if (ready > 0 && ready & RB_DATA)
		rb_pace_waited(&channel->consumer.pace, looks);
	if (!ready && needed != enough)
		ready = rb_look(channel, want, enough);
	if (!ready && want & RB_DATA && is_pollable(channel))
		ready = settle(channel);
	if (budget)
		rb_poller_polled(poller, counters, now - began, ready > 0);
	return ready;
}

/* A few looks, for a caller that gives something up before a real wait (Python's GIL). They take
 * less than a microsecond. It does not look if the wait would not poll, nor if `max_share` bounds
 * polling, because nothing counts these looks. */
int rb_glance(rb_channel *channel, int want)
{
	const struct rb_poller *poller = poller_of(channel, want);
	bool polls = poller->polling == RB_POLL_ALWAYS ||
		     (poller->polling == RB_POLL_ADAPTIVE && poller->budget_ns && !poller->rest &&
		      poller->max_share >= RB_SHARE_ALL);
	int ready = 0;

	if (rb_dead(channel) || !polls)
		return 0;
	for (int i = 0; i < RB_GLANCES && !ready; i++) {
		rb_cpu_relax();
		ready = look_at_rings(channel, want, channel->producer.needed);
	}
	return ready;
}

/* ---- sleeping ---- */

/* A producer first asks to be woken when a good part of the ring is free, for a bounded time. */
static uint64_t at_first(const struct rb_producer *producer, uint64_t enough)
{
	uint64_t good_part = producer->count / 2;

	return enough < good_part ? good_part : enough;
}

/* How long the next sleep may be. */
static uint64_t sleep_bound(const rb_channel *channel, int want, uint64_t left_ns,
			    bool for_good_part)
{
	if (for_good_part && left_ns > RB_GOOD_PART_SLEEP)
		left_ns = RB_GOOD_PART_SLEEP;
	if (want & RB_DATA && channel->consumer.timer_lost && left_ns > RB_SLEEP_WITHOUT_TIMER)
		left_ns = RB_SLEEP_WITHOUT_TIMER;
	uint64_t again = want & RB_SPACE ? rb_readers_look_again_ns(&channel->producer) : 0;
	if (again) {
		uint64_t now = rb_now_ns(), until = again > now ? again - now : 0;
		left_ns = until < left_ns ? until : left_ns;
	}
	return left_ns;
}

static uint64_t time_left(uint64_t began, uint64_t timeout_ns)
{
	if (timeout_ns == UINT64_MAX)
		return UINT64_MAX;
	uint64_t passed = rb_now_ns() - began;
	return passed < timeout_ns ? timeout_ns - passed : 0;
}

/* Sleeps until a kick comes, or the time is over. If nothing but a timer has been passed, there is
 * no need to look, and the same sleep goes on with the timer. */
static int sleep_armed(rb_channel *channel, struct rb_sleep *sleep, uint64_t began,
		       uint64_t timeout_ns, bool for_good_part)
{
	int ended;

	do {
		uint64_t left = time_left(began, timeout_ns);
		left = sleep_bound(channel, sleep->want, left, for_good_part);
		ended = rb_sleep_on(channel, sleep, left);
	} while (ended == RB_PASSED);
	return ended;
}

/* Sleeps until something of `want` is ready. When signal_fd becomes readable, the sleep ends as if
 * a signal had come; -1 is none. A sleep with it goes on with one without it, and is not counted
 * again. A negative timeout is for ever. */
int rb_wait_sleep(rb_channel *channel, int want, int64_t timeout_ns, int signal_fd)
{
	if (rb_dead(channel))
		return rb_dead(channel);
	rb_kick_if_owed_leaving_timer(&channel->producer);
	struct rb_counters *counters = counters_of(channel, want);
	struct rb_poller *poller = poller_of(channel, want);
	uint64_t timeout = timeout_ns < 0 ? UINT64_MAX : (uint64_t)timeout_ns;
	uint64_t began = rb_now_ns();
	uint64_t enough = want & RB_SPACE ? channel->producer.needed : 0;
	struct rb_sleep sleep = {.want = want, .signal_fd = signal_fd};
	bool goes_on = signal_fd >= 0;
	bool patient = want & RB_SPACE && !goes_on;
	int ready;

	for (;;) {
		ready = rb_begin_sleep(channel, &sleep);
		if (ready)
			break;
		uint64_t needed = patient ? at_first(&channel->producer, enough) : enough;
		rb_arm(channel, want, needed);
		ready = rb_look(channel, want, enough);
		bool over = ready || !time_left(began, timeout);
		int ended = RB_TIME_OVER;
		if (!over) {
			rb_count(&counters->sleeps, !goes_on);
			goes_on = false;
			ended = sleep_armed(channel, &sleep, began, timeout, needed != enough);
		}
		rb_end_sleep(channel, &sleep);
		if (over)
			break;
		ready = ended < 0 ? ended : rb_look(channel, want, enough);
		if (ready > 0) {
			rb_count(&counters->wakeups, 1);
			rb_poller_slept(poller, counters, rb_now_ns() - poller->began_ns);
		} else if (ended == RB_KICKED) {
			rb_count(&counters->spurious_wakeups, 1);
		}
		if (ready)
			break;
		patient = false;
	}
	if (want & RB_DATA && rb_is_watched(channel)) {
		/* It stays armed while there is nothing to take. */
		stay_readable_if(channel, ready != 0);
		want &= ~RB_DATA;
	}
	rb_disarm(channel, want);
	return ready;
}

/* ---- options ---- */

/* `max_share` is the share of the time that adaptive polling may take, in parts of RB_SHARE_ALL. */
void rb_channel_policy(rb_channel *channel, int polling, uint64_t max_poll_ns, uint64_t max_share,
		       int always_kick)
{
	bool adaptive = polling == RB_POLL_ADAPTIVE;
	struct rb_poller poller = {
		.polling = polling,
		.max_ns = max_poll_ns,
		/* Not 0, so that the first wait may poll, too. */
		.budget_ns = adaptive ? max_poll_ns / 2 : 0,
		.max_share = max_share,
		.credited_ns = rb_now_ns(),
	};

	channel->producer.poller = channel->consumer.poller = poller;
	rb_store_relaxed(&channel->producer.mine->producer.budget_ns, poller.budget_ns);
	rb_store_relaxed(&channel->producer.mine->consumer.budget_ns, poller.budget_ns);
	channel->producer.always_kick = always_kick != 0;
}

/* From now on the consumer's sleeps end after that many entries, or that long after the first of
 * them, whichever comes first. The default is 1: the first entry wakes it. */
void rb_channel_moderation(rb_channel *channel, uint64_t entries, uint64_t delay_ns)
{
	rb_store_relaxed(&channel->consumer.moderation_entries, entries);
	rb_store_relaxed(&channel->consumer.moderation_ns, delay_ns);
}
