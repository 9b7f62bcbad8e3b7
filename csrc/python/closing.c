/* SPDX-License-Identifier: MIT
 *
 * Channel.close of Python: closing a side while threads may be inside.
 */
#include "python.h"

#include "../life.h"

/* How long a thread that waits for others to leave may delay a signal handler. */
#define TURN (20 * RB_MS)

PyDoc_STRVAR(
	close_side_doc,
	"close_side(address, goodbye, patience_ns, /)\n--\n\n"
	"Close a side; True once no thread is inside a call of it.\n\n"
	"False when the calling thread itself is inside, or when another thread still is after\n"
	"`patience_ns`. Then the last thread to leave closes.");

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
	/* The GIL is held here, as rb_leave requires. */
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

/* The last thread has left and the side is closed. The thread that called close may have given up
 * waiting, so somebody else has to close the descriptors. That is Python code, in which a signal
 * handler may raise, and this function may run inside any call. So the main thread does it later,
 * between two steps. */
void closing_done(PyObject *channel)
{
	Py_INCREF(channel);
	if (Py_AddPendingCall(close_later, channel))
		Py_DECREF(channel); /* it closes them when it is dropped */
}
