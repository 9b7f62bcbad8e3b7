/* SPDX-License-Identifier: MIT
 *
 * Taking messages from a ring; message_producer.c says how they lie there.
 */
#include <string.h>

#include "blocks.h"
#include "channel.h"
#include "quick.h"
#include "reader.h"

/* Bytes of the longest message: more than any machine can map. A longer length is nonsense. */
#define RB_MESSAGE_MOST (1ULL << 62)

/* Whether a frame fits the pieces before it and the length of the whole message. */
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

/* Whether a frame is something else than a whole message: a failure, or a piece. */
static bool is_rarer_frame(const struct rb_consumer *consumer, const struct rb_frame_header *header)
{
	if (header->kind != RB_MESSAGE && header->kind != RB_FAILURE)
		return false;
	if (header->flags == RB_FLAG_BLOCK)
		return header->length == sizeof(struct rb_block_place);
	if (header->flags & ~(RB_FLAG_MORE | RB_FLAG_CONTINUED))
		return false;
	return piece_fits(consumer, header);
}

void rb_channel_limit(rb_channel *channel, uint64_t longest)
{
	channel->consumer.longest = longest;
}

/* A frame's flags as the caller sees them. A failure in one frame is a text, and never too long. */
static uint16_t flags_of(const struct rb_consumer *consumer, const struct rb_frame_header *header,
			 const rb_block *block)
{
	bool first = !(header->flags & RB_FLAG_CONTINUED);
	bool more = header->flags & RB_FLAG_MORE;
	uint64_t whole = more ? header->token : block->start ? block->length : header->length;
	bool too_long = first && whole > consumer->longest && (more || header->kind == RB_MESSAGE);

	return (uint16_t)(header->flags | (too_long ? RB_FLAG_TOO_LONG : 0));
}

/* Whether a frame is a whole message, and not too long. */
static bool is_plain(const struct rb_consumer *consumer, const struct rb_frame_header *header)
{
	return header->kind == RB_MESSAGE && !header->flags && header->length <= consumer->longest;
}

/* Looks on at a frame that is more than a whole message in the ring. */
static int look_at_rarer_frame(rb_channel *channel, const struct rb_frame_header *header)
{
	struct rb_consumer *consumer = &channel->consumer;
	rb_frame *frame = &consumer->frame;

	frame->block.start = NULL;
	if (!is_rarer_frame(consumer, header))
		return rb_corrupt(channel);
	if (header->flags & RB_FLAG_BLOCK) {
		int status = rb_find_block(channel, consumer->slots + frame->start, &frame->block);
		if (status)
			return status;
	}
	frame->flags = flags_of(consumer, header, &frame->block);
	return 0;
}

/* Whether a frame is a piece of a message that began before this side came: the first pieces are
 * not in its part of the ring. */
static bool began_before(const struct rb_consumer *consumer, const struct rb_frame_header *header)
{
	return consumer->one_of_many && !consumer->number && !consumer->pieces_left &&
	       header->flags & RB_FLAG_CONTINUED;
}

static void pass_over(struct rb_consumer *consumer, const struct rb_frame_header *header)
{
	consumer->next += rb_slots_of(header->length);
	if (!(header->flags & RB_FLAG_MORE))
		consumer->number = header->token + 1;
	rb_kick_producer_if(consumer, rb_consumer_release_to(consumer, consumer->next));
}

/* Reads the frame at `next` into consumer->frame; returns its slots, or -EPROTO; for a message in a
 * block also what rb_find_block returns. -EAGAIN when that frame was not for this side, and `next`
 * is behind it. */
static int64_t look_at_frame(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	uint64_t offset = (consumer->next & (consumer->count - 1)) * RB_SLOT;
	rb_frame *frame = &consumer->frame;
	struct rb_frame_header header;

	/* The peer can change this at any time: copy it once, check the copy, use the copy. */
	memcpy(&header, consumer->slots + offset, sizeof(header));
	if (!rb_is_whole(consumer, consumer->next))
		return -ESTALE;
	uint64_t slots = rb_slots_of(header.length);
	uint64_t arrived = consumer->write_seen - consumer->next;
	if (slots > arrived || arrived > consumer->count)
		return rb_corrupt(channel);
	if (began_before(consumer, &header)) {
		pass_over(consumer, &header);
		return -EAGAIN;
	}
	frame->index = consumer->next;
	frame->token = header.token;
	frame->start = offset + RB_HEADER;
	frame->stop = offset + RB_HEADER + header.length;
	frame->kind = header.kind;
	frame->flags = 0;
	int status = is_plain(consumer, &header) ? 0 : look_at_rarer_frame(channel, &header);
	return status ? status : (int64_t)slots;
}

/* The same for one reader among many, which may be overtaken at any time. */
static int64_t next_frame_of_many(rb_channel *channel, int64_t patience_ns)
{
	int64_t slots;

	do {
		if (channel->consumer.skips_to_newest)
			rb_go_to_newest(channel);
		int status = rb_await_entry(channel, patience_ns);
		if (status)
			return status;
		slots = look_at_frame(channel);
		if (slots == -ESTALE && (status = rb_overtaken(channel)))
			return status;
	} while (slots == -ESTALE || slots == -EAGAIN);
	return slots;
}

/* Waits for a frame within the patience and looks at it; returns its slots, or -errno. */
static int64_t next_frame(rb_channel *channel, int64_t patience_ns)
{
	if (channel->consumer.one_of_many)
		return next_frame_of_many(channel, patience_ns);
	int status = rb_await_entry(channel, patience_ns);

	return status ? status : look_at_frame(channel);
}

/* Notes how much of a message is still to come after this piece. */
static void note_piece(struct rb_consumer *consumer)
{
	const rb_frame *frame = &consumer->frame;
	uint64_t left = frame->flags & RB_FLAG_CONTINUED ? consumer->pieces_left : frame->token;
	bool more = frame->flags & RB_FLAG_MORE;

	consumer->pieces_left = more ? left - (frame->stop - frame->start) : 0;
}

/* Notes that the frame was taken, if it is the last one of a message. */
static void note_number(struct rb_consumer *consumer)
{
	consumer->marked = false; /* the block, if there is one, is the caller's */
	if (consumer->one_of_many && !(consumer->frame.flags & RB_FLAG_MORE))
		rb_note_number(consumer, consumer->frame.token, 1);
}

/* Looks at the next frame within the patience, and takes nothing: the next call finds the same
 * frame until rb_skip or rb_hold. Returns 0, or -errno; -ENOMEM when there is no memory to note
 * another held frame, because rb_hold may not fail. */
int rb_peek(rb_channel *channel, int64_t patience_ns)
{
	struct rb_holds *holds = &channel->consumer.holds;

	if (rb_dead(channel))
		return rb_dead(channel);
	int64_t slots = next_frame(channel, patience_ns);
	if (slots < 0)
		return (int)slots;
	return rb_holds_full(holds) ? rb_holds_grow(holds) : 0;
}

/* The bytes of payload that a frame stands for. */
static uint64_t bytes_of(const rb_frame *frame)
{
	return frame->flags & RB_FLAG_BLOCK ? frame->block.length : frame->stop - frame->start;
}

/* How many slots the frame that rb_peek found takes. */
uint64_t rb_frame_slots(const rb_channel *channel)
{
	const rb_frame *frame = &channel->consumer.frame;

	return rb_slots_of(frame->stop - frame->start);
}

/* The caller is done with the frame that rb_peek found. Its slots stay in use until
 * rb_give_back. */
void rb_skip(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;

	rb_consumer_skip(consumer, rb_frame_slots(channel), 1, bytes_of(&consumer->frame));
	note_piece(consumer);
	note_number(consumer);
}

/* Gives the slots of all skipped frames back to the producer, and kicks it if it sleeps. A side
 * that has closed gives nothing back: those frames count as not taken. */
void rb_give_back(rb_channel *channel)
{
	if (!rb_dead(channel))
		rb_kick_producer_if(&channel->consumer,
				    rb_consumer_free_released(&channel->consumer));
}

/* Takes the frame that rb_peek found, in place; the caller holds it until rb_release. */
void rb_hold(rb_channel *channel)
{
	struct rb_consumer *consumer = &channel->consumer;
	const rb_frame *frame = &consumer->frame;

	rb_consumer_hold(consumer, rb_frame_slots(channel), frame->token, bytes_of(frame));
	note_piece(consumer);
	note_number(consumer);
}

/* rb_peek, then rb_hold; returns the frame's flags, or -errno. */
int rb_take(rb_channel *channel, int64_t patience_ns)
{
	int status = rb_peek(channel, patience_ns);

	if (status)
		return status;
	rb_hold(channel);
	return channel->consumer.frame.flags;
}

/* Finds whole messages that have arrived, from the frame that rb_peek found on, and takes none of
 * them. Stops after `most`, or at the first frame that is anything else. Returns how many. A reader
 * among many asks rb_still_whole after it has copied them. */
uint64_t rb_find_arrived(rb_channel *channel, struct rb_place *found, uint64_t most)
{
	struct rb_consumer *consumer = &channel->consumer;
	uint64_t next = consumer->next, left = consumer->write_seen - next, count = 0;

	for (; count < most && left; count++) {
		const uint8_t *slot = rb_consumer_slot(consumer, next);
		struct rb_frame_header header;

		memcpy(&header, slot, sizeof(header)); /* once, as in look_at_frame */
		uint64_t slots = rb_slots_of(header.length);
		if (slots > left || !is_plain(consumer, &header))
			break;
		if (!count)
			consumer->frame.index = next, consumer->frame.token = header.token;
		found[count] = (struct rb_place){slot + RB_HEADER, header.length};
		next += slots;
		left -= slots;
		if (left > consumer->ahead)
			rb_prefetch(rb_consumer_slot(consumer, next + consumer->ahead));
	}
	return count;
}

/* The caller is done with the first `count` messages that rb_find_arrived found: rb_skip for
 * each. */
void rb_skip_found(rb_channel *channel, const struct rb_place *found, uint64_t count)
{
	struct rb_consumer *consumer = &channel->consumer;
	uint64_t slots = 0, bytes = 0;

	if (!count)
		return; /* the next frame may be a piece of a message that has begun */
	for (uint64_t i = 0; i < count; i++) {
		slots += rb_slots_of(found[i].length);
		bytes += found[i].length;
	}
	if (consumer->one_of_many)
		rb_note_number(consumer, consumer->frame.token, count);
	rb_consumer_skip(consumer, slots, count, bytes);
	consumer->pieces_left = 0;
}

/* Copies the next message of at most `size` bytes, and gives its room back; returns its length.
 * Returns -EMSGSIZE for a longer message, which stays in the ring. */
int64_t rb_recv(rb_channel *channel, void *payload, uint64_t size, int64_t patience_ns)
{
	const rb_frame *frame = &channel->consumer.frame;
	bool in_block;
	uint64_t length;
	int status;

	do {
		status = rb_peek(channel, patience_ns);
		if (status)
			return status;
		in_block = frame->flags == RB_FLAG_BLOCK;
		length = bytes_of(frame);
		if (length > size || (frame->flags && !in_block))
			return -EMSGSIZE;
		memcpy(payload,
		       in_block ? frame->block.start : channel->consumer.slots + frame->start,
		       length);
	} while (!in_block && !rb_still_whole(channel, &status) && status == -ESTALE);
	if (status)
		return status;
	rb_skip(channel);
	rb_give_back(channel);
	if (in_block)
		rb_block_return(channel, &frame->block);
	return (int64_t)length;
}

int rb_release(rb_channel *channel, uint64_t index)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (rb_dead(channel))
		return rb_dead(channel);
	struct rb_hold *hold = rb_holds_find(&consumer->holds, index);
	if (!hold)
		return -EALREADY;
	rb_kick_producer_if(consumer, rb_consumer_release(consumer, hold));
	return 0;
}

/* Answers a held request: publishes the completion, then releases the request. If the device is
 * killed between the two, the request is still in the ring and could be delivered again. */
int rb_complete(rb_channel *channel, uint64_t index, const struct rb_payload *payload, int kind)
{
	struct rb_consumer *consumer = &channel->consumer;

	if (rb_dead(channel))
		return rb_dead(channel);
	struct rb_hold *hold = rb_holds_find(&consumer->holds, index);
	if (!hold)
		return -EALREADY;
	/* A message without a token wants no completion. */
	int status = hold->token ? rb_send_whole(channel, payload, hold->token, kind, 0) : 0;
	if (status)
		return status;
	rb_kick_producer_if(consumer, rb_consumer_release(consumer, hold));
	return 0;
}

bool rb_holds(rb_channel *channel, uint64_t index)
{
	return !rb_dead(channel) && rb_holds_find(&channel->consumer.holds, index);
}

/* True when the caller holds every slot, so that waiting for more would never end. */
int rb_all_held(rb_channel *channel)
{
	const struct rb_consumer *consumer = &channel->consumer;

	return !consumer->takes_newest && consumer->next - consumer->read == consumer->count;
}
