/* SPDX-License-Identifier: MIT
 *
 * What a wake-up through an eventfd costs: from the moment before the kick until the woken side
 * runs, after a sleep of some length.
 *
 *   wake --driver CPU --device CPU [--sleep NS] [--rounds N] [--busy 1]
 *
 * The device sleeps as rb_wait_sleep does, the driver kicks it. On two CPUs the driver spins while
 * the device sleeps; on one it has to sleep itself, so that the device can go to sleep at all. With
 * --busy a process that computes all the time shares the device's CPU.
 */
#include "sides.h"

#define ROUNDS_MAX 1000

static uint64_t driver_cpu, device_cpu = 1, sleep_ns = 100000, rounds = 100, busy;

static void be_woken(rb_channel *device)
{
	uint64_t slept[ROUNDS_MAX], kept = 0;

	child_is_ready();
	for (uint64_t round = 0; round <= rounds; round++) {
		uint64_t began = clock_ns();
		while (!sleep_for_data(device))
			;
		uint64_t now = clock_ns();
		uint64_t stamp = __atomic_load_n(&report->stamp, __ATOMIC_ACQUIRE);
		/* The first round is a warm-up. A kick that came before the sleep woke nobody. */
		if (round && stamp > began) {
			keep_sample(now - stamp);
			slept[kept++] = stamp - began;
		}
		rb_kick_consumer_leaving_timer(&device->producer);
	}
	report->slept_ns = median_of(slept, kept);
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu}, {"--device", &device_cpu}, {"--sleep", &sleep_ns},
		{"--rounds", &rounds},     {"--busy", &busy},         {NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	if (!rounds || rounds > ROUNDS_MAX)
		fail("--rounds is from 1 to 1000");
	begin(60);
	struct pair pair = open_pair(4096, 0);
	pid_t computing = busy ? fork_computing(device_cpu) : 0;
	pid_t child = fork_to(device_cpu);
	if (!child) {
		be_woken(pair.device);
		_exit(0);
	}
	pin_to(driver_cpu);
	/* By default the kernel makes a sleep of 10 us one of 60. */
	prctl(PR_SET_TIMERSLACK, 1);
	await_child();
	uint64_t kick_ns[ROUNDS_MAX + 1];
	for (uint64_t round = 0; round <= rounds; round++) {
		if (driver_cpu == device_cpu)
			pause_for(sleep_ns);
		else
			spin_until(clock_ns() + sleep_ns);
		uint64_t stamp = clock_ns();
		__atomic_store_n(&report->stamp, stamp, __ATOMIC_RELEASE);
		rb_kick_consumer_leaving_timer(&pair.driver->producer);
		kick_ns[round] = clock_ns() - stamp;
		while (!sleep_for_data(pair.driver))
			;
	}
	join(child);
	if (computing)
		end(computing);
	printf("{\"slept_us\": %.3f, \"kick_us\": %.3f, ", (double)report->slept_ns / 1e3,
	       (double)median_of(kick_ns, rounds + 1) / 1e3);
	print_times();
	printf("}\n");
	close_pair(&pair);
	return 0;
}
