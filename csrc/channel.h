/* SPDX-License-Identifier: MIT
 *
 * What one process keeps to itself about a channel, and what the C files offer each other.
 * Nothing in here is shared memory: what the peer can write is never read back as our own.
 */
#ifndef RB_CHANNEL_H
#define RB_CHANNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "layout.h"
#include "ordering.h"

/* Messages up to this size are copied out and released in one call. */
#define RB_SCRATCH 4096U

static_assert(RB_SCRATCH < 10000, "four digits");

/* What one call takes of many messages, at most. */
#define RB_BATCH_BYTES 65536U
#define RB_BATCH_MESSAGES 1024U
/* Room for the size of one in text, and an s. */
#define RB_BATCH_SIZE 5U

/* How long an end looks before it sleeps, and what it learnt from how that went. */
struct rb_poller {
	int polling;        /* RB_POLL_NEVER, RB_POLL_ADAPTIVE, RB_POLL_ALWAYS */
	uint64_t max_ns;    /* bound of the adaptive budget */
	uint64_t budget_ns; /* what it polls for now */
	uint64_t began_ns;  /* when the wait that goes on now began */
	unsigned int vain;  /* polls for the longest budget in a row that found nothing */
	unsigned int rest;  /* waits that sleep at once, until polling is tried again */
	uint64_t max_share; /* of the time that polling may take, of RB_SHARE_ALL */
	int64_t credit_ns;  /* what that share has left of the time until credited_ns */
	uint64_t credited_ns;
};

/* Kicks that a producer holds back for a while, to send one for many entries. */
struct rb_deferral {
	uint64_t block;       /* the caller's name for this while; 0: kicks are not held back */
	bool owed;            /* the consumer sleeps; any thread of this side may pay */
	uint64_t entries;     /* published since it began, or since there were max_entries */
	uint64_t max_entries; /* a kick that is owed is sent after so many; 0: no bound */
	uint64_t max_ns;      /* and by a timer after so long; 0: no bound */
};

struct rb_producer {
	struct rb_control *mine;
	const struct rb_control *theirs;
	uint8_t *slots;
	uint64_t count;           /* of slots, a power of two */
	uint64_t slot_size;       /* in bytes */
	uint64_t write;           /* what has been published */
	uint64_t read_seen;       /* the peer's read_index when last looked at, checked */
	uint64_t reservation;     /* counts them */
	uint64_t reserved;        /* slots handed out to be written in place */
	uint64_t needed;          /* slots that the last message turned away wanted */
	uint64_t last_token;      /* of the last message that was published whole */
	bool in_pieces;           /* a message has been sent in part */
	bool always_kick;         /* a kick for every entry: only to show what that costs */
	uint64_t moderated_event; /* what a consumer with moderation had armed when we passed it */
	uint64_t moderated_left;  /* entries until it wants a kick; 0: it wants none */
	struct rb_deferral deferral;
	uint64_t timer_over_ns; /* when it is, if it has not been taken back */
	int data_fd;            /* kicked when the consumer sleeps */
	int timer_fd;           /* a kick that comes later */
	int space_fd;           /* slept on when the ring is full */
	struct rb_poller poller;
};

/* A frame that was taken and not yet released, kept at the index of its first slot. */
struct rb_hold {
	uint64_t token;
	uint32_t slots; /* 0: no frame starts here */
	uint32_t bytes;
	bool released;
};

/* Messages that were copied out and released together. */
struct rb_batch {
	uint64_t messages;                    /* 0: the last call took none so */
	uint32_t ends[RB_BATCH_MESSAGES + 1]; /* message i lies in [ends[i], ends[i + 1]) */
	uint64_t tokens[RB_BATCH_MESSAGES];
	uint16_t kinds[RB_BATCH_MESSAGES];
	uint64_t format_bytes;
	char format[RB_BATCH_MESSAGES * RB_BATCH_SIZE]; /* the size of each, for Python's struct */
	uint8_t bytes[RB_BATCH_BYTES];
};

struct rb_consumer {
	struct rb_control *mine;
	const struct rb_control *theirs;
	const uint8_t *slots;
	uint64_t count;
	uint64_t slot_size;
	uint64_t read;               /* released and published: all before it may be overwritten */
	uint64_t next;               /* the next to take; what lies in [read, next) is held */
	uint64_t write_seen;         /* the peer's write_index when last looked at, checked */
	struct rb_hold *holds;       /* of a message ring */
	uint64_t held;               /* frames that were taken and not yet released */
	uint64_t given;              /* frames handed to the caller; of records, released */
	bool given_copy;             /* the last one was copied out and released */
	uint64_t pieces_left;        /* bytes of the message of which the last frame was a piece */
	uint64_t moderation_entries; /* how we want to be woken; see struct rb_control */
	uint64_t moderation_ns;
	bool pollable;  /* the caller sleeps on the descriptors by itself */
	bool in_hand;   /* and has messages that were taken before it was told of them */
	int data_fd;    /* slept on when the ring is empty */
	int timer_fd;   /* slept on as well */
	int space_fd;   /* kicked when the producer sleeps */
	rb_frame frame; /* the last one */
	uint8_t scratch[RB_SCRATCH];
	struct rb_batch batch;
	struct rb_poller poller;
};

struct rb_channel {
	struct rb_producer producer;
	struct rb_consumer consumer;
	int side;
	int control_fd;
	int dead;              /* 0, -EBADF or -EPROTO: no call does anything from then on */
	int peer_gone;         /* 0, -EPIPE or -ECONNRESET: it will publish no more */
	uint64_t life_seen_ns; /* when the control socket was last looked at */
	uint64_t kicks_seen;   /* kicks sent when it was looked at because of them */
	struct rb_area {
		uint8_t *start;
		size_t bytes;
	} my_area, their_area;
};

static inline void rb_count(uint64_t *counter, uint64_t more)
{
	/* Only we write it; relaxed, so that the peer may read it at any time. */
	rb_store_relaxed(counter, *counter + more);
}

static inline uint8_t *rb_producer_slot(const struct rb_producer *producer, uint64_t index)
{
	return producer->slots + (index & (producer->count - 1)) * producer->slot_size;
}

/* What a consumer wants to hear of entries that were published. */
enum rb_wake {
	RB_WAKE_NOT,    /* it is awake, or waits for more entries */
	RB_WAKE_NOW,    /* it sleeps */
	RB_WAKE_LATER,  /* it sleeps, and wants to be woken a while after this entry */
	RB_WAKE_ENOUGH, /* it was to be woken later, but has enough entries now */
};

/* ring.c */
int rb_producer_room(struct rb_producer *producer, uint64_t slots);
enum rb_wake rb_producer_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries);
int rb_consumer_available(struct rb_consumer *consumer);
int rb_consumer_look(struct rb_consumer *consumer);
void rb_consumer_hold(struct rb_consumer *consumer, uint64_t slots, uint64_t token, uint32_t bytes);
bool rb_consumer_holds(const struct rb_consumer *consumer, uint64_t index);
void rb_consumer_mark_released(struct rb_consumer *consumer, uint64_t index);
void rb_consumer_skip(struct rb_consumer *consumer, uint64_t slots, uint32_t bytes);
bool rb_consumer_free_released(struct rb_consumer *consumer);
bool rb_consumer_release(struct rb_consumer *consumer, uint64_t index);
bool rb_consumer_release_to(struct rb_consumer *consumer, uint64_t read);

/* ends.c */
int rb_corrupt(rb_channel *channel);
int rb_may_produce(rb_channel *channel);
int rb_make_room(rb_channel *channel, uint64_t slots, int64_t patience_ns);
void rb_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries, uint64_t bytes);
uint64_t rb_begin_reservation(struct rb_producer *producer, uint64_t slots);
int rb_end_reservation(rb_channel *channel, uint64_t reservation, uint64_t slots);
int rb_await_entry(rb_channel *channel, int64_t patience_ns);

/* wait.c */
void rb_producer_kick(struct rb_producer *producer, enum rb_wake wake, uint64_t entries);
void rb_producer_ring_full(struct rb_producer *producer);
void rb_consumer_kick(struct rb_consumer *consumer, bool asleep);
void rb_look_for_peer(rb_channel *channel);

#endif
