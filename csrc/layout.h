/* SPDX-License-Identifier: MIT
 *
 * The whole shared-memory format. docs/layout.md says the same in tables, and a test compares the
 * two.
 *
 *   header         written once by the driver, read with pread before anything is mapped; then the
 *                  text that describes the records, then nothing up to a whole page
 *   driver area    control page, then the doorbell ring's slots
 *   device area    control page, then the interrupt ring's slots
 *
 * A side that sends large payloads by reference has a pool of blocks besides, in memory of its own:
 * see pool.c.
 *
 * Each side writes its own area only and maps the other one read-only. All words are little-endian
 * on the machines we run on; both sides are on the same machine in any case.
 */
#ifndef RB_LAYOUT_H
#define RB_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#define RB_MAGIC 0x6c6c6562676e6972ULL /* "ringbell" */
#define RB_LAYOUT_VERSION 5U

/* A word that one side writes and the other reads has this many bytes for itself: two cache lines,
 * because x86 prefetches pairs of lines and some Arm cores have lines of 128. */
#ifndef RB_LINE /* bench/c/line.c takes the padding out */
#define RB_LINE 128
#endif

/* The unit that an index of a message ring counts: one cache line. */
#define RB_SLOT 64U

/* The most readers of one writer at the same time. */
#define RB_READERS 64U

/* The most blocks of a pool that are lent at the same time. */
#define RB_BLOCKS 2048U

/* The doorbell ring has many readers, each with a control page in memory of its own (readers.h).
 * And of these: the writer does not wait for them. */
#define RB_FEATURE_READERS 1U
#define RB_FEATURE_NEWEST 2U

/* Kinds of rings: frames of any length on slots of RB_SLOT bytes, or a record in each slot. */
#define RB_RING_MESSAGES 1U
#define RB_RING_RECORDS 2U

struct rb_geometry {
	uint64_t control_offset; /* of the area's control page, from the segment's start */
	uint64_t slots_offset;   /* of the first slot, from the segment's start */
	uint64_t slots;          /* how many, a power of two */
	uint32_t slot_size;      /* in bytes */
	uint32_t ring_kind;
};

static_assert(sizeof(struct rb_geometry) == 32, "rb_geometry");
static_assert(offsetof(struct rb_geometry, control_offset) == 0, "control_offset");
static_assert(offsetof(struct rb_geometry, slots_offset) == 8, "slots_offset");
static_assert(offsetof(struct rb_geometry, slots) == 16, "slots");
static_assert(offsetof(struct rb_geometry, slot_size) == 24, "slot_size");
static_assert(offsetof(struct rb_geometry, ring_kind) == 28, "ring_kind");

struct rb_header {
	uint64_t magic;
	uint32_t version;
	uint32_t ready;        /* 1 once all else is written */
	uint64_t features;     /* RB_FEATURE_...; unknown bits are refused */
	uint64_t segment_size; /* in bytes, header included */
	uint64_t first_index;  /* where all four indices start */
	struct rb_geometry doorbell;
	struct rb_geometry interrupt;
	uint64_t dtype_bytes; /* of the text that follows; 0: the doorbell ring has messages */
};

static_assert(sizeof(struct rb_header) == 112, "rb_header");
static_assert(offsetof(struct rb_header, magic) == 0, "magic");
static_assert(offsetof(struct rb_header, version) == 8, "version");
static_assert(offsetof(struct rb_header, ready) == 12, "ready");
static_assert(offsetof(struct rb_header, features) == 16, "features");
static_assert(offsetof(struct rb_header, segment_size) == 24, "segment_size");
static_assert(offsetof(struct rb_header, first_index) == 32, "first_index");
static_assert(offsetof(struct rb_header, doorbell) == 40, "doorbell");
static_assert(offsetof(struct rb_header, interrupt) == 72, "interrupt");
static_assert(offsetof(struct rb_header, dtype_bytes) == 104, "dtype_bytes");

/* What one end of a ring has done since the channel was opened. */
struct rb_counters {
	uint64_t entries;          /* frames published, or released */
	uint64_t bytes;            /* of payload in them */
	uint64_t kicks_sent;       /* eventfd writes to wake the other end */
	uint64_t kicks_saved;      /* index moves without a kick */
	uint64_t kicks_late;       /* times that a timer was set to wake the other end */
	uint64_t sleeps;           /* times it asked the kernel to wait */
	uint64_t wakeups;          /* sleeps ended with something to do */
	uint64_t spurious_wakeups; /* sleeps ended by a kick with nothing to do */
	uint64_t stalls;           /* times a producer found the ring full, a consumer empty */
	uint64_t polls_found;      /* waits that polling ended, without a sleep */
	uint64_t polls_missed;     /* waits that polling did not end */
	uint64_t polls_capped;  /* waits that polled less than the budget, for the share's sake */
	uint64_t polled_ns;     /* time spent polling */
	uint64_t budget_ns;     /* what the next wait may poll for */
	uint64_t budget_grown;  /* times the budget grew */
	uint64_t budget_shrunk; /* times it shrank, or the next waits were told not to poll */
};

static_assert(sizeof(struct rb_counters) == 128, "rb_counters");
static_assert(offsetof(struct rb_counters, entries) == 0, "entries");
static_assert(offsetof(struct rb_counters, bytes) == 8, "bytes");
static_assert(offsetof(struct rb_counters, kicks_sent) == 16, "kicks_sent");
static_assert(offsetof(struct rb_counters, kicks_saved) == 24, "kicks_saved");
static_assert(offsetof(struct rb_counters, kicks_late) == 32, "kicks_late");
static_assert(offsetof(struct rb_counters, sleeps) == 40, "sleeps");
static_assert(offsetof(struct rb_counters, wakeups) == 48, "wakeups");
static_assert(offsetof(struct rb_counters, spurious_wakeups) == 56, "spurious_wakeups");
static_assert(offsetof(struct rb_counters, stalls) == 64, "stalls");
static_assert(offsetof(struct rb_counters, polls_found) == 72, "polls_found");
static_assert(offsetof(struct rb_counters, polls_missed) == 80, "polls_missed");
static_assert(offsetof(struct rb_counters, polls_capped) == 88, "polls_capped");
static_assert(offsetof(struct rb_counters, polled_ns) == 96, "polled_ns");
static_assert(offsetof(struct rb_counters, budget_ns) == 104, "budget_ns");
static_assert(offsetof(struct rb_counters, budget_grown) == 112, "budget_grown");
static_assert(offsetof(struct rb_counters, budget_shrunk) == 120, "budget_shrunk");

/* Everything that one side writes, except slots. The driver's write_index is `dwi` and its
 * read_index `iri`; the device's write_index is `iwi` and its read_index `dri`. */
struct rb_control {
	alignas(RB_LINE) uint64_t write_index; /* of the ring this side produces */
	uint64_t newest_index;                 /* of many readers: where the newest entry begins */
	uint64_t resume_index; /* and one about half the ring older, for who fell behind */
	uint64_t readers;      /* of many readers: how many there are */
	alignas(RB_LINE) uint64_t space_event; /* kick me when the reader passes this index */
	uint64_t claim_index; /* of many readers: the writer may write the slots before this one */
	alignas(RB_LINE) uint64_t read_index; /* of the ring this side consumes */
	alignas(RB_LINE) uint64_t data_event; /* kick me when the writer passes this index */
	uint64_t moderation_entries;          /* 2 or more: kick me only after that many entries */
	uint64_t moderation_ns;               /* or that long after the first of them */
	uint64_t chime_event; /* of a pipe: chime when the writer passes this index */
	alignas(RB_LINE) struct rb_counters producer;
	alignas(RB_LINE) struct rb_counters consumer;
	alignas(RB_LINE) uint64_t goodbye; /* once this side has closed: 1 + what it was lent */
	uint64_t claimed; /* of a pipe: the process that uses this side; 0: none yet */
	alignas(RB_LINE) uint64_t chimed_index; /* of a pipe: see chime.c */
	uint64_t chimes;                        /* of a pipe: how many this side has sent */
	alignas(RB_LINE) uint64_t block_event;  /* not 0: kick me when a block of mine comes back */
	uint64_t blocks_sent;                   /* payloads that this side sent by reference */
	uint64_t blocks_copied;                 /* and those as large that went through the ring */
	uint64_t blocks_lent;                   /* that this side knows of, for who looks */
	/* For each block of the peer's pool: the last lending of it that has ended. */
	alignas(RB_LINE) uint8_t blocks_returned[RB_BLOCKS];
};

static_assert(sizeof(struct rb_control) <= 4096, "a control page");

#if RB_LINE == 128
static_assert(sizeof(struct rb_control) == 3200, "rb_control");
static_assert(offsetof(struct rb_control, write_index) == 0, "write_index");
static_assert(offsetof(struct rb_control, newest_index) == 8, "newest_index");
static_assert(offsetof(struct rb_control, resume_index) == 16, "resume_index");
static_assert(offsetof(struct rb_control, readers) == 24, "readers");
static_assert(offsetof(struct rb_control, space_event) == 128, "space_event");
static_assert(offsetof(struct rb_control, claim_index) == 136, "claim_index");
static_assert(offsetof(struct rb_control, read_index) == 256, "read_index");
static_assert(offsetof(struct rb_control, data_event) == 384, "data_event");
static_assert(offsetof(struct rb_control, moderation_entries) == 392, "moderation_entries");
static_assert(offsetof(struct rb_control, moderation_ns) == 400, "moderation_ns");
static_assert(offsetof(struct rb_control, chime_event) == 408, "chime_event");
static_assert(offsetof(struct rb_control, producer) == 512, "producer");
static_assert(offsetof(struct rb_control, consumer) == 640, "consumer");
static_assert(offsetof(struct rb_control, goodbye) == 768, "goodbye");
static_assert(offsetof(struct rb_control, claimed) == 776, "claimed");
static_assert(offsetof(struct rb_control, chimed_index) == 896, "chimed_index");
static_assert(offsetof(struct rb_control, chimes) == 904, "chimes");
static_assert(offsetof(struct rb_control, block_event) == 1024, "block_event");
static_assert(offsetof(struct rb_control, blocks_sent) == 1032, "blocks_sent");
static_assert(offsetof(struct rb_control, blocks_copied) == 1040, "blocks_copied");
static_assert(offsetof(struct rb_control, blocks_lent) == 1048, "blocks_lent");
static_assert(offsetof(struct rb_control, blocks_returned) == 1152, "blocks_returned");
#endif

/* Starts every frame of a message ring, at the start of a slot; the payload follows at once. */
struct rb_frame_header {
	uint32_t length; /* of the payload, in bytes */
	uint16_t kind;   /* RB_MESSAGE or RB_FAILURE */
	uint16_t flags;  /* RB_FLAG_MORE, RB_FLAG_CONTINUED, RB_FLAG_BLOCK */
	uint64_t token;
};

static_assert(sizeof(struct rb_frame_header) == 16, "rb_frame_header");
static_assert(offsetof(struct rb_frame_header, length) == 0, "length");
static_assert(offsetof(struct rb_frame_header, kind) == 4, "kind");
static_assert(offsetof(struct rb_frame_header, flags) == 6, "flags");
static_assert(offsetof(struct rb_frame_header, token) == 8, "token");

/* The payload of a frame with RB_FLAG_BLOCK: where the message lies. */
struct rb_block_place {
	uint64_t offset;  /* from the start of the sender's pool, in bytes */
	uint64_t length;  /* of the message, in bytes */
	uint32_t block;   /* its number, below RB_BLOCKS */
	uint32_t lending; /* from 1 to 255: what to store in blocks_returned in the end */
};

static_assert(sizeof(struct rb_block_place) == 24, "rb_block_place");
static_assert(offsetof(struct rb_block_place, offset) == 0, "offset");
static_assert(offsetof(struct rb_block_place, length) == 8, "length");
static_assert(offsetof(struct rb_block_place, block) == 16, "block");
static_assert(offsetof(struct rb_block_place, lending) == 20, "lending");

#endif
