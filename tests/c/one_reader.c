/* SPDX-License-Identifier: MIT
 *
 * One writer and its readers, step by step.
 *
 *   slot     a ring of one slot has a writer, too
 *   middle   a reader that comes in the middle of a message begins with the next one
 *   batch    while the newest are kept, no batch takes the room of the newest entry
 *   portions the writer claims much at once, but nothing that has to stay whole
 *   index    a writer whose index or length is nonsense is found out, and nothing else is read
 *   ahead    a reader whose index is nonsense is let go, and holds nobody back
 *   last     a reader that is let go hears it, whatever it was passed before
 *   crowded  a poll of one of more ends than CPUs lets others run, unless they only compute
 *   child    a forked child parts with the readers, whatever the parent's threads were at
 *
 * Exits with 0 when all is well.
 */
#include "life.h"
#include "owned.h"
#include "pair.h"
#include "reader.h"
#include "readers.h"

#include <sys/timerfd.h>
#include <sys/wait.h>

static rb_channel *writer, *readers[2];
static struct rb_header header;
static int segment, wakes[2], life[2], page, kick, control[2];

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "FAILED: %s\n", what);
	exit(1);
}

static void open_writer(uint64_t slots, uint64_t record, bool newest)
{
	uint64_t size = rb_header_make(&header, slots, record ? record : RB_SLOT, 64, record != 0,
				       UINT64_MAX - 20);

	rb_header_for_readers(&header, newest);
	segment = memfd_create("ringbell-test", MFD_CLOEXEC);
	wakes[0] = wakes[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(!ftruncate(segment, (off_t)size) &&
		      !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life),
	      "there is memory");
	check(!rb_channel_open(&writer, &header, RB_DRIVER, segment, wakes, life[0]) &&
		      !rb_readers_begin(writer, newest, 0, 0),
	      "the writer opens");
}

/* Returns its place. */
static int come(rb_channel **reader)
{
	page = memfd_create("ringbell-test", MFD_CLOEXEC);
	kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(!ftruncate(page, (off_t)rb_reader_bytes()) &&
		      !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control),
	      "there is a page");
	int place = rb_readers_admit(writer, page, kick, control[0], "y", 1);
	char text;
	check(place >= 0 && recv(control[1], &text, 1, 0) == 1, "it is admitted");
	check(!rb_reader_open(reader, &header, segment, page, (int[]){wakes[0], kick}, control[1]),
	      "a reader opens");
	return place;
}

static void close_all(void)
{
	for (int i = 0; i < 2; i++) {
		if (readers[i])
			rb_channel_free(readers[i]);
		readers[i] = NULL;
	}
	rb_channel_free(writer);
	writer = NULL;
}

static int send_text(const char *text)
{
	return rb_send(writer, &(struct rb_payload){text, strlen(text), NULL}, 0, 0);
}

static bool receives(rb_channel *reader, const char *text)
{
	char got[4096];
	int64_t length = rb_recv(reader, got, sizeof(got), 0);

	return length == (int64_t)strlen(text) && !memcmp(got, text, strlen(text));
}

static void slot(void)
{
	uint8_t record[4096] = {7};

	open_writer(1, sizeof(record), false);
	come(&readers[0]);
	for (int i = 0; i < 5; i++) {
		check(rb_write(writer, record, 1) == 1, "a record is written");
		check(rb_write(writer, record, 1) == -EAGAIN, "there is room for one");
		check(rb_borrow(readers[0], 1, 0) == 1 && !rb_return(readers[0], 1),
		      "and it is taken");
	}
}

static void middle(void)
{
	static uint8_t message[3000];
	const struct rb_payload whole = {message, sizeof(message), NULL};
	int64_t done;

	open_writer(64, 0, false);
	done = rb_send_piece(writer, &whole, 0, 0, RB_MESSAGE);
	check(done > 0, "a message begins");
	come(&readers[0]);
	while (done < (int64_t)sizeof(message)) {
		int64_t sent = rb_send_piece(writer, &whole, (uint64_t)done, 0, RB_MESSAGE);
		check(sent > done, "it goes on");
		done = sent;
	}
	check(rb_peek(readers[0], 0) == -EAGAIN, "its rest is for nobody");
	check(!send_text("next") && receives(readers[0], "next"), "the next one comes");
	check(!rb_missed(readers[0]), "and none was missed");
	check(rb_load_acquire(&readers[0]->consumer.mine->read_index) == writer->producer.write,
	      "all is given back");
}

static void batch(void)
{
	struct rb_payload payloads[100];

	open_writer(64, 0, true);
	for (int i = 0; i < 100; i++)
		payloads[i] = (struct rb_payload){"x", 1, NULL};
	check(!send_text("newest"), "an entry is sent");
	come(&readers[0]);
	for (int i = 0; i < 10; i++) {
		uint64_t newest = writer->producer.mine->newest_index;
		uint64_t claimed = writer->producer.mine->claim_index;
		check(rb_send_many(writer, payloads, 100) == 32, "half the ring is sent at once");
		claimed = writer->producer.mine->claim_index;
		check(claimed - newest <= 64, "the newest stays until another one is there");
	}
	check(receives(readers[0], "x"), "the reader goes on");
	check(rb_missed(readers[0]) > 200, "and missed some");
}

/* Sends a lap of entries; whether all of them were sent, and claim_index moved a few times only.
 * What begins at *stays has to stay whole. */
static bool keeps_claiming(const uint64_t *stays)
{
	const struct rb_control *mine = writer->producer.mine;
	uint64_t claimed = mine->claim_index;
	int claims = 0;

	for (int i = 0; i < 64; i++) {
		uint64_t before = *stays;
		if (send_text("x"))
			return false;
		claims += mine->claim_index != claimed;
		claimed = mine->claim_index;
		check(claimed - mine->write_index <= 64, "all that was written was claimed");
		check(claimed - before <= 64, "what has to stay whole stays");
		if (readers[0])
			check(receives(readers[0], "x"), "and a reader gets it");
	}
	return claims <= (int)RB_PORTIONS;
}

static void portions(void)
{
	open_writer(64, 0, true);
	check(keeps_claiming(&writer->producer.mine->newest_index), "the newest stay");
	close_all();

	open_writer(64, 0, false);
	come(&readers[0]);
	check(keeps_claiming(&readers[0]->consumer.mine->read_index), "a reader that keeps up");
	come(&readers[1]);
	const uint64_t *read = &readers[1]->consumer.mine->read_index;
	check(keeps_claiming(read) && send_text("x") == -EAGAIN, "and one that does not");
	for (int i = 0; i < 64; i++)
		check(receives(readers[1], "x"), "it finds all of them");
}

static void claims_nonsense(uint64_t ahead, uint32_t length)
{
	struct rb_frame_header *frame = (struct rb_frame_header *)(void *)rb_producer_slot(
		&writer->producer, writer->producer.write - 1);
	char got[64];

	frame->length = length;
	rb_store_release(&writer->producer.mine->write_index, writer->producer.write + ahead);
	check(rb_recv(readers[0], got, sizeof(got), 0) == -EPROTO, "it is found out");
	check(rb_recv(readers[0], got, sizeof(got), 0) == -EPROTO, "for ever");
	close_all();
}

static void index_(void)
{
	open_writer(64, 0, false);
	come(&readers[0]);
	check(!send_text("x"), "an entry is sent");
	claims_nonsense(1ULL << 40, 1U << 31); /* a length that fits what has arrived */
	open_writer(64, 0, true);
	come(&readers[0]);
	check(!send_text("x"), "an entry is sent");
	claims_nonsense(0, 65); /* one slot more than has arrived */
	open_writer(64, RB_SLOT, false);
	come(&readers[0]);
	rb_store_release(&writer->producer.mine->write_index, writer->producer.write + 65);
	check(rb_borrow(readers[0], UINT64_MAX, 0) == -EPROTO, "more records than there are");
	close_all();
	open_writer(64, 0, false);
	come(&readers[0]);
	check(!send_text("x"), "an entry is sent");
	rb_store_release(&writer->producer.mine->newest_index, 1ULL << 62);
	rb_store_release(&writer->producer.mine->write_index, (1ULL << 62) + 1);
	rb_takes_newest(readers[0], 1);
	check(rb_peek(readers[0], 0) == -EPROTO, "a newest entry that is far away");
}

static void ahead(void)
{
	/* Before where it began, and behind what was sent. */
	uint64_t nonsense[] = {1ULL << 40, 1ULL << 63, UINT64_MAX - 1, UINT64_MAX - 64};

	for (int i = 0; i < 4; i++) {
		open_writer(64, 0, false);
		come(&readers[0]);
		come(&readers[1]);
		check(!send_text("x") && receives(readers[0], "x") && receives(readers[1], "x"),
		      "both have one entry");
		rb_store_release(&readers[0]->consumer.mine->read_index,
				 writer->producer.write + nonsense[i]);
		for (int j = 0; j < 200; j++)
			check(!send_text("y") && receives(readers[1], "y"), "the other goes on");
		rb_look_for_peer(readers[0]);
		check(rb_peer_gone(readers[0]) == -ETIMEDOUT, "it is told");
		close_all();
	}
}

static void last(void)
{
	static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	open_writer(64, 0, false);
	come(&readers[0]);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int pool = memfd_create("ringbell-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(!ftruncate(pool, (off_t)rb_whole_pages(1)) && !fcntl(pool, F_ADD_SEALS, seals),
	      "there is a pool");
	check(!rb_socket_send(control[0], "t", 1, &timer, 1) &&
		      !rb_socket_send(control[0], "p", 1, &pool, 1) &&
		      !rb_socket_send(control[0], "l", 1, NULL, 0) &&
		      !shutdown(control[0], SHUT_RDWR),
	      "all is said");
	rb_look_for_peer(readers[0]);
	check(rb_peer_gone(readers[0]) == -ETIMEDOUT, "it was let go");
	check(readers[0]->consumer.has_pool, "and has the pool for what it was sent");
}

static int yields;
static void (*meanwhile)(void); /* what others do while a poll lets them run */

/* The core's, instead of the C library's. */
int sched_yield(void)
{
	yields++;
	if (meanwhile)
		meanwhile();
	return 0;
}

static void send_one(void)
{
	check(!send_text("x"), "an entry is sent");
}

static void take_one(void)
{
	check(receives(readers[0], "x"), "an entry is taken");
}

static void compute(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 3 * (long)RB_MS}, NULL);
}

/* Polls in vain for a short time; says how often others could run. */
static int yields_in_vain(rb_channel *channel)
{
	yields = 0;
	check(!rb_wait_poll(channel, RB_DATA, 20 * (int64_t)RB_MS), "nothing came");
	return yields;
}

static void crowded(void)
{
	open_writer(64, 0, false);
	int place = come(&readers[0]);
	check(writer->cpus && readers[0]->cpus == writer->cpus, "both count the CPUs");
	rb_channel_policy(readers[0], RB_POLL_ADAPTIVE, 1000 * RB_MS, RB_SHARE_ALL, 0);
	rb_channel_policy(writer, RB_POLL_ADAPTIVE, 1000 * RB_MS, RB_SHARE_ALL, 0);

	writer->cpus = readers[0]->cpus = 2;
	check(!yields_in_vain(readers[0]), "two ends have two CPUs");
	writer->cpus = readers[0]->cpus = 1;
	check(yields_in_vain(readers[0]) > 1, "but not one");

	yields = 0;
	meanwhile = send_one;
	check(rb_wait_poll(readers[0], RB_DATA, -1) == RB_DATA && yields == 1,
	      "the writer could run");
	take_one();
	meanwhile = NULL;
	while (!send_text("x"))
		;
	yields = 0;
	meanwhile = take_one;
	check(rb_wait_poll(writer, RB_SPACE, -1) == RB_SPACE && yields, "the reader could run");

	while (receives(readers[0], "x"))
		;
	meanwhile = compute;
	check(yields_in_vain(readers[0]) == 1, "one that computes gets the CPU once");
	check(yields_in_vain(readers[0]) == 0, "and not in the next poll");
	check(yields_in_vain(readers[0]) == 1, "but then again");
	for (int i = 0; i < 3; i++)
		check(yields_in_vain(readers[0]) == 0, "and then not for longer");

	meanwhile = NULL;
	rb_readers_remove(writer, place);
	writer->cpus = 1;
	check(!rb_load_acquire(&writer->producer.mine->readers), "nobody is left");
}

/* What another thread of the parent is at when it forks stays so in the child. */
static void child(void)
{
	open_writer(64, 0, false);
	int place = come(&readers[0]);
	pthread_mutex_lock(&writer->producer.readers->lock);
	writer->producer.readers->walking = true;
	pid_t forked = fork();
	if (!forked) {
		rb_channel_disown(writer);
		rb_readers_remove(writer, place);
		rb_channel_free(writer);
		_exit(0);
	}
	int status;
	check(waitpid(forked, &status, 0) == forked && !status, "the child has parted with it");
	check(rb_socket_look(control[1], (char[1]){0}, 1, NULL, 0, &status) == -EAGAIN,
	      "and the parent has not");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*check)(void);
	} checks[] = {{"slot", slot},         {"middle", middle},   {"batch", batch},
		      {"portions", portions}, {"index", index_},    {"ahead", ahead},
		      {"last", last},         {"crowded", crowded}, {"child", child}};

	for (unsigned i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		if (argc == 2 && !strcmp(argv[1], checks[i].name)) {
			checks[i].check();
			if (writer)
				close_all();
			return 0;
		}
	fprintf(stderr, "one_reader {slot,middle,batch,index,ahead,last,crowded,child}\n");
	return 2;
}
