/* SPDX-License-Identifier: MIT
 *
 * Messages on a ring: a frame header on a slot, then the payload, rounded up to whole slots. Slots
 * are mapped twice in a row, so a frame that wraps is one piece. message_consumer.c takes them.
 */
#include <string.h>

#include "blocks.h"
#include "channel.h"
#include "quick.h"

static uint64_t payload_of(uint64_t slots)
{
	return slots * RB_SLOT - RB_HEADER;
}

/* The longest payload that one frame can carry: all of the ring. */
uint64_t rb_payload_max(rb_channel *channel)
{
	return payload_of(rb_most_slots(&channel->producer));
}

/* The longest payload that rb_reserve can give: all of the ring, or of the pool. */
uint64_t rb_reserve_max(rb_channel *channel)
{
	const struct rb_pool *pool = &channel->producer.pool;
	uint64_t ring = rb_payload_max(channel);

	return pool->bytes > ring && pool->bytes >= pool->least ? pool->bytes : ring;
}

static uint8_t *next_slot(const struct rb_producer *producer)
{
	return rb_producer_slot(producer, producer->write);
}

/* 0 when a whole message may begin. */
static int may_begin(rb_channel *channel)
{
	int status = rb_may_produce(channel);

	return !status && channel->producer.in_pieces ? -EBUSY : status;
}

static int make_room_for_whole(rb_channel *channel, uint64_t length, int64_t patience_ns)
{
	int status = may_begin(channel);

	if (status)
		return status;
	if (length > rb_payload_max(channel))
		return -EMSGSIZE;
	return rb_make_room(channel, rb_slots_of(length), patience_ns);
}

static void publish(struct rb_producer *producer, struct rb_frame_header header)
{
	rb_number_frame(producer, &header, 0);
	memcpy(next_slot(producer), &header, sizeof(header));
	rb_publish(producer, rb_slots_of(header.length), 1, header.length);
}

/* A message larger than half the ring leaves no room for another one like it. Both sides would
 * never copy at the same time, as they do with pieces. */
static bool may_copy_whole(const struct rb_producer *producer, uint64_t length)
{
	return length <= payload_of(producer->count / 2);
}

/* Copies one whole message into the ring and publishes it. */
static int send_in_ring(rb_channel *channel, const struct rb_payload *payload, uint64_t token,
			int kind, int64_t patience_ns)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t length = payload->length;
	int status = may_copy_whole(producer, length)
			     ? make_room_for_whole(channel, length, patience_ns)
			     : -EMSGSIZE;

	if (status)
		return status;
	rb_copy_payload(next_slot(producer) + RB_HEADER, payload, 0, length);
	publish(producer, (struct rb_frame_header){(uint32_t)length, (uint16_t)kind, 0, token});
	return 0;
}

static int send_large(rb_channel *channel, const struct rb_payload *payload, uint64_t token,
		      int kind, int64_t patience_ns)
{
	int status = may_begin(channel);

	if (payload->length > RB_BLOCK_PART)
		return -EMSGSIZE; /* part by part */
	if (!status)
		status = rb_send_block(channel, payload, token, kind, patience_ns);
	if (status != -ENOBUFS)
		return status;
	status = send_in_ring(channel, payload, token, kind, patience_ns);
	if (!status)
		rb_count(&channel->producer.mine->blocks_copied, 1);
	return status;
}

/* Copies one whole message, into a block if it is large and blocks are in use. */
int rb_send_whole(rb_channel *channel, const struct rb_payload *payload, uint64_t token, int kind,
		  int64_t patience_ns)
{
	if (payload->length >= channel->producer.pool.least)
		return send_large(channel, payload, token, kind, patience_ns);
	return send_in_ring(channel, payload, token, kind, patience_ns);
}

int rb_send(rb_channel *channel, const struct rb_payload *payload, uint64_t token,
	    int64_t patience_ns)
{
	return rb_send_whole(channel, payload, token, RB_MESSAGE, patience_ns);
}

/* Whether a message lies in the ring as one frame. */
static bool goes_whole(const struct rb_producer *producer, uint64_t length)
{
	return length < producer->pool.least && may_copy_whole(producer, length);
}

/* Copies as many messages into the ring as fit, and publishes them at once; or one into a block.
 * Returns how many, or -EMSGSIZE when the first has to go in pieces. */
int64_t rb_send_many(rb_channel *channel, const struct rb_payload *payloads, uint64_t count)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t sent = 0, slots = 0, bytes = 0;

	if (!goes_whole(producer, payloads[0].length)) {
		int alone = rb_send_whole(channel, &payloads[0], 0, RB_MESSAGE, 0);
		return alone ? alone : 1;
	}
	int status = make_room_for_whole(channel, payloads[0].length, 0);
	if (status)
		return status;
	for (; sent < count && goes_whole(producer, payloads[sent].length); sent++) {
		uint64_t length = payloads[sent].length;
		uint64_t more = rb_slots_of(length);
		if (slots + more > rb_most_slots(producer) ||
		    rb_producer_room(producer, slots + more) <= 0)
			break;
		struct rb_frame_header header = {.length = (uint32_t)length, .kind = RB_MESSAGE};
		uint8_t *slot = rb_producer_slot(producer, producer->write + slots);
		rb_claim(producer, slots + more);
		rb_number_frame(producer, &header, slots);
		memcpy(slot, &header, sizeof(header));
		rb_copy_payload(slot + RB_HEADER, &payloads[sent], 0, length);
		slots += more;
		bytes += length;
	}
	rb_publish(producer, slots, sent, bytes);
	return (int64_t)sent;
}

/* Sends the next piece of a message that rb_send does not send as a whole. `done` bytes have been
 * sent before; returns the bytes sent in all, or 0 when the caller has to call again. Pieces are a
 * quarter of the ring, so that both sides copy at the same time. */
int64_t rb_send_piece(rb_channel *channel, const struct rb_payload *payload, uint64_t done,
		      uint64_t token, int kind)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t length = payload->length;
	int status = rb_may_produce(channel);

	if (status)
		return status;
	if (producer->in_pieces != (done != 0))
		return -EBUSY;
	if (rb_most_slots(producer) < producer->count && length < producer->pool.least)
		return -EMSGSIZE; /* a piece may be overwritten before the next one is sent */
	if (done ? rb_fills_block(channel) : length >= producer->pool.least) {
		int64_t sent = rb_send_block_part(channel, payload, done, token, kind);
		if (sent != -ENOBUFS)
			return sent;
	}
	uint64_t piece = payload_of(producer->count / 4);
	if (piece > length - done)
		piece = length - done;
	status = rb_make_room(channel, rb_slots_of(piece), 0);
	if (status)
		return status;
	int flags = done ? RB_FLAG_CONTINUED : 0;
	if (done + piece < length)
		flags |= RB_FLAG_MORE;
	rb_copy_payload(next_slot(producer) + RB_HEADER, payload, done, piece);
	/* The first of several pieces has the length of the whole in the place of the token. So the
	 * consumer knows how much memory the message takes, and may refuse it. All other pieces
	 * have the token. */
	bool first_of_many = !done && (flags & RB_FLAG_MORE);
	publish(producer, (struct rb_frame_header){(uint32_t)piece, (uint16_t)kind, (uint16_t)flags,
						   first_of_many ? length : token});
	producer->in_pieces = (flags & RB_FLAG_MORE) != 0;
	if (!done && length >= producer->pool.least)
		rb_count(&producer->mine->blocks_copied, 1);
	return (int64_t)(done + piece);
}

/* Gives up a message sent in part. The consumer drops its pieces when the next message starts,
 * because that frame is not marked as continued. */
void rb_send_abandon(rb_channel *channel)
{
	channel->producer.in_pieces = false;
	if (rb_fills_block(channel))
		rb_abandon_block(&channel->producer);
}

static int reserve_in_ring(rb_channel *channel, uint64_t length, void **payload)
{
	struct rb_producer *producer = &channel->producer;
	int status = make_room_for_whole(channel, length, 0);

	if (status)
		return status;
	uint64_t slot = rb_begin_reservation(producer, rb_slots_of(length));
	*payload = producer->slots + slot * RB_SLOT + RB_HEADER;
	return 0;
}

/* Hands out room for a payload to be written in place, in the ring or in a block: *payload. */
int rb_reserve(rb_channel *channel, uint64_t length, void **payload)
{
	if (length < channel->producer.pool.least)
		return reserve_in_ring(channel, length, payload);
	int status = may_begin(channel);
	if (!status)
		status = rb_reserve_block(channel, length, length <= rb_payload_max(channel),
					  payload);
	return status == -ENOBUFS ? reserve_in_ring(channel, length, payload) : status;
}

/* Publishes what was reserved, or the first part of it. */
int rb_commit(rb_channel *channel, uint64_t reservation, uint64_t length, uint64_t token)
{
	uint64_t block = rb_reserved_block(&channel->producer, reservation);

	if (block && length > block)
		return -EMSGSIZE;
	int status = rb_end_reservation(channel, reservation, block ? 1 : rb_slots_of(length));
	if (status)
		return status;
	if (block) {
		rb_publish_reserved(&channel->producer, length, token);
		return 0;
	}
	publish(&channel->producer,
		(struct rb_frame_header){(uint32_t)length, RB_MESSAGE, 0, token});
	return 0;
}
