/* SPDX-License-Identifier: MIT
 *
 * How many wake-ups are N kicks in a row?
 *
 *   counter --driver CPU --device CPU [--kicks N] [--rounds N] [--held 1]
 *
 * With --held the device is stopped (SIGSTOP) while the kicks are sent, so that it cannot run
 * before the last one; without, it runs as soon as the kernel lets it.
 */
#include <poll.h>

#include "sides.h"

static uint64_t driver_cpu, device_cpu = 1, kicks = 1, rounds = 20, held;

static void count_kicks(rb_channel *device)
{
	struct pollfd data = {.fd = device->wake_fd, .events = POLLIN};
	uint64_t value;

	child_is_ready();
	for (;;) {
		if (poll(&data, 1, -1) != 1 || read(data.fd, &value, sizeof(value)) < 0)
			continue;
		report->wakeups++;
		__atomic_store_n(&report->entries, report->entries + value, __ATOMIC_RELEASE);
	}
}

static void kick_in_a_row(rb_channel *driver, pid_t child)
{
	int status;

	if (held) {
		kill(child, SIGSTOP);
		waitpid(child, &status, WUNTRACED);
	}
	for (uint64_t i = 0; i < kicks; i++)
		rb_kick_consumer_leaving_timer(&driver->producer);
	if (held)
		kill(child, SIGCONT);
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu}, {"--device", &device_cpu}, {"--kicks", &kicks},
		{"--rounds", &rounds},     {"--held", &held},         {NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	begin(60);
	struct pair pair = open_pair(4096, 0);
	pid_t child = fork_to(device_cpu);
	if (!child)
		count_kicks(pair.device);
	pin_to(driver_cpu);
	await_child();
	uint64_t most = 0;
	for (uint64_t round = 1; round <= rounds; round++) {
		uint64_t before = report->wakeups;
		kick_in_a_row(pair.driver, child);
		while (__atomic_load_n(&report->entries, __ATOMIC_ACQUIRE) < round * kicks)
			usleep(100);
		usleep(500); /* it sleeps again */
		uint64_t wakeups = report->wakeups - before;
		most = wakeups > most ? wakeups : most;
	}
	end(child);
	printf("{\"wakeups\": %.3f, \"most\": %llu, \"counted\": %llu}\n",
	       (double)report->wakeups / (double)rounds, (unsigned long long)most,
	       (unsigned long long)report->entries);
	close_pair(&pair);
	return 0;
}
