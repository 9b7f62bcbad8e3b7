/* SPDX-License-Identifier: MIT
 *
 * One writer and several readers that come, stay for a while, and go, all the time.
 *
 *   readers KIND ENTRIES VISITS [SEED]
 *
 * KIND is `all`, `stall` (the same, and a reader that does not move is let go) or `newest`; ENTRIES
 * is `messages` or `records`. Each of the reader threads visits so many times. A visit begins with
 * a new page, eventfd and socket, and ends with a goodbye or without. On its last visit the first
 * reader stays to the end of the stream. The bytes of each entry are checked, and that no entry is
 * missing, but those that the reader has been told of.
 *
 * Under ThreadSanitizer both sides use one mapping of all words; and of the slots, with `all`. With
 * the others the writer may write a slot while a reader copies it, and the reader asks afterwards.
 * ThreadSanitizer would call that a race. So there a reader looks at the slots through a mapping of
 * its own, and ThreadSanitizer watches the words, not the slots. What their order rests on is
 * searched in relacy/orders.cpp.
 *
 * Exits with 1 when an entry is wrong or missing, or a sleep lasts for 10 seconds.
 */
#include "life.h"
#include "pair.h"
#include "reader.h"
#include "readers.h"

#define HANG_NS 10000000000LL
#define THREADS 4
#define SLOTS 64
#define RECORD 64
#define LONGEST 9000 /* bytes of a message; one longer than half the ring goes in pieces */
#define WHOLE 1500   /* where only the newest are kept */
#define BATCH 8      /* entries that are published at once */
#define STALL (20 * RB_MS)

static bool newest, records;
static uint64_t stall_ns, visits;
static rb_channel *writer;
static struct rb_header header;
static int segment, wakes[2], life[2];
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER; /* who admits and removes */
static uint64_t published;                               /* entries; it lags behind one publish */
static uint64_t leaving; /* readers that have made all visits, or the last one begins */
static uint64_t took, missed, let_go, sleeps;

/* What one thread keeps. */
struct side {
	uint64_t number; /* of the thread; 0: the writer */
	rb_channel *channel;
	uint64_t random;
	uint64_t expected; /* the next entry; 0: any */
	uint64_t before;   /* published before it came */
	uint64_t first;    /* the first entry that it took or missed; 0: not known yet */
	uint64_t taken;    /* in this visit */
	pthread_t thread;
};

static void fail(const struct side *side, const char *what, uint64_t want, uint64_t got)
{
	fprintf(stderr, "FAILED: thread %llu: %s: %lld, not %lld; %llu taken, %llu published\n",
		(unsigned long long)side->number, what, (long long)got, (long long)want,
		(unsigned long long)side->taken,
		(unsigned long long)__atomic_load_n(&published, __ATOMIC_RELAXED));
	exit(1);
}

static uint64_t next_random(struct side *side)
{
	uint64_t x = side->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return side->random = x;
}

static void pause_at_random(struct side *side, uint64_t one_of, unsigned most_us)
{
	if (next_random(side) % one_of == 0)
		usleep((unsigned)(next_random(side) % most_us));
}

static void add(uint64_t *to, uint64_t more)
{
	__atomic_fetch_add(to, more, __ATOMIC_RELAXED);
}

/* Returns 0 when the caller is to try again, or -errno when nothing will come. */
static int wait_for(struct side *side, int want)
{
	int ready = rb_wait_poll(side->channel, want, -1);

	if (!ready) {
		uint64_t began = clock_ns();
		add(&sleeps, 1);
		ready = rb_wait_sleep(side->channel, want, HANG_NS, -1);
		if (!ready || clock_ns() - began >= HANG_NS)
			fail(side, "LOST WAKE-UP, waiting for", 0, (uint64_t)want);
	}
	return ready < 0 ? ready : 0;
}

static void fill(uint8_t *entry, uint64_t bytes, uint64_t number)
{
	memset(entry, (int)(number * 7), bytes);
	memcpy(entry, &number, sizeof(number));
}

/* ---- the writer ---- */

static void wait_for_room(struct side *side, int64_t status)
{
	if (status != -EAGAIN)
		fail(side, "publishing", 0, (uint64_t)status);
	if (wait_for(side, RB_SPACE))
		fail(side, "waiting for room", 0, 1);
}

static uint64_t random_length(struct side *side)
{
	uint64_t chance = next_random(side);

	if (newest)
		return 8 + chance % (WHOLE - 8);
	return 8 + (chance % 16 ? chance / 16 % 300 : chance / 16 % (LONGEST - 8));
}

static void send_message(struct side *side, uint8_t *entry, uint64_t number)
{
	uint64_t length = random_length(side);
	const struct rb_payload payload = {entry, length, NULL};
	int64_t status, done = 0;

	fill(entry, length, number);
	while ((status = rb_send(writer, &payload, 0, 0)) == -EAGAIN)
		wait_for_room(side, status);
	while (status == -EMSGSIZE && done < (int64_t)length) {
		int64_t sent = rb_send_piece(writer, &payload, (uint64_t)done, 0, RB_MESSAGE);
		if (sent < 0)
			wait_for_room(side, sent);
		else
			done = sent;
		pause_at_random(side, 4, 200); /* a reader may come in the middle */
	}
	if (status && status != -EMSGSIZE)
		fail(side, "a message", 0, (uint64_t)-status);
}

static uint64_t send_batch(struct side *side, uint8_t *entries, uint64_t number)
{
	struct rb_payload payloads[BATCH];
	int64_t sent;

	for (uint64_t i = 0; i < BATCH; i++) {
		uint8_t *entry = entries + i * WHOLE;
		uint64_t length = 8 + next_random(side) % 900;
		fill(entry, length, number + i);
		payloads[i] = (struct rb_payload){entry, length, NULL};
	}
	while ((sent = rb_send_many(writer, payloads, BATCH)) <= 0)
		wait_for_room(side, sent);
	return (uint64_t)sent;
}

/* Reserves more than it publishes. */
static uint64_t send_in_place(struct side *side, uint64_t number)
{
	uint64_t length = 8 + next_random(side) % 500;
	void *start;
	int status;

	while ((status = rb_reserve(writer, 2 * length, &start)))
		wait_for_room(side, status);
	fill(start, 2 * length, number);
	pause_at_random(side, 64, 100);
	if (next_random(side) % 8 == 0) {
		rb_unreserve(writer, rb_reservation(writer));
		return 0;
	}
	status = rb_commit(writer, rb_reservation(writer), length, 0);
	if (status)
		fail(side, "commit", 0, (uint64_t)-status);
	return 1;
}

static uint64_t write_records(struct side *side, uint8_t *entries, uint64_t number)
{
	uint64_t count = 1 + next_random(side) % BATCH, written = 0;

	for (uint64_t i = 0; i < count; i++)
		fill(entries + i * RECORD, RECORD, number + i);
	while (written < count) {
		int64_t status = rb_write(writer, entries + written * RECORD, count - written);
		if (status > 0)
			written += (uint64_t)status;
		else
			wait_for_room(side, status);
	}
	return count;
}

static uint64_t write_in_place(struct side *side, uint64_t number)
{
	uint64_t count = 1 + next_random(side) % BATCH, some = next_random(side) % (count + 1);
	int64_t start;

	while ((start = rb_reserve_records(writer, count)) < 0)
		wait_for_room(side, start);
	for (uint64_t i = 0; i < count; i++)
		fill(writer->producer.slots + ((uint64_t)start + i) * RECORD, RECORD, number + i);
	pause_at_random(side, 64, 100);
	int status = rb_commit_records(writer, rb_reservation(writer), some);
	if (status)
		fail(side, "commit of records", 0, (uint64_t)-status);
	return some;
}

static void *write_all(void *argument)
{
	static uint8_t entries[LONGEST > BATCH * WHOLE ? LONGEST : BATCH * WHOLE];
	struct side *side = argument;
	uint64_t number = 1;

	while (__atomic_load_n(&leaving, __ATOMIC_ACQUIRE) < THREADS) {
		uint64_t chance = next_random(side), sent = 1;
		if (chance % 16 == 0 && writer->producer.deferral.block)
			rb_defer_end(writer, 1);
		else if (chance % 16 == 1)
			rb_defer_begin(writer, 1, chance / 16 % 5, chance % 32 < 16 ? 20000 : 0);
		if (records)
			sent = chance / 64 % 2 ? write_records(side, entries, number)
					       : write_in_place(side, number);
		else if (chance / 64 % 4 == 0)
			sent = send_batch(side, entries, number);
		else if (chance / 64 % 4 == 1)
			sent = send_in_place(side, number);
		else
			send_message(side, entries, number);
		number += sent;
		__atomic_store_n(&published, number - 1, __ATOMIC_RELEASE);
		pause_at_random(side, 32, 200); /* the readers fall asleep */
	}
	rb_defer_end(writer, 1);
	rb_channel_close(writer, 1, HANG_NS);
	return NULL;
}

/* ---- a reader ---- */

struct visit {
	int page, kick, control[2], place;
};

/* The writer's mapping of the page is one for reading; the reader writes through it. */
static void share_words(struct side *side, const struct visit *visit)
{
	const struct rb_reader *reader = writer->producer.readers->places[visit->place];
	rb_channel *channel = side->channel;

	if (mprotect(reader->page.start, reader->page.bytes, PROT_READ | PROT_WRITE))
		die("mprotect");
	channel->producer.mine = channel->consumer.mine =
		(struct rb_control *)(void *)reader->page.start;
	channel->producer.theirs = channel->consumer.theirs = writer->producer.mine;
	if (!newest && !stall_ns)
		channel->consumer.slots = writer->producer.slots;
}

static void come(struct side *side, struct visit *visit)
{
	visit->page = memfd_create("ringbell-test", MFD_CLOEXEC);
	visit->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (visit->page < 0 || visit->kick < 0 ||
	    ftruncate(visit->page, (off_t)rb_reader_bytes()) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, visit->control))
		die("a page, an eventfd and a socket");
	side->before = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
	pthread_mutex_lock(&door);
	visit->place =
		rb_readers_admit(writer, visit->page, visit->kick, visit->control[0], "y", 1);
	char text;
	if (visit->place < 0 || recv(visit->control[1], &text, 1, 0) != 1)
		fail(side, "admitting", 0, (uint64_t)visit->place);
	int status = rb_reader_open(&side->channel, &header, segment, visit->page,
				    (int[]){wakes[0], visit->kick}, visit->control[1]);
	if (status)
		fail(side, "opening", 0, (uint64_t)-status);
	share_words(side, visit);
	pthread_mutex_unlock(&door);
	side->expected = side->first = side->taken = 0;
	rb_channel_policy(side->channel, RB_POLL_NEVER, 0, RB_SHARE_ALL, 0);
	if (next_random(side) % 4 == 0)
		rb_channel_moderation(side->channel, 1 + next_random(side) % 5, 50000);
	/* Bit by bit: with half of them it takes the newest only. */
	rb_takes_newest(side->channel, next_random(side) % 2 && newest);
}

static void go(struct side *side, struct visit *visit)
{
	add(&took, side->taken);
	add(&missed, rb_missed(side->channel));
	if (next_random(side) % 2)
		rb_channel_close(side->channel, 1, HANG_NS);
	rb_channel_free(side->channel);
	close(visit->control[1]);
	pause_at_random(side, 4, 300); /* the writer still counts on it */
	pthread_mutex_lock(&door);
	rb_readers_remove(writer, visit->place);
	pthread_mutex_unlock(&door);
	close(visit->control[0]);
	close(visit->kick);
	close(visit->page);
}

/* The next entry has been taken, and these are its bytes. */
static void check(struct side *side, const uint8_t *entry, uint64_t bytes)
{
	uint64_t number, now = __atomic_load_n(&published, __ATOMIC_ACQUIRE);

	memcpy(&number, entry, sizeof(number));
	for (uint64_t i = sizeof(number); i < bytes; i++)
		if (entry[i] != (uint8_t)(number * 7))
			fail(side, "a byte", (uint8_t)(number * 7), entry[i]);
	side->taken++;
	/* What it took and what it missed are all that was published since it came. */
	uint64_t first = number + 1 - side->taken - rb_missed(side->channel);
	if (!side->first) {
		/* What is newest when a reader comes is for it as well. */
		if (first + newest < side->before + 1 || first > now + BATCH + 1)
			fail(side, "the first entry", side->before + 1, first);
		side->first = first;
	}
	if (first != side->first)
		fail(side, "the first entry, as all have been counted", side->first, first);
	if (number < side->expected || (!newest && side->expected && number != side->expected))
		fail(side, "the next entry", side->expected, number);
	side->expected = number + 1;
}

/* Takes a message in pieces; returns 0 or -errno. */
static int take_pieces(struct side *side)
{
	uint8_t whole[LONGEST];
	const rb_frame *frame = &side->channel->consumer.frame;
	uint64_t length = 0;
	int status;

	for (;;) {
		while ((status = rb_peek(side->channel, 0)) == -EAGAIN) {
			status = wait_for(side, RB_DATA);
			if (status)
				return status;
		}
		if (status)
			return status;
		bool more = frame->flags & RB_FLAG_MORE;
		memcpy(whole + length, side->channel->consumer.slots + frame->start,
		       frame->stop - frame->start);
		length += frame->stop - frame->start;
		if (!rb_still_whole(side->channel, &status))
			return status;
		rb_skip(side->channel);
		rb_give_back(side->channel);
		if (!more)
			break;
	}
	check(side, whole, length);
	return 0;
}

/* Takes all messages that have arrived as one batch. */
static int take_many(struct side *side)
{
	struct rb_place found[BATCH];
	uint8_t copies[BATCH][SLOTS * RB_SLOT];
	int status = rb_peek(side->channel, 0);

	if (status)
		return status;
	uint64_t count = rb_find_arrived(side->channel, found, BATCH);
	if (!count)
		return -EMSGSIZE;
	for (uint64_t i = 0; i < count; i++)
		memcpy(copies[i], found[i].start, found[i].length);
	if (!rb_still_whole(side->channel, &status))
		return status;
	/* One by one, so that each is checked against what was missed before it. */
	rb_skip_found(side->channel, found, count);
	rb_give_back(side->channel);
	for (uint64_t i = 0; i < count; i++)
		check(side, copies[i], found[i].length);
	return 0;
}

static int take_message(struct side *side)
{
	uint8_t copy[SLOTS * RB_SLOT];

	if (next_random(side) % 4 == 0)
		return take_many(side);
	int64_t length = rb_recv(side->channel, copy, sizeof(copy), 0);
	if (length < 0)
		return (int)length;
	check(side, copy, (uint64_t)length);
	return 0;
}

static int take_records(struct side *side)
{
	struct rb_consumer *consumer = &side->channel->consumer;
	uint8_t copy[SLOTS * RECORD];
	int64_t count = rb_borrow(side->channel, 1 + next_random(side) % SLOTS, 0);

	if (count < 0)
		return (int)count;
	memcpy(copy, consumer->slots + consumer->frame.start * RECORD, (uint64_t)count * RECORD);
	uint64_t some = 1 + next_random(side) % (uint64_t)count;
	int status = rb_return(side->channel, some);
	for (uint64_t i = 0; i < some && !status; i++)
		check(side, copy + i * RECORD, RECORD);
	return status;
}

static int take_some(struct side *side)
{
	int status = records ? take_records(side) : take_message(side);

	if (status == -EMSGSIZE)
		status = take_pieces(side);
	if (status == -EAGAIN)
		status = wait_for(side, RB_DATA);
	return status == -ESTALE ? 0 : status;
}

static void *read_all(void *argument)
{
	struct side *side = argument;

	for (uint64_t left = visits; left; left--) {
		bool stays = left == 1 && side->number == 1;
		uint64_t most = next_random(side) % 8 ? next_random(side) % 100 : 0;
		struct visit visit;
		int status = 0;
		come(side, &visit);
		__atomic_fetch_add(&leaving, stays, __ATOMIC_RELEASE);
		while (!status && (stays || side->taken < most)) {
			status = take_some(side);
			pause_at_random(side, 64, stall_ns ? 100000 : 500);
		}
		add(&let_go, status == -ETIMEDOUT);
		if (status && !(stays && status == -EPIPE) && !(stall_ns && status == -ETIMEDOUT))
			fail(side, "the end of a visit", 0, (uint64_t)status);
		uint64_t all = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
		if (status == -EPIPE && side->expected && side->expected != all + 1)
			fail(side, "the end of the stream", all, side->expected - 1);
		go(side, &visit);
	}
	__atomic_fetch_add(&leaving, side->number != 1, __ATOMIC_RELEASE);
	return NULL;
}

static void open_writer(void)
{
	uint64_t size = rb_header_make(&header, SLOTS, records ? RECORD : RB_SLOT, 64,
				       records ? 1 : 0, UINT64_MAX - 500);

	rb_header_for_readers(&header, newest);
	segment = memfd_create("ringbell-test", MFD_CLOEXEC);
	wakes[0] = wakes[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (segment < 0 || wakes[0] < 0 || ftruncate(segment, (off_t)size) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life))
		die("the writer's memory");
	if (rb_channel_open(&writer, &header, RB_DRIVER, segment, wakes, life[0]) ||
	    rb_readers_begin(writer, newest, 2, stall_ns))
		die("the writer");
	rb_channel_policy(writer, RB_POLL_NEVER, 0, RB_SHARE_ALL, 0);
}

int main(int argc, char **argv)
{
	struct side sides[THREADS + 1];

	if (argc < 4) {
		fprintf(stderr, "readers {all,stall,newest} {messages,records} VISITS [SEED]\n");
		return 2;
	}
	newest = !strcmp(argv[1], "newest");
	stall_ns = strcmp(argv[1], "stall") ? 0 : STALL;
	records = !strcmp(argv[2], "records");
	visits = strtoull(argv[3], NULL, 0);
	uint64_t seed = argc > 4 ? strtoull(argv[4], NULL, 0) : 1;
	open_writer();
	for (uint64_t i = 0; i <= THREADS; i++) {
		sides[i] = (struct side){.number = i, .random = (seed + i) * 2654435761U};
		sides[i].channel = i ? NULL : writer;
		if (pthread_create(&sides[i].thread, NULL, i ? read_all : write_all, &sides[i]))
			die("pthread_create");
	}
	for (uint64_t i = 0; i <= THREADS; i++)
		pthread_join(sides[i].thread, NULL);
	rb_channel_free(writer);
	printf("visits %llu entries %llu taken %llu missed %llu gone %llu sleeps %llu\n",
	       (unsigned long long)(THREADS * visits), (unsigned long long)published,
	       (unsigned long long)took, (unsigned long long)missed, (unsigned long long)let_go,
	       (unsigned long long)sleeps);
	return 0;
}
