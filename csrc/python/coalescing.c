/* SPDX-License-Identifier: MIT
 *
 * Many entries, one kick: the block of `coalesce`.
 */
#include "python.h"

struct coalescing {
	PyObject_HEAD struct end *end;
	uint64_t block; /* its name, so that nobody ends another's */
	uint64_t max_entries;
	uint64_t max_delay_ns;
};

static uint64_t next_block = 1;

/* `end, max_entries, max_delay_ns`, which Python has checked; 0 of either is no bound. */
static PyObject *coalescing_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"end", "max_entries", "max_delay_ns", NULL};
	unsigned long long max_entries, max_delay_ns;
	PyObject *end;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!KK", names, end_type, &end,
					 &max_entries, &max_delay_ns))
		return NULL;
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct coalescing *coalescing = (struct coalescing *)allocate(type, 0);
	if (!coalescing)
		return NULL;
	Py_INCREF(end);
	coalescing->end = (struct end *)end;
	coalescing->block = __atomic_fetch_add(&next_block, 1, __ATOMIC_RELAXED);
	coalescing->max_entries = max_entries;
	coalescing->max_delay_ns = max_delay_ns;
	return (PyObject *)coalescing;
}

static PyObject *coalescing_enter(PyObject *self, PyObject *unused)
{
	struct coalescing *coalescing = (struct coalescing *)self;
	struct end *end = coalescing->end;

	(void)unused;
	if (!end_enter(end))
		return NULL;
	int status = rb_defer_begin(end->core, coalescing->block, coalescing->max_entries,
				    coalescing->max_delay_ns);
	if (status == -EALREADY)
		PyErr_SetString(PyExc_RuntimeError,
				"this end is inside a coalesce() block already; use one at a time");
	else if (status)
		end_fail(end, status);
	end_leave(end);
	return status ? NULL : Py_NewRef(self);
}

static PyObject *coalescing_exit(PyObject *self, PyObject *unused)
{
	struct coalescing *coalescing = (struct coalescing *)self;

	struct end *end = coalescing->end;

	(void)unused;
	if (!end_try_to_enter(end)) {
		if (rb_channel_closed(end->core))
			return Py_NewRef(Py_None);
		if (!end_enter(end))
			return NULL;
	}
	rb_defer_end(end->core, coalescing->block); /* no other's */
	end_leave(end);
	return Py_NewRef(Py_None);
}

/* Usually the block has ended by now. But a signal handler may have raised after the block began
 * and before `with` went on. */
static void coalescing_dealloc(PyObject *self)
{
	struct coalescing *coalescing = (struct coalescing *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	rb_defer_drop(coalescing->end->core, coalescing->block);
	Py_DECREF(coalescing->end);
	release(self);
	Py_DECREF(type);
}

static PyMethodDef coalescing_methods[] = {
	{"__enter__", coalescing_enter, METH_NOARGS,
	 "Begin to hold kicks back. Raises RuntimeError inside another `coalesce` block."},
	{"__exit__", coalescing_exit, METH_VARARGS,
	 "Send one kick, if the other side sleeps; also when an exception leaves the block."},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot coalescing_slots[] = {
	{Py_tp_doc,
	 "Holds back the kicks of a producer until its `with` block ends; made by `coalesce`."},
	{Py_tp_new, coalescing_new},
	{Py_tp_dealloc, coalescing_dealloc},
	{Py_tp_methods, coalescing_methods},
	{0, NULL},
};

PyType_Spec coalescing_spec = {
	.name = "ringbell._ends.Coalescing",
	.basicsize = sizeof(struct coalescing),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = coalescing_slots,
};
