/* SPDX-License-Identifier: MIT
 *
 * The readers of one writer, private memory of the writer. readers.c tells the whole.
 */
#ifndef RB_READERS_H
#define RB_READERS_H

#include "channel.h"
#include "ends.h"

/* How many portions of a ring the writer claims one after the other. */
#define RB_PORTIONS 16U

/* What the writer knows of one reader. */
struct rb_reader {
	struct rb_producer reach; /* as a producer knows its consumer: its page, how to kick it */
	struct rb_area page;
	uint64_t seen;          /* its read_index when last looked at, checked */
	uint64_t held_since_ns; /* since when the ring has been full because of it; 0: it is not */
	uint64_t start;         /* the first entry that is for it */
	bool let_go;            /* it no longer counts */
	bool left;              /* it has closed, and holds blocks */
};

struct rb_readers {
	pthread_mutex_t lock; /* for all but `places`, `used`, `walking` */
	struct rb_reader *places[RB_READERS];
	uint64_t used;     /* no place from here on has a reader */
	bool walking;      /* the writer is in `places` without the lock */
	bool newest;       /* the writer waits for nobody */
	uint64_t count;    /* of readers */
	uint64_t awaited;  /* how many the first entry waits for; 0 once they have come */
	uint64_t claimed;  /* what claim_index is */
	uint64_t number;   /* of the next message */
	uint64_t stall_ns; /* a reader that holds the writer back so long is let go; 0: never */
	uint64_t look_again_ns; /* when the first of those will be let go; 0: none will */
	int pool_fd;            /* of the writer's pool, once there is one; 0: none */
};

/* (I) pairs with rb_is_whole in reader.h: a reader that has read a byte of what is written next
 * sees this index, or a later one. Never goes back: a reservation may have been written to, and
 * then published in part. */
static inline void rb_readers_claim_to(struct rb_producer *producer, uint64_t claim)
{
	struct rb_readers *readers = producer->readers;

	if ((int64_t)(claim - readers->claimed) <= 0)
		return;
	readers->claimed = claim;
	rb_store_relaxed(&producer->mine->claim_index, claim);
	rb_fence_release();
}

/* How many slots from `claim` on the writer may claim as well, because nobody needs them any more.
 * What stays whole is what a reader has to read; or the newest entry, until there is a newer one.
 */
static inline uint64_t rb_more_to_claim(const struct rb_producer *producer, uint64_t claim)
{
	uint64_t stays = producer->readers->newest ? rb_load_relaxed(&producer->mine->newest_index)
						   : producer->read_seen;
	uint64_t left = stays + producer->count - claim, portion = producer->count / RB_PORTIONS;

	return left < portion ? left : portion;
}

/* Claims the next slots. The writer claims a portion of the ring at once: each reader looks at
 * claim_index for each entry, and a store takes the cache line away from all of them. */
static inline void rb_readers_claim(struct rb_producer *producer, uint64_t slots)
{
	uint64_t claim = producer->write + slots;

	if ((int64_t)(claim - producer->readers->claimed) > 0)
		rb_readers_claim_to(producer, claim + rb_more_to_claim(producer, claim));
}

/* For a writer that waits: it looks again at that time. */
static inline void rb_look_again_at(struct rb_readers *readers, uint64_t when_ns)
{
	if (!readers->look_again_ns || when_ns < readers->look_again_ns)
		readers->look_again_ns = when_ns;
}

/* readers.c */
bool rb_look_at_reader(const struct rb_producer *producer, struct rb_reader *reader);
void rb_hold_against(struct rb_readers *readers, struct rb_reader *reader, uint64_t now);

/* lent_to_many.c */
bool rb_reader_holds_blocks(const struct rb_reader *reader);

/* The most slots that an entry may take: when the newest are kept, there has to be room for the one
 * before it. */
static inline uint64_t rb_most_slots(const struct rb_producer *producer)
{
	const struct rb_readers *readers = producer->readers;

	return readers && readers->newest ? producer->count / 2 : producer->count;
}

/* Before a frame is published that begins `slots` behind the write index: notes where the last
 * entry begins. With many readers a message has its number in the place of its token, from 1 on;
 * in the first of several pieces that place has the length. */
static inline void rb_number_frame(struct rb_producer *producer, struct rb_frame_header *header,
				   uint64_t slots)
{
	struct rb_readers *readers = producer->readers;
	bool first = !(header->flags & RB_FLAG_CONTINUED), more = header->flags & RB_FLAG_MORE;

	if (!readers)
		return;
	if (first)
		producer->last_entry = producer->write + slots;
	if (!first || !more)
		header->token = readers->number;
	if (!more)
		readers->number++;
}

#endif
