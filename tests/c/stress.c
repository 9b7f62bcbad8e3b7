/* SPDX-License-Identifier: MIT
 *
 * A driver and a device exchange numbered requests of random sizes, or with --record records one
 * way, with random pauses, so that both fall asleep and wake each other all the time. Every entry
 * is checked for loss, repetition, order and content; every wait for its length.
 *
 *   stress [--threads] [--sleeps N] [--ring BYTES] [--least BYTES] [--size BYTES] [--window N]
 *          [--polling never] [--max-poll NANOSECONDS] [--skew NANOSECONDS] [--first INDEX]
 *          [--seed N] [--cpus A,B] [--coalesce ENTRIES] [--moderation ENTRIES]
 *          [--record BYTES] [--pauses N] [--pause NANOSECONDS]
 *
 * Ends when both sides together have slept N times. Exits with 1, and says what it saw, when an
 * entry or a ring is wrong, when a sleep lasts for 10 seconds (nothing here pauses for more than
 * microseconds, so that is a lost wake-up), or when a wait took more than 100 ms and neither the
 * scheduler nor the hypervisor is the reason. To see that the last is noticed, the device can be
 * made to pause: for its first request, and again whenever the driver has explained its wait.
 */
#include <pthread.h>
#include <sched.h>

#include "reasons.h"

#define HANG_NS 10000000000LL
#define MODERATION_NS 20000
#define WINDOW_MAX 64
#define END_TOKEN UINT64_MAX
/* Token 0 is for messages that want no completion. */
#define TOKEN_OF(number) ((number) + 1)
#define NUMBER_OF(token) ((token) - 1)

static struct {
	bool threads;
	uint64_t sleeps, ring, least, size, window, max_poll, skew, first, seed;
	uint64_t coalesce, moderation; /* entries */
	uint64_t record;               /* bytes of one; 0: messages */
	uint64_t pauses, pause;
	int polling;
	int cpus[2];
} options = {.sleeps = 100000,
	     .ring = 4096,
	     .least = 8,
	     .size = 200,
	     .window = 3,
	     .max_poll = 20000,
	     .skew = 2000,
	     .seed = 1,
	     .moderation = 1,
	     .pause = 10 * LONG_NS,
	     .polling = RB_POLL_ADAPTIVE,
	     .cpus = {-1, -1}};

/* What one side keeps; the reports are in memory that both processes share. */
struct side {
	const char *name;
	rb_channel *channel;
	uint64_t random;
	uint64_t entries;
	uint64_t sleeps;
	uint64_t longest_ns;
	uint64_t pauses;
	struct task task;
	struct reasons reasons;
	int cpu;
};

static struct side *driver_side, *device_side;

static uint64_t next_random(struct side *side)
{
	uint64_t x = side->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return side->random = x;
}

static void fail(const struct side *side, const char *what, uint64_t expected, uint64_t got)
{
	fprintf(stderr, "FAILED: %s: %s: expected %llu, got %llu, after %llu entries\n", side->name,
		what, (unsigned long long)expected, (unsigned long long)got,
		(unsigned long long)side->entries);
	exit(1);
}

static void pause_at_random(struct side *side)
{
	if (!options.skew || next_random(side) % 2)
		return;
	uint64_t until = clock_ns() + next_random(side) % options.skew;
	while (clock_ns() < until)
		rb_cpu_relax();
}

/* Begins and ends blocks in which kicks are held back, now with bounds and now without. */
static void coalesce_at_random(struct side *side)
{
	uint64_t chance = next_random(side);

	if (!options.coalesce || chance % 4)
		return;
	if (side->channel->producer.deferral.block)
		rb_defer_end(side->channel, 1);
	else
		rb_defer_begin(side->channel, 1, chance / 4 % (options.coalesce + 1),
			       chance % 8 ? 0 : 1 + chance / 64 % 20000);
}

static void lost_wake_up(const struct side *side, int want)
{
	const struct rb_producer *p = &side->channel->producer;
	const struct rb_consumer *c = &side->channel->consumer;

	fprintf(stderr,
		"LOST WAKE-UP: %s slept on %d: write %llu, their read %llu, my event %llu; "
		"next %llu, their write %llu, my event %llu\n",
		side->name, want, (unsigned long long)p->write,
		(unsigned long long)p->theirs->read_index, (unsigned long long)p->mine->space_event,
		(unsigned long long)c->next, (unsigned long long)c->theirs->write_index,
		(unsigned long long)c->mine->data_event);
	exit(1);
}

static void check_rings(const struct side *side)
{
	if (!rb_producer_valid(&side->channel->producer))
		fail(side, "my ring is valid", 1, 0);
	if (!rb_consumer_valid(&side->channel->consumer))
		fail(side, "their ring is valid", 1, 0);
}

static void wait_for(struct side *side, int want)
{
	check_rings(side);
	about_to_wait(&side->reasons);
	uint64_t began = clock_ns();
	pause_at_random(side);
	int ready = rb_wait_poll(side->channel, want, -1);

	if (!ready) {
		__atomic_fetch_add(&side->sleeps, 1, __ATOMIC_RELAXED);
		ready = rb_wait_sleep(side->channel, want, HANG_NS, -1);
		/* After its time even a lost wake-up finds the entry: only the time tells. */
		if (!ready || clock_ns() - began >= HANG_NS)
			lost_wake_up(side, want);
	}
	if (ready < 0 && ready != -EINTR && !(ready == -EPIPE && options.record))
		fail(side, "wait", 0, (uint64_t)-ready);
	uint64_t waited = clock_ns() - began;
	if (waited > side->longest_ns)
		side->longest_ns = waited;
	if (waited > LONG_NS)
		waited_long(&side->reasons, waited);
}

/* Sizes from the shortest to the longest, mostly short. */
static uint64_t random_size(struct side *side)
{
	uint64_t longest = options.size - options.least;
	uint64_t most = next_random(side) % 8 ? longest / 4 + 1 : longest + 1;

	return options.least + next_random(side) % most;
}

static void fill(uint8_t *payload, uint64_t size, uint64_t number)
{
	memcpy(payload, &number, sizeof(number));
	memset(payload + 8, (int)(number * 7 + size), size - 8);
}

static void check(const struct side *side, const uint8_t *payload, uint64_t size, uint64_t number)
{
	uint64_t got;

	memcpy(&got, payload, sizeof(got));
	if (got != number)
		fail(side, "number", number, got);
	uint8_t byte = (uint8_t)(number * 7 + size);
	for (uint64_t i = 8; i < size; i++)
		if (payload[i] != byte)
			fail(side, "byte of content", byte, payload[i]);
}

/* ---- the driver ---- */

struct answers {
	bool outstanding[WINDOW_MAX]; /* by token modulo WINDOW_MAX */
	uint64_t in_flight;
};

static void take_answers(struct side *side, struct answers *answers)
{
	rb_channel *channel = side->channel;

	for (;;) {
		int flags = rb_take(channel, 0);
		if (flags == -EAGAIN)
			return;
		if (flags)
			fail(side, "answer's flags", 0, (uint64_t)flags);
		rb_frame frame = channel->consumer.frame;
		if (!answers->outstanding[NUMBER_OF(frame.token) % WINDOW_MAX])
			fail(side, "token in flight", 1, 0);
		answers->outstanding[NUMBER_OF(frame.token) % WINDOW_MAX] = false;
		answers->in_flight--;
		check(side, channel->consumer.slots + frame.start, frame.stop - frame.start,
		      NUMBER_OF(frame.token));
		rb_release(channel, frame.index);
	}
}

/* Sends one frame, or returns -EMSGSIZE if the ring has no room for it. Writes in place where a
 * call that copies would send pieces. */
static int64_t send_frame(rb_channel *channel, const uint8_t *payload, uint64_t size,
			  uint64_t token)
{
	int status = rb_send(channel, &(struct rb_payload){payload, size, NULL}, token, 0);

	if (status != -EMSGSIZE || size > rb_payload_max(channel))
		return status;
	void *start;
	status = rb_reserve(channel, size, &start);
	if (status)
		return status;
	memcpy(start, payload, size);
	return rb_commit(channel, rb_reservation(channel), size, token);
}

static void send_request(struct side *side, struct answers *answers, const uint8_t *payload,
			 uint64_t size, uint64_t token)
{
	rb_channel *channel = side->channel;
	const struct rb_payload whole = {payload, size, NULL};
	int64_t status = send_frame(channel, payload, size, token);
	int64_t done = 0;

	while (status == -EAGAIN || (status == -EMSGSIZE && done < (int64_t)size)) {
		if (status == -EMSGSIZE) {
			int64_t sent =
				rb_send_piece(channel, &whole, (uint64_t)done, token, RB_MESSAGE);
			if (sent >= 0) {
				done = sent;
				continue;
			}
			if (sent != -EAGAIN)
				fail(side, "send_piece", 0, (uint64_t)-sent);
		}
		wait_for(side, RB_SPACE | RB_DATA);
		take_answers(side, answers);
		if (status == -EAGAIN)
			status = send_frame(channel, payload, size, token);
	}
	if (status && status != -EMSGSIZE)
		fail(side, "send", 0, (uint64_t)-status);
}

static void drive(struct side *side)
{
	struct answers answers = {.in_flight = 0};
	uint8_t *payload = malloc(options.size + 16);

	if (!payload)
		die("malloc");
	uint64_t number = 0;
	while (__atomic_load_n(&driver_side->sleeps, __ATOMIC_RELAXED) +
			       __atomic_load_n(&device_side->sleeps, __ATOMIC_RELAXED) <
		       options.sleeps ||
	       __atomic_load_n(&device_side->pauses, __ATOMIC_RELAXED) < options.pauses) {
		uint64_t window = 1 + next_random(side) % options.window;
		while (answers.in_flight >= window || answers.outstanding[number % WINDOW_MAX]) {
			wait_for(side, RB_DATA);
			take_answers(side, &answers);
		}
		uint64_t size = random_size(side);
		fill(payload, size, number);
		pause_at_random(side);
		coalesce_at_random(side);
		answers.outstanding[number % WINDOW_MAX] = true;
		answers.in_flight++;
		send_request(side, &answers, payload, size, TOKEN_OF(number));
		number++;
		side->entries = number;
	}
	while (answers.in_flight) {
		wait_for(side, RB_DATA);
		take_answers(side, &answers);
	}
	fill(payload, 8, number);
	send_request(side, &answers, payload, 8, END_TOKEN);
	rb_defer_end(side->channel, 1);
	free(payload);
}

/* ---- the device ---- */

struct held {
	uint64_t index, token, size;
};

static void answer(struct side *side, const struct held *held)
{
	rb_channel *channel = side->channel;
	uint64_t size = 8 + held->size % 500;
	uint8_t payload[512];
	const struct rb_payload answer = {payload, size, NULL};
	int status;

	fill(payload, size, NUMBER_OF(held->token));
	pause_at_random(side);
	coalesce_at_random(side);
	while ((status = rb_complete(channel, held->index, &answer, RB_MESSAGE)) == -EAGAIN)
		wait_for(side, RB_SPACE);
	if (status)
		fail(side, "complete", 0, (uint64_t)-status);
}

/* Takes one request, putting its pieces together; false when the driver has ended. */
static bool take_request(struct side *side, uint8_t *pieces, struct held *held)
{
	rb_channel *channel = side->channel;
	const rb_frame *frame = &channel->consumer.frame;
	uint64_t size = 0;
	int flags;

	for (;;) {
		flags = rb_take(channel, 0);
		if (flags == -EAGAIN) {
			wait_for(side, RB_DATA);
			continue;
		}
		if (flags < 0)
			fail(side, "take", 0, (uint64_t)-flags);
		memcpy(pieces + size, channel->consumer.slots + frame->start,
		       frame->stop - frame->start);
		size += frame->stop - frame->start;
		if (!(flags & RB_FLAG_MORE))
			break;
		rb_release(channel, frame->index);
	}
	*held = (struct held){frame->index, frame->token, size};
	check(side, pieces, size, side->entries);
	if (frame->token == END_TOKEN)
		return false;
	if (frame->token != TOKEN_OF(side->entries))
		fail(side, "token", TOKEN_OF(side->entries), frame->token);
	side->entries++;
	return true;
}

/* The driver has to wait in this time. It ends only after the device has made all its pauses. */
static void pause_on_purpose(struct side *side)
{
	uint64_t explained = __atomic_load_n(&driver_side->reasons.explained, __ATOMIC_RELAXED);

	if (side->pauses == options.pauses || explained < side->pauses)
		return;
	printf("device pauses for %.1f ms\n", (double)options.pause / 1e6);
	sleep_ns(options.pause);
	__atomic_fetch_add(&side->pauses, 1, __ATOMIC_RELAXED);
}

static void serve(struct side *side)
{
	struct held held[WINDOW_MAX];
	uint64_t count = 0;
	uint8_t *pieces = malloc(options.size + 16);

	if (!pieces)
		die("malloc");
	while (take_request(side, pieces, &held[count])) {
		count++;
		pause_on_purpose(side);
		/* Answer in any order, and hold less than the driver keeps in flight. Pieces need
		 * the room of the ring, so hold nothing while they come. */
		bool hold = count < options.window / 2 && options.size + 16 < options.ring / 4 &&
			    rb_wait_poll(side->channel, RB_DATA, 0);
		while (count && !(hold && next_random(side) % 4)) {
			uint64_t chosen = next_random(side) % count;
			answer(side, &held[chosen]);
			held[chosen] = held[--count];
		}
	}
	rb_defer_end(side->channel, 1);
	free(pieces);
}

/* ---- records, one way: the driver writes and reserves, the device borrows and reads ---- */

static void fill_records(uint8_t *records, uint64_t count, uint64_t number)
{
	for (uint64_t i = 0; i < count; i++, number++, records += options.record) {
		memcpy(records, &number, sizeof(number));
		memcpy(records + options.record - sizeof(number), &number, sizeof(number));
	}
}

static void check_records(const struct side *side, const uint8_t *records, uint64_t count,
			  uint64_t number)
{
	uint64_t first, last;

	for (uint64_t i = 0; i < count; i++, number++, records += options.record) {
		memcpy(&first, records, sizeof(first));
		memcpy(&last, records + options.record - sizeof(last), sizeof(last));
		if (first != number || last != number)
			fail(side, "record", number, first != number ? first : last);
	}
}

static uint64_t write_records(struct side *side, uint8_t *records, uint64_t count)
{
	uint64_t written = 0;

	fill_records(records, count, side->entries);
	while (written < count) {
		int64_t more = rb_write(side->channel, records + written * options.record,
					count - written);
		if (more == -EAGAIN)
			wait_for(side, RB_SPACE);
		else if (more < 0)
			fail(side, "write", 0, (uint64_t)-more);
		else
			written += (uint64_t)more;
	}
	return count;
}

/* Publishes some of what it reserves, or none. */
static uint64_t reserve_records(struct side *side, uint64_t count)
{
	rb_channel *channel = side->channel;
	uint64_t published = next_random(side) % (count + 1);
	int64_t slot;

	while ((slot = rb_reserve_records(channel, count)) == -EAGAIN)
		wait_for(side, RB_SPACE);
	if (slot < 0)
		fail(side, "reserve", 0, (uint64_t)-slot);
	uint8_t *records = channel->producer.slots + (uint64_t)slot * options.record;
	fill_records(records, count, side->entries);
	if (published)
		rb_commit_records(channel, rb_reservation(channel), published);
	else
		rb_unreserve(channel, rb_reservation(channel));
	return published;
}

static void drive_records(struct side *side)
{
	uint64_t slots = rb_channel_my_slots(side->channel);
	uint8_t *records = malloc(slots * options.record);

	if (!records)
		die("malloc");
	while (__atomic_load_n(&driver_side->sleeps, __ATOMIC_RELAXED) +
		       __atomic_load_n(&device_side->sleeps, __ATOMIC_RELAXED) <
	       options.sleeps) {
		uint64_t count = 1 + next_random(side) % slots;
		pause_at_random(side);
		coalesce_at_random(side);
		side->entries += next_random(side) % 2 ? write_records(side, records, count)
						       : reserve_records(side, count);
	}
	rb_defer_end(side->channel, 1);
	rb_channel_close(side->channel, 1, 0);
	/* A sleeping device notices the goodbye by the end of the socket. */
	shutdown(side->channel->control_fd, SHUT_RDWR);
	free(records);
}

/* Looks at what was lent, or at a copy of it, and gives some of it back. */
static void use_records(struct side *side, uint8_t *copy, uint64_t lent)
{
	rb_channel *channel = side->channel;
	const uint8_t *records =
		channel->consumer.slots + channel->consumer.frame.start * options.record;
	uint64_t used = 1 + next_random(side) % lent;

	check_records(side, records, lent, side->entries);
	if (next_random(side) % 2) {
		memcpy(copy, records, used * options.record);
		check_records(side, copy, used, side->entries);
	}
	if (rb_return(channel, used))
		fail(side, "return", 0, 1);
	side->entries += used;
}

static void serve_records(struct side *side)
{
	rb_channel *channel = side->channel;
	uint64_t slots = channel->consumer.count;
	uint8_t *copy = malloc(slots * options.record);
	int64_t lent;

	if (!copy)
		die("malloc");
	while ((lent = rb_borrow(channel, 1 + next_random(side) % slots, 0)) != -EPIPE) {
		if (lent == -EAGAIN)
			wait_for(side, RB_DATA);
		else if (lent < 0)
			fail(side, "borrow", 0, (uint64_t)-lent);
		else
			use_records(side, copy, (uint64_t)lent);
		pause_at_random(side);
	}
	free(copy);
}

/* ---- both ---- */

static void pin(const struct side *side)
{
	cpu_set_t set;

	if (side->cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(side->cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void run_side(struct side *side, void (*exchange)(struct side *))
{
	task_begins(&side->task);
	pin(side);
	exchange(side);
	explain_the_last(&side->reasons);
}

static void *run_device(void *unused)
{
	(void)unused;
	run_side(device_side, options.record ? serve_records : serve);
	return NULL;
}

static void run(struct pair *pair)
{
	driver_side->channel = pair->driver;
	device_side->channel = pair->device;
	if (options.threads) {
		pthread_t thread;
		share_mapping(pair);
		if (pthread_create(&thread, NULL, run_device, NULL))
			die("pthread_create");
		run_side(driver_side, options.record ? drive_records : drive);
		pthread_join(thread, NULL);
		return;
	}
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair->control[0]);
		run_device(NULL);
		_exit(0);
	}
	close(pair->control[1]);
	run_side(driver_side, options.record ? drive_records : drive);
	int status;
	if (waitpid(child, &status, 0) != child || status) {
		fprintf(stderr, "the device process failed: %d\n", status);
		exit(1);
	}
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		if (!strcmp(name, "--threads")) {
			options.threads = true;
			continue;
		}
		const char *text = i + 1 < argc ? argv[++i] : "";
		uint64_t value = strtoull(text, NULL, 0);
		if (!strcmp(name, "--sleeps"))
			options.sleeps = value;
		else if (!strcmp(name, "--ring"))
			options.ring = value;
		else if (!strcmp(name, "--size"))
			options.size = value;
		else if (!strcmp(name, "--least") && value >= 8)
			options.least = value;
		else if (!strcmp(name, "--max-poll"))
			options.max_poll = value;
		else if (!strcmp(name, "--window") && value >= 1 && value < WINDOW_MAX)
			options.window = value;
		else if (!strcmp(name, "--coalesce"))
			options.coalesce = value;
		else if (!strcmp(name, "--moderation"))
			options.moderation = value;
		else if (!strcmp(name, "--pauses"))
			options.pauses = value;
		else if (!strcmp(name, "--pause") && value > LONG_NS)
			options.pause = value;
		else if (!strcmp(name, "--record") && value >= 8)
			options.record = value;
		else if (!strcmp(name, "--skew"))
			options.skew = value;
		else if (!strcmp(name, "--first"))
			options.first = value;
		else if (!strcmp(name, "--seed") && value)
			options.seed = value;
		else if (!strcmp(name, "--polling") && !strcmp(text, "never"))
			options.polling = RB_POLL_NEVER;
		else if (!strcmp(name, "--polling") && !strcmp(text, "adaptive"))
			options.polling = RB_POLL_ADAPTIVE;
		else if (!strcmp(name, "--cpus") &&
			 sscanf(text, "%d,%d", &options.cpus[0], &options.cpus[1]) == 2)
			;
		else {
			fprintf(stderr, "stress: what is %s %s? See the top of stress.c\n", name,
				text);
			exit(2);
		}
	}
}

static void make_side(struct side *side, const char *name, uint64_t random, int cpu,
		      const struct side *other, const uint64_t *late)
{
	*side = (struct side){.name = name, .random = random, .cpu = cpu};
	side->reasons = (struct reasons){
		.name = name, .mine = &side->task, .theirs = &other->task, .late = late};
}

/* Returns where the third process adds up how late it was. */
static uint64_t *share_reports(void)
{
	struct shared {
		struct side driver, device;
		uint64_t late;
	} *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);

	if (shared == MAP_FAILED)
		die("mmap");
	driver_side = &shared->driver;
	device_side = &shared->device;
	make_side(driver_side, "driver", options.seed * 2654435761U + 1, options.cpus[0],
		  device_side, &shared->late);
	make_side(device_side, "device", options.seed * 40503U + 77, options.cpus[1], driver_side,
		  &shared->late);
	return &shared->late;
}

static void check_that_all_arrived(void)
{
	if (options.record && device_side->entries != driver_side->entries)
		fail(device_side, "records at the end", driver_side->entries, device_side->entries);
}

static void say_numbers(const struct pair *pair, double seconds)
{
	uint64_t longest = driver_side->longest_ns > device_side->longest_ns
				   ? driver_side->longest_ns
				   : device_side->longest_ns;

	printf("sleeps %llu entries %llu seconds %.1f longest_ms %.2f long_waits %llu kicks %llu\n",
	       (unsigned long long)(driver_side->sleeps + device_side->sleeps),
	       (unsigned long long)driver_side->entries, seconds, (double)longest / 1e6,
	       (unsigned long long)(driver_side->reasons.explained +
				    device_side->reasons.explained),
	       (unsigned long long)(pair->driver->producer.mine->producer.kicks_sent +
				    pair->driver->producer.theirs->producer.kicks_sent));
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (options.size < options.least) {
		fprintf(stderr, "stress: --size is less than --least\n");
		return 2;
	}
	/* Each line of either process comes whole, and at once. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	pid_t watching = start_watching(share_reports());
	struct pair pair = options.record ? open_pair_of(options.ring / options.record,
							 options.record, 1, options.first)
					  : open_pair(options.ring, options.first);
	rb_channel_policy(pair.driver, options.polling, options.max_poll, RB_SHARE_ALL, 0);
	rb_channel_policy(pair.device, options.polling, options.max_poll, RB_SHARE_ALL, 0);
	rb_channel_moderation(pair.driver, options.moderation, MODERATION_NS);
	rb_channel_moderation(pair.device, options.moderation, MODERATION_NS);

	uint64_t began = clock_ns();
	run(&pair);
	check_that_all_arrived();
	say_numbers(&pair, (double)(clock_ns() - began) / 1e9);
	stop_watching(watching);
	close_pair(&pair);
	return driver_side->reasons.without_reason + device_side->reasons.without_reason ? 1 : 0;
}
