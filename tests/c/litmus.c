/* SPDX-License-Identifier: MIT
 *
 * Two processes, the publish and the arm of csrc/, over and over: how often did the producer see
 * nobody asleep while the consumer saw nothing new? Each such round is a lost wake-up. It is built
 * twice: as it is, when the answer has to be never; and with RB_LITMUS_WITHOUT_FENCES, when this
 * machine has to show that it does reorder a store and a later load.
 *
 *   litmus ROUNDS [CPU CPU]      prints rounds, lost (data), lost (space)
 */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pair.h"

struct turn {
	alignas(RB_LINE) uint64_t begun; /* the round that may run */
	alignas(RB_LINE) uint64_t ended; /* the round that the child has done */
	alignas(RB_LINE) uint64_t saw;   /* what the child saw in it */
};

static struct turn *turn;

static void pin_to(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void await(const uint64_t *word, uint64_t value)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value)
		rb_cpu_relax();
}

/* A few cycles more or less, so that the two meet at every distance. */
static void jitter(uint64_t round)
{
	for (volatile uint64_t i = (round * 2654435761U >> 7) % 24; i; i--)
		;
}

/* The consumer of the doorbell ring: in even rounds it arms and looks for data, in odd ones it
 * releases and says whether it would have kicked. */
static void be_consumer(rb_channel *device, uint64_t rounds)
{
	for (uint64_t round = 1; round <= rounds; round++) {
		await(&turn->begun, round);
		jitter(round);
		if (round % 2) {
			rb_arm(device, RB_DATA, 0);
			turn->saw = rb_consumer_available(&device->consumer) > 0;
		} else {
			rb_consumer_available(&device->consumer);
			device->consumer.next += device->consumer.count;
			turn->saw =
				rb_consumer_release_to(&device->consumer, device->consumer.next);
		}
		__atomic_store_n(&turn->ended, round, __ATOMIC_RELEASE);
	}
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) & ~1ULL : 1000000;
	uint64_t lost[2] = {0, 0};
	struct pair pair = open_pair((uint64_t)sysconf(_SC_PAGESIZE), 0);
	struct rb_producer *producer = &pair.driver->producer;

	turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (turn == MAP_FAILED)
		die("mmap");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (argc > 3)
			pin_to(argv[3]);
		be_consumer(pair.device, rounds);
		_exit(0);
	}
	if (argc > 3)
		pin_to(argv[2]);
	for (uint64_t round = 1; round <= rounds; round++) {
		bool saw;
		__atomic_store_n(&turn->begun, round, __ATOMIC_RELEASE);
		jitter(round * 31);
		if (round % 2) {
			/* Fill the whole ring, so that the next round has to wait for space. */
			saw = rb_producer_publish(producer, producer->count, 1);
		} else {
			producer->needed = producer->count;
			rb_arm(pair.driver, RB_SPACE, producer->count);
			saw = rb_producer_room(producer, producer->count) > 0;
		}
		await(&turn->ended, round);
		lost[round % 2] += !saw && !turn->saw;
		if (!(round % 2))
			rb_producer_room(producer, producer->count);
	}
	waitpid(child, NULL, 0);
	printf("rounds %llu lost_data %llu lost_space %llu\n", (unsigned long long)rounds,
	       (unsigned long long)lost[1], (unsigned long long)lost[0]);
	close_pair(&pair);
	return 0;
}
