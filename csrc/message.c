/* SPDX-License-Identifier: MIT
 *
 * Messages on a ring: a frame header on a slot, then the payload, rounded up to whole slots. Slots
 * are mapped twice in a row, so a frame that wraps is one piece.
 */
#include <string.h>

#include "channel.h"

#define RB_HEADER ((uint64_t)sizeof(struct rb_frame_header))
/* Of a message, in bytes: more than any memory holds, and nonsense beyond that. */
#define RB_MESSAGE_MOST (1ULL << 40)

static uint64_t slots_of(uint64_t length)
{
	return (RB_HEADER + length + RB_SLOT - 1) / RB_SLOT;
}

static uint64_t payload_of(uint64_t slots)
{
	return slots * RB_SLOT - RB_HEADER;
}

/* The longest payload that one frame can carry: all of the ring. */
uint64_t rb_payload_max(rb_channel *channel)
{
	return payload_of(channel->producer.count);
}

/* ---- producing ---- */

static uint8_t *next_slot(const struct rb_producer *producer)
{
	return rb_producer_slot(producer, producer->write);
}

static int make_room_for_whole(rb_channel *channel, uint64_t length, int64_t patience_ns)
{
	int status = rb_may_produce(channel);

	if (status)
		return status;
	if (channel->producer.in_pieces)
		return -EBUSY;
	if (length > payload_of(channel->producer.count))
		return -EMSGSIZE;
	return rb_make_room(channel, slots_of(length), patience_ns);
}

static void publish(struct rb_producer *producer, struct rb_frame_header header)
{
	memcpy(next_slot(producer), &header, sizeof(header));
	if (!(header.flags & RB_FLAG_MORE))
		producer->last_token = header.token;
	rb_publish(producer, slots_of(header.length), 1, header.length);
}

/* Not what leaves no room for another one like it: both sides would never copy at the same time, as
 * they do with pieces. */
static bool may_copy_whole(const struct rb_producer *producer, uint64_t length)
{
	return length <= payload_of(producer->count / 2);
}

/* Copies one whole message into the ring and publishes it. */
static int send_whole(rb_channel *channel, const void *payload, uint64_t length, uint64_t token,
		      int kind, int64_t patience_ns)
{
	struct rb_producer *producer = &channel->producer;
	int status = may_copy_whole(producer, length)
			     ? make_room_for_whole(channel, length, patience_ns)
			     : -EMSGSIZE;

	if (status)
		return status;
	memcpy(next_slot(producer) + RB_HEADER, payload, length);
	publish(producer, (struct rb_frame_header){(uint32_t)length, (uint16_t)kind, 0, token});
	return 0;
}

int rb_send(rb_channel *channel, const void *payload, uint64_t length, uint64_t token,
	    int64_t patience_ns)
{
	return send_whole(channel, payload, length, token, RB_MESSAGE, patience_ns);
}

/* Copies messages that lie end to end in `payloads` into the ring, as many as fit there, and
 * publishes them at once. Returns how many; -EMSGSIZE when the first has to go in pieces. */
int64_t rb_send_many(rb_channel *channel, const char *payloads, const uint64_t *lengths,
		     uint64_t count)
{
	struct rb_producer *producer = &channel->producer;
	uint64_t sent = 0, slots = 0, bytes = 0;

	if (count && !may_copy_whole(producer, lengths[0]))
		return -EMSGSIZE;
	int status = make_room_for_whole(channel, count ? lengths[0] : 0, 0);
	if (status || !count)
		return status;
	for (; sent < count && may_copy_whole(producer, lengths[sent]); sent++) {
		uint64_t more = slots_of(lengths[sent]);
		if (rb_producer_room(producer, slots + more) <= 0)
			break;
		struct rb_frame_header header = {.length = (uint32_t)lengths[sent],
						 .kind = RB_MESSAGE};
		uint8_t *slot = rb_producer_slot(producer, producer->write + slots);
		memcpy(slot, &header, sizeof(header));
		memcpy(slot + RB_HEADER, payloads + bytes, lengths[sent]);
		slots += more;
		bytes += lengths[sent];
	}
	producer->last_token = 0;
	rb_publish(producer, slots, sent, bytes);
	return (int64_t)sent;
}

/* Sends the next piece of a message that is longer than half of the ring, after the `done` bytes
 * sent before; returns the bytes sent then. Pieces are a quarter of the ring, so that both sides
 * copy at the same time. */
int64_t rb_send_piece(rb_channel *channel, const void *payload, uint64_t length, uint64_t done,
		      uint64_t token, int kind)
{
	struct rb_producer *producer = &channel->producer;
	int status = rb_may_produce(channel);

	if (status)
		return status;
	if (producer->in_pieces != (done != 0))
		return -EBUSY;
	uint64_t piece = payload_of(producer->count / 4);
	if (piece > length - done)
		piece = length - done;
	status = rb_make_room(channel, slots_of(piece), 0);
	if (status)
		return status;
	int flags = done ? RB_FLAG_CONTINUED : 0;
	if (done + piece < length)
		flags |= RB_FLAG_MORE;
	memcpy(next_slot(producer) + RB_HEADER, (const uint8_t *)payload + done, piece);
	/* The token comes with the last piece; the first one says how long the whole is, so that
	 * the consumer need not move what it has of it when more comes. */
	publish(producer, (struct rb_frame_header){(uint32_t)piece, (uint16_t)kind, (uint16_t)flags,
						   done ? token : length});
	producer->in_pieces = (flags & RB_FLAG_MORE) != 0;
	return (int64_t)(done + piece);
}

uint64_t *rb_last_token(rb_channel *channel)
{
	return &channel->producer.last_token;
}

/* Gives up a message sent in part. The consumer drops what it has of it when the next message
 * starts, because that one is not marked as continued. */
void rb_send_abandon(rb_channel *channel)
{
	channel->producer.in_pieces = false;
}

/* Hands out room for a payload to be written in place; returns where it starts in our slots. */
int64_t rb_reserve(rb_channel *channel, uint64_t length)
{
	struct rb_producer *producer = &channel->producer;
	int status = make_room_for_whole(channel, length, 0);

	if (status)
		return status;
	uint64_t slot = rb_begin_reservation(producer, slots_of(length));
	return (int64_t)(slot * RB_SLOT + RB_HEADER);
}

/* Publishes what was reserved, or the first part of it. */
int rb_commit(rb_channel *channel, uint64_t reservation, uint64_t length, uint64_t token)
{
	int status = rb_end_reservation(channel, reservation, slots_of(length));

	if (status)
		return status;
	publish(&channel->producer,
		(struct rb_frame_header){(uint32_t)length, RB_MESSAGE, 0, token});
	return 0;
}

/* ---- consuming ---- */

/* Whether a frame goes on as the pieces before it and the length of the whole want it. */
static bool piece_fits(const struct rb_consumer *consumer, const struct rb_frame_header *header)
{
	uint64_t left = consumer->pieces_left;

	if (!(header->flags & RB_FLAG_CONTINUED)) {
		if (!(header->flags & RB_FLAG_MORE))
			return true;
		left = header->token;
		if (left <= RB_SLOT || left > RB_MESSAGE_MOST)
			return false;
	}
	bool more = header->flags & RB_FLAG_MORE;
	return more ? header->length < left : header->length == left && left;
}

/* Reads the frame at `next` into consumer->frame; returns its slots, or -EPROTO. */
static int64_t look_at_frame(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	uint64_t offset = (consumer->next & (consumer->count - 1)) * RB_SLOT;
	struct rb_frame_header header;

	/* The peer can change this at any time: copied out once, then checked, then used. */
	memcpy(&header, consumer->slots + offset, sizeof(header));
	uint64_t slots = slots_of(header.length);
	if (slots > consumer->write_seen - consumer->next)
		return rb_corrupt(channel);
	if (header.kind != RB_MESSAGE && header.kind != RB_FAILURE)
		return rb_corrupt(channel);
	if (header.flags & ~(RB_FLAG_MORE | RB_FLAG_CONTINUED))
		return rb_corrupt(channel);
	if (!piece_fits(consumer, &header))
		return rb_corrupt(channel);
	consumer->frame = (rb_frame){
		.index = consumer->next,
		.token = header.token,
		.start = offset + RB_HEADER,
		.stop = offset + RB_HEADER + header.length,
		.kind = header.kind,
		.flags = header.flags,
	};
	return (int64_t)slots;
}

/* Waits for a frame within the patience and looks at it; returns its slots, or -errno. */
static int64_t next_frame(rb_channel *channel, int64_t patience_ns)
{
	int status = rb_await_entry(channel, patience_ns);

	return status ? status : look_at_frame(channel);
}

/* Notes what is still to come of the message of which the frame is a piece. */
static void note_piece(struct rb_consumer *consumer)
{
	const rb_frame *frame = &consumer->frame;
	uint64_t left = frame->flags & RB_FLAG_CONTINUED ? consumer->pieces_left : frame->token;

	consumer->pieces_left =
		frame->flags & RB_FLAG_MORE ? left - (frame->stop - frame->start) : 0;
}

/* Looks at the next frame within the patience, and takes nothing: the same frame comes again until
 * rb_skip or rb_take. Returns 0, or -errno. */
int rb_peek(rb_channel *channel, int64_t patience_ns)
{
	if (channel->dead)
		return channel->dead;
	int64_t slots = next_frame(channel, patience_ns);
	return slots < 0 ? (int)slots : 0;
}

/* The caller is done with the frame that rb_peek found. Its slots stay in use until
 * rb_give_back. */
void rb_skip(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	uint64_t length = consumer->frame.stop - consumer->frame.start;

	rb_consumer_skip(consumer, slots_of(length), (uint32_t)length);
	note_piece(consumer);
}

/* Gives the slots of all that was skipped back to the producer, and kicks it if it sleeps. */
void rb_give_back(rb_channel *channel)
{
	rb_consumer_kick(&channel->consumer, rb_consumer_free_released(&channel->consumer));
}

static void hold(struct rb_consumer *consumer, int64_t slots)
{
	const rb_frame *frame = &consumer->frame;

	rb_consumer_hold(consumer, (uint64_t)slots, frame->token,
			 (uint32_t)(frame->stop - frame->start));
	note_piece(consumer);
	consumer->batch.messages = 0;
	consumer->given++;
}

/* How many messages of the last batch the caller has not safely in hand yet. */
static uint64_t left_of_batch(const struct rb_consumer *consumer, uint64_t taken)
{
	return consumer->batch.messages ? consumer->given - taken : 0;
}

/* Copies a message of the last batch to the scratch memory, as rb_recv would have. */
static int64_t give_from_batch(struct rb_consumer *consumer, uint64_t message)
{
	const struct rb_batch *batch = &consumer->batch;
	uint64_t length = batch->ends[message + 1] - batch->ends[message];

	memcpy(consumer->scratch, batch->bytes + batch->ends[message], length);
	consumer->frame.start = 0;
	consumer->frame.stop = length;
	consumer->frame.token = batch->tokens[message];
	consumer->frame.kind = batch->kinds[message];
	return (int64_t)length;
}

/* Whether the frame that was looked at is a message that can be copied out whole by one call. */
static bool is_short(const rb_frame *frame)
{
	return frame->stop - frame->start <= RB_SCRATCH && !frame->flags;
}

/* Copies a short message to the scratch memory and releases it at once; returns its length. */
int64_t rb_recv(rb_channel *channel, uint64_t taken, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;
	rb_frame *frame = &consumer->frame;

	if (channel->dead)
		return channel->dead;
	if (taken != consumer->given) {
		uint64_t left = left_of_batch(consumer, taken);
		if (left)
			return give_from_batch(consumer, consumer->batch.messages - left);
		return consumer->given_copy ? (int64_t)frame->stop : -EMSGSIZE;
	}
	int64_t slots = next_frame(channel, patience_ns);
	if (slots < 0)
		return slots;
	uint64_t length = frame->stop - frame->start;
	if (!is_short(frame))
		return -EMSGSIZE;
	memcpy(consumer->scratch, consumer->slots + frame->start, length);
	frame->start = 0;
	frame->stop = length;
	consumer->given_copy = true;
	hold(consumer, slots);
	rb_consumer_kick(consumer, rb_consumer_release(consumer, frame->index));
	return (int64_t)length;
}

/* Says by a format of Python's struct how the batch is to be cut: `64s64s9s`. Python would take
 * many times as long for that, a message at a time. */
static void describe_batch(struct rb_batch *batch)
{
	char *text = batch->format;

	for (uint64_t i = 0; i < batch->messages; i++) {
		uint32_t size = batch->ends[i + 1] - batch->ends[i];
		for (uint32_t unit = 1000; unit; unit /= 10)
			if (size >= unit || unit == 1)
				*text++ = (char)('0' + size / unit % 10);
		*text++ = 's';
	}
	batch->format_bytes = (uint64_t)(text - batch->format);
}

/* Gives what is left of the batch to the caller, but not more than `most`; returns how many. */
static int64_t give_batch(struct rb_consumer *consumer, uint64_t left, uint64_t most)
{
	const struct rb_batch *batch = &consumer->batch;

	consumer->frame.index = batch->messages - left;
	consumer->frame.start = batch->ends[batch->messages];
	consumer->frame.stop = batch->format_bytes;
	return (int64_t)(left < most ? left : most);
}

/* Copies all short messages that have arrived, but not more than `most`, and not more than there is
 * room for, and releases them at once. Returns how many. They are the first frame.start bytes of
 * rb_channel_batch, cut as the first frame.stop bytes of rb_channel_batch_format say, from number
 * frame.index on: it is not 0 when what the caller has not safely in hand of the last batch is
 * given again. -EMSGSIZE when rb_recv is the one to call. */
int64_t rb_recv_many(rb_channel *channel, uint64_t taken, uint64_t most, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;
	struct rb_batch *batch = &consumer->batch;
	const rb_frame *frame = &consumer->frame;
	uint64_t messages = 0;

	if (channel->dead)
		return channel->dead;
	if (taken != consumer->given) {
		uint64_t left = left_of_batch(consumer, taken);
		return left ? give_batch(consumer, left, most) : -EMSGSIZE;
	}
	if (most > RB_BATCH_MESSAGES)
		most = RB_BATCH_MESSAGES;
	int64_t slots = next_frame(channel, patience_ns);
	if (slots < 0)
		return slots;
	while (slots > 0 && messages < most && is_short(frame)) {
		uint64_t length = frame->stop - frame->start;
		uint64_t end = batch->ends[messages] + length;
		if (end > RB_BATCH_BYTES)
			break;
		memcpy(batch->bytes + batch->ends[messages], consumer->slots + frame->start,
		       length);
		batch->tokens[messages] = frame->token;
		batch->kinds[messages] = frame->kind;
		batch->ends[++messages] = (uint32_t)end;
		hold(consumer, slots);
		rb_consumer_mark_released(consumer, frame->index);
		slots = rb_consumer_available(consumer) > 0 ? look_at_frame(channel) : 0;
	}
	if (!messages)
		return -EMSGSIZE;
	batch->messages = messages;
	consumer->given_copy = true;
	rb_consumer_kick(consumer, rb_consumer_free_released(consumer));
	describe_batch(batch);
	return give_batch(consumer, messages, most);
}

/* rb_recv for one who waits for the answer to one request, and for nothing else. */
int64_t rb_recv_answer(rb_channel *channel, uint64_t taken, int64_t patience_ns, uint64_t token)
{
	int64_t length = rb_recv(channel, taken, patience_ns);
	const rb_frame *frame = &channel->consumer.frame;

	if (length >= 0 && (frame->token != token || frame->kind != RB_MESSAGE))
		return -ENOMSG;
	return length;
}

/* Hands out the next frame where it lies, to be held until it is released; returns its flags. */
int rb_take(rb_channel *channel, uint64_t taken, int64_t patience_ns)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (channel->dead)
		return channel->dead;
	if (taken != consumer->given)
		return consumer->given_copy ? -EMSGSIZE : consumer->frame.flags;
	int64_t slots = next_frame(channel, patience_ns);
	if (slots < 0)
		return (int)slots;
	consumer->given_copy = false;
	hold(consumer, slots);
	return consumer->frame.flags;
}

int rb_release(rb_channel *channel, uint64_t index)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (channel->dead)
		return channel->dead;
	if (!rb_consumer_holds(consumer, index))
		return -EALREADY;
	rb_consumer_kick(consumer, rb_consumer_release(consumer, index));
	return 0;
}

/* Answers a held request: publishes the completion, then releases the request. In that order, so
 * that a device killed in between leaves a request to deliver again, not one to miss. */
int rb_complete(rb_channel *channel, uint64_t index, const void *payload, uint64_t length, int kind)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (channel->dead)
		return channel->dead;
	if (!rb_consumer_holds(consumer, index))
		return -EALREADY;
	uint64_t token = consumer->holds[index & (consumer->count - 1)].token;
	/* A message without a token wants no completion. */
	int status = token ? send_whole(channel, payload, length, token, kind, 0) : 0;
	if (status)
		return status;
	rb_consumer_kick(consumer, rb_consumer_release(consumer, index));
	return 0;
}

/* True when every slot is held by the caller: waiting for more would be for ever. */
int rb_all_held(rb_channel *channel)
{
	const struct rb_consumer *consumer = &channel->consumer;

	return consumer->next - consumer->read == consumer->count;
}
