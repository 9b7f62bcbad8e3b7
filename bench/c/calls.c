/* SPDX-License-Identifier: MIT
 *
 * Requests and answers: the driver keeps so many in flight, the device answers each.
 *
 *   calls --driver CPU --device CPU [--depth N] [--time NS] [--work NS] [--own-work NS]
 *         [--pause NS] [--polling never|adaptive|always] [--max-poll NS] [--busy 1] [--in-turn 1]
 *
 * --work is what the device computes for each request, --own-work what the driver computes for each
 * answer. --pause is what the driver sleeps between two requests, for depth 1. With --busy a
 * process that computes all the time shares the device's CPU. With --in-turn the driver sends a
 * request after each answer that it takes, as a map does; else it takes all that have arrived.
 */
#include "sides.h"

#define RING_BYTES 131072
#define PAYLOAD 48 /* one slot with its header */
#define DEPTH_MAX 1024

static uint64_t driver_cpu, device_cpu = 1, depth = 1, time_ns = 100000000, work_ns, own_work_ns;
static uint64_t pause_ns, polling = RB_POLL_NEVER, max_poll_ns = 100000, busy, in_turn;
static uint64_t stamps[DEPTH_MAX];

static void answer_all(rb_channel *device)
{
	struct rb_consumer *consumer = &device->consumer;
	uint8_t payload[PAYLOAD];
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
		while ((status = rb_complete(device, frame.index, payload, PAYLOAD, RB_MESSAGE)) ==
		       -EAGAIN)
			wait_for(device, RB_SPACE, polling);
		if (status)
			fail("rb_complete failed");
	}
	report->cpu_ns = cpu_time_ns() - cpu_began;
}

static void request(rb_channel *driver, uint64_t token)
{
	uint8_t payload[PAYLOAD] = {0};
	int status;

	stamps[token % DEPTH_MAX] = clock_ns();
	while ((status = rb_send(driver, payload, PAYLOAD, token, 0)) == -EAGAIN)
		wait_for(driver, RB_SPACE, polling);
	if (status)
		fail("rb_send failed");
}

static uint64_t reap(rb_channel *driver, uint64_t most)
{
	struct rb_consumer *consumer = &driver->consumer;
	uint64_t reaped = 0;
	uint8_t answer[PAYLOAD];
	int64_t length = 0;

	while (reaped < most && (length = rb_recv(driver, answer, sizeof(answer), 0)) >= 0) {
		keep_sample(clock_ns() - stamps[consumer->frame.token % DEPTH_MAX]);
		work_for(own_work_ns);
		reaped++;
	}
	if (length < 0 && length != -EAGAIN)
		fail("rb_recv failed");
	return reaped;
}

static uint64_t call_until(rb_channel *driver, uint64_t over)
{
	uint64_t sent = 0, in_flight = 0;

	while (clock_ns() < over || in_flight) {
		while (in_flight < depth && clock_ns() < over) {
			if (pause_ns)
				pause_for(pause_ns);
			/* Never 0, which wants no answer. */
			request(driver, ++sent);
			in_flight++;
		}
		uint64_t reaped = reap(driver, in_turn ? 1 : UINT64_MAX);
		in_flight -= reaped;
		if (!reaped && in_flight)
			wait_for(driver, RB_DATA, polling);
	}
	return sent;
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu}, {"--device", &device_cpu}, {"--depth", &depth},
		{"--time", &time_ns},      {"--work", &work_ns},      {"--own-work", &own_work_ns},
		{"--pause", &pause_ns},    {"--polling", &polling},   {"--max-poll", &max_poll_ns},
		{"--busy", &busy},         {"--in-turn", &in_turn},   {NULL, NULL},
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
	printf("{\"calls\": %llu, \"rate\": %.1f, \"kicks\": %.5f, \"driver_share\": %.5f, "
	       "\"device_share\": %.5f, ",
	       (unsigned long long)sent, (double)sent * 1e9 / lasted, (double)kicks / (double)sent,
	       driver_ns / lasted, (double)report->cpu_ns / lasted);
	print_times();
	printf("}\n");
	close_pair(&pair);
	return 0;
}
