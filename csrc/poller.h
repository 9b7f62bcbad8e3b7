/* SPDX-License-Identifier: MIT
 *
 * How long a wait may poll. Only this file decides that; it learns from the waits before.
 *
 * Each end has a poller, which only the thread of that end uses. A wait asks rb_poller_budget how
 * long it may poll. It tells rb_poller_polled how the poll went, and rb_poller_slept how long the
 * whole wait was when the poll had to be followed by a sleep.
 *
 * Only channel.h includes this file, after api.h.
 */
#ifndef RB_POLLER_H
#define RB_POLLER_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "ordering.h"

#define RB_US 1000ULL
#define RB_MS 1000000ULL

/* A budget below this is not worth a look at the clock; growing starts here. */
#define RB_BUDGET_LEAST (4 * RB_US)
/* What a wake-up may add to a wait, on both sides together. A poll of the longest budget would
 * still have found an entry that arrived by so much later than that budget. */
#define RB_WAKE_COST (100 * RB_US)
/* With RB_POLL_ALWAYS, how long one call polls before the caller may handle a signal. */
#define RB_POLL_SLICE (5 * RB_MS)
/* A poll that goes on for longer, where CPUs are rare, lets other threads run. */
#define RB_YIELD_AFTER (4 * RB_US)
/* A yield of this length went to a program that only computes: it had a slice of the scheduler's.
 */
#define RB_LONG_YIELD (2 * RB_MS)
/* While yields are long, at most 2^this - 1 polls in a row go without them. */
#define RB_LONG_MOST 10U
/* While polling keeps finding nothing, at most 2^this - 1 waits in a row go without it. */
#define RB_VAIN_MOST 6U
/* The most that polling may save up of its share of the time. */
#define RB_CREDIT_MOST RB_MS

struct rb_poller {
	int polling;              /* RB_POLL_NEVER, RB_POLL_ADAPTIVE, RB_POLL_ALWAYS */
	uint64_t max_ns;          /* bound of the adaptive budget */
	uint64_t budget_ns;       /* how long the next wait may poll */
	uint64_t began_ns;        /* when the present wait began */
	unsigned int vain;        /* polls of the longest budget, in a row, that found nothing */
	unsigned int rest;        /* waits that sleep at once before the next one polls again */
	uint64_t away_ns;         /* how long others have run during the present poll */
	unsigned int long_yields; /* in a row */
	unsigned int no_yields;   /* polls that do without */
	uint64_t max_share;       /* of the time that polling may take, in parts of RB_SHARE_ALL */
	int64_t credit_ns;        /* what polling may still use of that share, as of credited_ns */
	uint64_t credited_ns;
};

/* How long polling may still go on by its share of the time. Negative after a poll that took longer
 * than it should have. */
static inline int64_t rb_poller_credit(struct rb_poller *poller, uint64_t now)
{
	if (poller->max_share >= RB_SHARE_ALL)
		return INT64_MAX;
	int64_t most = (int64_t)(poller->max_ns > RB_CREDIT_MOST ? poller->max_ns : RB_CREDIT_MOST);
	uint64_t passed = now - poller->credited_ns;
	/* An hour's share is more than can be saved up, and the product must not overflow. */
	if (passed > 3600 * 1000 * RB_MS)
		passed = 3600 * 1000 * RB_MS;
	poller->credited_ns = now;
	poller->credit_ns += (int64_t)(passed * poller->max_share / RB_SHARE_ALL);
	if (poller->credit_ns > most)
		poller->credit_ns = most;
	return poller->credit_ns;
}

/* How long the wait that begins now may poll. */
static inline uint64_t rb_poller_budget(struct rb_poller *poller, struct rb_counters *counters,
					uint64_t now)
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
	int64_t credit = rb_poller_credit(poller, now);
	if (credit >= (int64_t)poller->budget_ns)
		return poller->budget_ns;
	rb_count(&counters->polls_capped, 1);
	return credit < (int64_t)RB_BUDGET_LEAST ? 0 : (uint64_t)credit;
}

/* Whether a poll that began at `began` lets other threads run now. Without others it costs a system
 * call. */
static inline bool rb_poller_yields(const struct rb_poller *poller, uint64_t began, uint64_t now)
{
	return poller->polling == RB_POLL_ADAPTIVE && now - began >= RB_YIELD_AFTER &&
	       !poller->no_yields;
}

/* Learns from that. A program that only computes keeps the CPU for milliseconds, in which an answer
 * would lie unread. After such a yield some polls do without: they end soon, and then comes the
 * sleep, which ends when there is an answer. */
static inline void rb_poller_yielded(struct rb_poller *poller, uint64_t began, uint64_t now)
{
	uint64_t away = now - began;

	if (away <= RB_US) /* nobody else was there */
		return;
	poller->away_ns += away;
	if (away < RB_LONG_YIELD) {
		poller->long_yields = 0;
		return;
	}
	if (poller->long_yields < RB_LONG_MOST)
		poller->long_yields++;
	poller->no_yields = 1U << poller->long_yields;
}

/* Learns from a poll. A poll of the longest budget that found nothing was in vain: no permitted
 * poll would have found the entry. The more of these in a row, the more waits go without polling.
 * Otherwise a stream that is always a little too slow would use a whole CPU for nothing. */
static inline void rb_poller_polled(struct rb_poller *poller, struct rb_counters *counters,
				    uint64_t spent_ns, bool found)
{
	uint64_t own = spent_ns - poller->away_ns;

	poller->away_ns = 0;
	poller->no_yields -= poller->no_yields > 0;
	rb_count(&counters->polled_ns, own);
	poller->credit_ns -= (int64_t)own;
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

/* Learns from a wait that ended in a sleep. After QEMU's AioContext: the budget grows when a longer
 * poll would have found the entry, and shrinks when no permitted poll would have. */
static inline void rb_poller_slept(struct rb_poller *poller, struct rb_counters *counters,
				   uint64_t waited_ns)
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

#endif
