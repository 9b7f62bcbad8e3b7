/* SPDX-License-Identifier: MIT
 *
 * The consuming end of a connection of a pipe: any end of messages whose objects are pickles, and
 * which also gives a message as it came.
 */
#include <errno.h>

#include "codec.h"

struct pipe_consumer {
	struct consumer consumer;
	PyObject *takings[2]; /* recv_bytes, recv_into */
};

/* ---- taking a message as it came ---- */

/* The core refuses what is too long, but a message that is kept came when there was no limit. */
static bool kept_is_too_long(const struct consumer *consumer)
{
	return consumer->kept && (uint64_t)PyBytes_Size(PyList_GetItem(consumer->kept, 0)) >
					 consumer->end.core->consumer.longest;
}

static PyObject *take_octets(struct consumer *consumer, struct patience *patience)
{
	if (!kept_is_too_long(consumer))
		return raw_of(consumer, patience, consumer_take_bytes);
	PyErr_SetString(errors.message_too_long, "the message is longer than maxlength");
	return NULL;
}

static PyObject *subscribe_recv_bytes(PyObject *self, PyObject *timeout)
{
	return consumer_subscript(self, timeout, take_octets);
}

static PyObject *take_in_place(struct consumer *consumer, struct patience *patience)
{
	return raw_of(consumer, patience, consumer_hold_next);
}

/* Raises multiprocessing.BufferTooShort, whose argument is the message. */
static void too_short(PyObject *message)
{
	PyObject *module = PyImport_ImportModule("multiprocessing");
	PyObject *error = module ? PyObject_GetAttrString(module, "BufferTooShort") : NULL;
	PyObject *bytes = error ? PyBytes_FromObject(message) : NULL;

	if (bytes)
		PyErr_SetObject(error, bytes);
	Py_XDECREF(module);
	Py_XDECREF(error);
	Py_XDECREF(bytes);
}

/* Copies a message into the room; returns its length. */
static PyObject *copy_into(const Py_buffer *room, PyObject *message)
{
	PyObject *length = NULL;
	Py_buffer from;

	if (PyObject_GetBuffer(message, &from, PyBUF_SIMPLE))
		return NULL;
	if (from.len > room->len) {
		too_short(message);
	} else {
		copy_bytes(room->buf, from.buf, (uint64_t)from.len);
		length = PyLong_FromSsize_t(from.len);
	}
	PyBuffer_Release(&from);
	return length;
}

/* Takes the next message into a buffer, the key, and gives its length; waits for it. */
static PyObject *subscribe_recv_into(PyObject *self, PyObject *target)
{
	PyObject *length = NULL;
	Py_buffer room;

	if (PyObject_GetBuffer(target, &room, PyBUF_WRITABLE))
		return NULL;
	PyObject *message = consumer_subscript(self, Py_None, take_in_place);
	if (message)
		length = copy_into(&room, message);
	Py_XDECREF(message);
	PyBuffer_Release(&room);
	return length;
}

/* ---- whether there is one ---- */

/* Whether a failed wait says that the other side has gone, so that the next take does not wait. */
static bool has_gone(void)
{
	return is_end_of_stream() || PyErr_ExceptionMatches(errors.peer_lost);
}

/* Waits until a take would not wait, also because it would raise: true; false after `timeout`. */
static PyObject *poll(PyObject *self, PyObject *timeout)
{
	struct consumer *consumer = (struct consumer *)self;
	struct patience patience;

	if (!patience_from(&patience, timeout) || !end_enter(&consumer->end))
		return NULL;
	int ready = rb_pipe_ready(consumer->end.core);
	if (ready == -EBADF) {
		end_fail(&consumer->end, ready);
	} else if (!ready && (patience.for_ever || patience.timeout_ns)) {
		ready = end_wait(&consumer->end, RB_DATA, &patience);
		if (ready < 0 && has_gone())
			PyErr_Clear();
	}
	end_leave(&consumer->end);
	return PyErr_Occurred() ? NULL : PyBool_FromLong(ready);
}

/* Has the control socket be readable while there is something to take. A thread inside of the end
 * does so when it leaves. */
static PyObject *watch(PyObject *self, PyObject *unused)
{
	struct consumer *consumer = (struct consumer *)self;

	(void)unused;
	if (end_try_to_enter(&consumer->end)) {
		rb_chime_watch(consumer->end.core);
		end_leave(&consumer->end);
	} else {
		rb_store_relaxed_bool(&consumer->end.core->consumer.chime.watched, true);
	}
	return Py_NewRef(Py_None);
}

/* ---- the type ---- */

/* `PipeConsumer(channel, unpack)`: `unpack` makes the object of a message. */
static PyObject *pipe_consumer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	PyObject *channel, *unpack;

	if (!PyArg_ParseTuple(args, "OO", &channel, &unpack))
		return NULL;
	PyObject *of_channel = Py_BuildValue("(O)", channel);
	PyObject *self = of_channel ? consumer_new(type, of_channel, keywords) : NULL;
	Py_XDECREF(of_channel);
	if (!self)
		return NULL;
	struct pipe_consumer *consumer = (struct pipe_consumer *)self;
	function_set(&consumer->consumer.end.decode, unpack);
	consumer->takings[0] = taking_new(self, subscribe_recv_bytes);
	consumer->takings[1] = taking_new(self, subscribe_recv_into);
	if (!consumer->takings[0] || !consumer->takings[1]) {
		Py_DECREF(self);
		return NULL;
	}
	return self;
}

static void pipe_consumer_dealloc(PyObject *self)
{
	struct pipe_consumer *consumer = (struct pipe_consumer *)self;

	taking_forget(&consumer->takings[0]);
	taking_forget(&consumer->takings[1]);
	consumer_dealloc(self);
}

static PyMemberDef pipe_consumer_members[] = {
	{"_recv_bytes", T_OBJECT_EX, offsetof(struct pipe_consumer, takings[0]), READONLY, NULL},
	{"_recv_into", T_OBJECT_EX, offsetof(struct pipe_consumer, takings[1]), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef pipe_consumer_methods[] = {
	{"_poll", poll, METH_O, NULL},
	{"_watch", watch, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot pipe_consumer_slots[] = {
	{Py_tp_doc, "The consuming end of a connection of a pipe."},
	{Py_tp_new, pipe_consumer_new},
	{Py_tp_dealloc, pipe_consumer_dealloc},
	{Py_tp_members, pipe_consumer_members},
	{Py_tp_methods, pipe_consumer_methods},
	{0, NULL},
};

PyType_Spec pipe_consumer_spec = {
	.name = "ringbell._ends.PipeConsumer",
	.basicsize = sizeof(struct pipe_consumer),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = pipe_consumer_slots,
};
