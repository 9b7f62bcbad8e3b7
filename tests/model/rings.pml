/* SPDX-License-Identifier: MIT
 *
 * Both rings of a channel, a driver and a device, on machines that buffer stores (TSO): publish,
 * room, available, release, kick, arm, look, sleep and drain as in csrc/ring.c and csrc/wait.c,
 * under the same names and letters. See README.md beside this file.
 *
 * N requests go one way and N completions come back. Indices count modulo MOD and wrap.
 */
#ifndef N
#define N 4
#endif
#ifndef SLOTS
#define SLOTS 2 /* of each ring; a message is one slot */
#endif
#ifndef MOD
#define MOD 8 /* of indices; more than twice SLOTS */
#endif
#ifndef FIRST
#define FIRST 6 /* where indices start: N moves past the wrap */
#endif

#define DOORBELL 0
#define INTERRUPT 1
#define DRIVER 0 /* produces the doorbell ring, consumes the interrupt ring */
#define DEVICE 1
#define DATA 1
#define SPACE 2

/* Shared words, by ring; then the slots' contents. */
#define WRITE_INDEX(r) (r)
#define READ_INDEX(r) (2 + (r))
#define DATA_EVENT(r) (4 + (r))
#define SPACE_EVENT(r) (6 + (r))
#define GOODBYE 8 /* of the driver; here the device never closes first */
#define SLOT(r, i) (9 + (r) * SLOTS + (i) % SLOTS)
#define WORDS (9 + 2 * SLOTS)
#define DEPTH 3 /* of a store buffer */

#define DISTANCE(to, from) (((to) + 2 * MOD - (from)) % MOD)

byte memory[WORDS];
byte data_eventfd[2], space_eventfd[2]; /* by ring */
bool hung_up;                           /* the end of the control socket */
byte kicked[2];                         /* only for a mutant */

typedef Buffer {
	byte used;
	byte where[DEPTH];
	byte what[DEPTH]
};
Buffer buffer[2]; /* by side */

/* A store goes into the side's buffer; from there it reaches memory at any later time, in order. */
inline store(side, cell, content)
{
	atomic {
		buffer[side].used < DEPTH;
		buffer[side].where[buffer[side].used] = cell;
		buffer[side].what[buffer[side].used] = content;
		buffer[side].used++
	}
}

/* A load sees the side's own newest store, or memory. */
inline load(side, cell, into)
{
	d_step {
		into = memory[cell];
		if
		:: buffer[side].used > 0 && buffer[side].where[0] == cell -> into = buffer[side].what[0]
		:: else
		fi;
		if
		:: buffer[side].used > 1 && buffer[side].where[1] == cell -> into = buffer[side].what[1]
		:: else
		fi;
		if
		:: buffer[side].used > 2 && buffer[side].where[2] == cell -> into = buffer[side].what[2]
		:: else
		fi
	}
}

inline fence_full(side)
{
	buffer[side].used == 0
}

proctype Commit(byte side)
{
end:
	do
	:: d_step {
		buffer[side].used > 0;
		memory[buffer[side].where[0]] = buffer[side].what[0];
		buffer[side].where[0] = buffer[side].where[1];
		buffer[side].what[0] = buffer[side].what[1];
		buffer[side].where[1] = buffer[side].where[2];
		buffer[side].what[1] = buffer[side].what[2];
		buffer[side].used--;
		buffer[side].where[buffer[side].used] = 0;
		buffer[side].what[buffer[side].used] = 0
	   }
	od
}

/* What a side keeps in private memory (struct rb_producer, struct rb_consumer). */
typedef Side {
	byte write, read_seen; /* of the ring it produces */
	byte next, write_seen  /* of the ring it consumes */
};
Side own[2];
byte taken[2]; /* entries that a side has taken, ever */

#define PRODUCES(side) (side)
#define CONSUMES(side) (1 - (side))

/* ring.c: rb_producer_room, for one slot */
#define HAS_ROOM(side) (DISTANCE(own[side].write, own[side].read_seen) < SLOTS)
inline rb_producer_room(side, word)
{
	if
	:: HAS_ROOM(side)
	:: else ->
		load(side, READ_INDEX(PRODUCES(side)), word); /* (C) */
		own[side].read_seen = word;
		word = 0
	fi
}

/* ring.c: rb_consumer_available */
#define IS_AVAILABLE(side) (own[side].write_seen != own[side].next)
inline rb_consumer_available(side, word)
{
	if
	:: IS_AVAILABLE(side)
	:: else ->
		load(side, WRITE_INDEX(CONSUMES(side)), word); /* (A) */
		own[side].write_seen = word;
		word = 0
	fi
}

inline kick_data(r)
{
	data_eventfd[r] = 1 /* a counter; whether it is 0 is all that matters */
}

inline kick_space(r)
{
	space_eventfd[r] = 1
}

#ifdef MUTANT_EVENT_BOUND
#define IN_RANGE(event, old, count) (DISTANCE(event, old) - 1 < count && event != old)
#else
#define IN_RANGE(event, old, count) (DISTANCE(event, old) < count)
#endif

/* ring.c: rb_producer_publish, then wait.c: rb_producer_kick */
inline rb_producer_publish(side, content, word)
{
#ifdef MUTANT_KICK_BEFORE_PUBLISH
	load(side, DATA_EVENT(PRODUCES(side)), word);
	if
	:: IN_RANGE(word, own[side].write, 1) -> kick_data(PRODUCES(side))
	:: else
	fi;
#endif
#ifdef MUTANT_INDEX_BEFORE_SLOT
	store(side, WRITE_INDEX(PRODUCES(side)), (own[side].write + 1) % MOD);
	store(side, SLOT(PRODUCES(side), own[side].write), content);
#else
	store(side, SLOT(PRODUCES(side), own[side].write), content);
	store(side, WRITE_INDEX(PRODUCES(side)), (own[side].write + 1) % MOD); /* (A) */
#endif
	own[side].write = (own[side].write + 1) % MOD;
#ifndef MUTANT_NO_FENCE_B_PRODUCER
	fence_full(side); /* (B) */
#endif
#ifndef MUTANT_KICK_BEFORE_PUBLISH
	load(side, DATA_EVENT(PRODUCES(side)), word);
	if
#ifdef MUTANT_ALREADY_KICKED
	:: IN_RANGE(word, (own[side].write + MOD - 1) % MOD, 1) && !kicked[PRODUCES(side)] ->
		kicked[PRODUCES(side)] = 1;
		kick_data(PRODUCES(side))
#elif defined(MUTANT_NO_KICK)
#else
	:: IN_RANGE(word, (own[side].write + MOD - 1) % MOD, 1) -> kick_data(PRODUCES(side))
#endif
	:: else
	fi;
#endif
	word = 0
}

/* frame.c: look_at_frame and the use of the payload; then ring.c: rb_consumer_release, then wait.c:
 * rb_consumer_kick */
inline use_entry(side, word)
{
	load(side, SLOT(CONSUMES(side), own[side].next), word);
	assert(word == taken[side] + 1); /* whole, in order, none lost, none twice */
	taken[side]++;
	own[side].next = (own[side].next + 1) % MOD;
	word = 0
}

inline rb_consumer_release(side, index, word)
{
	store(side, READ_INDEX(CONSUMES(side)), index); /* (C) */
#ifndef MUTANT_NO_FENCE_D_CONSUMER
	fence_full(side); /* (D) */
#endif
	load(side, SPACE_EVENT(CONSUMES(side)), word);
	if
	:: IN_RANGE(word, (index + MOD - 1) % MOD, 1) -> kick_space(CONSUMES(side))
	:: else
	fi;
	word = 0
}

/* wait.c: arm. The event for space lies before the index at which one slot is free. */
inline arm(side, want)
{
	if
	:: want & DATA -> store(side, DATA_EVENT(CONSUMES(side)), own[side].next)
	:: else
	fi;
	if
	:: want & SPACE ->
#ifdef MUTANT_SPACE_PAST_OWN_MESSAGE
		store(side, SPACE_EVENT(PRODUCES(side)), own[side].write)
#else
		store(side, SPACE_EVENT(PRODUCES(side)), (own[side].write + MOD - SLOTS) % MOD)
#endif
	:: else
	fi;
	if
#ifdef MUTANT_NO_FENCE_B_CONSUMER
	:: want == DATA
#endif
#ifdef MUTANT_NO_FENCE_D_PRODUCER
	:: want == SPACE
#endif
	:: else -> fence_full(side) /* (B), (D) */
	fi
}

/* wait.c: disarm */
inline disarm(side, want)
{
	if
	:: want & DATA ->
		store(side, DATA_EVENT(CONSUMES(side)), (own[side].next + MOD - 1) % MOD)
	:: else
	fi;
	if
	:: want & SPACE ->
		store(side, SPACE_EVENT(PRODUCES(side)), (own[side].read_seen + MOD - 1) % MOD)
	:: else
	fi
}

/* wait.c: look. ready is 2 when the peer is gone and nothing more will come. */
inline look(side, want, ready, word)
{
	ready = 0;
	if
	:: want & DATA ->
		rb_consumer_available(side, word);
		if
		:: IS_AVAILABLE(side) -> ready = 1
		:: else
		fi
	:: else
	fi;
	if
	:: side == DEVICE && !ready ->
		load(side, GOODBYE, word);
		if
		:: word ->
			word = 0;
#ifndef MUTANT_NO_LOOK_AFTER_GOODBYE
			rb_consumer_available(side, word);
#endif
			if
			:: want & DATA && IS_AVAILABLE(side) -> ready = 1
			:: else -> ready = 2
			fi
		:: else
		fi
	:: else
	fi;
	if
	:: want & SPACE ->
		rb_producer_room(side, word);
		if
		:: HAS_ROOM(side) -> ready = 1
		:: else
		fi
	:: else
	fi
}

#define WOKEN(side, want)                                                                          \
	((side == DEVICE && hung_up) || ((want) & DATA && data_eventfd[CONSUMES(side)]) ||                                        \
	 ((want) & SPACE && space_eventfd[PRODUCES(side)]))

/* wait.c: sleep_on, the ppoll and the drain after it */
inline sleep_on(side, want)
{
	WOKEN(side, want);
	drain(side, want)
}

inline drain(side, want)
{
	if
	:: want & DATA -> data_eventfd[CONSUMES(side)] = 0
	:: else
	fi;
	if
	:: want & SPACE -> space_eventfd[PRODUCES(side)] = 0
	:: else
	fi
}

/* wait.c: rb_wait_poll, as one look, and rb_wait_sleep */
inline wait_for(side, want, ready, word)
{
	look(side, want, ready, word);
	do
	:: ready -> break
	:: else ->
#ifdef MUTANT_ARM_AFTER_LAST_LOOK
		look(side, want, ready, word);
		arm(side, want);
#elif defined(MUTANT_NO_LOOK_AFTER_ARM)
		arm(side, want);
#else
		arm(side, want);
		look(side, want, ready, word);
#endif
		if
		:: ready -> break
		:: else
		fi;
#ifdef MUTANT_DRAIN_AFTER_LAST_LOOK
		drain(side, want);
#endif
		sleep_on(side, want);
		look(side, want, ready, word)
	od;
	disarm(side, want)
}

bool driver_done, device_done;

/* driver.py: submit and reap; while it waits for room it sets completions aside. When all is sent it
 * may close at any time, as it may want no answers. */
proctype Driver()
{
	byte sent, word, ready;

	do
	:: sent < N ->
		rb_producer_room(DRIVER, word);
		if
		:: HAS_ROOM(DRIVER) ->
			sent++;
#ifdef MUTANT_GOODBYE_BEFORE_PUBLISH
			if
			:: sent == N -> store(DRIVER, GOODBYE, 1)
			:: else
			fi;
#endif
			rb_producer_publish(DRIVER, sent, word)
#ifdef MUTANT_SUBMIT_TAKES_NOTHING
		:: else -> wait_for(DRIVER, SPACE, ready, word)
#else
		:: else ->
			wait_for(DRIVER, SPACE | DATA, ready, word);
			do
			:: IS_AVAILABLE(DRIVER) ->
				use_entry(DRIVER, word);
				rb_consumer_release(DRIVER, own[DRIVER].next, word)
			:: else -> break
			od
#endif
		fi
	:: taken[DRIVER] < sent -> /* reap, at any time */
		wait_for(DRIVER, DATA, ready, word);
		use_entry(DRIVER, word);
		rb_consumer_release(DRIVER, own[DRIVER].next, word)
	:: sent == N -> break
	od;
	/* rb_channel_close, then the shutdown of the socket */
	store(DRIVER, GOODBYE, 1);
	fence_full(DRIVER);
	hung_up = true;
	driver_done = true
}

/* device.py: take and complete; a request is released after its completion is published */
proctype Device()
{
	byte word, ready;

	do
	:: true ->
		wait_for(DEVICE, DATA, ready, word);
		if
		:: ready == 2 -> break
		:: else
		fi;
#ifdef MUTANT_RELEASE_BEFORE_USE
		rb_consumer_release(DEVICE, (own[DEVICE].next + 1) % MOD, word);
#endif
		use_entry(DEVICE, word);
		rb_producer_room(DEVICE, word);
		if
		:: HAS_ROOM(DEVICE)
		:: else -> wait_for(DEVICE, SPACE, ready, word)
		fi;
		if
		:: HAS_ROOM(DEVICE) -> rb_producer_publish(DEVICE, taken[DEVICE], word)
		:: else /* the driver has gone and wants no answer */
		fi;
#ifndef MUTANT_RELEASE_BEFORE_USE
		rb_consumer_release(DEVICE, own[DEVICE].next, word)
#endif
	od;
	assert(taken[DEVICE] == N); /* all that was sent before the goodbye */
	device_done = true
}

init {
	d_step {
		memory[WRITE_INDEX(DOORBELL)] = FIRST;
		memory[WRITE_INDEX(INTERRUPT)] = FIRST;
		memory[READ_INDEX(DOORBELL)] = FIRST;
		memory[READ_INDEX(INTERRUPT)] = FIRST;
		memory[DATA_EVENT(DOORBELL)] = FIRST - 1;
		memory[DATA_EVENT(INTERRUPT)] = FIRST - 1;
		memory[SPACE_EVENT(DOORBELL)] = FIRST - 1;
		memory[SPACE_EVENT(INTERRUPT)] = FIRST - 1;
		own[DRIVER].write = FIRST;
		own[DRIVER].read_seen = FIRST;
		own[DRIVER].next = FIRST;
		own[DRIVER].write_seen = FIRST;
		own[DEVICE].write = FIRST;
		own[DEVICE].read_seen = FIRST;
		own[DEVICE].next = FIRST;
		own[DEVICE].write_seen = FIRST
	}
	atomic {
		run Commit(DRIVER);
		run Commit(DEVICE);
		run Driver();
		run Device()
	}
}

ltl every_entry_is_taken { <> (driver_done && device_done) }
