/* SPDX-License-Identifier: MIT
 *
 * A driver and a device with two threads each, one for each end: as a program sends on
 * driver.doorbell in one thread and receives on driver.interrupt in another. A sanitizer watches
 * what the two ends of a side share. The program itself finds lost wake-ups.
 *
 *   four_threads [ROUNDS [SEED]]
 *
 * Each round is a new channel, with or without polling, moderation and an event loop. Kicks are
 * held back at random. The device goes away in the middle, with a goodbye or without. Exits with 1
 * when a message is wrong or missing, an end does not notice, or a sleep lasts for 10 seconds.
 */
#include <poll.h>
#include <pthread.h>

#include "life.h"
#include "pair.h"

#define HANG_NS 10000000000LL
#define RING_BYTES 4096
#define LONGEST 1900
#define ENTRIES 2000 /* that the device takes before it goes away */

/* What one thread keeps. */
struct end {
	const char *name;
	rb_channel *channel;
	uint64_t random;
	uint64_t entries;
	int status; /* that ended it */
	bool event_loop;
	pthread_t thread;
};

static bool device_leaves; /* the device's consumer tells the device's producer */

static uint64_t next_random(struct end *end)
{
	uint64_t x = end->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return end->random = x;
}

static void fail(const struct end *end, const char *what, long long got)
{
	fprintf(stderr, "FAILED: %s: %s: %lld, after %llu entries\n", end->name, what, got,
		(unsigned long long)end->entries);
	exit(1);
}

/* ---- waiting ---- */

/* As an event loop does: the kernel says when there is something to take. */
static int wait_in_event_loop(struct end *end)
{
	struct pollfd all = {.fd = rb_pollable_fd(end->channel), .events = POLLIN};

	return poll(&all, 1, (int)(HANG_NS / 1000000)) > 0 ? RB_DATA : 0;
}

/* 0 when the caller is to try again, or -errno when nothing will come. */
static int wait_for(struct end *end, int want)
{
	int ready;

	if (want == RB_DATA && end->event_loop) {
		ready = wait_in_event_loop(end);
	} else {
		ready = rb_wait_poll(end->channel, want, -1);
		if (!ready)
			ready = rb_wait_sleep(end->channel, want, HANG_NS, -1);
	}
	if (!ready)
		fail(end, "LOST WAKE-UP, waiting for", want);
	return ready < 0 ? ready : 0;
}

/* ---- the four loops ---- */

static void coalesce_at_random(struct end *end)
{
	uint64_t chance = next_random(end);

	if (chance % 8)
		return;
	if (end->channel->producer.deferral.block)
		rb_defer_end(end->channel, 1);
	else
		rb_defer_begin(end->channel, 1, chance / 8 % 5, chance % 16 ? 0 : 20000);
}

/* Copied into the ring, or written in place; returns 0 or -errno. */
static int send_one(struct end *end, const uint64_t *payload, uint64_t length, bool in_place)
{
	rb_channel *channel = end->channel;

	if (!in_place)
		return rb_send(channel, &(struct rb_payload){payload, length, NULL}, 0, 0);
	void *start;
	int status = rb_reserve(channel, length, &start);
	if (status)
		return status;
	uint64_t reservation = rb_reservation(channel);
	memcpy(start, payload, length);
	return rb_commit(channel, reservation, length, 0);
}

/* A thread is inside of its end as long as it uses it, so that no other one closes the end's
 * descriptors meanwhile. */
static void enter(struct end *end, uint64_t *inside)
{
	if (!rb_enter(inside))
		fail(end, "somebody else is inside", 0);
}

static void *produce(void *argument)
{
	struct end *end = argument;
	uint64_t *inside = &end->channel->producer.inside;
	bool leaves = end->channel->side == RB_DEVICE;
	uint64_t payload[RING_BYTES / 8] = {0};

	enter(end, inside);
	while (!end->status && !(leaves && __atomic_load_n(&device_leaves, __ATOMIC_ACQUIRE))) {
		uint64_t chance = next_random(end);
		uint64_t length = 8 + (chance % 8 ? chance / 8 % 100 : chance / 8 % LONGEST);
		payload[0] = payload[(length - 8) / 8] = end->entries;
		coalesce_at_random(end);
		int status;
		while ((status = send_one(end, payload, length, chance % 16 == 3)) == -EAGAIN) {
			status = wait_for(end, RB_SPACE);
			if (status)
				break;
		}
		end->status = status;
		end->entries += !status;
	}
	rb_defer_end(end->channel, 1);
	rb_leave(end->channel, inside);
	return NULL;
}

static void *consume(void *argument)
{
	struct end *end = argument;
	uint64_t *inside = &end->channel->consumer.inside;
	uint64_t payload[RING_BYTES / 8];

	enter(end, inside);
	while (!end->status) {
		int64_t length = rb_recv(end->channel, payload, sizeof(payload), 0);
		if (length == -EAGAIN) {
			end->status = wait_for(end, RB_DATA);
		} else if (length < 0) {
			end->status = (int)length;
		} else {
			if (payload[0] != end->entries ||
			    payload[((uint64_t)length - 8) / 8] != end->entries)
				fail(end, "content", (long long)payload[0]);
			if (++end->entries == ENTRIES && end->channel->side == RB_DEVICE)
				__atomic_store_n(&device_leaves, true, __ATOMIC_RELEASE);
		}
	}
	rb_leave(end->channel, inside);
	return NULL;
}

/* ---- rounds ---- */

static void start(struct end *end, const char *name, rb_channel *channel, uint64_t random,
		  void *(*loop)(void *))
{
	*end = (struct end){.name = name, .channel = channel, .random = random * 2654435761U + 1};
	end->event_loop = loop == consume && channel->consumer.pollable;
	if (pthread_create(&end->thread, NULL, loop, end))
		die("pthread_create");
}

static void set_up(rb_channel *channel, uint64_t chance)
{
	rb_channel_policy(channel, chance % 2 ? RB_POLL_NEVER : RB_POLL_ADAPTIVE, 5000,
			  RB_SHARE_ALL, 0);
	rb_channel_moderation(channel, chance % 3 ? 1 : 4, 20000);
	if (chance % 5 < 2)
		rb_pollable(channel);
}

static void expect(const struct end *end, int status)
{
	if (end->status != status)
		fail(end, "ended with", end->status);
}

static uint64_t run_round(uint64_t round, uint64_t seed)
{
	struct pair pair = open_pair(RING_BYTES, round % 2 ? UINT64_MAX - 100 : 0);
	struct end to_device, from_device, from_driver, to_driver;
	bool goodbye = round % 3;

	share_mapping(&pair);
	set_up(pair.driver, round);
	set_up(pair.device, round + seed);
	device_leaves = false;
	start(&to_device, "driver.doorbell", pair.driver, seed, produce);
	start(&from_device, "driver.interrupt", pair.driver, seed + 1, consume);
	start(&from_driver, "device.doorbell", pair.device, seed + 2, consume);
	start(&to_driver, "device.interrupt", pair.device, seed + 3, produce);

	/* The device's consumer goes on while its side ends. */
	pthread_join(to_driver.thread, NULL);
	if (goodbye)
		rb_channel_close(pair.device, 1, HANG_NS);
	shutdown(pair.control[1], SHUT_RDWR);
	pthread_join(to_device.thread, NULL);
	pthread_join(from_device.thread, NULL);
	pthread_join(from_driver.thread, NULL);

	expect(&to_driver, 0);
	expect(&to_device, goodbye ? -EPIPE : -ECONNRESET);
	expect(&from_device, goodbye ? -EPIPE : -ECONNRESET);
	expect(&from_driver, goodbye ? -EBADF : -ECONNRESET);
	if (from_device.entries != to_driver.entries)
		fail(&from_device, "of all that was sent, it took", (long long)from_device.entries);
	close_pair(&pair);
	return from_device.entries + from_driver.entries;
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : 30;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	uint64_t entries = 0;

	for (uint64_t round = 0; round < rounds; round++)
		entries += run_round(round, seed + 7 * round);
	printf("rounds %llu entries %llu\n", (unsigned long long)rounds,
	       (unsigned long long)entries);
	return 0;
}
