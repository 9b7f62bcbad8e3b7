/* SPDX-License-Identifier: MIT
 *
 * A message that comes in pieces: put together in memory that grows with what has arrived, or
 * refused because it is too long.
 */
#include "python.h"

#include "../reader.h"

#define GROWTH 16

/* Refuses a message that is longer than the memory there is, unless the user has set a limit. False
 * with an exception. */
static bool look_for_memory(struct consumer *consumer)
{
	if (consumer->whole < MUCH_MEMORY || consumer->end.core->consumer.longest != UINT64_MAX)
		return true;
	PyObject *left = PyObject_CallMethod(consumer->end.channel, "memory_left", NULL);
	if (!left)
		return false;
	consumer->most = PyLong_AsUnsignedLongLong(left);
	Py_DECREF(left);
	if (consumer->whole > consumer->most)
		consumer->refusal = OVER_MEMORY;
	return !PyErr_Occurred();
}

/* A message begins. Its first piece claims a length; no memory is made for that claim alone. */
static bool pieces_begin(struct consumer *consumer, const rb_frame *frame)
{
	Py_CLEAR(consumer->pieces); /* its sender gave it up half-way */
	consumer->filled = 0;
	consumer->whole = frame->flags & RB_FLAG_MORE ? frame->token : payload_length(frame);
	consumer->told = false;
	consumer->refusal = NOT_REFUSED;
	if (!(frame->flags & RB_FLAG_TOO_LONG))
		return look_for_memory(consumer);
	consumer->refusal = OVER_LIMIT;
	consumer->most = consumer->end.core->consumer.longest;
	return true;
}

/* Makes room for `needed` bytes: the smallest of the whole message, a sixteenth of it, a sixteenth
 * of that and so on that holds them. So, except for small messages, the room is at most 16 times
 * what has arrived, and at most a fifteenth of a message is copied a second time. */
static bool pieces_grow(struct consumer *consumer, uint64_t needed)
{
	uint64_t size = consumer->whole;

	if (consumer->pieces && needed <= (uint64_t)PyBytes_Size(consumer->pieces))
		return true;
	while (size > MUCH_MEMORY && size / GROWTH >= needed)
		size /= GROWTH;
	PyObject *grown = bytes_to_fill(size);
	if (grown && consumer->pieces)
		copy_bytes(PyBytes_AsString(grown), PyBytes_AsString(consumer->pieces),
			   consumer->filled);
	Py_XDECREF(consumer->pieces);
	consumer->pieces = grown;
	return grown != NULL;
}

/* A message in a block may be long. Between two parts of the copy signal handlers run. False with
 * the exception of one; then nothing has been taken, and the next call copies it anew. */
static bool copy_interruptibly(char *target, const uint8_t *start, uint64_t length)
{
	for (uint64_t done = 0; done < length; done += MUCH_MEMORY) {
		uint64_t left = length - done;
		if (done && PyErr_CheckSignals())
			return false;
		copy_bytes(target + done, start + done, left < MUCH_MEMORY ? left : MUCH_MEMORY);
	}
	return true;
}

static bool pieces_add(struct consumer *consumer, const rb_frame *frame)
{
	uint64_t length = payload_length(frame);

	if (!pieces_grow(consumer, consumer->filled + length)) {
		PyErr_Clear();
		consumer->refusal = OUT_OF_MEMORY;
		return true;
	}
	if (!copy_interruptibly(PyBytes_AsString(consumer->pieces) + consumer->filled,
				payload_start(consumer->end.core), length))
		return false;
	consumer->filled += length;
	return true;
}

/* Says why a message is refused; `what` names it, as in "a message". */
PyObject *consumer_refusal(const struct consumer *consumer, const char *what)
{
	unsigned long long whole = consumer->whole, most = consumer->most;

	if (consumer->refusal == OVER_LIMIT)
		return PyUnicode_FromFormat("%s of %llu bytes is too long: the receiving side "
					    "takes at most %llu (its max_message)",
					    what, whole, most);
	if (consumer->refusal == OVER_MEMORY)
		return PyUnicode_FromFormat("%s of %llu bytes is too long: the receiving side "
					    "has %llu bytes of memory available",
					    what, whole, most);
	return PyUnicode_FromFormat(
		"%s of %llu bytes is too long: the receiving side has no memory for it", what,
		whole);
}

/* Adds the peeked piece to the pieces before it, or skips it if the message is refused. With
 * `hold_last` the last piece stays held. A message in a block is one piece, and is copied. */
enum took consumer_take_piece(struct consumer *consumer, struct message *message, bool hold_last)
{
	rb_channel *core = consumer->end.core;
	rb_frame frame = core->consumer.frame;
	bool first = !(frame.flags & RB_FLAG_CONTINUED);
	bool more = frame.flags & RB_FLAG_MORE;
	int status;

	if (first && !pieces_begin(consumer, &frame))
		return TOOK_FAILED;
	if (!consumer->refusal && !pieces_add(consumer, &frame))
		return TOOK_FAILED;
	/* A block is this side's until it returns it. */
	if (!(frame.flags & RB_FLAG_BLOCK) && !rb_still_whole(core, &status)) {
		end_fail(&consumer->end, status);
		return TOOK_FAILED;
	}
	if (!more && hold_last && !consumer->refusal) {
		rb_hold(core); /* the peeked frame; a second look might see another one */
	} else {
		rb_skip(core);
		rb_give_back(core);
	}
	if (frame.flags & RB_FLAG_BLOCK)
		rb_block_return(core, &frame.block);
	message_describe(message, &frame);
	if (consumer->refusal) {
		message->named = !first || !more;
		message->ended = !more;
		return TOOK_REFUSED;
	}
	if (more)
		return TOOK_PIECE;
	message->payload = consumer->pieces;
	consumer->pieces = NULL;
	return TOOK_MESSAGE;
}
