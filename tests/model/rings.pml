/* SPDX-License-Identifier: MIT
 *
 * Both rings of a channel, a driver and a device, on machines that buffer stores (TSO): the steps of
 * csrc/ring.c, csrc/kick.c and csrc/wait.c under the same names and letters. See README.md beside this file.
 *
 * N requests go one way and, unless ONE_WAY is defined, N completions come back. Indices count
 * modulo MOD and wrap.
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

/* What a search adds to that:
 *
 *   COALESCE     the driver may hold its kicks back at any time, with a bounded delay or without
 *   TWO_THREADS  and has its other end in another thread, which may go to sleep at any time
 *   MODERATION   the device, asleep, is woken after so many entries or by the timer
 *   POLLABLE     the device may wait with poll(2) on its descriptors instead of in the channel
 *   CRASHES      so many times the device is killed, at any step, and replaced
 */
#ifndef MODERATION
#define MODERATION 1
#endif
#ifndef CRASHES
#define CRASHES 0
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

/* What the kernel keeps. Of an eventfd's count it matters only whether it is 0. */
bit wake_fd[2];   /* by the side that it wakes, for data and for room alike */
bit own_fd;       /* of the device, for its event loop; see csrc/sleepers.c */
bit timer_passed; /* in the device's control socket */
bit has_timer;    /* the device has taken it from there */
#define OFF 0
#define RUNS 1
#define OVER 2
byte timer;   /* of the doorbell ring */
bit hung_up;  /* the driver's end of the control socket */
bit lost;     /* the device is dead, and the driver has not connected anew */
bit kicked[2]; /* only for a mutant */

typedef Buffer {
	byte used;
	byte where[DEPTH];
	byte what[DEPTH]
};
Buffer buffer[2]; /* by side */

/* A store goes into the side's buffer; from there it reaches memory at any later time, in order. */
inline store(side, cell, content)
{
	d_step {
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

/* Of the driver's producer: struct rb_deferral, moderation, the timer. */
#define NOT_DEFERRED 0
#define UNBOUNDED 1
#define FOR_A_WHILE 2
byte deferral;
bit owed, timer_set;
byte moderated_event, moderated_left;

/* What nobody in the program keeps: how many entries each side has used, and how far it had come. */
byte used[2];
byte place; /* of the device, in entries: goes back when it is replaced */

#define PRODUCES(side) (side)
#define CONSUMES(side) (1 - (side))
#define PEER(side) (1 - (side))

/* ring.c: rb_producer_room, for one slot */
#define HAS_ROOM(side) (DISTANCE(own[side].write, own[side].read_seen) < SLOTS)
inline rb_producer_room(side, word)
{
	atomic {
		if
		:: HAS_ROOM(side)
		:: else ->
			load(side, READ_INDEX(PRODUCES(side)), word); /* (C) */
			own[side].read_seen = word;
			word = 0
		fi
	}
}

/* ring.c: rb_consumer_available */
#define IS_AVAILABLE(side) (own[side].write_seen != own[side].next)
inline rb_consumer_available(side, word)
{
	atomic {
		if
		:: IS_AVAILABLE(side)
		:: else ->
			load(side, WRITE_INDEX(CONSUMES(side)), word); /* (A) */
			own[side].write_seen = word;
			word = 0
		fi
	}
}

#ifdef MUTANT_EVENT_BOUND
#define IN_RANGE(event, old) (0)
#elif defined(MUTANT_EVENT_BOUND_LATE)
#define IN_RANGE(event, old) (event == (old + 1) % MOD)
#else
#define IN_RANGE(event, old) (event == old) /* in [old, old + 1) */
#endif

#define NOT 0
#define NOW 1
#define LATER 2
#define ENOUGH 3

/* ring.c: wake_for */
inline wake_for(side, old, word, wake)
{
	atomic {
		load(side, DATA_EVENT(PRODUCES(side)), word);
		if
		:: IN_RANGE(word, old) && side == DRIVER && MODERATION > 1 ->
			moderated_event = word;
			moderated_left = MODERATION - 1;
			wake = LATER
		:: IN_RANGE(word, old) && !(side == DRIVER && MODERATION > 1) -> wake = NOW
		:: else ->
			if
			:: side == DRIVER && moderated_left && word == moderated_event ->
				moderated_left--;
				wake = (moderated_left -> NOT : ENOUGH)
			:: else -> wake = NOT; moderated_left = 0
			fi
		fi;
		word = 0
	}
}

/* kick.c: rb_kick_consumer */
inline rb_kick_consumer(side)
{
#ifdef MUTANT_ALREADY_KICKED
	atomic {
		if
		:: !kicked[PRODUCES(side)] -> kicked[PRODUCES(side)] = 1; wake_fd[PEER(side)] = 1
		:: else
		fi
	}
#elif !defined(MUTANT_NO_KICK)
	wake_fd[PEER(side)] = 1;
#endif
	if
	:: side == DRIVER && timer_set -> timer = OFF; timer_set = 0
	:: else
	fi
}

/* kick.c: kick_later */
inline kick_later()
{
	if
#ifdef MUTANT_TIMER_ONLY_ONCE
	:: timer_set
#endif
#if !defined(MUTANT_TIMER_NOT_PASSED) && !defined(MUTANT_NO_TIMER)
	:: !timer_passed && !has_timer -> timer_passed = 1; timer = RUNS; timer_set = 1
#endif
#ifdef MUTANT_NO_TIMER
	:: !timer_set -> timer_set = 1
	:: timer_set
#else
	:: else -> atomic { timer = RUNS; timer_set = 1 }
#endif
	fi
}

/* kick.c: kick_if_owed */
inline kick_if_owed()
{
	if
	:: owed -> owed = 0; rb_kick_consumer(DRIVER)
	:: else
	fi
}

/* kick.c: rb_kick_if_owed_leaving_timer, of who waits */
inline rb_kick_if_owed_leaving_timer()
{
	if
#ifdef MUTANT_KICK_THEN_CLEAR
	:: owed -> wake_fd[DEVICE] = 1; owed = 0
#else
	:: owed -> owed = 0; wake_fd[DEVICE] = 1
#endif
	:: else
	fi
#ifdef MUTANT_OTHER_END_TAKES_THE_TIMER_BACK
	;
	timer = OFF
#endif
}

/* kick.c: rb_producer_kick and defer. max_entries may be reached at any entry. */
inline rb_producer_kick(side, wake)
{
	if
	:: wake == LATER -> kick_later()
	:: else
	fi;
	if
	:: side == DRIVER && deferral ->
		if
#ifndef MUTANT_NO_TIMER_IN_A_BLOCK
		:: wake == NOW && deferral == FOR_A_WHILE -> kick_later()
#endif
		:: else
		fi;
		if
		:: wake == NOW || wake == ENOUGH -> owed = 1
		:: else
		fi;
		if
		:: kick_if_owed()
		:: true
		fi
	:: !(side == DRIVER && deferral) && (wake == NOW || wake == ENOUGH) -> rb_kick_consumer(side)
	:: else
	fi;
	wake = 0
}

/* kick.c: rb_producer_ring_full */
inline rb_producer_ring_full(side)
{
	if
	:: side == DRIVER ->
		kick_if_owed();
		if
		:: moderated_left -> moderated_left = 0; rb_kick_consumer(side)
		:: else
		fi
	:: else
	fi
}

/* ring.c: rb_producer_publish */
inline rb_producer_publish(side, content, word, wake)
{
#ifdef MUTANT_KICK_BEFORE_PUBLISH
	wake_for(side, own[side].write, word, wake);
	rb_producer_kick(side, wake);
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
	wake_for(side, (own[side].write + MOD - 1) % MOD, word, wake);
	rb_producer_kick(side, wake)
#endif
}

/* message_consumer.c: look_at_frame, and the use of the payload */
inline use_entry(side, word)
{
	atomic {
		load(side, SLOT(CONSUMES(side), own[side].next), word);
		if
		:: side == DEVICE ->
			assert(word == place + 1); /* whole, in order, none lost, none twice */
			place++
		:: else ->
			/* A device that was killed may have answered already what the next one answers
			 * again; the driver drops the second. */
			assert(word == used[DRIVER] + 1 || (CRASHES && word <= used[DRIVER]))
		fi;
		if
		:: word > used[side] -> used[side]++
		:: else
		fi;
		own[side].next = (own[side].next + 1) % MOD;
		word = 0
	}
}

/* ring.c: rb_consumer_release; kick.c: rb_kick_producer */
inline rb_consumer_release(side, index, word)
{
	store(side, READ_INDEX(CONSUMES(side)), index); /* (C) */
#ifndef MUTANT_NO_FENCE_D_CONSUMER
	fence_full(side); /* (D) */
#endif
	atomic {
		load(side, SPACE_EVENT(CONSUMES(side)), word);
		word = IN_RANGE(word, (index + MOD - 1) % MOD)
	}
	atomic {
		if
		:: word -> wake_fd[PEER(side)] = 1
		:: else
		fi;
		word = 0
	}
}

/* wait.c: rb_arm. The event for space lies before the index at which one slot is free. */
inline rb_arm(side, want)
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

/* wait.c: rb_disarm */
inline rb_disarm(side, want)
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

#define GONE 2

/* wait.c: rb_look. ready is GONE when the peer is, and nothing more will come. */
inline rb_look(side, want, ready, word)
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
	:: want & SPACE ->
		rb_producer_room(side, word);
		if
		:: HAS_ROOM(side) -> ready = 1
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
			:: else -> ready = GONE
			fi
		:: else
		fi
	:: side == DRIVER && !ready && lost ->
		if
		:: want & DATA -> rb_consumer_available(side, word)
		:: else
		fi;
		if
		:: want & DATA && IS_AVAILABLE(side) -> ready = 1
		:: else -> ready = GONE
		fi
	:: else
	fi
}

#define IS_READABLE(side)                                                                          \
	(wake_fd[side] ||                                                                          \
	 (side == DEVICE && (own_fd || timer_passed || (has_timer && timer == OVER) || hung_up)) || \
	 (side == DRIVER && lost))
#define WOKEN(side, want)                                                                          \
	((want & DATA && IS_READABLE(side)) || wake_fd[side] || (side == DEVICE && hung_up) ||     \
	 (side == DRIVER && lost))

/* sleepers.c: rb_sleep_on, the ppoll and the drain after it. If nothing but a timer has come, the same sleep
 * goes on. */
inline rb_sleep_on(side, want)
{
	do
	:: side == DEVICE && want & DATA && timer_passed && !wake_fd[side] && !own_fd && !hung_up ->
		rb_take_timer()
	:: WOKEN(side, want) && !(side == DEVICE && want & DATA && timer_passed && !wake_fd[side] &&
				  !own_fd && !hung_up) -> break
	od;
	drain(side, want)
}

/* kick.c: rb_take_timer */
inline rb_take_timer()
{
	atomic {
		if
		:: timer_passed -> timer_passed = 0; has_timer = 1
		:: else
		fi
	}
}

inline drain(side, want)
{
	if
	:: want & DATA ->
		wake_fd[side] = 0;
		if
		:: side == DEVICE ->
			own_fd = 0;
			rb_take_timer();
			if
			:: has_timer && timer == OVER -> timer = OFF
			:: else
			fi
		:: else
		fi
	:: else ->
		/* sleepers.c: rb_end_sleep tells the event loop */
		if
#if defined(POLLABLE) && !defined(MUTANT_DRAINED_FOR_THE_EVENT_LOOP)
		:: wake_fd[side] && side == DEVICE -> wake_fd[side] = 0; own_fd = 1
#endif
		:: else -> wake_fd[side] = 0
		fi
	fi
}

/* wait.c: rb_wait_poll, as one look, and rb_wait_sleep */
inline wait_for(side, want, ready, word)
{
	rb_look(side, want, ready, word);
	if
	:: side == DRIVER && !ready ->
#ifndef MUTANT_SLEEPS_OWING_A_KICK
		rb_kick_if_owed_leaving_timer()
#else
		skip
#endif
	:: else
	fi;
	do
	:: ready -> break
	:: else ->
#ifdef MUTANT_ARM_AFTER_LAST_LOOK
		rb_look(side, want, ready, word);
		rb_arm(side, want);
#elif defined(MUTANT_NO_LOOK_AFTER_ARM)
		rb_arm(side, want);
#else
		rb_arm(side, want);
		rb_look(side, want, ready, word);
#endif
		if
		:: ready -> break
		:: else
		fi;
#ifdef MUTANT_DRAIN_AFTER_LAST_LOOK
		drain(side, want);
#endif
		rb_sleep_on(side, want);
		rb_look(side, want, ready, word)
	od;
#ifdef POLLABLE
	if
	:: side == DEVICE && want & DATA ->
#ifndef MUTANT_WAIT_LEAVES_IT_UNREADABLE
		if
		:: ready -> own_fd = 1 /* stay_readable_if */
		:: else
		fi
#else
		skip
#endif
	:: else -> rb_disarm(side, want)
	fi
#else
	rb_disarm(side, want)
#endif
}

/* wait.c: settle, when a look has found nothing */
inline settle(side, ready, word)
{
#ifndef MUTANT_UNREADABLE_AFTER_THE_LOOK
	drain(side, DATA);
#endif
#ifndef MUTANT_UNREADABLE_UNARMED
	rb_arm(side, DATA);
#endif
#ifndef MUTANT_UNREADABLE_UNLOOKED
	rb_look(side, DATA, ready, word);
#endif
#ifdef MUTANT_UNREADABLE_AFTER_THE_LOOK
	drain(side, DATA);
#endif
#ifndef MUTANT_LOOKED_BUT_UNREADABLE
	if
	:: ready -> own_fd = 1 /* stay_readable_if */
	:: else
	fi
#endif
}

/* The user's event loop: poll(2) until readable, then recv(timeout=0), again and again. */
inline event_loop(side, ready, word)
{
	do
	:: IS_READABLE(side) ->
		rb_look(side, DATA, ready, word);
		if
		:: !ready -> settle(side, ready, word)
		:: else
		fi;
		if
		:: ready -> break
		:: else
		fi
	od
}

bit driver_done, device_done;

/* After PeerLost: the driver connects anew and hands over the same memory. The eventfd may be the same
 * or a new one; the timer is a new one, which the new device does not have yet. */
inline connect_anew()
{
	if
	:: lost ->
		if
		:: wake_fd[DEVICE] = 0
		:: true
		fi;
		d_step {
			own_fd = 0;
			timer = OFF;
			timer_passed = 0;
			has_timer = 0;
			lost = 0
		}
	:: else
	fi
}

/* driver.py: submit and reap; while it waits for room it sets completions aside. When all is sent it
 * may close at any time, as it may want no answers. */
proctype Driver()
{
	byte sent, begun, word, ready, wake;

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
			rb_producer_publish(DRIVER, sent, word, wake)
		:: else ->
			rb_producer_ring_full(DRIVER);
#if defined(ONE_WAY) || defined(MUTANT_SUBMIT_TAKES_NOTHING)
			wait_for(DRIVER, SPACE, ready, word);
			connect_anew()
#else
			wait_for(DRIVER, SPACE | DATA, ready, word);
			connect_anew();
			do
			:: IS_AVAILABLE(DRIVER) ->
				use_entry(DRIVER, word);
				rb_consumer_release(DRIVER, own[DRIVER].next, word)
			:: else -> break
			od
#endif
		fi
#ifndef ONE_WAY
	:: used[DRIVER] < sent -> /* reap, at any time */
		wait_for(DRIVER, DATA, ready, word);
		if
		:: ready == 1 ->
			use_entry(DRIVER, word);
			rb_consumer_release(DRIVER, own[DRIVER].next, word)
		:: else -> connect_anew()
		fi
#endif
#ifdef COALESCE
	:: sent < N && deferral == NOT_DEFERRED -> /* rb_defer_begin */
		begun = sent;
		if
		:: deferral = UNBOUNDED
		:: deferral = FOR_A_WHILE
		fi
	:: deferral && sent > begun -> /* rb_defer_end; a bounded number of blocks, for liveness */
		deferral = NOT_DEFERRED;
		begun = 0;
#ifndef MUTANT_BLOCK_ENDS_WITHOUT_A_KICK
		kick_if_owed()
#else
		owed = 0
#endif
#endif
#ifdef ONE_WAY
	:: sent == N && deferral != UNBOUNDED ->
		/* It does something else for ever; if it closed, that would wake the device. */
		if
		:: used[DEVICE] == N -> break
		:: lost -> connect_anew()
		fi
#endif
	:: sent == N -> break
	od;
	/* rb_channel_close, then the shutdown of the socket */
	store(DRIVER, GOODBYE, 1);
	fence_full(DRIVER);
	hung_up = 1;
	driver_done = 1
}

/* The driver's other end, whenever it goes to sleep. */
proctype OtherEnd()
{
end:
	do
	:: owed -> rb_kick_if_owed_leaving_timer()
	od
}

bit killed;
byte kills;

/* Kills the device at any step. */
proctype Killer()
{
end:
	do
	:: kills < CRASHES && !killed && !lost -> atomic { kills++; killed = 1 }
	od
}

/* device.py: take and complete; a request is released after its completion is published */
proctype Device()
{
	byte word, ready, wake;

start:
	{
#ifdef POLLABLE
		settle(DEVICE, ready, word); /* rb_pollable */
#endif
		do
		:: true ->
#ifdef POLLABLE
			if
			:: true -> event_loop(DEVICE, ready, word)
			:: true -> wait_for(DEVICE, DATA, ready, word)
			fi;
#else
			wait_for(DEVICE, DATA, ready, word);
#endif
			if
			:: ready == GONE -> break
			:: else
			fi;
#ifdef MUTANT_RELEASE_BEFORE_USE
			rb_consumer_release(DEVICE, (own[DEVICE].next + 1) % MOD, word);
#endif
			use_entry(DEVICE, word);
#ifdef MUTANT_RELEASE_BEFORE_COMPLETE
			rb_consumer_release(DEVICE, own[DEVICE].next, word);
#endif
#ifndef ONE_WAY
			rb_producer_room(DEVICE, word);
			if
			:: HAS_ROOM(DEVICE)
			:: else -> wait_for(DEVICE, SPACE, ready, word)
			fi;
			if
			:: HAS_ROOM(DEVICE) -> rb_producer_publish(DEVICE, place, word, wake)
			:: else /* the driver has gone and wants no answer */
			fi;
#endif
#if !defined(MUTANT_RELEASE_BEFORE_USE) && !defined(MUTANT_RELEASE_BEFORE_COMPLETE)
			rb_consumer_release(DEVICE, own[DEVICE].next, word)
#endif
		od;
		assert(used[DEVICE] == N) /* all that was sent before the goodbye */
	} unless { killed };
	if
	:: killed ->
		/* What it has stored arrives before the end of its socket. */
		atomic { buffer[DEVICE].used == 0; killed = 0; lost = 1 };
		if
		:: !lost ->
			/* channel.c: start_indices goes on where the shared memory says */
			d_step {
#ifdef MUTANT_REPLACED_STARTS_AT_WRITE
				place = place + DISTANCE(memory[WRITE_INDEX(DOORBELL)], own[DEVICE].next);
				own[DEVICE].next = memory[WRITE_INDEX(DOORBELL)];
#else
				place = place - DISTANCE(own[DEVICE].next, memory[READ_INDEX(DOORBELL)]);
				own[DEVICE].next = memory[READ_INDEX(DOORBELL)];
#endif
				own[DEVICE].write_seen = own[DEVICE].next;
				own[DEVICE].write = memory[WRITE_INDEX(INTERRUPT)];
				own[DEVICE].read_seen = memory[READ_INDEX(INTERRUPT)];
				word = 0;
				ready = 0;
				wake = 0
			};
			goto start
		:: hung_up /* and nobody will replace it */
		fi
	:: else
	fi;
	device_done = 1
}

/* The kernel's timer. */
proctype Timer()
{
end:
	do
	:: timer == RUNS -> timer = OVER
	od
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
#if MODERATION > 1 || defined(COALESCE)
		run Timer();
#endif
#ifdef TWO_THREADS
		run OtherEnd();
#endif
#if CRASHES
		run Killer();
#endif
		run Driver();
		run Device()
	}
}

ltl every_entry_is_taken { <> (driver_done && device_done) }
