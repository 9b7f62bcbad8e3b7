/* SPDX-License-Identifier: MIT
 *
 * The private memory of one process about a channel, and the functions that the C files offer each
 * other. Nothing in here is shared memory: our own words are never read back from where the peer
 * can write.
 *
 * Each end is for one thread at a time, but two threads may use the two ends of a side. So the
 * fields of an end, with its poller and its counters, belong to the thread that uses the end. The
 * fields that more than one thread uses are loaded and stored by the functions of ordering.h:
 *
 *     producer.deferral.owed           the producer's thread sets it; the thread that sends the
 *                                      kick, of either end, clears it by an exchange
 *     kicks_sent of the producer       the threads of both ends add to it
 *     producer.reserved, .reservation  the producer's thread writes them; the thread that drops a
 *                                      reservation may give it up
 *     consumer.has_pool, .their_pool   a thread that waits sets them, with the lock; any thread
 *     kicks_sent of the consumer       any thread that returns a block adds to it
 *     consumer.pollable, .in_hand      the consumer's thread writes them, an event loop reads them
 *     asleep                           see sleepers.c
 *     consumer.moderation_...          any thread writes it, for the consumer's next sleep
 *     consumer.chime.watched           any thread sets it
 *     dead, peer_gone, life_seen_ns    the threads of both ends; see life.h
 *     producer.readers                 the producer's thread, and the thread that admits readers;
 *                                      see readers.c
 *     inside of either end, closing    see closing.c
 */
#ifndef RB_CHANNEL_H
#define RB_CHANNEL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "ends.h"
#include "holds.h"
#include "layout.h"
#include "ordering.h"
#include "pace.h"
#include "poller.h"
#include "pool.h"

/* How far ahead both ends fetch the cache lines of slots, in bytes. */
#define RB_AHEAD 512U
#define RB_CACHE_LINE 64U

/* Kicks that a producer holds back, so that one kick is for many entries. */
struct rb_deferral {
	uint64_t block;       /* the caller's name for this block; 0: kicks are not held back */
	bool owed;            /* a kick is due; any thread of this side may send it */
	uint64_t entries;     /* published since the block began, or since the last max_entries */
	uint64_t max_entries; /* after so many entries a due kick is sent; 0: no bound */
	uint64_t max_ns;      /* after so long a timer sends it; 0: no bound */
};

struct rb_producer {
	uint64_t inside; /* the thread that is in a call of this end; 0: none */
	struct rb_control *mine;
	const struct rb_control *theirs;
	uint8_t *slots;
	uint64_t count;           /* of slots, a power of two */
	uint64_t slot_size;       /* in bytes */
	uint64_t ahead;           /* RB_AHEAD in slots */
	uint64_t write;           /* what has been published */
	uint64_t read_seen;       /* the peer's read_index when last looked at, checked */
	uint64_t reservation;     /* counts the reservations */
	uint64_t reserved;        /* slots handed out to be written in place */
	uint64_t needed;          /* slots that the last message found no room for */
	bool in_pieces;           /* a message has been sent in part */
	bool always_kick;         /* kick for every entry: only to show what that costs */
	uint64_t moderated_event; /* the last event that we passed */
	uint64_t moderated_left;  /* entries until the consumer wants a kick; 0: it wants none */
	struct rb_deferral deferral;
	rb_owned timer;         /* for kicks that come later; made for the first of them */
	uint64_t timer_over_ns; /* when the timer is over; 0: it is not set */
	int kick_fd;            /* wakes the peer */
	int control_fd;         /* passes the timer and the pool to the peer; or chimes there */
	bool chimes;            /* it is a pipe's; see chime.c */
	uint64_t chimed_for;    /* the event of the last chime */
	struct rb_pool pool;    /* for payloads by reference */
	struct rb_poller poller;
	struct rb_readers *readers; /* it has many, see readers.c; NULL: one consumer */
	uint64_t last_entry; /* of many: where the last entry begins that is published next */
};

struct rb_area {
	uint8_t *start;
	size_t bytes;
};

/* What the consuming end of a pipe knows of its chimes; see chime.c. */
struct rb_chime {
	bool on;      /* it is a pipe's */
	bool watched; /* the caller sleeps on the control socket */
	bool armed;   /* the ring was empty when chime_event was written */
	uint64_t taken;
};

struct rb_consumer {
	uint64_t inside; /* the thread that is in a call of this end; 0: none */
	struct rb_control *mine;
	const struct rb_control *theirs;
	const uint8_t *slots;
	uint64_t count;
	uint64_t slot_size;
	uint64_t ahead;
	uint64_t read;               /* released and published: all before it may be overwritten */
	uint64_t next;               /* the next to take; what lies in [read, next) is held */
	uint64_t write_seen;         /* the peer's write_index when last looked at, checked */
	struct rb_holds holds;       /* of a message ring: the frames that are held */
	uint64_t lent;               /* slots that the user has in hand; see rb_lend */
	uint64_t pieces_left;        /* bytes still to come of a message that comes in pieces */
	uint64_t longest;            /* the longest message that is taken, in bytes */
	uint64_t moderation_entries; /* when to wake us; see struct rb_control */
	uint64_t moderation_ns;
	bool pollable;   /* the caller sleeps on the descriptors by itself */
	bool in_hand;    /* the caller keeps messages that its event loop does not know of */
	bool timer_lost; /* the peer has passed a timer, and there was no descriptor for it */
	rb_owned timer;  /* the peer's, once the peer has passed it; slept on as well */
	int kick_fd;     /* wakes the peer */
	struct rb_chime chime;
	bool records;         /* it is a ring of records; known of a reader among many only */
	bool one_of_many;     /* the ring has other readers, see reader.c */
	bool takes_newest;    /* and its writer does not wait for them */
	bool skips_to_newest; /* the next take is of the newest entry */
	uint64_t number;      /* of the message that is next, once one was taken; else 0 */
	uint64_t missed;      /* entries that it did not get */
	bool marked;          /* the block of the peeked frame is marked as taken, see reader.c */
	bool has_pool;        /* the peer has passed the pool of its blocks, and it is mapped: */
	struct rb_area their_pool;
	rb_frame frame; /* the last one */
	struct rb_poller poller;
	struct rb_pace pace;
};

/* How a side is closed while threads may be inside of it; closing.c has the rules. */
struct rb_closing {
	pthread_mutex_t lock;
	bool goodbye; /* say goodbye at the end */
	bool over;    /* nobody will use a descriptor any longer */
};

/* The threads of this side that sleep; sleepers.c has the rules. RB_DATA, RB_SPACE, or both, are
 * the ends that a thread sleeps for. */
struct rb_asleep {
	int first;  /* the ends of the thread that sleeps on wake_fd; 0: none */
	int second; /* the ends of the thread that sleeps on an eventfd of its own; 0: none */
	rb_owned data, space;     /* these eventfds, of the consumer and of the producer */
	rb_owned epoll;           /* what an event loop sleeps on; see rb_pollable */
	struct rb_waiter *waiter; /* which waits for data here as well, or NULL; see members.c */
	struct rb_member *member; /* of that */
	int waits_for;            /* RB_DATA or RB_SPACE, what the waiter waits for */
};

/* One sleep of one thread; see sleepers.c. */
struct rb_sleep {
	int want;
	int signal_fd;
	bool first;   /* on wake_fd */
	bool drained; /* wake_fd */
};

/* How long a sleep is whose peer passed a timer that was lost. */
#define RB_SLEEP_WITHOUT_TIMER (10 * RB_MS)

/* How a sleep ended. */
enum { RB_TIME_OVER = 0, RB_KICKED = 1, RB_PASSED = 2 };

struct rb_channel {
	struct rb_producer producer;
	struct rb_consumer consumer;
	int side;
	int control_fd;
	int wake_fd; /* the peer kicks it when this side sleeps */
	struct rb_asleep asleep;
	int dead;              /* 0, -EBADF or -EPROTO; life.h has the rules */
	int peer_gone;         /* 0, -EPIPE or -ECONNRESET */
	uint64_t life_seen_ns; /* when a poll last looked at the control socket */
	uint64_t kicks_seen;   /* kicks_sent when a publish last looked at it */
	bool disowned;         /* in a forked child: the parent owns it */
	uint64_t cpus;         /* of a publication: how many this process may use; else 0 */
	struct rb_closing closing;
	struct rb_area my_area, their_area;
	rb_memory memory; /* where in them the slots lie */
};

static inline uint64_t rb_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* The whole invariant of a ring. The reader holds [read, next), [next, write) has arrived, and both
 * together are at most one lap. If the reader holds nothing, or the caller does not know what it
 * holds, next equals read. */
static inline bool rb_ring_valid(uint64_t read, uint64_t next, uint64_t write, uint64_t count)
{
	return write - read <= count && next - read <= write - read;
}

static inline uint8_t *rb_producer_slot(const struct rb_producer *producer, uint64_t index)
{
	return producer->slots + (index & (producer->count - 1)) * producer->slot_size;
}

static inline const uint8_t *rb_consumer_slot(const struct rb_consumer *consumer, uint64_t index)
{
	return consumer->slots + (index & (consumer->count - 1)) * consumer->slot_size;
}

/* How to wake a consumer for entries that were published. */
enum rb_wake {
	RB_WAKE_NOT,    /* it is awake, or waits for more entries */
	RB_WAKE_NOW,    /* it sleeps */
	RB_WAKE_LATER,  /* it sleeps, and wants to be woken some time after this entry */
	RB_WAKE_ENOUGH, /* it waits for a timer, but there are enough entries now */
};

/* ring.c */
int rb_producer_room(struct rb_producer *producer, uint64_t slots);
enum rb_wake rb_wake_for(struct rb_producer *producer, uint64_t old, uint64_t slots,
			 uint64_t entries);
enum rb_wake rb_producer_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries);
int rb_consumer_available(struct rb_consumer *consumer);
int rb_consumer_look(struct rb_consumer *consumer);
void rb_consumer_hold(struct rb_consumer *consumer, uint64_t slots, uint64_t token, uint64_t bytes);
bool rb_consumer_free_released(struct rb_consumer *consumer);
bool rb_consumer_release(struct rb_consumer *consumer, struct rb_hold *hold);
bool rb_consumer_release_to(struct rb_consumer *consumer, uint64_t read);
bool rb_producer_valid(const struct rb_producer *producer);
bool rb_consumer_valid(const struct rb_consumer *consumer);

/* ends.c */
int rb_wait_for_room(rb_channel *channel, uint64_t slots, int64_t patience_ns);
int rb_wait_for_entry(rb_channel *channel, int64_t patience_ns);
uint64_t rb_begin_reservation(struct rb_producer *producer, uint64_t slots);
int rb_end_reservation(rb_channel *channel, uint64_t reservation, uint64_t slots);

/* message_producer.c */
int rb_send_whole(rb_channel *channel, const struct rb_payload *payload, uint64_t token, int kind,
		  int64_t patience_ns);

/* kick.c */
void rb_kick(int eventfd);
void rb_drain(int fd);
void rb_kick_consumer(struct rb_producer *producer);
void rb_kick_consumer_leaving_timer(struct rb_producer *producer);
void rb_kick_if_owed(struct rb_producer *producer);
void rb_kick_if_owed_leaving_timer(struct rb_producer *producer);
void rb_producer_kick(struct rb_producer *producer, enum rb_wake wake, uint64_t entries);
void rb_producer_ring_full(struct rb_producer *producer);
void rb_kick_producer(struct rb_consumer *consumer);
int rb_timer_make(void);
int rb_take_timer(rb_channel *channel);

/* wait.c */
int rb_look(rb_channel *channel, int want, uint64_t needed);
void rb_count_cpus(rb_channel *channel);
void rb_arm(rb_channel *channel, int want, uint64_t needed);
void rb_disarm(rb_channel *channel, int want);

/* chime.c */
void rb_chime(struct rb_producer *producer);
void rb_chime_begin(rb_channel *channel, uint64_t first);

/* readers.c */
void rb_readers_publish(struct rb_producer *producer, uint64_t slots, uint64_t entries);
int rb_readers_room(struct rb_producer *producer, uint64_t slots);
void rb_readers_kick_owed(struct rb_producer *producer);
void rb_readers_ring_full(struct rb_producer *producer);
bool rb_readers_returned(struct rb_producer *producer, uint32_t block, uint8_t lending,
			 uint64_t index);
void rb_readers_blame(struct rb_producer *producer, uint32_t block, uint8_t lending,
		      uint64_t index);
bool rb_readers_may_overtake(const struct rb_producer *producer, uint64_t index);
void rb_readers_overtake(struct rb_producer *producer, uint64_t index);
int rb_readers_pass_pool(struct rb_producer *producer, int fd);
uint64_t rb_readers_look_again_ns(const struct rb_producer *producer);
void rb_readers_goodbye(struct rb_producer *producer);

/* admission.c */
void rb_readers_free(struct rb_producer *producer);

/* reader.c */
void rb_reader_begin(struct rb_consumer *consumer, uint64_t first);
int rb_overtaken(rb_channel *channel);
void rb_unmark_block(rb_channel *channel);
int rb_mark_block(rb_channel *channel, const rb_block *block);
void rb_go_to_newest(rb_channel *channel);
void rb_note_number(struct rb_consumer *consumer, uint64_t first, uint64_t count);

/* passed.c */
bool rb_hears_let_go(rb_channel *channel);

/* members.c */
void rb_waiter_is_told_of_close(rb_channel *channel);
void rb_waiter_is_told_of_end(rb_channel *channel);
void rb_waiter_is_told_of_block(rb_channel *channel);
void rb_waiter_is_told_of_lost_timer(rb_channel *channel);

/* sleepers.c */
int rb_sleep_for(int fd, int signal_fd, uint64_t timeout_ns);
bool rb_is_watched(const rb_channel *channel);
int rb_begin_sleep(rb_channel *channel, struct rb_sleep *sleep);
int rb_sleep_on(rb_channel *channel, struct rb_sleep *sleep, uint64_t timeout_ns);
void rb_end_sleep(rb_channel *channel, const struct rb_sleep *sleep);
int rb_own_fd(rb_channel *channel, int want);
int rb_let_waiter_watch(rb_channel *channel);
int rb_make_pollable(rb_channel *channel);
int rb_watch_timer(rb_channel *channel);
void rb_close_own(rb_channel *channel);

/* closing.c */
void rb_channel_stop(rb_channel *channel, int goodbye);
int rb_channel_finish(rb_channel *channel, uint64_t wait_ns);
bool rb_channel_left(rb_channel *channel);
void rb_closing_begin(struct rb_closing *closing);
void rb_closing_end(struct rb_closing *closing);

/* channel.c */
int rb_copy_counters(uint64_t *words, const struct rb_counters *counters);
int rb_write_first_words(int fd, uint64_t offset, uint64_t first);

/* segment.c */
uint64_t rb_whole_pages(uint64_t bytes);
int rb_area_map(struct rb_area *mapped, int fd, const struct rb_geometry *geometry, bool writable);
void rb_area_unmap(struct rb_area *area);

#endif
