/* SPDX-License-Identifier: MIT
 *
 * Requests and answers: the driver keeps so many in flight, as Driver.map does in Python, and the
 * device answers each.
 *
 *   calls --driver CPU --device CPU [--depth N] [--time NS] [--work NS] [--own-work NS]
 *         [--pause NS] [--polling never|adaptive|always] [--max-poll NS] [--busy 1]
 *         [--before-sleep NS]
 *
 * --work is what the device computes for each request, --own-work what the driver computes for each
 * answer. --pause is what the driver sleeps between two requests, for depth 1. With --busy a
 * process that computes all the time shares the device's CPU. --before-sleep is what both sides do
 * between a look that found nothing and the last look before the sleep.
 */
#include "sides.h"

#define RING_BYTES 131072
#define PAYLOAD 48 /* one slot with its header */
#define DEPTH_MAX 1024

static uint64_t driver_cpu, device_cpu = 1, depth = 1, time_ns = 100000000, work_ns, own_work_ns;
static uint64_t pause_ns, polling = RB_POLL_NEVER, max_poll_ns = 100000, busy;
static uint64_t stamps[DEPTH_MAX];

static void answer_all(rb_channel *device)
{
	struct rb_consumer *consumer = &device->consumer;
	uint8_t payload[PAYLOAD];
	const struct rb_payload answer = {payload, PAYLOAD, NULL};
	int status;

	calibrate_work();
	child_is_ready();
	uint64_t cpu_began = cpu_time_ns();
	for (;;) {
		int flags = rb_take(device, 0);
		if (flags == -EAGAIN) {
			wait_for(device, RB_DATA, polling);
			continue;
		}
		if (flags < 0)
			fail("rb_take failed");
		rb_frame frame = consumer->frame;
		if (frame.token == END_TOKEN)
			break;
		memcpy(payload, consumer->slots + frame.start, PAYLOAD);
		work_for(work_ns);
		while ((status = rb_complete(device, frame.index, &answer, RB_MESSAGE)) == -EAGAIN)
			wait_for(device, RB_SPACE, polling);
		if (status)
			fail("rb_complete failed");
	}
	report->cpu_ns = cpu_time_ns() - cpu_began;
}

static void request(rb_channel *driver, uint64_t token)
{
	uint8_t payload[PAYLOAD] = {0};
	const struct rb_payload request = {payload, PAYLOAD, NULL};
	int status;

	stamps[token % DEPTH_MAX] = clock_ns();
	while ((status = rb_send(driver, &request, token, 0)) == -EAGAIN)
		wait_for(driver, RB_SPACE, polling);
	if (status)
		fail("rb_send failed");
}

/* False when no answer is there. */
static bool reap(rb_channel *driver)
{
	uint8_t answer[PAYLOAD];
	int64_t length = rb_recv(driver, answer, sizeof(answer), 0);

	if (length == -EAGAIN)
		return false;
	if (length < 0)
		fail("rb_recv failed");
	keep_sample(clock_ns() - stamps[driver->consumer.frame.token % DEPTH_MAX]);
	work_for(own_work_ns);
	return true;
}

static uint64_t call_until(rb_channel *driver, uint64_t over)
{
	uint64_t sent = 0, in_flight = 0;

	while (clock_ns() < over || in_flight) {
		while (in_flight < depth && clock_ns() < over) {
			if (pause_ns)
				pause_for(pause_ns);
			/* Never token 0: a message with that gets no answer. */
			request(driver, ++sent);
			in_flight++;
		}
		if (reap(driver))
			in_flight--;
		else if (in_flight)
			wait_for(driver, RB_DATA, polling);
	}
	return sent;
}

/* How many of the looks of both sides that found nothing ended in a sleep. */
static double slept(const struct pair *pair)
{
	const struct rb_counters *driver = &pair->driver->consumer.mine->consumer;
	const struct rb_counters *device = &pair->driver->consumer.theirs->consumer;
	uint64_t found_nothing = driver->stalls + device->stalls;

	return found_nothing ? (double)(driver->sleeps + device->sleeps) / (double)found_nothing
			     : 0;
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu},
		{"--device", &device_cpu},
		{"--depth", &depth},
		{"--time", &time_ns},
		{"--work", &work_ns},
		{"--own-work", &own_work_ns},
		{"--pause", &pause_ns},
		{"--polling", &polling},
		{"--busy", &busy},
		{"--max-poll", &max_poll_ns},
		{"--before-sleep", &before_sleep_ns},
		{NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	if (!depth || depth > DEPTH_MAX)
		fail("--depth is from 1 to 1024");
	begin(60);
	struct pair pair = open_pair(RING_BYTES, 0);
	set_policy(pair.driver, polling, max_poll_ns, false);
	set_policy(pair.device, polling, max_poll_ns, false);
	calibrate_work();
	pid_t computing = busy ? fork_computing(device_cpu) : 0;
	pid_t child = fork_to(device_cpu);
	if (!child) {
		answer_all(pair.device);
		_exit(0);
	}
	pin_to(driver_cpu);
	await_child();
	uint64_t cpu_began = cpu_time_ns(), began = clock_ns();
	uint64_t sent = call_until(pair.driver, began + time_ns);
	double lasted = (double)(clock_ns() - began);
	double driver_ns = (double)(cpu_time_ns() - cpu_began);
	request(pair.driver, END_TOKEN);
	join(child);
	if (computing)
		end(computing);
	uint64_t kicks = pair.driver->producer.mine->producer.kicks_sent +
			 pair.driver->producer.theirs->producer.kicks_sent;
	printf("{\"calls\": %llu, \"rate\": %.1f, \"kicks\": %.5f, \"slept\": %.5f, "
	       "\"driver_share\": %.5f, \"device_share\": %.5f, ",
	       (unsigned long long)sent, (double)sent * 1e9 / lasted, (double)kicks / (double)sent,
	       slept(&pair), driver_ns / lasted, (double)report->cpu_ns / lasted);
	print_times();
	printf("}\n");
	close_pair(&pair);
	return 0;
}
