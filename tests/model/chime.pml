/* SPDX-License-Identifier: MIT
 *
 * The chimes of a pipe: the steps of csrc/chime.c. See README.md beside this file.
 *
 * A producer sends N entries. The consumer takes them, one at a time, after a sleep on the socket or without one,
 * and begins to watch the socket whenever it likes. Each side's stores wait in a buffer of its own, in order, and
 * reach memory at any time. When a sleep ends, there must be an entry: the caller would wait in a call otherwise.
 */
#ifndef N
#define N 4
#endif

mtype = { WRITE_INDEX, CHIMED_INDEX, CHIMES, CHIME_EVENT };

byte write_index, chimed_index, chimes, chime_event; /* in memory; at first the side is armed */
byte in_socket;                                      /* how many chimes */
chan stores_of_producer = [3] of { mtype, byte };
chan stores_of_consumer = [3] of { mtype, byte };

inline reach_memory(which, value)
{
	if
	:: which == WRITE_INDEX -> write_index = value
	:: which == CHIMED_INDEX -> chimed_index = value
	:: which == CHIMES -> chimes = value
	:: which == CHIME_EVENT -> chime_event = value
	fi
}

active proctype Buffers()
{
	mtype which;
	byte value;

end:	do
	:: atomic { stores_of_producer?which, value -> reach_memory(which, value) }
	:: atomic { stores_of_consumer?which, value -> reach_memory(which, value) }
	od
}

#define FENCE(stores) empty(stores)

active proctype Producer()
{
	byte write, sent, event, chimed_for = 255;

	do
	:: write == N -> break
	:: write < N ->
		write++;
		stores_of_producer!WRITE_INDEX, write;
#ifndef MUTANT_NO_FENCE_IN_THE_PUBLISH
		FENCE(stores_of_producer);
#endif
		event = chime_event;
#ifdef MUTANT_CHIMED_BEFORE_THE_CHIME
		stores_of_producer!CHIMED_INDEX, write;
#endif
		if
#ifdef MUTANT_NO_SECOND_CHIME
		:: event < write && chimed_for == 255 ->
#else
		:: event < write && event != chimed_for ->
#endif
			chimed_for = event;
			in_socket++;
			sent++;
			stores_of_producer!CHIMES, sent
		:: else
		fi;
#ifndef MUTANT_CHIMED_BEFORE_THE_CHIME
		stores_of_producer!CHIMED_INDEX, write;
#endif
	od
}

inline take_chimes()
{
	do
	:: taken != sent && in_socket > 0 -> atomic { in_socket--; taken++ }
	:: else -> break
	od
}

inline rb_chime_settle()
{
	if
	:: write_index != next
	:: write_index == next && armed && event == next
	:: write_index == next && !(armed && event == next) ->
		armed = 0;
#ifndef MUTANT_NOT_ALL_HAVE_CHIMED
		chimed_index >= next; /* waits; it may have gone on */
#endif
		event = next;
		stores_of_consumer!CHIME_EVENT, event;
#ifndef MUTANT_NO_FENCE_AFTER_THE_EVENT
		FENCE(stores_of_consumer);
#endif
		sent = chimes;
#ifdef MUTANT_TAKES_BEFORE_THE_LOOK
		take_chimes();
#endif
		if
#ifdef MUTANT_NO_LOOK_AFTER_THE_EVENT
		:: true ->
#else
		:: write_index != next
		:: write_index == next ->
#endif
#ifdef MUTANT_COUNTS_AFTER_THE_LOOK
			sent = chimes;
#endif
			take_chimes();
			armed = 1
		fi
	fi
}

active proctype Consumer()
{
	byte next, event, sent, taken;
	bit armed = 1, watched;

	do
	:: next == N -> break
	/* fileno() */
	:: next < N && !watched -> watched = 1; rb_chime_settle()
	/* The caller sleeps, and takes then. Before the first entry it need not watch. */
	:: next < N && (watched || next == 0) ->
		in_socket > 0;
		assert(write_index != next);
		next++;
		if
		:: watched -> rb_chime_settle()
		:: else
		fi
	/* It takes without a sleep. */
	:: next < N && write_index != next ->
		next++;
		if
		:: watched -> rb_chime_settle()
		:: else
		fi
	od;
	/* All has been taken, so nobody need wake. */
	if
	:: watched -> armed && FENCE(stores_of_producer) -> assert(in_socket == 0)
	:: else
	fi
}
