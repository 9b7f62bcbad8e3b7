/* SPDX-License-Identifier: MIT
 *
 * The consuming end of a message ring: recv, recv_many, borrow, hold, iteration.
 */
#include "../reader.h"
#include "codec.h"

/* The most messages that recv_many takes. */
#define MANY 1024
/* How many it looks for before it copies them. */
#define AT_ONCE 64

enum { TAKE_RECV, TAKE_MANY, TAKE_BORROW, TAKE_HOLD, TAKE_LATEST, TAKINGS };

/* ---- one message ---- */

/* Raises MessageTooLong, once for each message. Its other pieces are skipped when they come. */
bool consumer_tell_of_refusal(struct consumer *consumer)
{
	if (consumer->told)
		return false;
	PyObject *text = consumer_refusal(consumer, "a message");
	if (text)
		PyErr_SetObject(errors.message_too_long, text);
	consumer->told = text != NULL;
	Py_XDECREF(text);
	return true;
}

/* Takes the next frame as a copy, if one is there; a message is counted as taken in the step that
 * makes its bytes. */
enum took consumer_take(struct consumer *consumer, struct message *message)
{
	rb_channel *core = consumer->end.core;
	const rb_frame *frame = &core->consumer.frame;
	int status = rb_peek(core, 0);

	if (status == -EAGAIN)
		return TOOK_NOTHING;
	if (status) {
		end_fail(&consumer->end, status);
		return TOOK_FAILED;
	}
	if (frame->flags)
		return consumer_take_piece(consumer, message, false);
	PyObject *payload = bytes_of(payload_start(core), payload_length(frame));
	if (!payload)
		return TOOK_FAILED;
	if (!rb_still_whole(core, &status)) {
		Py_DECREF(payload);
		if (status == -ESTALE)
			return consumer_take(consumer, message);
		end_fail(&consumer->end, status);
		return TOOK_FAILED;
	}
	message_describe(message, frame);
	message->payload = payload;
	rb_skip(core);
	rb_give_back(core);
	return TOOK_MESSAGE;
}

/* After a piece: whether to go on. False with RingEmpty once the time is over; the next call goes
 * on with the pieces that have come. */
bool consumer_goes_on(struct consumer *consumer, struct patience *patience)
{
	rb_channel *core = consumer->end.core;

	if (PyErr_CheckSignals())
		return false;
	if (patience_goes_on(patience, core))
		return true;
	/* A last look: if the ring is empty now, an event loop's descriptor says so; and if nothing
	 * will come any longer, that is what the caller is told. */
	int status = rb_peek(core, 0);
	if (status && status != -EAGAIN)
		return end_fail(&consumer->end, status);
	PyErr_SetString(
		errors.ring_empty,
		"no whole message arrived within the timeout; the pieces of one that did are kept");
	return false;
}

/* Takes the next message as bytes; blocks while there is none. */
PyObject *consumer_take_bytes(struct consumer *consumer, struct patience *patience)
{
	struct message message;

	for (;;) {
		enum took took = consumer_take(consumer, &message);
		if (took == TOOK_MESSAGE)
			return message.payload;
		if (took == TOOK_FAILED ||
		    (took == TOOK_REFUSED && consumer_tell_of_refusal(consumer)))
			return NULL;
		if (took != TOOK_NOTHING ? !consumer_goes_on(consumer, patience)
					 : !end_wait_for_data(&consumer->end, patience))
			return NULL;
	}
}

/* ---- many ---- */

/* Copies the found messages into the list, from `filled` on; returns how many: fewer when memory
 * ran out. */
static uint64_t fill_list(PyObject *list, Py_ssize_t filled, const struct rb_place *found,
			  uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		PyObject *bytes = bytes_of(found[i].start, found[i].length);
		if (!bytes)
			return i;
		PyList_SetItem(list, filled++, bytes);
	}
	return count;
}

/* Takes the whole messages that have arrived, at most `most`, and gives all of their room back at
 * once. A message is skipped when its bytes are in the list; an exception leaves that message and
 * those behind it in the ring. */
static PyObject *take_arrived(struct consumer *consumer, uint64_t most)
{
	rb_channel *core = consumer->end.core;
	struct rb_place found[AT_ONCE];
	/* A message takes a slot at least. */
	uint64_t slots = core->consumer.write_seen - core->consumer.next;
	Py_ssize_t size = (Py_ssize_t)(slots < most ? slots : most), taken = 0;
	PyObject *list = PyList_New(size);
	uint64_t count, made;
	int status;

	if (!list)
		return NULL;
	do {
		uint64_t left = (uint64_t)(size - taken);
		count = rb_find_arrived(core, found, left < AT_ONCE ? left : AT_ONCE);
		made = fill_list(list, taken, found, count);
		if (!rb_still_whole(core, &status))
			break; /* the next call goes on further on, or says why not */
		rb_skip_found(core, found, made);
		taken += (Py_ssize_t)made;
	} while (made == AT_ONCE && taken < size);
	rb_give_back(core);
	if (taken)
		PyErr_Clear(); /* what was taken before memory ran out is given first */
	if (taken == size || (taken && !PyList_SetSlice(list, taken, size, NULL)))
		return list;
	Py_DECREF(list);
	return NULL;
}

/* Takes a message that comes in pieces, or was overwritten while it was copied, as a list of one.
 */
static PyObject *take_alone(struct consumer *consumer, struct patience *patience)
{
	PyObject *message = consumer_take_bytes(consumer, patience);
	PyObject *list = message ? PyList_New(1) : NULL;

	if (list)
		PyList_SetItem(list, 0, message);
	else
		Py_XDECREF(message);
	return list;
}

PyObject *consumer_take_many(struct consumer *consumer, uint64_t most, struct patience *patience)
{
	rb_channel *core = consumer->end.core;
	int status = rb_peek(core, 0);

	while (status == -EAGAIN && end_wait_for_data(&consumer->end, patience))
		status = rb_peek(core, 0);
	if (status)
		return status == -EAGAIN ? NULL : end_fail(&consumer->end, status);
	PyObject *messages = take_arrived(consumer, most);
	/* None was found where the next frame is a piece, or a failure. */
	return messages || PyErr_Occurred() ? messages : take_alone(consumer, patience);
}

/* ---- the subscripts behind the methods of Python ---- */

/* Takes one message: by `object` if the end has a codec, else by `octets`. The key is the timeout.
 */
static inline PyObject *take_message(PyObject *self, PyObject *timeout, take_function *object,
				     take_function *octets)
{
	bool decodes = ((struct end *)self)->decode.object;

	return consumer_subscript(self, timeout, decodes ? object : octets);
}

static PyObject *subscribe_recv(PyObject *self, PyObject *timeout)
{
	return take_message(self, timeout, object_recv, consumer_take_bytes);
}

static PyObject *subscribe_borrow(PyObject *self, PyObject *timeout)
{
	return take_message(self, timeout, object_borrow, consumer_lend_next);
}

static PyObject *subscribe_hold(PyObject *self, PyObject *timeout)
{
	return take_message(self, timeout, object_hold, consumer_hold_next);
}

/* The newest message, if it is newer than the one that was taken last; otherwise waits for one. */
static PyObject *take_latest(struct consumer *consumer, struct patience *patience)
{
	rb_takes_newest(consumer->end.core, 1);
	PyObject *message = consumer_hold_next(consumer, patience);
	rb_takes_newest(consumer->end.core, 0);
	return message;
}

static PyObject *object_latest(struct consumer *consumer, struct patience *patience)
{
	return object_of(consumer, patience, take_latest);
}

static PyObject *subscribe_latest(PyObject *self, PyObject *timeout)
{
	return take_message(self, timeout, object_latest, take_latest);
}

/* Reads the `max` of a call that takes several entries: None is `most`. */
bool how_many(PyObject *max, uint64_t most, uint64_t *count)
{
	*count = most;
	if (max == Py_None)
		return true;
	if (!one_or_more(max, "max is how many to take, at least 1, not %S", count))
		return false;
	if (*count > most)
		*count = most;
	return true;
}

/* The key is `(max, timeout)`. */
static PyObject *subscribe_recv_many(PyObject *self, PyObject *key)
{
	struct consumer *consumer = (struct consumer *)self;
	PyObject *messages = NULL, *max, *timeout;
	struct patience patience;
	uint64_t most;

	if (!PyArg_ParseTuple(key, "OO", &max, &timeout) || !how_many(max, MANY, &most) ||
	    !patience_from(&patience, timeout) || !end_enter(&consumer->end))
		return NULL;
	if (consumer_end_loan(consumer))
		messages = consumer->end.decode.object
				   ? objects_recv(consumer, most, &patience)
				   : consumer_take_many(consumer, most, &patience);
	end_leave(&consumer->end);
	return messages;
}

/* Ends the loan and takes nothing else: the next step of the caller takes from another ring. */
static PyObject *give_back(PyObject *self, PyObject *unused)
{
	struct consumer *consumer = (struct consumer *)self;

	(void)unused;
	if (!end_enter(&consumer->end))
		return NULL;
	bool ended = consumer_end_loan(consumer);
	end_leave(&consumer->end);
	return ended ? Py_NewRef(Py_None) : NULL;
}

static PyObject *borrow_for_ever(PyObject *self)
{
	return subscribe_borrow(self, Py_None);
}

static PyObject *recv_for_ever(PyObject *self)
{
	return subscribe_recv(self, Py_None);
}

/* Lends the next message if it has arrived whole, and one is lent now. Otherwise it ends the
 * caller's loop, without an exception: `borrow` says why there is none. If none is lent now, the
 * caller has begun to take from another ring. */
static PyObject *borrow_arrived(PyObject *self)
{
	struct consumer *consumer = (struct consumer *)self;
	rb_channel *core = consumer->end.core;
	PyObject *view = NULL;

	if (!end_enter(&consumer->end))
		return NULL;
	if (consumer->lent && consumer_end_loan(consumer) && !rb_peek(core, 0) &&
	    !core->consumer.frame.flags)
		view = consumer_lend_found(consumer);
	end_leave(&consumer->end);
	return view;
}

static PyObject *arrived(PyObject *self, PyObject *unused)
{
	(void)unused;
	return iterator_new(self, borrow_arrived);
}

/* ---- the type ---- */

PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	newfunc base = (newfunc)PyType_GetSlot(end_type, Py_tp_new);
	struct consumer *consumer = (struct consumer *)base(type, args, keywords);

	if (!consumer)
		return NULL;
	PyObject *self = (PyObject *)consumer;
	consumer->end.inside = &consumer->end.core->consumer.inside;
	consumer->takings[TAKE_RECV] = taking_new(self, subscribe_recv);
	consumer->takings[TAKE_MANY] = taking_new(self, subscribe_recv_many);
	consumer->takings[TAKE_BORROW] = taking_new(self, subscribe_borrow);
	consumer->takings[TAKE_HOLD] = taking_new(self, subscribe_hold);
	consumer->takings[TAKE_LATEST] = taking_new(self, subscribe_latest);
	for (int i = 0; i < TAKINGS; i++)
		if (!consumer->takings[i]) {
			Py_DECREF(self);
			return NULL;
		}
	return self;
}

void consumer_dealloc(PyObject *self)
{
	struct consumer *consumer = (struct consumer *)self;

	for (int i = 0; i < TAKINGS; i++)
		taking_forget(&consumer->takings[i]);
	Py_CLEAR(consumer->lent);
	Py_CLEAR(consumer->pieces);
	Py_CLEAR(consumer->kept);
	if (consumer->loan)
		loan_drop(&consumer->loan);
	end_clear(&consumer->end);
}

static PyObject *consumer_iter(PyObject *self)
{
	const struct end *end = (struct end *)self;
	/* The loop's own variable would keep what is lent with an object. And what the writer
	 * overwrites at any time is better copied than looked at. */
	bool copies = end->decode.object || end->core->consumer.takes_newest;

	return iterator_new(self, copies ? recv_for_ever : borrow_for_ever);
}

static PyMemberDef consumer_members[] = {
	{"_recv", T_OBJECT_EX, offsetof(struct consumer, takings[TAKE_RECV]), READONLY, NULL},
	{"_recv_many", T_OBJECT_EX, offsetof(struct consumer, takings[TAKE_MANY]), READONLY, NULL},
	{"_borrow", T_OBJECT_EX, offsetof(struct consumer, takings[TAKE_BORROW]), READONLY, NULL},
	{"_hold", T_OBJECT_EX, offsetof(struct consumer, takings[TAKE_HOLD]), READONLY, NULL},
	{"_latest", T_OBJECT_EX, offsetof(struct consumer, takings[TAKE_LATEST]), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef consumer_methods[] = {
	{"_give_back", give_back, METH_NOARGS, NULL},
	{"_arrived", arrived, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot consumer_slots[] = {
	{Py_tp_doc, "The consuming end of a message ring."},
	{Py_tp_new, consumer_new},
	{Py_tp_dealloc, consumer_dealloc},
	{Py_tp_members, consumer_members},
	{Py_tp_methods, consumer_methods},
	{Py_tp_iter, consumer_iter},
	{0, NULL},
};

PyType_Spec consumer_spec = {
	.name = "ringbell._ends.MessageConsumer",
	.basicsize = sizeof(struct consumer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = consumer_slots,
};
