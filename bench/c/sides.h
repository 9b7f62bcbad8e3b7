/* SPDX-License-Identifier: MIT
 *
 * What the programs here share: options, two pinned processes, work that costs CPU time, and
 * results in one line of JSON. They run over the very sources of the extension.
 */
#ifndef RB_BENCH_SIDES_H
#define RB_BENCH_SIDES_H

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pair.h"

/* How many latencies of one run are kept: the last ones. */
#define SAMPLES (1U << 19)
/* Stands for the end, where tokens are stamps or numbers. */
#define END_TOKEN UINT64_MAX

/* What the child leaves for its parent, in memory that both share. */
struct report {
	uint64_t ready; /* the child is pinned */
	uint64_t done;  /* the parent has sent all */
	uint64_t stamp; /* when the parent did what the child measures */
	uint64_t entries;
	uint64_t wakeups;
	uint64_t slept_ns;
	uint64_t cpu_ns;
	uint64_t ended; /* when the child had done all */
	uint64_t count; /* of samples */
	uint64_t samples[SAMPLES];
};

static struct report *report;

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(2);
}

/* ---- options: a table of names and of where their numbers go ---- */

struct option {
	const char *name;
	uint64_t *value;
};

static uint64_t number_or_name(const char *text)
{
	static const char *const names[] = {[RB_POLL_NEVER] = "never",
					    [RB_POLL_ADAPTIVE] = "adaptive",
					    [RB_POLL_ALWAYS] = "always"};
	char *end;

	for (uint64_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i], text))
			return i;
	uint64_t number = strtoull(text, &end, 0);
	if (end == text || *end)
		fail("an option wants a number, or how to poll");
	return number;
}

static void parse(char **argv, const struct option *options)
{
	while (*++argv) {
		const struct option *option = options;
		while (option->name && strcmp(option->name, *argv))
			option++;
		if (!option->name || !argv[1]) {
			fprintf(stderr, "what is %s? See the top of the source\n", *argv);
			exit(2);
		}
		*option->value = number_or_name(*++argv);
	}
}

/* ---- processes ---- */

static void pin_to(uint64_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* All our processes end when the process that started them dies, and after some time in any case.
 */
static void begin(unsigned int seconds_at_most)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(seconds_at_most);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (report == MAP_FAILED)
		die("mmap");
	/* Touch all pages now, or the kernel would have to give some while we measure. */
	memset(report, 0, sizeof(*report));
}

/* Forks a pinned process that dies with this one; returns 0 in the child, as fork does. */
static pid_t fork_to(uint64_t cpu)
{
	pid_t parent = getpid();
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(2);
	pin_to(cpu);
	return 0;
}

/* Sleeps for a kick, whether or not there is data; returns what rb_sleep_on returns. */
static inline int sleep_for_data(rb_channel *channel)
{
	struct rb_sleep sleep = {.want = RB_DATA, .signal_fd = -1};
	int ended = rb_begin_sleep(channel, &sleep);

	if (!ended) {
		ended = rb_sleep_on(channel, &sleep, UINT64_MAX);
		rb_end_sleep(channel, &sleep);
	}
	return ended;
}

static void child_is_ready(void)
{
	__atomic_store_n(&report->ready, 1, __ATOMIC_RELEASE);
}

/* Waits until the child is pinned. Sleeps meanwhile: the child may need this CPU. */
static void await_child(void)
{
	while (!__atomic_load_n(&report->ready, __ATOMIC_ACQUIRE))
		usleep(100);
	usleep(1000);
}

static void join(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || status)
		fail("the other process failed");
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* A process that computes all the time. */
static pid_t fork_computing(uint64_t cpu)
{
	pid_t child = fork_to(cpu);

	if (!child)
		for (volatile uint64_t i = 0;; i++)
			;
	return child;
}

/* ---- time ---- */

static uint64_t cpu_time_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void spin_until(uint64_t due)
{
	while (clock_ns() < due)
		rb_cpu_relax();
}

static void pause_for(uint64_t ns)
{
	struct timespec time = {(time_t)(ns / 1000000000ULL), (long)(ns % 1000000000ULL)};

	nanosleep(&time, NULL);
}

static void turn_round(uint64_t times)
{
	for (volatile uint64_t i = 0; i < times; i++)
		;
}

static double rounds_per_ns;

/* Work is a number of rounds and not a time. So it takes longer when the kernel gives the CPU to
 * another process, as real work does. */
static void calibrate_work(void)
{
	const uint64_t rounds = 20000;
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 50; i++) {
		uint64_t began = clock_ns();
		turn_round(rounds);
		uint64_t took = clock_ns() - began;
		if (took < best)
			best = took;
	}
	rounds_per_ns = (double)rounds / (double)best;
}

static void work_for(uint64_t ns)
{
	turn_round((uint64_t)((double)ns * rounds_per_ns));
}

/* ---- results ---- */

static void keep_sample(uint64_t ns)
{
	report->samples[report->count++ % SAMPLES] = ns;
}

static int by_size(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

static uint64_t median_of(uint64_t *values, uint64_t count)
{
	qsort(values, count, sizeof(*values), by_size);
	return count ? values[count / 2] : 0;
}

static void print_times(void)
{
	uint64_t count = report->count < SAMPLES ? report->count : SAMPLES;
	uint64_t *sorted = report->samples;

	if (!count)
		fail("nothing was measured");
	qsort(sorted, count, sizeof(*sorted), by_size);
	printf("\"p10_us\": %.3f, \"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, "
	       "\"samples\": %llu",
	       (double)sorted[count / 10] / 1e3, (double)sorted[count / 2] / 1e3,
	       (double)sorted[count * 9 / 10] / 1e3, (double)sorted[count * 99 / 100] / 1e3,
	       (unsigned long long)count);
}

/* ---- channels ---- */

/* The only place that knows the arguments of the policy. */
static void set_policy(rb_channel *channel, uint64_t polling, uint64_t max_poll_ns,
		       bool always_kick)
{
	rb_channel_policy(channel, (int)polling, max_poll_ns, RB_SHARE_ALL, always_kick);
}

/* What a wait does between a look that found nothing and the last look before it sleeps. */
static uint64_t before_sleep_ns;

/* As the Python layer waits: it polls as the policy says, then sleeps, unless it polls always. */
static void wait_for(rb_channel *channel, int want, uint64_t polling)
{
	int ready = rb_wait_poll(channel, want, -1);

	while (!ready && polling == RB_POLL_ALWAYS)
		ready = rb_wait_poll(channel, want, -1);
	if (!ready && before_sleep_ns)
		spin_until(clock_ns() + before_sleep_ns);
	if (!ready)
		ready = rb_wait_sleep(channel, want, -1, -1);
	if (ready < 0)
		fail("a wait failed: the other side is gone");
}

#endif
