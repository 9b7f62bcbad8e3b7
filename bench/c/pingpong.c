/* SPDX-License-Identifier: MIT
 *
 * What state the machine is in: how long a cache line takes to another CPU and back, in ns.
 *
 *   pingpong CPU CPU [MILLISECONDS]
 *
 * A virtual machine may take four times as long for minutes, and everything that two processes
 * exchange takes longer then. So this is run beside each measurement, and needs no more than 20 ms.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct {
	_Alignas(128) uint64_t turn; /* odd: the other thread's */
} line;
static _Alignas(128) uint64_t over;

static void pin_to(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned int)atoi(cpu), &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("sched_setaffinity");
		exit(2);
	}
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void *return_it(void *cpu)
{
	pin_to(cpu);
	for (;;) {
		uint64_t turn = __atomic_load_n(&line.turn, __ATOMIC_ACQUIRE);
		if (turn & 1)
			__atomic_store_n(&line.turn, turn + 1, __ATOMIC_RELEASE);
		else if (__atomic_load_n(&over, __ATOMIC_RELAXED))
			return NULL;
	}
}

/* A turn each; the other thread may not have begun yet, so the first ones do not count. */
static void exchange(uint64_t turns)
{
	for (uint64_t i = 0; i < turns; i++) {
		uint64_t turn = line.turn + 1;
		__atomic_store_n(&line.turn, turn, __ATOMIC_RELEASE);
		while (__atomic_load_n(&line.turn, __ATOMIC_ACQUIRE) == turn)
			;
	}
}

int main(int argc, char **argv)
{
	const uint64_t step = 1000;
	pthread_t other;

	if (argc < 3) {
		fprintf(stderr, "which two CPUs?\n");
		return 2;
	}
	alarm(10);
	uint64_t lasts = (argc > 3 ? strtoull(argv[3], NULL, 10) : 20) * 1000000;
	if (pthread_create(&other, NULL, return_it, argv[2])) {
		fprintf(stderr, "no thread\n");
		return 2;
	}
	pin_to(argv[1]);
	exchange(step);
	uint64_t began = clock_ns(), now, turns = 0;
	do {
		exchange(step);
		turns += step;
		now = clock_ns();
	} while (now - began < lasts);
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(other, NULL);
	printf("%.1f\n", (double)(now - began) / (double)turns);
	return 0;
}
