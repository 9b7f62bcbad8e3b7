/* SPDX-License-Identifier: MIT
 *
 * The base of a driver and a device: two ends, for one thread at a time.
 */
#include "python.h"

bool side_enter(struct side *side)
{
	return ends_enter((PyObject *)side, &side->producer->end, &side->consumer->end);
}

void side_leave(struct side *side)
{
	ends_leave(&side->producer->end, &side->consumer->end);
}

PyObject *side_new(PyTypeObject *type, PyObject *producer, PyObject *consumer)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct side *side = (struct side *)allocate(type, 0);

	if (!side)
		return NULL;
	side->producer = (struct producer *)Py_NewRef(producer);
	side->consumer = (struct consumer *)Py_NewRef(consumer);
	return (PyObject *)side;
}

void side_clear(struct side *side)
{
	PyTypeObject *type = Py_TYPE((PyObject *)side);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(side->producer);
	Py_CLEAR(side->consumer);
	release(side);
	Py_DECREF(type);
}

static void side_dealloc(PyObject *self)
{
	side_clear((struct side *)self);
}

static PyObject *side_channel(PyObject *self, void *unused)
{
	(void)unused;
	return Py_NewRef(((struct side *)self)->producer->end.channel);
}

static PyMethodDef side_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef side_attributes[] = {
	{"_channel", side_channel, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot side_slots[] = {
	{Py_tp_doc, "One side of a channel, for one thread at a time."},
	{Py_tp_dealloc, side_dealloc},
	{Py_tp_methods, side_methods},
	{Py_tp_getset, side_attributes},
	{0, NULL},
};

PyType_Spec side_spec = {
	.name = "ringbell._ends.Side",
	.basicsize = sizeof(struct side),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = side_slots,
};
