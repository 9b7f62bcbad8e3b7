/* SPDX-License-Identifier: MIT
 *
 * How far a consumer that has caught up lets its producer get ahead.
 *
 * Each look at the producer's index takes the line of it away from the producer, which then waits
 * for it at its next publish, behind the full fence. A consumer that is faster than its producer
 * has caught up after each entry; if it looked at once, every entry would cost both sides such a
 * transfer. So while entries come fast it pauses before it looks, for less than a microsecond,
 * and finds many.
 *
 * Whether they come fast is learnt. When a look, or a wait of a few looks, has found an entry many
 * times in a row, the consumer tries a pause; a longer one at the next trial if that brought too
 * few entries, as a transfer takes four times as long on some machines as on others. It goes on as
 * long as each pause brings enough. Two sides that answer each other get one entry for a pause, so
 * they hardly ever try: the trials become rarer each time that the longest one was in vain.
 */
#ifndef RB_PACE_H
#define RB_PACE_H

#include <stdint.h>

#include "ordering.h"

#define RB_PAUSES_FIRST 16U
#define RB_PAUSES_MOST 64U
/* A pause has to bring so many entries, or it is not worth its delay. */
#define RB_PAUSE_WORTH 8U
/* With so many it is long enough. */
#define RB_PAUSE_PLENTY 64U
/* A wait that ended within so many looks was quick. */
#define RB_QUICK_LOOKS 8U
/* Quick ones in a row before a trial: at first, and at most. */
#define RB_TRIAL_FIRST 32U
#define RB_TRIAL_MOST 4096U

struct rb_pace {
	bool paces;          /* entries come fast */
	unsigned int pauses; /* before a look then */
	unsigned int quick;  /* waits in a row that were quick */
	unsigned int trial;  /* as many of them as lead to the next trial */
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

/* Learns from a wait that was over after so many looks. */
static inline void rb_pace_waited(struct rb_pace *pace, uint64_t looks)
{
	if (looks > RB_QUICK_LOOKS)
		pace->quick = 0;
	else if (++pace->quick >= pace->trial)
		pace->paces = true;
}

#endif
