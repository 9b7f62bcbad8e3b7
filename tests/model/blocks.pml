/* SPDX-License-Identifier: MIT
 *
 * Blocks of memory that a sender lends, and that come back in any order: the steps of csrc/pool.c and
 * csrc/blocks.c, and of csrc/wait.c around them. See README.md beside this file.
 *
 * A sender lends N blocks of a pool of two, and may need both at once. Two threads of the receiver
 * read them and return them. Each of the three has a store buffer, which is emptied at any time. The
 * ring has room for all frames, and what is in it is seen at once: rings.pml has the rest.
 */
#ifndef N
#define N 4
#endif

#define LENDINGS 3 /* a byte of the code has 255 */

/* Shared memory. */
byte returned[2];
bit block_event;
bit wake_fd;

/* The store buffers. */
chan of_sender = [2] of { bit };          /* block_event */
chan of_holder[2] = [2] of { byte, byte }; /* block, lending */

/* The sender's own. */
bit in_use[2];
byte lending[2];

bit reading[2]; /* to check: a holder reads the block */
chan frames = [N] of { byte, byte };

active proctype Buffers()
{
	byte block, number, event;

end:	do
	:: atomic { of_sender?event -> block_event = event }
	:: atomic { of_holder[0]?block, number -> returned[block] = number }
	:: atomic { of_holder[1]?block, number -> returned[block] = number }
	od
}

inline reclaim()
{
	atomic {
		if
		:: in_use[0] && returned[0] == lending[0] -> in_use[0] = 0
		:: else
		fi
	};
	atomic {
		if
		:: in_use[1] && returned[1] == lending[1] -> in_use[1] = 0
		:: else
		fi
	}
}

/* One block is free, or both if both are needed. */
#define HAS_BLOCK(needed) (in_use[0] + in_use[1] + needed <= 2)

inline rb_arm()
{
	of_sender!1;
#ifndef MUTANT_NO_FENCE_H_SENDER
	empty(of_sender)
#endif
}

/* wait.c: rb_wait_sleep */
inline wait_for_block(needed)
{
	do
	:: rb_arm();
#ifndef MUTANT_NO_LOOK_AFTER_ARMING_FOR_A_BLOCK
		reclaim();
		if
		:: HAS_BLOCK(needed) -> break
		:: else
		fi;
#endif
		wake_fd; /* the sleep */
		wake_fd = 0;
		reclaim();
		if
		:: HAS_BLOCK(needed) -> break
		:: else
		fi
	od;
	of_sender!0
}

inline lend(block)
{
	atomic {
		assert(!reading[block]);
		in_use[block] = 1;
#ifdef MUTANT_EVERY_LENDING_IS_THE_SAME
		lending[block] = 1;
#else
		lending[block] = lending[block] % LENDINGS + 1;
#endif
		reading[block] = 1;
		frames!block, lending[block]
	}
}

active proctype BlockSender()
{
	byte sent, needed;

	do
	:: sent >= N -> break
	:: sent < N ->
		if
		:: needed = 1
		:: sent + 2 <= N -> needed = 2
		fi;
		reclaim();
		if
		:: HAS_BLOCK(needed)
		:: else -> wait_for_block(needed)
		fi;
		sent = sent + needed;
		if
		:: needed == 2 -> lend(0); lend(1)
		:: needed == 1 && !in_use[0] -> lend(0)
		:: needed == 1 && in_use[0] -> lend(1)
		fi;
		needed = 0
	od
}

inline rb_block_return(me, block, number)
{
	of_holder[me]!block, number;
#ifndef MUTANT_NO_FENCE_H_RECEIVER
	empty(of_holder[me]);
#endif
	if
#ifndef MUTANT_A_RETURN_KICKS_NOBODY
	:: block_event -> wake_fd = 1
#endif
	:: else
	fi
}

active [2] proctype Holder()
{
	byte block, number, me = _pid - 2; /* behind Buffers and BlockSender */

end:	do
	:: frames?block, number ->
#ifdef MUTANT_RETURNED_WHILE_READ
		rb_block_return(me, block, number);
		reading[block] = 0
#else
		reading[block] = 0;
		rb_block_return(me, block, number)
#endif
	od
}
