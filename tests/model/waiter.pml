/* SPDX-License-Identifier: MIT
 *
 * One thread that waits for many channels: the steps of csrc/waiter.c and csrc/members.c, and of
 * csrc/sleepers.c and csrc/wait.c around them. See README.md beside this file.
 *
 * Of P producers each publishes N entries, and kicks if the waiter has armed its member. For each
 * eventfd the kernel keeps whether there was a kick since the waiter last collected the kicks.
 * rings.pml has the orders of memory; here each step sees all steps before it.
 */
#ifndef P
#define P 2
#endif
#ifndef N
#define N 2
#endif
#ifndef CALLS
#define CALLS 0 /* so many blocking calls on member 0 between waits */
#endif
#define COOLING 1 /* looks in vain */
#define PATIENCE (3 * P) /* a member that is known to be ready is passed over less often */

byte published[P], taken[P];
bit armed[P];   /* the word that the peer reads */
bit awake[P];   /* to the waiter */
byte vain[P];   /* looks that found nothing, while others were found */
bit member[P], watched[P];    /* of the waiter; of the kernel for it */
bit wake_fd[P], wake_edge[P]; /* the peer kicks it; the kernel has not told of it yet */
bit own_fd, own_edge, own_made, own_watched; /* the consumer's eventfd of channel 0 */
bit dead[P], over[P];
bit closes;     /* kicked when a channel is closed; watched by level, as a number is in it */
bit found;      /* the last look found something */
byte turn;      /* which of the awake is looked at first */
bit first, second; /* struct rb_asleep of channel 0: who waits for room, who is in a call */
bit owed, asked;
byte calls, unasked, passed[P];
bit done;

#ifdef BUSY
/* There is always something in channel 0. */
#define HAS(i) ((i) == 0 || published[i] > taken[i])
#define FINISHED(i) ((i) == 0 || taken[i] == N)
#else
#define HAS(i) (published[i] > taken[i])
#define FINISHED(i) (taken[i] == N || over[i] && !member[i])
#endif
#define IS_READY(i) (dead[i] || HAS(i))
#define ALL_FINISHED (FINISHED(0) && FINISHED(1) && FINISHED(P - 1))
#define KERNEL_KNOWS(i) (watched[i] && wake_edge[i] && wake_fd[i] || (i) == 0 && own_watched && own_edge && own_fd)
#define READABLE (closes || KERNEL_KNOWS(0) || KERNEL_KNOWS(1) || KERNEL_KNOWS(P - 1))

inline rb_kick_own()
{
	if
	:: own_made -> own_fd = 1; own_edge = 1
	:: else
	fi
}

/* ring.c, kick.c: an entry is published, and the peer is kicked if it has armed. */
proctype Publisher(byte i)
{
	bit asleep;

#ifdef OWES
	i != 0 || asked; /* it answers what the waiter's process has sent */
#endif
	do
	:: published[i] == N -> break
	:: published[i] < N ->
		atomic { published[i]++; asleep = armed[i]; armed[i] = 0 };
		if
#ifdef MUTANT_A_KICK_IS_NO_EDGE
		:: asleep -> atomic { wake_edge[i] = wake_edge[i] || !wake_fd[i]; wake_fd[i] = 1 }
#else
		:: asleep -> atomic { wake_fd[i] = 1; wake_edge[i] = 1 }
#endif
		:: else
		fi
	od
}

/* The lock makes this one step. */
inline rb_let_waiter_watch()
{
	if
	:: !own_watched -> own_made = 1; own_watched = 1; own_edge = own_fd
	:: else
	fi
}

inline rb_waiter_add(i)
{
	atomic {
		if
		:: !dead[i] ->
			member[i] = 1; watched[i] = 1; wake_edge[i] = wake_fd[i];
#ifndef MUTANT_ADDED_WHILE_ANOTHER_SLEEPS
			if
			:: i == 0 && first -> rb_let_waiter_watch()
			:: else
			fi;
#endif
			awake[i] = 1
		:: else
		fi
	}
}

inline rb_waiter_remove(i)
{
	atomic {
		if
		:: !over[i] -> watched[i] = 0
		:: else
		fi;
		member[i] = 0; awake[i] = 0
	}
}

/* The waiter arms a member, and looks once more. */
inline cool(i)
{
#ifdef MUTANT_LOOKS_AND_COOLS
	if
	:: IS_READY(i)
	:: else -> armed[i] = 1; awake[i] = 0
	fi
#else
	armed[i] = 1;
	if
#ifndef MUTANT_COOLS_WITHOUT_A_LOOK
	:: IS_READY(i) -> armed[i] = 0
#endif
	:: else -> awake[i] = 0
	fi
#endif
}

/* Finds one that is ready, from the first of the ring on; P is nobody. */
inline give_ready(given)
{
	k = 0;
	given = P;
	do
	:: k == P || given != P -> break
	:: k < P && given == P ->
		i = (turn + k) % P;
		if
		:: awake[i] && IS_READY(i) -> given = i; vain[i] = 0
		:: awake[i] && !IS_READY(i) && found && vain[i] >= COOLING -> cool(i)
		:: awake[i] && !IS_READY(i) && found && vain[i] < COOLING -> vain[i]++
		:: else
		fi;
		k++
	od;
	found = given != P;
#ifndef MUTANT_NO_TURNS
	if
	:: found -> turn = (given + 1) % P
	:: else
	fi;
#endif
	k = 0
}

inline wake_the_closed()
{
#ifdef MUTANT_DRAINS_AFTER_THE_CLOSED
	k = 0;
	do
	:: k < P -> awake[k] = awake[k] || member[k] && dead[k]; k++
	:: k == P -> break
	od;
	closes = 0
#else
	closes = 0;
	k = 0;
	do
	:: k < P -> awake[k] = awake[k] || member[k] && dead[k]; k++
	:: k == P -> break
	od
#endif
}

/* The waiter collects the kicks. */
inline ask_kernel()
{
	bit told[P];
	bit closed;

	atomic {
		closed = closes;
		k = 0;
		do
		:: k < P ->
			told[k] = KERNEL_KNOWS(k);
			wake_edge[k] = 0;
			if
			:: k == 0 -> own_edge = 0
			:: else
			fi;
			k++
		:: k == P -> break
		od
	};
	unasked = 0;
	if
	:: closed -> wake_the_closed()
	:: else
	fi;
	k = 0;
	do
	:: k < P ->
		if
		:: told[k] ->
			assert(member[k]); /* its memory is there */
			if
			:: !awake[k] -> armed[k] = 0
			:: else
			fi;
			awake[k] = 1; vain[k] = 0;
#ifdef MUTANT_ONLY_THE_FIRST_OF_A_BATCH
			break
#endif
		:: else
		fi;
		k++
	:: k == P -> break
	od;
	atomic { k = 0; do :: k < P -> told[k] = 0; k++ :: k == P -> break od; k = 0; closed = 0 }
}

/* Arms all that are awake. */
inline arm_all()
{
	k = 0;
	do
	:: k < P ->
		if
#ifdef MUTANT_ARMS_ONLY_ONE
		:: awake[k] -> cool(k); awake[(k + 1) % P] = 0
#elif defined(MUTANT_SLEEPS_UNARMED)
		:: awake[k] -> awake[k] = 0
#else
		:: awake[k] -> cool(k)
#endif
		:: else
		fi;
		k++
	:: k == P -> break
	od;
	k = 0
}

inline send_owed()
{
	if
#ifndef MUTANT_WAITS_OWING_A_KICK
	:: owed -> owed = 0; asked = 1
#endif
	:: else
	fi
}

/* csrc/wait.c: rb_wait_sleep for data, on member 0, with the sleep of csrc/sleepers.c. */
inline rb_wait_sleep()
{
	atomic {
		is_first = !first;
#ifdef MUTANT_THE_WAITER_IS_NOT_LET_WATCH
		own_made = 1;
#else
		rb_let_waiter_watch();
#endif
		second = !is_first
	};
	armed[0] = 1;
	if
	:: IS_READY(0)
	:: else ->
		if
		:: is_first && wake_fd[0] || own_fd
		:: true /* the time is over */
		fi;
		if
		:: is_first -> wake_fd[0] = 0
		:: else
		fi;
		own_fd = 0
	fi;
	second = 0;
#ifdef MUTANT_A_CALL_DISARMS
	armed[0] = 0
#elif !defined(MUTANT_A_CALL_TELLS_NOBODY)
	if
	:: IS_READY(0) -> rb_kick_own()
	:: else
	fi
#endif
}

/* The user's: between two waits he uses member 0, and does not know whether it has something. */
inline call()
{
	if
	:: calls < CALLS && member[0] && !dead[0] ->
		calls++;
		if
		:: true -> rb_wait_sleep()
		:: true
		fi;
		if
		:: HAS(0) -> taken[0]++
		:: true
		fi
	:: true
	fi
}

inline count_the_passed()
{
	k = 1;
	do
	:: k < P ->
		if
		:: awake[k] && HAS(k) || KERNEL_KNOWS(k) -> passed[k]++; assert(passed[k] < PATIENCE)
		:: else
		fi;
		k++
	:: k == P -> break
	od;
	k = 0
}

/* The user's: it takes one entry, or learns that the channel is closed. */
inline take(i)
{
	passed[i] = 0;
#ifdef BUSY
	if
	:: given == 0 -> count_the_passed()
	:: else -> taken[i]++
	fi
#else
	if
	:: dead[i] -> rb_waiter_remove(i)
	:: !dead[i] && HAS(i) -> taken[i]++
	:: else
	fi
#endif
}

inline rb_waiter_sleep(given)
{
	send_owed();
	arm_all();
	if
	:: awake[0] || awake[1] || awake[P - 1] -> give_ready(given)
	:: else ->
#ifndef BUSY
		if
		:: READABLE
		:: ALL_FINISHED
		fi;
#endif
		ask_kernel();
		give_ready(given)
	fi
}

/* csrc/waiter.c: rb_waiter_look, rb_waiter_sleep, and what the user does between. */
proctype Waiter()
{
	byte given, i, k;
	bit is_first;

	rb_waiter_add(0);
	rb_waiter_add(1);
	if
	:: !member[P - 1] -> rb_waiter_add(P - 1)
	:: else
	fi;
	do
	:: ALL_FINISHED -> break
	:: else ->
		call();
		/* The kernel is asked now and then. */
		if
#ifndef MUTANT_THE_KERNEL_IS_NOT_ASKED
		:: ask_kernel()
#endif
#ifdef MUTANT_THE_KERNEL_IS_NOT_ASKED
		:: true
#else
		:: unasked == 0 -> unasked++
#endif
		fi;
		give_ready(given);
		if
		:: given == P -> rb_waiter_sleep(given)
		:: else
		fi;
		if
		:: given != P -> i = given; take(i)
		:: else
		fi;
		d_step { given = 0; i = 0 }
	od;
	done = 1
}

/* Another thread of the same side waits for room in channel 0: csrc/sleepers.c. */
proctype Room()
{
	bit drained;

	do
	:: done -> break
	:: !done ->
		atomic {
			first = 1;
			if
			:: member[0] -> rb_let_waiter_watch()
			:: else
			fi
		};
		if
		:: wake_fd[0] -> wake_fd[0] = 0; drained = 1
		:: done
		fi;
		atomic {
			first = 0;
			if
			:: second -> rb_kick_own()
#ifndef MUTANT_THE_WAITER_IS_NOT_TOLD_OF_A_DRAIN
			:: !second && drained && member[0] -> rb_kick_own()
#endif
			:: else
			fi;
			drained = 0
		}
	od
}

/* Another thread closes a channel: csrc/closing.c. */
proctype Closer(byte i)
{
	atomic {
		dead[i] = 1;
#ifndef MUTANT_THE_WAITER_IS_NOT_TOLD_OF_A_CLOSE
		closes = closes || member[i]
#endif
	};
	/* rb_waiter_is_told_of_end */
	atomic {
#ifndef MUTANT_CLOSED_AND_STILL_WATCHED
		watched[i] = 0;
#endif
		over[i] = 1
	}
}

init {
	atomic {
#ifdef OWES
		owed = 1;
#endif
#ifndef BUSY
		run Publisher(0);
#endif
		run Publisher(1);
		if
		:: P > 2 -> run Publisher(P - 1)
		:: else
		fi;
#ifdef ROOM
		run Room();
#endif
#ifdef CLOSES
		run Closer(1);
		if
		:: CLOSES == 2 -> run Closer(0)
		:: else
		fi;
#endif
		run Waiter()
	}
}

ltl all_are_taken { <> done }
