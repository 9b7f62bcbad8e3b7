/* SPDX-License-Identifier: MIT
 *
 * A message in a block of the sender's, for as long as somebody looks at it. Everything made from a
 * view of this object keeps it alive; when it goes, the sender gets the block back. That is so in
 * any thread, at any time, and after the channel has been closed or the sender has died.
 */
#include "python.h"

struct held {
	PyObject_HEAD PyObject *memory; /* keeps the mapping, and the core */
	rb_channel *core;
	rb_block block;
};

/* Holds the block of the frame that was peeked at; the caller takes the frame then. */
PyObject *held_new(const struct end *end)
{
	struct held *held = PyObject_New(struct held, held_type);

	if (!held)
		return NULL;
	held->memory = Py_NewRef(end->memory);
	held->core = end->core;
	held->block = end->core->consumer.frame.block;
	return (PyObject *)held;
}

static int held_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	const rb_block *block = &((struct held *)self)->block;

	return PyBuffer_FillInfo(view, self, (void *)(uintptr_t)block->start,
				 (Py_ssize_t)block->length, 1, flags);
}

static void held_dealloc(PyObject *self)
{
	struct held *held = (struct held *)self;
	PyTypeObject *type = Py_TYPE(self);

	rb_block_return(held->core, &held->block);
	Py_DECREF(held->memory);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyType_Slot held_slots[] = {
	{Py_tp_doc, "A message in a block of the sender's."},
	{Py_tp_dealloc, held_dealloc},
	{Py_bf_getbuffer, held_getbuffer},
	{0, NULL},
};

PyType_Spec held_spec = {
	.name = "ringbell._ends.Held",
	.basicsize = sizeof(struct held),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = held_slots,
};
