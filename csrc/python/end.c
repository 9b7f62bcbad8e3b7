/* SPDX-License-Identifier: MIT
 *
 * The base of all ends of a ring: one thread at a time, waiting, failing, taking.
 */
#include "codec.h"

#include "../life.h"

/* ---- one thread at a time ---- */

/* False with an exception: a thread is inside, or was inside when this process was forked. */
static bool refuse(PyObject *owner, struct end *end)
{
	if (rb_channel_closed(end->core))
		return end_fail(end, -EBADF);
	PyObject *name = PyType_GetName(Py_TYPE(owner));
	if (!name)
		return false;
	PyErr_Format(PyExc_RuntimeError,
		     "this %U is in use: another thread (or the code that this signal handler "
		     "interrupted) is inside it; an end is for one thread at a time",
		     name);
	Py_DECREF(name);
	return false;
}

/* Without an exception when somebody is inside. */
bool end_try_to_enter(struct end *end)
{
	return rb_enter(end->inside);
}

bool end_enter(struct end *end)
{
	return end_try_to_enter(end) || refuse((PyObject *)end, end);
}

void end_leave(struct end *end)
{
	if (rb_leave(end->core, end->inside))
		closing_done(end->channel);
}

/* Enters both ends of a side; `owner` is named if somebody is inside. */
bool ends_enter(PyObject *owner, struct end *one, struct end *other)
{
	if (!end_try_to_enter(one))
		return refuse(owner, one);
	if (end_try_to_enter(other))
		return true;
	end_leave(one);
	return refuse(owner, other);
}

void ends_leave(struct end *one, struct end *other)
{
	end_leave(other);
	end_leave(one);
}

/* ---- failing and waiting ---- */

/* Raises the exception for what the core returned; returns NULL. */
void *end_fail(struct end *end, int64_t status)
{
	PyObject *nothing = PyObject_CallMethod(end->channel, "fail", "L", (long long)status);

	Py_XDECREF(nothing);
	if (nothing)
		PyErr_SetString(PyExc_SystemError, "Channel.fail raised nothing");
	return NULL;
}

bool is_end_of_stream(void)
{
	return PyErr_ExceptionMatches(errors.end_of_stream);
}

static int poll_for(rb_channel *core, int want, int64_t left)
{
	int ready = left ? rb_glance(core, want) : 0;

	if (ready)
		return ready;
	Py_BEGIN_ALLOW_THREADS
	ready = rb_wait_poll(core, want, left);
	Py_END_ALLOW_THREADS
	return ready;
}

/* Polls, then sleeps, until something of `want` (RB_DATA, RB_SPACE) is ready: 1. Returns 0 when the
 * time is over, -1 with an exception. Signal handlers run in here, and only in here. */
int end_wait(struct end *end, int want, struct patience *patience)
{
	bool sleeps = end->core->consumer.poller.polling != RB_POLL_ALWAYS;

	for (;;) {
		int64_t left = patience_left(patience);
		int ready = poll_for(end->core, want, left);
		if (!ready && !left)
			return 0;
		if (!ready && sleeps)
			ready = sleep_until_signal(end->core, want, patience_left(patience));
		if (PyErr_Occurred() || PyErr_CheckSignals())
			return -1;
		if (ready > 0)
			return 1;
		if (ready < 0 && ready != -EINTR) {
			end_fail(end, ready);
			return -1;
		}
	}
}

bool end_wait_for_data(struct end *end, struct patience *patience)
{
	int ready = end_wait(end, RB_DATA, patience);

	if (!ready)
		PyErr_SetString(errors.ring_empty, "nothing arrived within the timeout");
	return ready > 0;
}

/* ---- the type ---- */

/* `codec` has the two functions, or is None. */
static bool take_codec(struct end *end, PyObject *codec)
{
	if (codec == Py_None)
		return true;
	PyObject *encode = PyObject_GetAttrString(codec, "encode");
	PyObject *decode = encode ? PyObject_GetAttrString(codec, "decode") : NULL;
	if (decode) {
		function_set(&end->encode, encode);
		function_set(&end->decode, decode);
	}
	Py_XDECREF(encode);
	Py_XDECREF(decode);
	return decode;
}

static PyObject *end_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"channel", NULL};
	PyObject *channel;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O", names, &channel))
		return NULL;
	PyObject *address = PyObject_GetAttrString(channel, "address");
	if (!address)
		return NULL;
	void *core = PyLong_AsVoidPtr(address);
	Py_DECREF(address);
	PyObject *memory = core ? PyObject_GetAttrString(channel, "mapping") : NULL;
	PyObject *codec = memory ? PyObject_GetAttrString(channel, "codec") : NULL;
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct end *end = codec ? (struct end *)allocate(type, 0) : NULL;
	if (end && !take_codec(end, codec))
		Py_CLEAR(end);
	Py_XDECREF(codec);
	if (!end) {
		Py_XDECREF(memory);
		return NULL;
	}
	Py_INCREF(channel);
	end->channel = channel;
	end->memory = memory;
	end->core = core;
	end->inside = &end->core->producer.inside; /* a consumer sets its own */
	return (PyObject *)end;
}

void end_clear(struct end *end)
{
	PyTypeObject *type = Py_TYPE((PyObject *)end);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(end->channel);
	Py_CLEAR(end->memory);
	function_clear(&end->encode);
	function_clear(&end->decode);
	release(end);
	Py_DECREF(type);
}

static void end_dealloc(PyObject *self)
{
	end_clear((struct end *)self);
}

/* Calls a function while this thread is inside of the end; for work that is not done for each
 * message. Raises ChannelClosed after close. */
static PyObject *end_guarded(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct end *end = (struct end *)self;

	if (nargs < 1) {
		PyErr_SetString(PyExc_TypeError, "_guarded() takes a function and its arguments");
		return NULL;
	}
	PyObject *arguments = PyTuple_New(nargs - 1);
	if (!arguments)
		return NULL;
	for (Py_ssize_t i = 1; i < nargs; i++) {
		Py_INCREF(args[i]);
		PyTuple_SetItem(arguments, i - 1, args[i]);
	}
	PyObject *result = NULL;
	if (end_enter(end)) {
		result = rb_channel_closed(end->core) ? end_fail(end, -EBADF)
						      : PyObject_Call(args[0], arguments, NULL);
		end_leave(end);
	}
	Py_DECREF(arguments);
	return result;
}

PyDoc_STRVAR(no_copy, "Refused: an end belongs to one process, and is there once.");

/* For copy and pickle. */
PyObject *refuse_copy(PyObject *self, PyObject *unused)
{
	PyObject *name = PyType_GetName(Py_TYPE(self));

	(void)unused;
	if (name)
		PyErr_Format(PyExc_TypeError,
			     "a %U cannot be copied or pickled: its memory and its descriptors are "
			     "this process's; open another one where it is needed",
			     name);
	Py_XDECREF(name);
	return NULL;
}

static PyMethodDef end_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, no_copy},
	{"_guarded", (PyCFunction)(void (*)(void))end_guarded, METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef end_members[] = {
	{"_channel", T_OBJECT_EX, offsetof(struct end, channel), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot end_slots[] = {
	{Py_tp_doc, "One end of a ring, for one thread at a time."},
	{Py_tp_new, end_new},
	{Py_tp_dealloc, end_dealloc},
	{Py_tp_methods, end_methods},
	{Py_tp_members, end_members},
	{0, NULL},
};

PyType_Spec end_spec = {
	.name = "ringbell._ends.End",
	.basicsize = sizeof(struct end),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = end_slots,
};

/* ---- taking by subscript ---- */

PyObject *taking_new(PyObject *end, PyObject *(*take)(PyObject *end, PyObject *key))
{
	struct taking *taking = PyObject_New(struct taking, taking_type);

	if (!taking)
		return NULL;
	taking->end = end;
	taking->take = take;
	return (PyObject *)taking;
}

/* For an end that is dropped while others may still refer to its taking. */
void taking_forget(PyObject **taking)
{
	if (*taking)
		((struct taking *)*taking)->end = NULL;
	Py_CLEAR(*taking);
}

static PyObject *taking_subscript(PyObject *self, PyObject *key)
{
	struct taking *taking = (struct taking *)self;
	PyObject *end = taking->end;

	if (!end) {
		PyErr_SetString(PyExc_ReferenceError, "the end of the ring no longer exists");
		return NULL;
	}
	Py_INCREF(end);
	PyObject *taken = taking->take(end, key);
	Py_DECREF(end);
	return taken;
}

static void taking_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_Free(self);
	Py_DECREF(type);
}

static PyType_Slot taking_slots[] = {
	{Py_tp_doc, "Takes something from an end; `taking[key]` takes."},
	{Py_tp_dealloc, taking_dealloc},
	{Py_mp_subscript, taking_subscript},
	{0, NULL},
};

PyType_Spec taking_spec = {
	.name = "ringbell._ends.Taking",
	.basicsize = sizeof(struct taking),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = taking_slots,
};

/* ---- taking in a loop ---- */

struct iterator {
	PyObject_HEAD PyObject *end;
	PyObject *(*take)(PyObject *end);
};

PyObject *iterator_new(PyObject *end, PyObject *(*take)(PyObject *end))
{
	struct iterator *iterator = PyObject_New(struct iterator, iterator_type);

	if (!iterator)
		return NULL;
	Py_INCREF(end);
	iterator->end = end;
	iterator->take = take;
	return (PyObject *)iterator;
}

static PyObject *iterator_next(PyObject *self)
{
	struct iterator *iterator = (struct iterator *)self;
	PyObject *taken = iterator->take(iterator->end);

	if (!taken && PyErr_Occurred() && is_end_of_stream())
		PyErr_Clear();
	return taken;
}

static void iterator_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_DECREF(((struct iterator *)self)->end);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyMethodDef iterator_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
	{Py_tp_doc, "Gives everything that arrives, until the other side has closed."},
	{Py_tp_dealloc, iterator_dealloc},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, iterator_next},
	{Py_tp_methods, iterator_methods},
	{0, NULL},
};

PyType_Spec iterator_spec = {
	.name = "ringbell._ends.Iterator",
	.basicsize = sizeof(struct iterator),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = iterator_slots,
};
