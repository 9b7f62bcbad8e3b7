/* SPDX-License-Identifier: MIT
 *
 * What the padding between the words of the two sides is for. Built twice: with RB_LINE as it is,
 * and with RB_LINE 8, where the same struct has no padding.
 *
 *   line --driver CPU --device CPU [--batch N] [--time NS]
 *
 * A real channel has one control block for each side, so `dwi` and `dri` are in different pages
 * anyway. Here both sides of the doorbell ring use one block: the driver writes the words of a
 * producer in it and the device those of a consumer, and nothing but the padding differs. Both poll
 * all the time. Entries of one slot go one by one, or in batches.
 */
#include "sides.h"

#define RING_BYTES 65536
#define PAYLOAD 48
#define BATCH_MAX 64

static uint64_t driver_cpu, device_cpu = 1, batch = 1, time_ns = 100000000;

static void share_block(struct pair *pair)
{
	struct rb_control *block = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (block == MAP_FAILED)
		die("mmap");
	block->data_event = block->space_event = UINT64_MAX; /* nobody sleeps */
	pair->driver->producer.mine = block;
	pair->driver->producer.theirs = block;
	pair->device->consumer.mine = block;
	pair->device->consumer.theirs = block;
}

static int64_t take(rb_channel *device)
{
	uint8_t message[PAYLOAD];
	struct rb_place found[BATCH_MAX];

	if (batch == 1)
		return rb_recv(device, message, sizeof(message), -1) < 0 ? 0 : 1;
	if (rb_peek(device, -1))
		return 0;
	uint64_t messages = rb_find_arrived(device, found, batch);
	for (uint64_t i = 0; i < messages; i++)
		memcpy(message, found[i].start, PAYLOAD);
	rb_skip_found(device, found, messages);
	rb_give_back(device);
	return (int64_t)messages;
}

static void take_all(rb_channel *device)
{
	child_is_ready();
	for (;;) {
		/* Read this before the look. If it is set, all that was sent is in the ring. */
		uint64_t done = __atomic_load_n(&report->done, __ATOMIC_ACQUIRE);
		int64_t messages = take(device);
		report->entries += (uint64_t)messages;
		if (!messages && done)
			break;
	}
}

static uint64_t send_until(rb_channel *driver, uint64_t over)
{
	static const char payloads[BATCH_MAX * PAYLOAD];
	struct rb_payload messages[BATCH_MAX];
	uint64_t sent = 0;

	for (int i = 0; i < BATCH_MAX; i++)
		messages[i] = (struct rb_payload){payloads + i * PAYLOAD, PAYLOAD, NULL};
	while (clock_ns() < over) {
		for (uint64_t i = 0; i < BATCH_MAX; i += batch) {
			int64_t more = batch == 1 ? rb_send(driver, messages, 1, -1) + 1
						  : rb_send_many(driver, messages, batch);
			if (more > 0)
				sent += (uint64_t)more;
			else
				wait_for(driver, RB_SPACE, RB_POLL_ALWAYS);
		}
	}
	return sent;
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu},
		{"--device", &device_cpu},
		{"--batch", &batch},
		{"--time", &time_ns},
		{NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	if (!batch || batch > BATCH_MAX)
		fail("--batch is from 1 to 64");
	begin(60);
	struct pair pair = open_pair(RING_BYTES, 0);
	set_policy(pair.driver, RB_POLL_ALWAYS, 0, false);
	set_policy(pair.device, RB_POLL_ALWAYS, 0, false);
	share_block(&pair);
	pid_t child = fork_to(device_cpu);
	if (!child) {
		take_all(pair.device);
		_exit(0);
	}
	pin_to(driver_cpu);
	await_child();
	uint64_t began = clock_ns();
	uint64_t sent = send_until(pair.driver, began + time_ns);
	double lasted = (double)(clock_ns() - began);
	__atomic_store_n(&report->done, 1, __ATOMIC_RELEASE);
	join(child);
	if (report->entries != sent)
		fail("entries were lost");
	printf("{\"line\": %d, \"rate\": %.1f}\n", RB_LINE, (double)sent * 1e9 / lasted);
	close_pair(&pair);
	return 0;
}
