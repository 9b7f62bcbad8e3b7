/* SPDX-License-Identifier: MIT
 *
 * The functions for each message or batch. The ends in python/ use them, and C programs may, too.
 * They return what the functions of api.h return.
 */
#ifndef RB_ENDS_H
#define RB_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

enum { RB_MESSAGE = 1, RB_FAILURE = 2 };          /* kinds of frames */
enum { RB_FLAG_MORE = 1, RB_FLAG_CONTINUED = 2 }; /* flags of frames: fragments */
enum { RB_FLAG_BLOCK = 4 };                       /* the message lies in a block */
/* Never in a ring: rb_peek sets it on the first frame of a message longer than rb_channel_limit.
 * The caller may still take the message; otherwise it skips all of the message's frames. */
enum { RB_FLAG_TOO_LONG = 1 << 15 };

/* A message in a block of the peer's; it stays until rb_block_return. */
typedef struct {
	const uint8_t *start;
	uint64_t length;
	uint32_t number;
	uint32_t lending;
} rb_block;

/* The frame that rb_peek or rb_take found last. start and stop bound its payload within the memory
 * of rb_channel_theirs. */
typedef struct {
	uint64_t index;
	uint64_t token;
	uint64_t start;
	uint64_t stop;
	uint16_t kind;
	uint16_t flags;
	rb_block block; /* with RB_FLAG_BLOCK; the payload of the frame only says where that is */
} rb_frame;

/* Bytes in one place: a message that was found, or a part of one to be sent. */
struct rb_place {
	const void *start;
	uint64_t length;
};

/* A message to be sent. It may lie in several places. Then `start` is not used, and the parts have
 * `length` bytes in all. */
struct rb_payload {
	const void *start;
	uint64_t length;
	const struct rb_place *parts; /* NULL: it lies in one place */
};

/* message_producer.c */
int rb_send(rb_channel *channel, const struct rb_payload *payload, uint64_t token,
	    int64_t patience_ns);
int64_t rb_send_many(rb_channel *channel, const struct rb_payload *payloads, uint64_t count);
int64_t rb_send_piece(rb_channel *channel, const struct rb_payload *payload, uint64_t done,
		      uint64_t token, int kind);
void rb_send_abandon(rb_channel *channel);
uint64_t rb_reserve_max(rb_channel *channel);
int rb_reserve(rb_channel *channel, uint64_t length, void **payload);
uint64_t rb_reservation(rb_channel *channel);
int rb_commit(rb_channel *channel, uint64_t reservation, uint64_t length, uint64_t token);
void rb_unreserve(rb_channel *channel, uint64_t reservation);

/* message_consumer.c. The caller looks at a frame first (rb_peek). Then it takes the frame: after
 * a copy (rb_skip), or to keep it in place (rb_hold). */
int rb_peek(rb_channel *channel, int64_t patience_ns);
uint64_t rb_frame_slots(const rb_channel *channel);
uint64_t rb_find_arrived(rb_channel *channel, struct rb_place *found, uint64_t most);
void rb_skip_found(rb_channel *channel, const struct rb_place *found, uint64_t count);
void rb_takes_newest(rb_channel *channel, int newest);
void rb_skip(rb_channel *channel);
void rb_give_back(rb_channel *channel);
void rb_hold(rb_channel *channel);
int64_t rb_recv(rb_channel *channel, void *payload, uint64_t size, int64_t patience_ns);
int rb_take(rb_channel *channel, int64_t patience_ns);
bool rb_holds(rb_channel *channel, uint64_t index);
int rb_release(rb_channel *channel, uint64_t index);
int rb_complete(rb_channel *channel, uint64_t index, const struct rb_payload *payload, int kind);
int rb_all_held(rb_channel *channel);

/* blocks.c */
bool rb_fills_block(const rb_channel *channel);
/* Whoever takes a frame with RB_FLAG_BLOCK returns the block, before or after the frame's
 * own slot. */
void rb_block_return(rb_channel *channel, const rb_block *block);

/* record.c: records on a ring, one in a slot. Records lent and not returned are lent again. */
int64_t rb_write(rb_channel *channel, const void *records, uint64_t count);
int64_t rb_reserve_records(rb_channel *channel, uint64_t count);
int rb_commit_records(rb_channel *channel, uint64_t reservation, uint64_t count);
int64_t rb_borrow(rb_channel *channel, uint64_t most, int64_t patience_ns);
int rb_return(rb_channel *channel, uint64_t count);

/* chime.c: the socket of a pipe as a descriptor for event loops */
void rb_chime_watch(rb_channel *channel);
void rb_chime_settle(rb_channel *channel);
int rb_pipe_ready(rb_channel *channel);

/* ends.c */
uint64_t rb_arrived(rb_channel *channel);

int rb_defer_begin(rb_channel *channel, uint64_t block, uint64_t max_entries,
		   uint64_t max_delay_ns);
void rb_defer_end(rb_channel *channel, uint64_t block);
void rb_defer_drop(rb_channel *channel, uint64_t block);
void rb_in_hand(rb_channel *channel, int in_hand);
int rb_glance(rb_channel *channel, int want);

#endif
