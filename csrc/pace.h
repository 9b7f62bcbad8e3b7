/* SPDX-License-Identifier: MIT
 *
 * How long a consumer that has caught up pauses, so that its producer gets ahead.
 *
 * Each look at the producer's index takes its cache line away from the producer. At its next
 * publish the producer waits for the line, at the full fence. A consumer that is faster than its
 * producer has caught up after each entry. If it looked at once, every entry would cost both sides
 * such a transfer. So while entries come fast, the consumer pauses before it looks, for less than a
 * microsecond, and finds many entries.
 *
 * The consumer learns whether entries come fast. When many looks, or waits of a few looks, have
 * found an entry in a row, it tries a pause. If that brings too few entries, it tries a longer
 * pause next time, because a transfer takes four times as long on some machines as on others. It
 * goes on as long as each pause brings enough. Two sides that answer each other get one entry for
 * each pause. They hardly ever try, because trials become rarer each time that the longest pause
 * was in vain.
 */
#ifndef RB_PACE_H
#define RB_PACE_H

#include <stdint.h>

#include "ordering.h"

#define RB_PAUSES_FIRST 16U
#define RB_PAUSES_MOST 64U
/* A pause that brings fewer entries is not worth its delay. */
#define RB_PAUSE_WORTH 8U
/* A pause that brings this many entries is long enough. */
#define RB_PAUSE_PLENTY 64U
/* A wait that ended within this many looks was quick. */
#define RB_QUICK_LOOKS 8U
/* Quick waits in a row before a trial: at first, and at most. */
#define RB_TRIAL_FIRST 32U
#define RB_TRIAL_MOST 4096U

struct rb_pace {
	bool paces;          /* entries come fast */
	unsigned int pauses; /* before a look then */
	unsigned int quick;  /* waits in a row that were quick */
	unsigned int trial;  /* the number of quick waits that starts the next trial */
};

static inline struct rb_pace rb_pace_first(void)
{
	return (struct rb_pace){.pauses = RB_PAUSES_FIRST, .trial = RB_TRIAL_FIRST};
}

static inline void rb_pace_pause(const struct rb_pace *pace)
{
	for (unsigned int i = 0; i < pace->pauses; i++)
		rb_cpu_relax();
}

/* Learns from a look after a pause. */
static inline void rb_pace_found(struct rb_pace *pace, uint64_t entries)
{
	if (entries >= RB_PAUSE_PLENTY)
		return;
	if (entries >= RB_PAUSE_WORTH)
		pace->trial = RB_TRIAL_FIRST;
	else
		pace->paces = false;
	pace->quick = 0;
	if (pace->pauses < RB_PAUSES_MOST) {
		pace->pauses *= 2;
	} else if (!pace->paces) {
		pace->pauses = RB_PAUSES_FIRST;
		if (pace->trial < RB_TRIAL_MOST)
			pace->trial *= 2;
	}
}

/* Learns from a wait that ended after `looks` looks. */
static inline void rb_pace_waited(struct rb_pace *pace, uint64_t looks)
{
	if (looks > RB_QUICK_LOOKS)
		pace->quick = 0;
	else if (++pace->quick >= pace->trial)
		pace->paces = true;
}

#endif
