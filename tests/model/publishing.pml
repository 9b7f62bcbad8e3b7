/* SPDX-License-Identifier: MIT
 *
 * One writer and many readers that come and go: the steps of csrc/readers.c, csrc/admission.c and
 * csrc/reader.c, and of csrc/ring.c and csrc/wait.c around them. See README.md beside this file.
 *
 * The writer, each reader, and the thread that admits readers and removes them have a store buffer each,
 * which is emptied at any time, in order. An entry is one slot, and holds its index. Indices do not wrap
 * here: rings.pml has that.
 */
#ifndef N
#define N 3 /* entries that are published */
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef R
#define R 2 /* readers */
#endif

/* What a search adds to that:
 *
 *   NEWEST    the writer waits for nobody; otherwise for the slowest reader
 *   PRESENT   so many readers are there from the beginning; the others come at any time
 *   VISITS    so many times each reader comes
 *   KILLS     so many readers are killed, at any step
 *   AWAITED   the first entry waits for so many readers
 *   STALLS    the writer lets so many readers go that hold it back
 *   GIVES_UP  so many times it writes into slots that it reserved, and publishes none
 *   AT_ONCE   each store is seen at once, and steps are larger, so that there may be more readers
 */
#ifndef PRESENT
#define PRESENT 0
#endif
#ifndef VISITS
#define VISITS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef AWAITED
#define AWAITED 0
#endif
#ifndef STALLS
#define STALLS 0
#endif
#ifndef GIVES_UP
#define GIVES_UP 0
#endif

/* Words that one thread writes and another one reads. */
#define WRITE_INDEX 0
#define CLAIM_INDEX 1
#define NEWEST_INDEX 2
#define RESUME_INDEX 3
#define SPACE_EVENT 4
#define WALKING 5
#define LOCK 6
#define READ_INDEX(r) (7 + (r))
#define DATA_EVENT(r) (7 + R + (r))
#define PLACE(r) (7 + 2 * R + (r)) /* which visit of the reader it is for; 0: none */
#define TOLD(r) (7 + 3 * R + (r))  /* that it has been admitted; a text in its socket */
#define SLOT(i) (7 + 4 * R + (i) % SLOTS)
#define WORDS (7 + 4 * R + SLOTS)
#define NEVER 255

byte memory[WORDS];

#ifdef AT_ONCE
#define STORE(buffer, cell, what) memory[cell] = what
#define FENCE(buffer) skip
#define EMPTY(buffer) true

#define STEP atomic

bit of_writer, of_door; /* there are none */
#else
#define STORE(buffer, cell, what) buffer!cell, what
#define FENCE(buffer) empty(buffer)
#define EMPTY(buffer) empty(buffer)
#define STEP

chan of_writer = [3] of { byte, byte };
chan of_door = [3] of { byte, byte };
chan of_reader[R] = [2] of { byte, byte };

active proctype Buffers()
{
	byte cell, what;

end:	do
	:: atomic { of_writer?cell, what -> memory[cell] = what; cell = 0; what = 0 }
	:: atomic { of_door?cell, what -> memory[cell] = what; cell = 0; what = 0 }
	:: atomic { of_reader[0]?cell, what -> memory[cell] = what; cell = 0; what = 0 }
#if R > 1
	:: atomic { of_reader[1]?cell, what -> memory[cell] = what; cell = 0; what = 0 }
#endif
#if R > 2
	:: atomic { of_reader[2]?cell, what -> memory[cell] = what; cell = 0; what = 0 }
#endif
	od
}
#endif

/* What the kernel keeps. */
bit wake_fd;    /* wakes the writer */
bit kick_fd[R]; /* wakes a reader */
bit comes[R];   /* a reader has connected */
bit gone[R];    /* its end of the socket has ended */
bit shut[R];    /* and the writer's */

/* Private memory of the writer's process, under the lock. */
byte count;
byte awaited = AWAITED;
byte first[R]; /* where a reader begins */

/* To check: the visit of each reader whose page is mapped. */
byte mapped[R];
byte visit[R];
bit killed[R];
byte kills;
bit is_in[R]; /* it is on a visit, and may be killed */

/* pthread.h. To take the lock changes a word, so it empties the buffer. */
inline lock(buffer)
{
	atomic { !memory[LOCK] && EMPTY(buffer) -> memory[LOCK] = 1 }
}

inline unlock(buffer)
{
	STORE(buffer, LOCK, 0)
}

/* ---- the writer ---- */

byte write, read_seen; /* struct rb_producer */
byte claimed;
bit let_go[R];
byte stalls;

/* readers.c: look_at_reader, hold_against */
inline look_at_reader(r)
{
	if
	:: memory[PLACE(r)] && !let_go[r] ->
		assert(mapped[r] == memory[PLACE(r)]); /* its page is read */
		seen = memory[READ_INDEX(r)];
		if
		:: write + 1 - seen > SLOTS && stalls < STALLS -> stalls++; let_go[r] = 1; shut[r] = 1
		:: seen < least -> least = seen
		:: else
		fi;
		seen = 0
	:: else
	fi
}

/* readers.c: rb_readers_room */
inline rb_readers_room()
{
	STEP {
#ifndef MUTANT_LOOKS_WITHOUT_THE_LOCK
	lock(of_writer);
#endif
	if
	:: atomic { count >= awaited ->
		awaited = 0;
		least = write;
#ifndef NEWEST
		look_at_reader(0);
#if R > 1
		look_at_reader(1);
#endif
#if R > 2
		look_at_reader(2);
#endif
#endif
		read_seen = least;
		least = 0;
		room = (write + 1 - read_seen <= SLOTS) }
	:: else -> room = 0
	fi;
#ifndef MUTANT_LOOKS_WITHOUT_THE_LOCK
	unlock(of_writer)
#endif
	}
}

/* ends.c: rb_wait_for_room, and wait.c: rb_wait_sleep */
inline rb_wait_for_room()
{
	rb_readers_room();
	do
	:: room -> break
	:: else ->
		STORE(of_writer, SPACE_EVENT, (write >= SLOTS -> write - SLOTS : NEVER));
		FENCE(of_writer); /* (D) */
		rb_readers_room();
		if
		:: room -> break
		:: else
		fi;
		wake_fd; /* the sleep */
		wake_fd = 0;
		rb_readers_room()
	od;
	STORE(of_writer, SPACE_EVENT, NEVER)
}

/* readers.h: rb_more_to_claim. What stays whole: the newest entry, or what a reader has to read. */
#ifdef NEWEST
#define STAYS (write -> write - 1 : 0)
#else
#define STAYS read_seen
#endif

/* readers.h: rb_readers_claim, (I). It may claim one slot more than are written next. */
inline rb_readers_claim(slots)
{
#if defined(NEWEST) || STALLS
	if
#ifdef MUTANT_A_CLAIM_GOES_BACK
	:: claimed != write + slots ->
#else
	:: claimed < write + slots ->
#endif
		claimed = write + slots;
		if
#if defined(MUTANT_CLAIMS_WHAT_IS_TO_BE_READ) || defined(MUTANT_CLAIMS_THE_NEWEST)
		:: claimed++
#else
		:: claimed < STAYS + SLOTS -> claimed++
#endif
		:: skip
		fi;
		STORE(of_writer, CLAIM_INDEX, claimed)
	:: else
	fi
#else
	skip
#endif
}

/* readers.c: wake_reader. The place was loaded before. */
inline wake_reader(r)
{
	STEP {
	place = memory[PLACE(r)];
	if
#ifdef MUTANT_ONLY_ONE_READER_IS_KICKED
	:: kicked -> place = 0
#endif
	:: place ->
		atomic {
			assert(mapped[r] == place); /* its page is read, and its eventfd is used */
			if
			:: memory[DATA_EVENT(r)] == write - 1 -> kick_fd[r] = 1; kicked = 1 /* (B), (E) */
			:: else
			fi;
			place = 0
		}
	:: else
	fi
	}
}

/* readers.c: rb_readers_publish */
inline rb_readers_publish()
{
	atomic { STORE(of_writer, WRITE_INDEX, write + 1); write++ }; /* (A) */
#ifdef NEWEST
	STORE(of_writer, NEWEST_INDEX, write - 1);
	/* move_resume */
	if
	:: atomic { (write - 1) / (SLOTS / 2) != resume / (SLOTS / 2) ->
		resume = write - 1;
		STORE(of_writer, RESUME_INDEX, resume) }
	:: else
	fi;
#endif
	/* begin_walk */
#ifndef MUTANT_WALKS_IN_SECRET
	STORE(of_writer, WALKING, 1);
#endif
#ifndef MUTANT_A_PUBLICATION_WITHOUT_A_FENCE
	FENCE(of_writer); /* (B), (K) */
#endif
	wake_reader(0);
#if R > 1
	wake_reader(1);
#endif
#if R > 2
	wake_reader(2);
#endif
	atomic { STORE(of_writer, WALKING, 0); kicked = 0 } /* end_walk */
}

active proctype Writer()
{
	byte seen, least, place, resume, given_up;
	bit room, kicked;

	d_step {
		place = 0;
		do
		:: place < PRESENT ->
			visit[place] = 1;
			mapped[place] = 1;
			memory[PLACE(place)] = 1;
			memory[DATA_EVENT(place)] = NEVER;
			memory[TOLD(place)] = 1;
			count++;
			place++
		:: else -> break
		od;
		place = 0
	};
	if
	:: AWAITED -> rb_wait_for_room()
	:: else
	fi;
	do
	:: write == N -> break
	:: write < N && given_up < GIVES_UP ->
		/* A reservation of two slots that is written to and given up. */
		given_up++;
		rb_readers_claim(2);
		STORE(of_writer, SLOT(write), NEVER);
		STORE(of_writer, SLOT(write + 1), NEVER)
	:: write < N ->
#ifndef NEWEST
		if
		:: write + 1 - read_seen > SLOTS -> rb_wait_for_room()
		:: else
		fi;
#endif
#ifdef MUTANT_CLAIMS_AFTER_THE_SLOT
		STORE(of_writer, SLOT(write), write);
		rb_readers_claim(1);
#elif defined(MUTANT_A_BATCH_TAKES_THE_WHOLE_RING)
		rb_readers_claim(SLOTS);
		STORE(of_writer, SLOT(write), write);
#else
		rb_readers_claim(1);
		STORE(of_writer, SLOT(write), write);
#endif
		rb_readers_publish()
	od
}

/* ---- who admits readers, and removes them ---- */

/* admission.c: rb_readers_admit, put_in_place */
inline rb_readers_admit(r)
{
#ifndef MUTANT_ADMITS_WITHOUT_THE_LOCK
	lock(of_door);
#endif
	atomic { visit[r]++; mapped[r] = visit[r]; comes[r] = 0 };
#ifdef MUTANT_ADMITS_WITHOUT_THE_LOCK
	first[r] = memory[WRITE_INDEX];
#endif
	atomic { /* start_reader */
#ifdef NEWEST
		first[r] = memory[NEWEST_INDEX];
#elif !defined(MUTANT_ADMITS_WITHOUT_THE_LOCK)
		first[r] = memory[WRITE_INDEX];
#endif
		/* rb_write_first_words */
		memory[READ_INDEX(r)] = first[r];
		memory[DATA_EVENT(r)] = NEVER
	};
#ifndef MUTANT_TOLD_BEFORE_IT_HAS_A_PLACE
	STORE(of_door, PLACE(r), visit[r]); /* (J) */
#endif
	atomic {
		count++;
		STORE(of_door, TOLD(r), 1); /* welcome */
#ifdef MUTANT_TOLD_BEFORE_IT_HAS_A_PLACE
	};
	STORE(of_door, PLACE(r), visit[r]);
	atomic {
#endif
#ifndef MUTANT_ONE_THAT_COMES_KICKS_NOBODY
		wake_fd = 1;
#endif
#ifndef MUTANT_ADMITS_WITHOUT_THE_LOCK
		unlock(of_door)
#endif
	}
}

/* admission.c: rb_readers_remove */
inline rb_readers_remove(r)
{
	lock(of_door);
	atomic {
#ifndef MUTANT_A_DEAD_READER_COUNTS
		STORE(of_door, PLACE(r), 0);
#endif
		count--;
		unlock(of_door)
	};
#ifndef MUTANT_A_REMOVAL_WITHOUT_A_FENCE
	FENCE(of_door); /* (K) */
#endif
#ifndef MUTANT_REMOVES_WHILE_IT_IS_USED
	!memory[WALKING];
#endif
	atomic {
		mapped[r] = 0;
		let_go[r] = 0;
#ifndef MUTANT_A_REMOVAL_KICKS_NOBODY
		wake_fd = 1;
#endif
		memory[READ_INDEX(r)] = 0;
		memory[DATA_EVENT(r)] = 0;
		gone[r] = 0;
		shut[r] = 0;
		is_out[r] = 1
	}
}

bit is_out[R]; /* it has been removed, and may come again */

active proctype Door()
{
end:	do
	:: comes[0] -> rb_readers_admit(0)
	:: gone[0] || (shut[0] && mapped[0]) -> gone[0]; rb_readers_remove(0)
#if R > 1
	:: comes[1] -> rb_readers_admit(1)
	:: gone[1] || (shut[1] && mapped[1]) -> gone[1]; rb_readers_remove(1)
#endif
#if R > 2
	:: comes[2] -> rb_readers_admit(2)
	:: gone[2] || (shut[2] && mapped[2]) -> gone[2]; rb_readers_remove(2)
#endif
	od
}

/* ---- a reader ---- */

/* reader.h: rb_is_whole */
#define IS_WHOLE(claim, index) (claim <= index + SLOTS)

/* ring.c: rb_consumer_release_to */
inline rb_consumer_release_to(r)
{
#ifndef NEWEST
	STEP {
	STORE(of_reader[r], READ_INDEX(r), next); /* (C) */
#ifndef MUTANT_A_RELEASE_WITHOUT_A_FENCE
	FENCE(of_reader[r]); /* (D) */
#endif
	if
	:: memory[SPACE_EVENT] == next - 1 -> wake_fd = 1
	:: else
	fi
	}
#else
	skip
#endif
}

/* reader.c: rb_overtaken, resume_at. Where it goes on is whole, or something newer is there. */
inline rb_overtaken(r, told)
{
	start = memory[told];
	seen = memory[WRITE_INDEX];
	if
	:: start >= next && start <= seen && seen - start <= SLOTS ->
		claim = memory[CLAIM_INDEX];
		if
		:: IS_WHOLE(claim, start) ->
#ifdef MUTANT_ONE_TOO_FEW_IS_MISSED
			missed = missed + start - next - (start > next -> 1 : 0);
#else
			missed = missed + start - next;
#endif
			next = start;
			goes_on = 1
		:: else -> assert(told != NEWEST_INDEX || memory[NEWEST_INDEX] != start)
		fi
	:: else
	fi;
	atomic { start = 0; seen = 0; claim = 0 }
}

/* message_consumer.c: look_at_frame, rb_recv: the entry is copied, and believed if it is whole. */
inline take_entry(r)
{
#ifdef MUTANT_CHECKS_BEFORE_THE_COPY
	claim = memory[CLAIM_INDEX];
	content = memory[SLOT(next)];
#else
	content = memory[SLOT(next)];
#if defined(NEWEST) || STALLS
	claim = memory[CLAIM_INDEX];
#endif
#endif
	if
#ifdef MUTANT_BELIEVES_AFTER_A_GAP
	:: atomic { IS_WHOLE(claim, next) || goes_on ->
#else
	:: atomic { IS_WHOLE(claim, next) ->
#endif
		assert(content == next); /* neither an older one nor a newer one, and not torn */
		next++; content = 0; claim = 0; goes_on = 0;
#ifdef NEWEST
		taken++;
		assert(taken + missed == next - first[r])
#endif
		};
		rb_consumer_release_to(r)
	:: else ->
		atomic { content = 0; claim = 0; goes_on = 0 };
#ifdef NEWEST
		do
		:: goes_on -> break
		:: else ->
			rb_overtaken(r, RESUME_INDEX);
			if
			:: goes_on
			:: else -> rb_overtaken(r, NEWEST_INDEX)
			fi
		od
#else
		assert(let_go[r]); /* nobody else is overwritten */
		break
#endif
	fi
}

active [R] proctype Reader()
{
#ifdef AT_ONCE
	byte r = _pid - 2; /* behind Writer and Door */
#else
	byte r = _pid - 3; /* and Buffers */
#endif
	byte next, taken, missed, visits, content, claim, start, seen;
	bit goes_on, looks;

again:	visits++;
	atomic { is_out[r] = 0; comes[r] = (visits > 1 || r >= PRESENT) };
	memory[TOLD(r)];
	atomic {
		memory[TOLD(r)] = 0;
		next = first[r];
#ifndef NEWEST
		first[r] = 0;
#endif
		is_in[r] = 1
	};
	{
		do
		:: next == N -> break
		:: next < N && memory[WRITE_INDEX] != next -> take_entry(r) /* (A) */
		:: next < N && memory[WRITE_INDEX] == next && shut[r] -> break
		:: next < N && memory[WRITE_INDEX] == next && !shut[r] ->
			STEP {
			STORE(of_reader[r], DATA_EVENT(r), next);
#ifndef MUTANT_A_READER_ARMS_WITHOUT_A_FENCE
			FENCE(of_reader[r]); /* (B) */
#endif
			looks = (memory[WRITE_INDEX] == next)
			};
			if
			:: !looks
			:: looks -> atomic { kick_fd[r] || shut[r] -> kick_fd[r] = 0 } /* the sleep */
			fi;
			looks = 0
		od
	} unless { killed[r] };
	atomic { is_in[r] = 0; killed[r] = 0 };
	/* What it has stored arrives before the end of its socket. */
	atomic {
		EMPTY(of_reader[r]) ->
		gone[r] = 1;
		next = 0; taken = 0; missed = 0; content = 0; claim = 0; start = 0; seen = 0;
		goes_on = 0; looks = 0; kick_fd[r] = 0
	};
	is_out[r];
	if
	:: visits < VISITS -> goto again
	:: else
	fi
}

#if KILLS
active proctype Killer()
{
	byte r;

end:	do
	:: atomic { kills < KILLS && is_in[0] -> kills++; killed[0] = 1 }
#if R > 1
	:: atomic { kills < KILLS && is_in[1] -> kills++; killed[1] = 1 }
#endif
#if R > 2
	:: atomic { kills < KILLS && is_in[2] -> kills++; killed[2] = 1 }
#endif
	od
}
#endif
