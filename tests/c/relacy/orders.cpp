/* SPDX-License-Identifier: MIT
 *
 * The memory orders of the real functions against the whole C11 model, by Relacy: two threads that
 * fall asleep and wake each other over ring.c, kick.c, wait.c, sleepers.c, pool.c and blocks.c of
 * csrc/ as they are.
 * A lost wake-up is a deadlock; contents that are not ordered by the indices are a data race.
 *
 *   orders TEST bound N     every execution with at most N preemptions
 *   orders TEST random N    N random ones
 *
 * prints the execution that went wrong, if any, then "RESULT after N". It has to fail when built
 * with WITHOUT_RING_FENCE, WITHOUT_WAIT_FENCE, WITHOUT_ACQUIRE or WITHOUT_RELEASE, terms with
 * WITHOUT_EVENT_ACQUIRE or WITHOUT_EVENT_RELEASE, good_part with WITHOUT_TIMEOUT. As data uses (A)
 * and (B) only, space (C) and (D), and block (G) and (H), each of them tells that its own letter is
 * needed; terms is for (E). whole is for (I), and has to fail with WITHOUT_CLAIM_FENCE or
 * WITHOUT_CHECK_FENCE.
 */
#include "modelled_memory.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "channel.h"

#ifdef WITHOUT_RING_FENCE
#define rb_fence_full() ((void)0)
#endif
#ifdef WITHOUT_ACQUIRE
#define rb_load_acquire(word) rb_load_relaxed(word)
#define rb_load_acquire_byte(byte) __atomic_load_n(byte, __ATOMIC_RELAXED)
#endif
#define DATA_EVENT (&modelled::controls[modelled::CONSUMER].data_event)
#ifdef WITHOUT_EVENT_ACQUIRE
#define rb_load_acquire(word) ((word) == DATA_EVENT ? rb_load_relaxed(word) : rb_load_acquire(word))
#endif
#ifdef WITHOUT_EVENT_RELEASE
#define rb_store_release(word, value)                                                              \
	((word) == DATA_EVENT ? rb_store_relaxed(word, value) : rb_store_release(word, value))
#endif
#ifdef WITHOUT_RELEASE
#define rb_store_release(word, value) rb_store_relaxed(word, value)
#define rb_store_release_byte(byte, value) __atomic_store_n(byte, value, __ATOMIC_RELAXED)
#endif
#ifdef WITHOUT_CLAIM_FENCE
#define rb_fence_release() ((void)0)
#endif
#ifdef WITHOUT_CHECK_FENCE
#define rb_fence_acquire() ((void)0)
#endif
#include "holds.c"
#include "ring.c"
#include "blocks.c"
#include "pool.c"
#undef rb_fence_full
#include "kick.c"
#include "quick.h"

#ifdef WITHOUT_WAIT_FENCE
#define rb_fence_full() ((void)0)
#endif
#ifdef WITHOUT_TIMEOUT
#undef ppoll
#define ppoll(fds, count, timeout, signals) modelled::ppoll(fds, count, NULL)
#endif
#include "wait.c"

/* Of owned.c, control.c, waiter.c, memory.c and passed.c. A descriptor that is made or watched, and
 * a message, would be the model's fault. */
static int no_descriptor()
{
	modelled::fail("descriptor to be made");
	return -EMFILE;
}

int rb_owned_fd(const rb_owned *owned)
{
	return owned->fd ? owned->fd : modelled::NONE;
}

void rb_owned_close(rb_owned *)
{
}
int rb_owned_eventfd(rb_owned *)
{
	return no_descriptor();
}
int rb_owned_timer(rb_owned *)
{
	return no_descriptor();
}
int rb_owned_epoll(rb_owned *)
{
	return no_descriptor();
}
int rb_socket_send(int, const char *, size_t, const int *, size_t)
{
	return no_descriptor();
}
int rb_socket_receive(int, char *, size_t, rb_owned **, int, int *)
{
	return no_descriptor();
}
int rb_memory_make(rb_owned *, int)
{
	return no_descriptor();
}
int rb_memory_seal_for_writer(int)
{
	return no_descriptor();
}
int rb_pass(struct rb_producer *, char, int)
{
	return no_descriptor();
}
int rb_take_passed(rb_channel *)
{
	return no_descriptor();
}
int rb_epoll_watch(int, int)
{
	return no_descriptor();
}
/* Of segment.c and ends.c */
uint64_t rb_whole_pages(uint64_t bytes)
{
	return bytes;
}
int rb_wait_for_room(rb_channel *, uint64_t, int64_t)
{
	return no_descriptor();
}
uint64_t rb_begin_reservation(struct rb_producer *, uint64_t)
{
	return 0;
}
/* Of chime.c: it is no pipe. */
void rb_chime(struct rb_producer *)
{
}
/* Of readers.c, reader.c and lent_to_many.c: one reader, which sleeps by none of these. */
int rb_readers_room(struct rb_producer *, uint64_t)
{
	return no_descriptor();
}
void rb_readers_publish(struct rb_producer *, uint64_t, uint64_t)
{
}
void rb_readers_kick_owed(struct rb_producer *)
{
}
void rb_readers_ring_full(struct rb_producer *)
{
}
uint64_t rb_readers_look_again_ns(const struct rb_producer *)
{
	return 0;
}
bool rb_readers_returned(struct rb_producer *, uint32_t, uint8_t, uint64_t)
{
	return no_descriptor();
}
void rb_readers_blame(struct rb_producer *, uint32_t, uint8_t, uint64_t)
{
}
bool rb_readers_may_overtake(const struct rb_producer *, uint64_t)
{
	return no_descriptor();
}
void rb_readers_overtake(struct rb_producer *, uint64_t)
{
}
int rb_readers_pass_pool(struct rb_producer *, int)
{
	return no_descriptor();
}
bool rb_hears_let_go(rb_channel *)
{
	return false;
}
int rb_mark_block(rb_channel *, const rb_block *)
{
	return no_descriptor();
}
int rb_torn(rb_channel *)
{
	return no_descriptor();
}
/* Of members.c: there is no waiter. */
int rb_waiter_watches(rb_waiter *, rb_member *, int)
{
	return no_descriptor();
}
void rb_waiter_is_told_of_block(rb_channel *)
{
}
void rb_waiter_is_told_of_lost_timer(rb_channel *)
{
}
#include "sleepers.c"

/* Near the end of the numbers, so that the indices wrap. */
static const uint64_t FIRST = UINT64_MAX;

/* Relacy wants no state that outlives an execution; these are set anew, and nobody else's. They are
 * too large for its stacks. */
static rb_channel driver, device;
static struct rb_block_note notes[RB_BLOCKS + 1];
static struct rb_readers readers;

/* One ring with both its ends; each test uses it in its own way. */
struct ring : rl::test_suite<ring, 2> {
	modelled::memory memory;
	rl::var<uint64_t> slots[4];
	struct rb_hold holds[4];
	rl::atomic<uint64_t> entry[2]; /* the only slot of `whole` */

	void before();
	void thread(unsigned side);

	void open(rb_channel *channel, int side, uint64_t write, uint64_t read)
	{
		rb_producer *producer = &channel->producer;
		rb_consumer *consumer = &channel->consumer;

		*channel = rb_channel(); /* which polls by looking once */
		channel->control_fd = modelled::NONE;
		producer->mine = consumer->mine = &modelled::controls[side];
		producer->theirs = consumer->theirs = &modelled::controls[!side];
		producer->write = consumer->next = consumer->write_seen = write;
		producer->read_seen = consumer->read = read;
		channel->wake_fd =
			side == modelled::PRODUCER ? modelled::PRODUCER_FD : modelled::CONSUMER_FD;
		producer->kick_fd = modelled::CONSUMER_FD;
		consumer->kick_fd = modelled::PRODUCER_FD;
		producer->timer.fd = modelled::CONSUMER_FD;
		consumer->holds.circle = holds;
		consumer->holds.size = sizeof(holds) / sizeof(*holds);
	}

	/* A ring of so many slots, so many entries of which have been taken and not released. */
	void begin(uint64_t count, uint64_t entries)
	{
		memory.begin(FIRST + entries, FIRST);
		open(&driver, modelled::PRODUCER, FIRST + entries, FIRST);
		open(&device, modelled::CONSUMER, FIRST + entries, FIRST);
		driver.producer.count = device.consumer.count = count;
		for (uint64_t entry = 0; entry < entries; entry++) {
			slot(entry)($) = entry;
			rb_holds_add(&device.consumer.holds, FIRST + entry, 0, 0);
		}
	}

	rl::var<uint64_t> &slot(uint64_t entry)
	{
		return slots[(FIRST + entry) % driver.producer.count];
	}

	/* As every caller waits: first poll, then sleep, for as long as it takes. */
	void wait(rb_channel *channel, int want)
	{
		int ready = rb_wait_poll(channel, want, -1);

		if (!ready)
			ready = rb_wait_sleep(channel, want, -1, modelled::NONE);
		RL_ASSERT(ready == want);
	}

	void wait_for_room(uint64_t needed)
	{
		driver.producer.needed = needed;
		wait(&driver, RB_SPACE);
	}

	void publish(uint64_t entry)
	{
		slot(entry)($) = entry;
		rb_producer_kick(&driver.producer, rb_producer_publish(&driver.producer, 1, 1), 1);
	}

	void take(uint64_t entry)
	{
		wait(&device, RB_DATA);
		RL_ASSERT(device.consumer.next == FIRST + entry);
		rb_consumer_hold(&device.consumer, 1, 0, 0);
		RL_ASSERT(slot(entry)($) == entry);
	}

	void release(uint64_t entry)
	{
		rb_consumer *consumer = &device.consumer;
		struct rb_hold *hold = rb_holds_find(&consumer->holds, FIRST + entry);

		rb_kick_producer_if(consumer, rb_consumer_release(consumer, hold));
	}

	/* data: the consumer sleeps for each of two entries. Nothing is released, so that (D)
	 * cannot stand in for (B). */
	void publish_two()
	{
		publish(0);
		publish(1);
	}

	void take_two()
	{
		take(0);
		take(1);
	}

	/* space, the mirror image: the ring is full, and the producer sleeps for each of two slots,
	 * which it then writes and does not publish. */
	void refill_two()
	{
		wait_for_room(1);
		slot(2)($) = 2;
		wait_for_room(2);
		slot(3)($) = 3;
	}

	void release_two()
	{
		for (uint64_t entry = 0; entry < 2; entry++) {
			RL_ASSERT(slot(entry)($) == entry);
			release(entry);
		}
	}

	/* both: in a ring of one slot, each side sleeps for the other. */
	void send_two()
	{
		for (uint64_t entry = 0; entry < 2; entry++) {
			wait_for_room(1);
			publish(entry);
		}
	}

	void receive_two()
	{
		for (uint64_t entry = 0; entry < 2; entry++) {
			take(entry);
			release(entry);
		}
	}

	/* terms: the consumer says for the first time how it wants to be woken. A producer
	 * that sees that it has armed has to see that as well. */
	void publish_on_terms()
	{
		slot(0)($) = 0;
		enum rb_wake wake = rb_producer_publish(&driver.producer, 1, 1);
		RL_ASSERT(wake == RB_WAKE_NOT || wake == RB_WAKE_LATER);
		rb_producer_kick(&driver.producer, wake, 1);
	}

	void take_on_terms()
	{
		rb_channel_moderation(&device, 2, 1);
		take(0);
	}

	/* good_part: a producer that needs one slot of four first sleeps for two, for a bounded
	 * time. Only one comes: it has to look when the time is over, and to sleep for that one. */
	void refill_one()
	{
		wait_for_room(1);
		slot(4)($) = 4;
	}

	void release_one()
	{
		RL_ASSERT(slot(0)($) == 0);
		release(0);
	}

	/* block: a pool of one block, which the receiver has. The sender sleeps until it comes
	 * back, and writes it. A slot stands for its content. */
	void lend_the_pool()
	{
		struct rb_pool *pool = &driver.producer.pool;

		memory.has_blocks = true;
		notes[RB_BLOCKS] = {.start = 0, .stop = 0, .before = 0, .after = 0, .lending = 0};
		notes[0] = {.start = 0,
			    .stop = 1,
			    .before = RB_BLOCKS,
			    .after = RB_BLOCKS,
			    .lending = 1};
		pool->notes = notes;
		pool->unused = 1;
		pool->reserved = pool->filling = RB_BLOCKS;
		pool->bytes = pool->needed = 1;
		slots[0]($) = 0;
	}

	void write_block()
	{
		wait_for_room(1);
		slots[0]($) = 1;
	}

	/* whole: a ring of one slot, which the writer writes twice and waits for nobody. The slot
	 * is of two words that the reader may read while they are written; it believes them if they
	 * are whole afterwards. */
	void wait_for_nobody()
	{
		readers = rb_readers();
		readers.newest = true;
		readers.claimed = FIRST;
		driver.producer.readers = &readers;
		device.consumer.one_of_many = device.consumer.takes_newest = true;
		modelled::find(&modelled::controls[modelled::PRODUCER].claim_index)
			->store(FIRST, rl::mo_relaxed, $);
		for (rl::atomic<uint64_t> &word : entry)
			word.store(UINT64_MAX, rl::mo_relaxed, $);
	}

	void overwrite()
	{
		for (uint64_t number = 0; number < 2; number++) {
			rb_claim(&driver.producer, 1);
			for (rl::atomic<uint64_t> &word : entry)
				word.store(number, rl::mo_relaxed, $);
			rb_producer_publish(&driver.producer, 1, 1);
		}
	}

	void believe_what_is_whole()
	{
		rb_consumer *consumer = &device.consumer;

		for (uint64_t number = 0; number < 2; number++) {
			if (!rb_consumer_look(consumer))
				return;
			uint64_t one = entry[0].load(rl::mo_relaxed, $);
			uint64_t other = entry[1].load(rl::mo_relaxed, $);
			if (rb_is_whole(consumer, consumer->next))
				RL_ASSERT(one == number && other == number);
			consumer->next++;
		}
	}

	void return_block()
	{
		rb_block block = {NULL, 1, 0, 1};

		RL_ASSERT(slots[0]($) == 0);
		rb_block_return(&device, &block);
	}
};

static const struct test {
	const char *name;
	uint64_t count;   /* of slots */
	uint64_t entries; /* in them to begin with */
	void (ring::*sides[2])();
} tests[] = {
	{"data", 2, 0, {&ring::publish_two, &ring::take_two}},
	{"space", 2, 2, {&ring::refill_two, &ring::release_two}},
	{"both", 1, 0, {&ring::send_two, &ring::receive_two}},
	{"terms", 2, 0, {&ring::publish_on_terms, &ring::take_on_terms}},
	{"good_part", 4, 4, {&ring::refill_one, &ring::release_one}},
	{"block", 2, 0, {&ring::write_block, &ring::return_block}},
	{"whole", 1, 0, {&ring::overwrite, &ring::believe_what_is_whole}},
};

static const test *chosen;

void ring::before()
{
	begin(chosen->count, chosen->entries);
	if (!strcmp(chosen->name, "block"))
		lend_the_pool();
	if (!strcmp(chosen->name, "whole"))
		wait_for_nobody();
}

void ring::thread(unsigned side)
{
	(this->*chosen->sides[side])();
}

int main(int argc, char **argv)
{
	for (const test &test : tests)
		if (argc == 4 && !strcmp(argv[1], test.name))
			chosen = &test;
	if (!chosen) {
		fprintf(stderr,
			"orders {data,space,both,terms,good_part,block,whole} {bound,random} N\n");
		return 2;
	}
	rl::test_params params;
	rl::ostringstream progress;
	params.progress_stream = &progress;
	params.search_type = strcmp(argv[2], "bound") ? rl::sched_random : rl::sched_bound;
	params.context_bound = (unsigned)strtoul(argv[3], NULL, 0);
	params.iteration_count = params.context_bound;
	rl::simulate<ring>(params);
	printf("%s after %llu\n", rl::test_result_str(params.test_result),
	       (unsigned long long)params.stop_iteration);
	return 0;
}
