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
};

static PyObject *lent_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"end", NULL};
	PyObject *end;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O", names, &end))
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
	{"_what", T_OBJECT_EX, offsetof(struct lent, what), 0, NULL},
	{NULL, 0, 0, 0, NULL},
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
	{Py_tp_methods, lent_methods},
	{0, NULL},
};

PyType_Spec lent_spec = {
	.name = "ringbell._ends.Lent",
	.basicsize = sizeof(struct lent),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = lent_slots,
};
