/* SPDX-License-Identifier: MIT
 *
 * How long an element takes from one process to the other, sent and taken one by one: a message, a
 * record, or an element of boost's queue. Each is copied in, copied out, and carries its number.
 *
 *   one_by_one --driver CPU --device CPU --ring 0|1|2 [--size BYTES] [--time NS]
 *
 * --ring 0 is messages of --size bytes, 1 records, 2 boost (8 or 64 bytes). All rings are of 64 KiB
 * and both sides poll all the time.
 */
#include "queues.h"
#include "sides.h"

enum { MESSAGES = 0, RECORDS = 1, BOOST = 2 };

static uint64_t driver_cpu, device_cpu = 1, ring, size = 48, time_ns = 100000000;
static struct pair pair;
static void *queue; /* boost's */
static uint64_t payload[RB_SLOT / 8];

static bool send_message(uint64_t number)
{
	payload[0] = number;
	return !rb_send(pair.driver, &(struct rb_payload){payload, size, NULL}, number, -1);
}

static bool send_record(uint64_t number)
{
	payload[0] = number;
	return rb_write(pair.driver, payload, 1) == 1;
}

static uint64_t send_until(bool (*send)(uint64_t), uint64_t over)
{
	uint64_t sent = 0;

	while (clock_ns() < over) {
		for (int i = 0; i < QUEUE_STEP; i++) {
			while (!send(sent))
				wait_for(pair.driver, RB_SPACE, RB_POLL_ALWAYS);
			sent++;
		}
	}
	return sent;
}

/* As recv does it: copied out, then given back. */
static bool take_message(uint64_t *into)
{
	struct rb_consumer *consumer = &pair.device->consumer;

	if (rb_peek(pair.device, -1))
		return false;
	memcpy(into, consumer->slots + consumer->frame.start, size);
	rb_skip(pair.device);
	rb_give_back(pair.device);
	return true;
}

/* Copied out as boost's is, then given back. */
static bool take_record(uint64_t *into)
{
	struct rb_consumer *consumer = &pair.device->consumer;

	if (rb_borrow(pair.device, 1, -1) != 1)
		return false;
	memcpy(into, consumer->slots + consumer->frame.start * size, size);
	rb_return(pair.device, 1);
	return true;
}

static void take_all(bool (*take)(uint64_t *), uint64_t *wrong)
{
	uint64_t element[RB_SLOT / 8];

	for (;;) {
		/* Read this before the look. If it is set, all that was sent is in the ring. */
		uint64_t done = __atomic_load_n(&report->done, __ATOMIC_ACQUIRE);
		if (take(element))
			*wrong += element[0] != report->entries++;
		else if (done)
			return;
	}
}

static void open_ring(void)
{
	if (size < 8 || size > RB_SLOT)
		fail("--size is from 8 to 64");
	if (ring == BOOST) {
		queue = mmap(NULL, boost_memory(size), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (queue == MAP_FAILED)
			die("mmap");
		boost_make(queue, size);
		return;
	}
	pair = ring == RECORDS ? open_pair_of(QUEUE_BYTES / size, size, 1, 0)
			       : open_pair(QUEUE_BYTES, 0);
	set_policy(pair.driver, RB_POLL_ALWAYS, 0, false);
	set_policy(pair.device, RB_POLL_ALWAYS, 0, false);
}

static void run_device(void)
{
	uint64_t wrong = 0;

	child_is_ready();
	if (ring == BOOST)
		report->entries = boost_take_all(queue, size, &report->done, &wrong);
	else
		take_all(ring == RECORDS ? take_record : take_message, &wrong);
	report->ended = clock_ns();
	_exit(wrong ? 3 : 0);
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu}, {"--device", &device_cpu}, {"--ring", &ring},
		{"--size", &size},         {"--time", &time_ns},      {NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	begin(60);
	open_ring();
	pid_t child = fork_to(device_cpu);
	if (!child)
		run_device();
	pin_to(driver_cpu);
	await_child();
	uint64_t began = clock_ns(), over = began + time_ns;
	uint64_t sent = ring == BOOST     ? boost_send_until(queue, size, over)
			: ring == RECORDS ? send_until(send_record, over)
					  : send_until(send_message, over);
	__atomic_store_n(&report->done, 1, __ATOMIC_RELEASE);
	join(child);
	if (report->entries != sent)
		fail("elements were lost");
	printf("{\"ns\": %.2f}\n", (double)(report->ended - began) / (double)sent);
	if (ring != BOOST)
		close_pair(&pair);
	return 0;
}
