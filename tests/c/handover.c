/* SPDX-License-Identifier: MIT
 *
 * One handover between two processes: one side waits, and the other one does what it waits for. A
 * debugger stops one of them in the middle.
 *
 *   handover driver|device data|space GATE MILLISECONDS
 *
 * data: the driver sends into an empty ring, and the device waits for that. space: the device
 * releases what fills the ring, and the driver waits for that. The side that is named is this
 * process. The other one is a child, which does nothing before somebody opens the FIFO at GATE for
 * writing. Both have looked before, so the one that waits goes to sleep, for MILLISECONDS at most.
 *
 * Ends with a line that says how often the waiting side slept and was kicked, and 0; or with 1 when
 * the sleep was in vain: a lost wake-up.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pair.h"

/* Read by the debugger. */
struct pair pair;
volatile pid_t child;

static bool space;
static uint64_t patience_ns;
static uint64_t held;

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "FAILED: %s\n", what);
	exit(1);
}

static uint64_t whole_ring(void)
{
	return space ? rb_payload_max(pair.driver) : 8;
}

/* Writes in place: only so can one message take all of the ring. */
static int send_whole_ring(uint64_t token)
{
	void *start;
	int status = rb_reserve(pair.driver, whole_ring(), &start);

	if (status)
		return status;
	memset(start, 0, whole_ring());
	return rb_commit(pair.driver, rb_reservation(pair.driver), whole_ring(), token);
}

/* Before the fork: makes the ring full or leaves it empty, and has one side find it so. */
static void look_in_vain(void)
{
	if (!space) {
		check(rb_take(pair.device, 0) == -EAGAIN, "the ring is empty");
		return;
	}
	check(send_whole_ring(1) == 0, "the ring takes a message");
	check(rb_take(pair.device, 0) == 0, "the message is there");
	held = pair.device->consumer.frame.index;
	check(send_whole_ring(2) == -EAGAIN, "the ring is full");
}

static void sleep_until(rb_channel *channel, int want)
{
	uint64_t began = clock_ns();
	int ready = rb_wait_sleep(channel, want, (int64_t)patience_ns, -1);

	/* After its time even a lost wake-up finds the entry, so only the time tells. */
	check(clock_ns() - began < patience_ns, "LOST WAKE-UP");
	check(ready == want, "what was waited for is there");
}

__attribute__((noinline)) static void drive(void)
{
	if (space)
		sleep_until(pair.driver, RB_SPACE);
	check(send_whole_ring(2) == 0, "the message is sent");
}

__attribute__((noinline)) static void serve(void)
{
	if (space) {
		check(rb_release(pair.device, held) == 0, "the message is released");
		return;
	}
	sleep_until(pair.device, RB_DATA);
	check(rb_take(pair.device, 0) == 0, "the message is taken");
	check(pair.device->consumer.frame.token == 2, "it is the one that was sent");
}

static void wait_for_gate(const char *gate)
{
	int fd = open(gate, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("open the gate");
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "handover: see the top of handover.c\n");
		return 2;
	}
	bool driver = !strcmp(argv[1], "driver");
	space = !strcmp(argv[2], "space");
	patience_ns = strtoull(argv[4], NULL, 10) * 1000000;

	pair = open_pair(4096, UINT64_MAX);
	rb_channel_policy(pair.driver, RB_POLL_NEVER, 0, RB_SHARE_ALL, 0);
	rb_channel_policy(pair.device, RB_POLL_NEVER, 0, RB_SHARE_ALL, 0);
	look_in_vain();
	/* Both processes keep both ends of the socket, so the end of a side wakes nobody. */
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_for_gate(argv[3]);
	}
	if (driver == (child != 0))
		drive();
	else
		serve();
	if (child == 0)
		_exit(0);

	int status;
	if (waitpid(child, &status, 0) != child || status)
		return 1;
	const struct rb_control *drivers = pair.driver->producer.mine;
	const struct rb_control *devices = pair.device->producer.mine;
	printf("sleeps %llu kicks %llu\n",
	       (unsigned long long)(space ? drivers->producer : devices->consumer).sleeps,
	       (unsigned long long)(space ? devices->consumer : drivers->producer).kicks_sent);
	close_pair(&pair);
	return 0;
}
