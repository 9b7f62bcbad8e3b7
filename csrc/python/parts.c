/* SPDX-License-Identifier: MIT
 *
 * A payload that lies in several buffers. They are copied into the ring one after the other, so
 * nobody has to join them before.
 */
#include "codec.h"

struct parts {
	PyObject_HEAD struct rb_payload whole; /* its parts are `places` */
	struct rb_place *places;
	Py_buffer *views;
	Py_ssize_t count;
};

bool is_parts(PyObject *object)
{
	return Py_TYPE(object) == parts_type;
}

/* Valid as long as the object is. */
const struct rb_payload *parts_of(PyObject *object)
{
	return &((struct parts *)object)->whole;
}

/* Copies them into one `bytes`. */
PyObject *parts_join(PyObject *object)
{
	struct parts *parts = (struct parts *)object;
	PyObject *bytes = bytes_to_fill(parts->whole.length);
	char *target = bytes ? PyBytes_AsString(bytes) : NULL;

	for (Py_ssize_t i = 0; target && i < parts->count; i++) {
		copy_bytes(target, parts->places[i].start, parts->places[i].length);
		target += parts->places[i].length;
	}
	return bytes;
}

static bool add(struct parts *parts, PyObject *buffer)
{
	Py_buffer *view = &parts->views[parts->count];

	if (PyObject_GetBuffer(buffer, view, PyBUF_SIMPLE))
		return false;
	parts->places[parts->count++] = (struct rb_place){view->buf, (uint64_t)view->len};
	parts->whole.length += (uint64_t)view->len;
	return true;
}

static PyObject *parts_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"", NULL};
	PyObject *buffers;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!", names, &PyList_Type, &buffers))
		return NULL;
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct parts *parts = (struct parts *)allocate(type, 0);
	if (!parts)
		return NULL;
	size_t count = (size_t)PyList_Size(buffers);
	/* One more: the core looks at the parts up to the length, which may be 0. */
	parts->places = PyMem_Calloc(count + 1, sizeof(*parts->places));
	parts->views = PyMem_Calloc(count + 1, sizeof(*parts->views));
	parts->whole.parts = parts->places;
	bool good = parts->places && parts->views;
	if (!good)
		PyErr_NoMemory();
	for (size_t i = 0; good && i < count; i++) {
		PyObject *buffer = PyList_GetItem(buffers, (Py_ssize_t)i);
		good = buffer && add(parts, buffer);
	}
	if (good)
		return (PyObject *)parts;
	Py_DECREF(parts);
	return NULL;
}

static void parts_dealloc(PyObject *self)
{
	struct parts *parts = (struct parts *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	for (Py_ssize_t i = 0; i < parts->count; i++)
		PyBuffer_Release(&parts->views[i]);
	PyMem_Free(parts->views);
	PyMem_Free(parts->places);
	release(self);
	Py_DECREF(type);
}

static Py_ssize_t parts_length(PyObject *self)
{
	return (Py_ssize_t)((struct parts *)self)->whole.length;
}

static PyMethodDef parts_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot parts_slots[] = {
	{Py_tp_doc, "Buffers that are sent as one payload, one after the other."},
	{Py_tp_new, parts_new},
	{Py_tp_dealloc, parts_dealloc},
	{Py_tp_methods, parts_methods},
	{Py_sq_length, parts_length},
	{0, NULL},
};

PyType_Spec parts_spec = {
	.name = "ringbell._ends.Parts",
	.basicsize = sizeof(struct parts),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = parts_slots,
};
