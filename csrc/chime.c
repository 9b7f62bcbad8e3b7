/* SPDX-License-Identifier: MIT
 *
 * Chimes: the control socket of a pipe is readable while there is something to take, and at no
 * other time. So the socket is what a caller may sleep on by itself, in select or in an event loop,
 * even before this side has been opened by anybody. It is a socket, because callers of
 * multiprocessing.Pipe also pass descriptors through it.
 *
 * A chime is a byte that the producer writes into the socket. The consumer cannot write into its
 * own socket; only the other end can. So it keeps the last chime in there while there is something
 * to take:
 *
 *     armed    the ring is empty, chime_event is its index, and the socket is empty. The producer
 *              will chime when it passes the event.
 *     rung     the producer has passed the event. At least one chime lies in the socket, or is
 *              about to come.
 *
 * At first a side is armed. From rung to armed it goes in rb_chime_settle, if the caller watches
 * the socket at all:
 *
 *     1. The ring is empty.
 *     2. The producer's chimed_index says that it has sent every chime for what it has published.
 *        Otherwise one that came after step 5 would make the socket readable for nothing, and the
 *        caller would wait in a call that has nothing to take.
 *     3. It writes chime_event. Full fence. It reads how many chimes have been sent.
 *     4. It looks again. If there is an entry now, the side stays rung: nothing has been taken out
 *        of the socket.
 *     5. It takes so many chimes out of the socket. If the producer has passed the event by now,
 *        there is one more.
 *
 * Steps 3 and 4 pair with the publish and its fence in rb_producer_publish, as (B) does: either the
 * producer sees this event and chimes, or step 4 sees its entry. The producer chimes once for each
 * event. tests/model/chime.pml searches this in full.
 *
 * Chimes have nothing to do with kicks. A thread that sleeps in a call is kicked as ever.
 */
#include <sys/socket.h>

#include "channel.h"
#include "life.h"

/* No byte that multiprocessing sends there: with descriptors it sends how many they are, and the
 * kernel passes 253 at most. */
#define CHIME 0xff

/* How long a consumer waits for a producer that has published and has not chimed yet. That takes a
 * system call, if the producer runs. If it does not, the socket stays readable. */
#define CHIME_COMES (20 * RB_MS)
#define LOOKS 64

/* ---- producing ---- */

/* After each publish: chimes if the consumer waits for one of the entries. */
void rb_chime(struct rb_producer *producer)
{
	const uint8_t chime = CHIME;
	uint64_t event = rb_load_relaxed(&producer->theirs->chime_event);

	if (event != producer->chimed_for && (int64_t)(producer->write - event) > 0) {
		producer->chimed_for = event;
		/* Counted as a kick, so that the next call looks whether the peer is there. */
		rb_add(&producer->mine->producer.kicks_sent, 1);
		/* A full socket is readable. */
		if (send(producer->control_fd, &chime, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
			rb_count(&producer->mine->chimes, 1);
	}
	/* (F) pairs with the acquire in all_have_chimed: who sees this index sees the count. */
	rb_store_release(&producer->mine->chimed_index, producer->write);
}

/* ---- consuming ---- */

/* A side of a pipe begins armed. */
void rb_chime_begin(rb_channel *channel, uint64_t first)
{
	channel->producer.chimes = true;
	channel->producer.chimed_for = first - 1;
	channel->consumer.chime = (struct rb_chime){.on = true, .armed = true};
}

/* Takes chimes out of the socket, up to the number `sent`. What the user has sent there stays, with
 * what lies behind it. */
static void take_chimes(rb_channel *channel, uint64_t sent)
{
	struct rb_chime *chime = &channel->consumer.chime;
	int fd = channel->control_fd;
	ssize_t length = 1;
	uint8_t byte;

	while (chime->taken != sent) {
		length = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (length != 1 || byte != CHIME || recv(fd, &byte, 1, MSG_DONTWAIT) != 1)
			break;
		chime->taken++;
	}
	if (length < 0) /* the user has taken some */
		chime->taken = sent;
}

/* Waits for the producer to have sent the chimes for all that it has published, which this side has
 * taken. False if the producer has gone, or does not run. */
static bool all_have_chimed(rb_channel *channel)
{
	const struct rb_consumer *consumer = &channel->consumer;
	const struct timespec pause = {.tv_nsec = 50 * RB_US};
	uint64_t began = 0;

	for (uint64_t looks = 1;; looks++) {
		/* (F) pairs with the release in rb_chime. */
		uint64_t chimed = rb_load_acquire(&consumer->theirs->chimed_index);
		/* The producer may have gone on. */
		if ((int64_t)(chimed - consumer->next) >= 0)
			return true;
		if (looks % LOOKS) {
			rb_cpu_relax();
			continue;
		}
		rb_look_for_peer(channel);
		uint64_t now = rb_now_ns();
		began = began ? began : now;
		if (rb_peer_gone(channel) || now - began > CHIME_COMES)
			return false;
		if (now - began > 50 * RB_US)
			nanosleep(&pause, NULL);
	}
}

/* After something was taken, if the caller watches the socket. */
void rb_chime_settle(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	struct rb_chime *chime = &consumer->chime;

	/* What comes later is for the next settling. While the caller keeps a message, the last
	 * chime stays as if that message were in the ring. */
	if (rb_dead(channel) || rb_load_relaxed_bool(&consumer->in_hand) ||
	    rb_consumer_available(consumer))
		return;
	if (chime->armed && rb_load_relaxed(&consumer->mine->chime_event) == consumer->next)
		return;
	chime->armed = false;
	if (!all_have_chimed(channel))
		return;
	rb_store_relaxed(&consumer->mine->chime_event, consumer->next);
	rb_fence_full();
	/* Before the look: if the producer has passed the event since, the look says so. */
	uint64_t sent = rb_load_acquire(&consumer->theirs->chimes);
	if (rb_consumer_look(consumer))
		return;
	take_chimes(channel, sent);
	chime->armed = true;
}

/* From now on the control socket is readable while there is something to take. */
void rb_chime_watch(rb_channel *channel)
{
	rb_store_relaxed_bool(&channel->consumer.chime.watched, true);
	rb_chime_settle(channel);
}

/* Whether there is something to take now, or the caller keeps a message: 1 or 0; or -errno when
 * nothing will come. It also looks at the socket, so it knows of a peer that went a moment ago. */
int rb_pipe_ready(rb_channel *channel)
{
	if (!rb_dead(channel) && rb_load_relaxed_bool(&channel->consumer.in_hand))
		return 1;
	int ready = rb_look(channel, RB_DATA, 0);

	if (ready)
		return ready;
	rb_look_for_peer(channel);
	return rb_look(channel, RB_DATA, 0);
}
