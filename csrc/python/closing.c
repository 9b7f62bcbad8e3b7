/* SPDX-License-Identifier: MIT
 *
 * Closing a side, whoever is inside of it: for Channel.close of Python.
 */
#include "python.h"

#include "../life.h"

/* How long a handler of a signal may have to wait for a thread that waits for others to leave. */
#define TURN (20 * RB_MS)

PyDoc_STRVAR(
	close_side_doc,
	"close_side(address, goodbye, patience_ns, /)\n--\n\n"
	"Close a side: True once nobody is inside any longer.\n\n"
	"False when the one inside is this thread, or others are after so long; then the last to "
	"leave closes.");

static PyObject *close_side(PyObject *self, PyObject *arguments)
{
	unsigned long long patience_ns;
	PyObject *address;
	int goodbye, status;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OpK", &address, &goodbye, &patience_ns))
		return NULL;
	rb_channel *core = PyLong_AsVoidPtr(address);
	if (!core)
		return NULL;
	/* With the GIL held, as rb_leave wants it. */
	rb_channel_stop(core, goodbye);
	uint64_t over_ns = rb_now_ns() + patience_ns;
	do {
		Py_BEGIN_ALLOW_THREADS
		status = rb_channel_finish(core, TURN);
		Py_END_ALLOW_THREADS
		if (status == -EBUSY && PyErr_CheckSignals())
			return NULL;
	} while (status == -EBUSY && rb_now_ns() < over_ns);
	return PyBool_FromLong(!status);
}

PyMethodDef closing_methods[] = {
	{"close_side", close_side, METH_VARARGS, close_side_doc},
	{NULL, NULL, 0, NULL},
};

static int close_later(void *channel)
{
	PyObject *none = PyObject_CallMethod((PyObject *)channel, "close", NULL);

	Py_XDECREF(none);
	Py_DECREF((PyObject *)channel);
	return none ? 0 : -1;
}

/* The last one has left. Whoever wanted to close may not wait for it, so the main thread gives the
 * descriptors back as soon as it is between two steps: that is Python code, in which a handler of a
 * signal may raise, and this may be inside of anything. */
void closing_done(PyObject *channel)
{
	Py_INCREF(channel);
	if (Py_AddPendingCall(close_later, channel))
		Py_DECREF(channel); /* it gives them back when it goes */
}
