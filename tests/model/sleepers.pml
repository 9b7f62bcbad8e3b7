/* SPDX-License-Identifier: MIT
 *
 * The threads of one side that sleep at the same time: the steps of csrc/sleepers.c, and of csrc/wait.c around
 * them. See README.md beside this file.
 *
 * One thread waits for data and one for room, for N entries each. The peer kicks one eventfd for both.
 * With EVENT_LOOP, an event loop waits for the data instead. rings.pml has the orders of memory; here
 * each step sees all steps before it.
 */
#ifndef N
#define N 2
#endif
#ifndef INTERRUPTS
#define INTERRUPTS 2 /* so many sleeps end for another reason: a timeout, a signal */
#endif

#define DATA 0
#define SPACE 1
#define OTHER(end) (1 - (end))
#define NOBODY 2

byte published[2], taken[2]; /* by end */
bit armed[2];
bit wake_fd;   /* the peer kicks it */
bit own_fd[2]; /* by end */
byte first = NOBODY, second = NOBODY; /* struct rb_asleep: who sleeps on which */
byte interrupts;

#define IS_READY(end) (published[end] > taken[end])

/* ring.c, kick.c: the peer publishes an entry for an end, and kicks if that end has armed. */
proctype Peer(byte end)
{
	bit asleep;

	do
	:: published[end] == N -> break
	:: published[end] < N ->
		atomic { published[end]++; asleep = armed[end]; armed[end] = 0 };
		if
		:: asleep -> wake_fd = 1
		:: else
		fi
	od
}

/* The closing.lock makes each of these two one step. */
inline rb_begin_sleep(end, is_first)
{
	atomic {
		if
#ifdef MUTANT_BOTH_ON_ONE
		:: true -> is_first = 1
#else
		:: first == NOBODY -> first = end; is_first = 1
		:: else -> second = end; is_first = 0
#endif
		fi
	}
}

inline wake_the_others(end, drained)
{
	if
#ifndef MUTANT_FIRST_WAKES_NOBODY
	:: second != NOBODY -> own_fd[second % NOBODY] = 1 /* another step may have come between */
#endif
#ifdef EVENT_LOOP
#ifndef MUTANT_EVENT_LOOP_IS_NOT_TOLD
	:: second == NOBODY && drained && end == SPACE -> own_fd[DATA] = 1
#endif
#endif
	:: else
	fi
}

inline rb_end_sleep(end, is_first, drained)
{
	if
#ifdef MUTANT_LEAVES_WITHOUT_THE_LOCK
	:: is_first -> wake_the_others(end, drained); first = NOBODY
#elif defined(MUTANT_WAKES_BEFORE_THE_DRAIN)
	:: is_first -> first = NOBODY
#else
	:: is_first -> atomic { first = NOBODY; wake_the_others(end, drained) }
#endif
	:: else -> second = NOBODY
	fi
}

inline drain(end, is_first, drained)
{
	drained = 0;
	if
	:: is_first && wake_fd ->
#ifdef MUTANT_WAKES_BEFORE_THE_DRAIN
		atomic { wake_the_others(end, 1) };
#endif
		wake_fd = 0;
		drained = 1
	:: else
	fi;
	own_fd[end] = 0
}

/* sleepers.c: rb_sleep_on, the ppoll and the drain after it */
inline rb_sleep_on(end, is_first, drained)
{
	if
	:: (is_first && wake_fd) || own_fd[end]
	:: interrupts < INTERRUPTS -> interrupts++
	fi;
	drain(end, is_first, drained)
}

/* wait.c: rb_wait_sleep, and the taking of what it was for */
proctype Thread(byte end)
{
	bit is_first, drained;

	do
	:: taken[end] == N -> break
	:: taken[end] < N && IS_READY(end) -> taken[end]++
	:: taken[end] < N && !IS_READY(end) ->
#ifndef MUTANT_COMES_AFTER_THE_LOOK
		rb_begin_sleep(end, is_first);
#endif
		armed[end] = 1;
		if
		:: IS_READY(end) -> drained = 0
		:: else ->
#ifdef MUTANT_COMES_AFTER_THE_LOOK
			rb_begin_sleep(end, is_first);
#endif
			rb_sleep_on(end, is_first, drained)
		fi;
		rb_end_sleep(end, is_first, drained);
		drained = 0;
		armed[end] = 0
	od
}

/* wait.c: settle. It sleeps for no time at all. */
inline settle(is_first, drained)
{
#ifdef MUTANT_SETTLE_DRAINS_FOR_ALL
	wake_fd = 0;
	own_fd[DATA] = 0;
#else
	rb_begin_sleep(DATA, is_first);
	drain(DATA, is_first, drained);
	rb_end_sleep(DATA, is_first, drained);
#endif
	armed[DATA] = 1;
	if
	:: IS_READY(DATA) -> own_fd[DATA] = 1
	:: else
	fi
}

/* The user's: poll(2) until readable, then recv(timeout=0). */
proctype EventLoop()
{
	bit is_first, drained;

	settle(is_first, drained); /* rb_pollable */
	do
	:: taken[DATA] == N -> break
	:: taken[DATA] < N && (wake_fd || own_fd[DATA]) ->
		if
		:: IS_READY(DATA) -> taken[DATA]++
		:: else -> settle(is_first, drained)
		fi
	od
}

init {
	atomic {
		run Peer(DATA);
		run Peer(SPACE);
		run Thread(SPACE);
#ifdef EVENT_LOOP
		run EventLoop()
#else
		run Thread(DATA)
#endif
	}
}

ltl both_are_woken { <> (taken[DATA] == N && taken[SPACE] == N) }
