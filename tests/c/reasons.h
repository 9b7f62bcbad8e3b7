/* SPDX-License-Identifier: MIT
 *
 * Why a wait was long: the time that no side could use, and who took it. The reasons and their
 * words are those of tests/soak.py.
 */
#ifndef RB_TEST_REASONS_H
#define RB_TEST_REASONS_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pair.h"

#define LONG_NS 100000000ULL
#define TICK_NS 50000000ULL
/* The third process and the clocks of the CPUs must notice, too. If this side waited for them, the
 * other one would have to wait. */
#define EXPLAIN_AFTER_NS (4 * TICK_NS)
/* How old the counters may be with which a wait is compared, when it begins. To read /proc takes
 * longer than a hand-over, so reading at each wait would change what is soaked. Time that was lost
 * so shortly before a wait is too little to be the reason for a long one. */
#define BASELINE_NS 20000000ULL
#define UNEXPLAINED_MAX 4

enum { OWN_RUN_DELAY, THEIR_RUN_DELAY, STOLEN, LATE, REASONS };

static const char *const reason_names[REASONS] = {
	"it was ready to run and had no CPU",
	"the other side was",
	"the hypervisor took",
	"the timer of a third process was late by",
};

/* A side, as the other one finds it in /proc. */
struct task {
	pid_t pid, tid;
};

struct reasons {
	const char *name;
	const struct task *mine, *theirs;
	const uint64_t *late; /* what the third process adds up */
	uint64_t before[REASONS], after[REASONS];
	uint64_t before_at;
	uint64_t unexplained[UNEXPLAINED_MAX]; /* waits, for now */
	int count;
	uint64_t explain_at;
	uint64_t explained; /* waits, with a reason or without */
	uint64_t without_reason;
};

/* The nanoseconds in which a thread was ready to run and had no CPU. */
static uint64_t run_delay(const struct task *task)
{
	unsigned long long delay = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat",
		 (int)__atomic_load_n(&task->pid, __ATOMIC_RELAXED),
		 (int)__atomic_load_n(&task->tid, __ATOMIC_RELAXED));
	FILE *file = fopen(path, "r");
	if (file) {
		if (fscanf(file, "%*u %llu", &delay) != 1)
			delay = 0;
		fclose(file);
	}
	return delay;
}

/* The nanoseconds that the hypervisor gave to others. */
static uint64_t stolen(void)
{
	unsigned long long ticks = 0;
	FILE *file = fopen("/proc/stat", "r");

	if (file) {
		if (fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks) != 1)
			ticks = 0;
		fclose(file);
	}
	return ticks * (1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void read_run_delays(const struct reasons *reasons, uint64_t lost[REASONS])
{
	lost[OWN_RUN_DELAY] = run_delay(reasons->mine);
	lost[THEIR_RUN_DELAY] = run_delay(reasons->theirs);
}

static void read_the_others(const struct reasons *reasons, uint64_t lost[REASONS])
{
	lost[STOLEN] = stolen();
	lost[LATE] = __atomic_load_n(reasons->late, __ATOMIC_RELAXED);
}

static void task_begins(struct task *task)
{
	__atomic_store_n(&task->pid, getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&task->tid, gettid(), __ATOMIC_RELAXED);
}

static void explain(struct reasons *reasons)
{
	uint64_t longest = 0, most = 0;
	char text[512];
	int end = 0;

	for (int i = 0; i < reasons->count; i++) {
		uint64_t waited = reasons->unexplained[i];
		longest = waited > longest ? waited : longest;
		end += snprintf(text + end, sizeof(text) - (size_t)end, "%s%.1f ms",
				i ? " and " : "", (double)waited / 1e6);
	}
	read_the_others(reasons, reasons->after);
	for (int i = 0; i < REASONS; i++) {
		uint64_t then = reasons->before[i], now = reasons->after[i];
		uint64_t lost = now > then ? now - then : 0;
		most = lost > most ? lost : most;
		end += snprintf(text + end, sizeof(text) - (size_t)end, "%s%s %.1f ms",
				i ? ", " : "; meanwhile ", reason_names[i], (double)lost / 1e6);
	}
	bool enough = 2 * most >= longest;
	printf("%s waited %s%s\n", reasons->name, text, enough ? "" : ": NO REASON");
	reasons->without_reason += !enough;
	__atomic_fetch_add(&reasons->explained, (uint64_t)reasons->count, __ATOMIC_RELAXED);
	reasons->count = 0;
}

/* Call this before each wait, so that the counters to compare with are from before the wait. */
static void about_to_wait(struct reasons *reasons)
{
	uint64_t now = clock_ns();

	if (reasons->count && (now > reasons->explain_at || reasons->count == UNEXPLAINED_MAX))
		explain(reasons);
	if (!reasons->count && now - reasons->before_at > BASELINE_NS) {
		read_run_delays(reasons, reasons->before);
		read_the_others(reasons, reasons->before);
		reasons->before_at = now;
	}
}

static void waited_long(struct reasons *reasons, uint64_t nanoseconds)
{
	/* Both sides have run by now. Later the time that they lose to each other at a million
	 * wake-ups would look like a reason. */
	read_run_delays(reasons, reasons->after);
	reasons->unexplained[reasons->count++] = nanoseconds;
	reasons->explain_at = clock_ns() + EXPLAIN_AFTER_NS;
}

static void sleep_ns(uint64_t nanoseconds)
{
	struct timespec left = {(time_t)(nanoseconds / 1000000000ULL),
				(long)(nanoseconds % 1000000000ULL)};

	while (nanosleep(&left, &left))
		;
}

static void explain_the_last(struct reasons *reasons)
{
	if (!reasons->count)
		return;
	sleep_ns(EXPLAIN_AFTER_NS);
	explain(reasons);
}

/* Starts the third process, which adds up how late its timer was. It is no thread of a side,
 * because whatever stops that side would stop the thread, too. */
static pid_t start_watching(uint64_t *late)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		die("fork");
	if (child) {
		/* The child notices only what is lost after its first look at the clock. */
		while (!__atomic_load_n(late, __ATOMIC_RELAXED))
			sleep_ns(1000000);
		return child;
	}
	/* End with the other process, however that ends. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	uint64_t before = clock_ns();
	__atomic_fetch_add(late, 1, __ATOMIC_RELAXED);
	for (uint64_t now;; before = now) {
		sleep_ns(TICK_NS);
		now = clock_ns();
		if (now - before > TICK_NS)
			__atomic_fetch_add(late, now - before - TICK_NS, __ATOMIC_RELAXED);
	}
}

static void stop_watching(pid_t child)
{
	kill(child, SIGKILL);
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

#endif
