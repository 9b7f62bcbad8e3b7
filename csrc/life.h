/* SPDX-License-Identifier: MIT
 *
 * The life of the two sides of a channel: every rule about how it ends, and how that is noticed.
 *
 * A side's own life ends once, in `dead`:
 *
 *     -EBADF       this process closes the channel, or is a forked child that does not own it
 *     -EPROTO      the peer broke the format
 *
 * The peer's life ends once, in `peer_gone`, and there are two signs of it. It writes its goodbye
 * into shared memory when it closes, after the last entry that it publishes. The kernel ends its
 * control socket when it closes or dies. So:
 *
 *     goodbye   socket ended    peer_gone
 *     no        no              0             the peer lives; silence never means death
 *     yes       no or yes       -EPIPE        it closed
 *     no        yes             -ECONNRESET   it died
 *
 * What calls do then:
 *
 *     state          publish, reserve    take                       wait for room, for data
 *     both live      as always           as always                  as always
 *     peer_gone      return peer_gone    what is left, then         return peer_gone; for data,
 *                                        return peer_gone           what is left comes first
 *     dead           return dead         return dead                return dead
 *
 * A side notices the goodbye whenever it publishes, and whenever a look finds nothing to take. It
 * notices the socket's end:
 *
 *     in a sleep                  at once: each sleep watches the socket
 *     in a poll                   every 10 ms
 *     in the call after a kick    because a peer that died while asleep still gets the kick, but
 *                                 never wakes
 *     when a stream ends          rb_untold_loss
 *     in each 64th send           of a pipe, and in the first
 *
 * A look for each message would cost as much as the message.
 *
 * Two threads may use the two ends of a side, and a third one may close it. So only the functions
 * here load and store `dead`, `peer_gone` and `life_seen_ns`, and any of these threads may call
 * them. `kicks_seen` belongs to the publishing thread.
 */
#ifndef RB_LIFE_H
#define RB_LIFE_H

#include <poll.h>

#include "channel.h"

/* How long polling may leave the control socket unwatched. */
#define RB_LIFE_INTERVAL (10 * RB_MS)

/* ---- this side ---- */

/* 0, or what every call of this side returns from now on. No other data depends on it, so it needs
 * no memory order. */
static inline int rb_dead(const rb_channel *channel)
{
	return rb_load_relaxed_int(&channel->dead);
}

/* The peer broke the format. Returns why this side is dead: another thread may be closing it. */
static inline int rb_corrupt(rb_channel *channel)
{
	rb_set_once_int(&channel->dead, -EPROTO);
	return rb_dead(channel);
}

/* Every later step of this side fails. */
static inline void rb_end_life(rb_channel *channel)
{
	rb_store_relaxed_int(&channel->dead, -EBADF);
}

/* After the last publish. The goodbye says how many slots the user was lent. They count as taken,
 * but are not given back, because the user may look at them for as long as he likes. */
static inline void rb_say_goodbye(rb_channel *channel)
{
	uint64_t lent = rb_load_relaxed(&channel->consumer.lent);

	rb_store_release(&channel->producer.mine->goodbye, 1 + lent);
}

/* ---- who is inside ---- */

static inline uint64_t rb_this_thread(void)
{
	return (uint64_t)(uintptr_t)pthread_self();
}

/* A thread that may share a side with others enters an end before it uses the end, and leaves the
 * end afterwards. False when a thread is inside. */
static inline bool rb_enter(uint64_t *inside)
{
	return rb_place_take(inside, rb_this_thread());
}

/* True when this was the last thread inside and the side was to be closed: now it is. */
static inline bool rb_leave(rb_channel *channel, uint64_t *inside)
{
	rb_place_give(inside);
#ifndef RB_LEAVES_WITH_LOCK
	/* Pairs with the fence in rb_channel_stop: either this thread sees that the side is being
	 * closed, or the closing thread sees that nobody is inside. No fence is needed where the
	 * callers of rb_channel_stop and of this hold one lock (Python's GIL). */
	rb_fence_full();
#endif
	return rb_dead(channel) == -EBADF && rb_channel_left(channel);
}

/* ---- the peer ---- */

static inline bool rb_said_goodbye(const rb_channel *channel)
{
	return rb_load_acquire(&channel->consumer.theirs->goodbye) != 0;
}

/* 0, or how the peer went. The thread that noted it had seen everything that the peer published.
 * The acquire makes this thread's next look see that as well. */
static inline int rb_peer_gone(const rb_channel *channel)
{
	return rb_load_acquire_int(&channel->peer_gone);
}

static inline int rb_note_peer_gone(rb_channel *channel, int how)
{
	rb_store_release_int(&channel->peer_gone, how);
	return how;
}

/* The peer's socket has ended; the goodbye tells whether the peer closed or died. If this side is
 * being closed, it has ended the socket itself. */
static inline void rb_note_socket_ended(rb_channel *channel)
{
	if (rb_dead(channel))
		return;
	if (channel->consumer.one_of_many && rb_hears_let_go(channel))
		return;
	int how = rb_said_goodbye(channel) ? -EPIPE : -ECONNRESET;
	rb_note_peer_gone(channel, how);
}

static inline void rb_look_for_peer(rb_channel *channel)
{
	struct pollfd socket = {.fd = channel->control_fd, .events = POLLRDHUP};

	if (!rb_peer_gone(channel) && poll(&socket, 1, 0) > 0)
		rb_note_socket_ended(channel);
}

/* For a caller that polls. If both threads poll, there may be one look too many, or a look that is
 * late by the time of one store. */
static inline void rb_look_for_peer_at_times(rb_channel *channel, uint64_t now)
{
	/* The other thread's time may lie after `now`. */
	if ((int64_t)(now - rb_load_relaxed(&channel->life_seen_ns)) < (int64_t)RB_LIFE_INTERVAL)
		return;
	rb_store_relaxed(&channel->life_seen_ns, now);
	rb_look_for_peer(channel);
}

/* Whether it is time that a pipe's producer looks for its peer: at its first entry, and at each
 * 64th. A pipe whose other end nobody has used has said no goodbye when it is closed. */
static inline bool rb_pipe_looks(const struct rb_producer *producer)
{
	return producer->chimes && !(rb_load_relaxed(&producer->mine->producer.entries) % 64);
}

/* For a caller that publishes: 0, or the reason why nobody would take it. */
static inline int rb_may_publish(rb_channel *channel)
{
	uint64_t kicks = rb_load_relaxed(&channel->producer.mine->producer.kicks_sent);

	if (rb_dead(channel))
		return rb_dead(channel);
	if (kicks != channel->kicks_seen || rb_pipe_looks(&channel->producer)) {
		channel->kicks_seen = kicks;
		rb_look_for_peer(channel);
	}
	int gone = rb_peer_gone(channel);
	/* Noted for the consuming end, which looks at peer_gone next. */
	return gone || !rb_said_goodbye(channel) ? gone : rb_note_peer_gone(channel, -EPIPE);
}

/* For a caller whose look found nothing to take: 0, or the reason why nothing more will come. */
static inline int rb_no_more_comes(const rb_channel *channel)
{
	/* Another thread may have closed this side while the caller slept. */
	if (rb_dead(channel))
		return rb_dead(channel);
	int gone = rb_peer_gone(channel);
	return gone || !rb_said_goodbye(channel) ? gone : -EPIPE;
}

#endif
