/* SPDX-License-Identifier: MIT
 *
 * What a subscriber borrows, on its way into the `with` block. `__enter__` is in C for the
 * hand-over: a Python function begins with a look for signals, so a handler that raises could keep
 * the block from beginning, and what had been taken would be lost. See python.h.
 */
#include "python.h"

struct lent {
	PyObject_HEAD PyObject *end; /* the subscriber */
	PyObject *what;              /* NULL before `borrow` stores it, and once it was given */
	uint64_t index;              /* where that lies in the ring */
};

static PyObject *lent_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"end", NULL};
	PyObject *end;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!", names, end_type, &end))
		return NULL;
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct lent *lent = (struct lent *)allocate(type, 0);
	if (lent)
		lent->end = Py_NewRef(end);
	return (PyObject *)lent;
}

static PyObject *lent_enter(PyObject *self, PyObject *unused)
{
	struct lent *lent = (struct lent *)self;
	PyObject *what = lent->what;

	(void)unused;
	lent->what = NULL;
	if (!what)
		PyErr_SetString(PyExc_RuntimeError, "a loan is for one with block; borrow again");
	return what;
}

static PyObject *lent_what(PyObject *self, void *unused)
{
	struct lent *lent = (struct lent *)self;

	(void)unused;
	return Py_NewRef(lent->what ? lent->what : Py_None);
}

/* Stores what the end has found just now. The block may have it take something else before it asks
 * whether this one is whole. */
static int lent_store(PyObject *self, PyObject *what, void *unused)
{
	struct lent *lent = (struct lent *)self;
	PyObject *before = lent->what;

	(void)unused;
	lent->index = ((struct end *)lent->end)->core->consumer.frame.index;
	lent->what = Py_XNewRef(what);
	Py_XDECREF(before);
	return 0;
}

static void lent_dealloc(PyObject *self)
{
	struct lent *lent = (struct lent *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(lent->what);
	Py_CLEAR(lent->end);
	release(self);
	Py_DECREF(type);
}

static PyMemberDef lent_members[] = {
	{"_end", T_OBJECT_EX, offsetof(struct lent, end), READONLY, NULL},
	{"_index", T_ULONGLONG, offsetof(struct lent, index), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef lent_properties[] = {
	{"_what", lent_what, lent_store, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef lent_methods[] = {
	{"__enter__", lent_enter, METH_NOARGS,
	 "Give what was lent: a read-only view, or a read-only array."},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot lent_slots[] = {
	{Py_tp_doc, "What a subscriber's `borrow` gives."},
	{Py_tp_new, lent_new},
	{Py_tp_dealloc, lent_dealloc},
	{Py_tp_members, lent_members},
	{Py_tp_getset, lent_properties},
	{Py_tp_methods, lent_methods},
	{0, NULL},
};

PyType_Spec lent_spec = {
	.name = "ringbell._ends.Lent",
	.basicsize = sizeof(struct lent),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = lent_slots,
};
