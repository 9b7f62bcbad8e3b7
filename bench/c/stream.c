/* SPDX-License-Identifier: MIT
 *
 * One way, at a given pace: the driver sends entries at times that it has chosen before, whatever
 * the device does, and the device works for some time on each. Latency counts from the intended
 * time, so it includes the time in the ring and the time that a slow driver was late.
 *
 *   stream --driver CPU --device CPU [--gap NS] [--random 1] [--time NS] [--work NS]
 *          [--polling never|adaptive|always] [--max-poll NS]
 *          [--always-kick 1] [--compare 1] [--defer ENTRIES] [--defer-delay NS]
 *          [--moderation ENTRIES] [--moderation-delay NS]
 *
 * --gap is the time between two entries: exactly, or on average with exponential times (--random);
 * 0 is as fast as the ring takes them. --compare is the first sketch of the scheme: the driver
 * kicks when `dwi == dri` was the case before its entry, and the device sleeps without saying so.
 */
#include <math.h>

#include "sides.h"

#define RING_BYTES 65536
#define PAYLOAD 48 /* one slot with its header */

static uint64_t driver_cpu, device_cpu = 1, gap_ns = 10000, at_random, time_ns = 100000000, work_ns;
static uint64_t polling = RB_POLL_NEVER, max_poll_ns = 100000;
static uint64_t always_kick, compare, defer_entries, defer_ns, moderation_entries, moderation_ns;

/* ---- the device ---- */

/* Sleeps without arming. Pair (D) takes the place of (B): the device stores dri and fences before
 * it looks at dwi, and the driver stores dwi and fences before it looks at dri. */
static void sleep_unsaid(rb_channel *device)
{
	rb_count(&device->consumer.mine->consumer.sleeps, 1);
	if (!rb_consumer_available(&device->consumer))
		sleep_for_data(device);
}

static void take_all(rb_channel *device)
{
	struct rb_consumer *consumer = &device->consumer;
	const rb_frame *frame = &consumer->frame;
	uint64_t due;

	calibrate_work();
	child_is_ready();
	uint64_t cpu_began = cpu_time_ns();
	for (;;) {
		int flags = rb_take(device, 0);
		if (flags == -EAGAIN) {
			if (compare)
				sleep_unsaid(device);
			else
				wait_for(device, RB_DATA, polling);
			continue;
		}
		if (flags < 0)
			fail("rb_take failed");
		if (frame->token == END_TOKEN)
			break;
		memcpy(&due, consumer->slots + frame->start, sizeof(due));
		keep_sample(clock_ns() - due);
		work_for(work_ns);
		report->entries++;
		rb_release(device, frame->index);
	}
	report->ended = clock_ns();
	report->cpu_ns = cpu_time_ns() - cpu_began;
}

/* ---- the driver ---- */

static uint64_t next_gap(void)
{
	static uint64_t x = 88172645463325252ULL;

	if (!at_random)
		return gap_ns;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	double chance = ((double)(x >> 11) + 0.5) / (double)(1ULL << 53);
	return (uint64_t)(-log(chance) * (double)gap_ns);
}

static void send_one(rb_channel *driver, uint64_t due, uint64_t token)
{
	struct rb_producer *producer = &driver->producer;
	uint8_t payload[PAYLOAD] = {0};
	const struct rb_payload message = {payload, sizeof(payload), NULL};
	int status;

	memcpy(payload, &due, sizeof(due));
	uint64_t old = producer->write;
	while ((status = rb_send(driver, &message, token, 0)) == -EAGAIN)
		wait_for(driver, RB_SPACE, polling);
	if (status)
		fail("rb_send failed");
	/* This is after the fence of rb_producer_publish. */
	if (compare && rb_load_acquire(&producer->theirs->read_index) == old)
		rb_kick_consumer(producer);
}

static uint64_t send_all(rb_channel *driver, uint64_t began)
{
	uint64_t due = began, sent = 0, now;

	if (defer_entries)
		rb_defer_begin(driver, 1, defer_entries, defer_ns);
	while ((now = clock_ns()) < began + time_ns) {
		if (gap_ns && now < due) {
			rb_cpu_relax();
			continue;
		}
		send_one(driver, gap_ns ? due : now, ++sent);
		due += next_gap();
	}
	rb_defer_end(driver, 1);
	send_one(driver, now, END_TOKEN);
	return sent;
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu},
		{"--device", &device_cpu},
		{"--gap", &gap_ns},
		{"--random", &at_random},
		{"--time", &time_ns},
		{"--work", &work_ns},
		{"--polling", &polling},
		{"--max-poll", &max_poll_ns},
		{"--always-kick", &always_kick},
		{"--compare", &compare},
		{"--defer", &defer_entries},
		{"--defer-delay", &defer_ns},
		{"--moderation", &moderation_entries},
		{"--moderation-delay", &moderation_ns},
		{NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	begin(60);
	struct pair pair = open_pair(RING_BYTES, 0);
	set_policy(pair.driver, polling, max_poll_ns, always_kick);
	set_policy(pair.device, polling, max_poll_ns, false);
	rb_channel_moderation(pair.device, moderation_entries, moderation_ns);
	pid_t child = fork_to(device_cpu);
	if (!child) {
		take_all(pair.device);
		_exit(0);
	}
	pin_to(driver_cpu);
	await_child();
	uint64_t began = clock_ns();
	uint64_t sent = send_all(pair.driver, began);
	join(child);
	if (report->entries != sent)
		fail("entries were lost");
	const struct rb_counters *driver = &pair.driver->producer.mine->producer;
	const struct rb_counters *device = &pair.driver->producer.theirs->consumer;
	double lasted = (double)(report->ended - began);
	printf("{\"entries\": %llu, \"rate\": %.1f, \"kicks\": %llu, \"timers\": %llu, "
	       "\"sleeps\": %llu, \"cpu_share\": %.5f, \"cpu_us\": %.4f, ",
	       (unsigned long long)sent, (double)sent * 1e9 / lasted,
	       (unsigned long long)driver->kicks_sent, (unsigned long long)driver->kicks_late,
	       (unsigned long long)device->sleeps, (double)report->cpu_ns / lasted,
	       (double)report->cpu_ns / 1e3 / (double)sent);
	print_times();
	printf("}\n");
	close_pair(&pair);
	return 0;
}
