/* SPDX-License-Identifier: MIT
 *
 * The short way through `codec="pickle"`: for an object whose pickle is small, and has no large
 * buffers beside it. ringbell/codecs.py has the rest, and says what the message of an object is.
 */
#include "codec.h"

/* Bytes. A smaller buffer is a part of the pickle, because that is quicker than its place. And a
 * pickler that made a longer pickle is not used again: it may have left a large table behind, which
 * would take long to clear each time. */
#define SMALL 4096

/* The first byte of a pickle. */
#define PICKLE 0x80

struct pickles {
	PyObject_HEAD PyObject *make; /* makes the pickler, whose file this object is */
	PyObject *join;               /* makes a message of what was written, and the buffers */
	PyObject *take_apart;         /* makes the object of a message that is no pickle */
	struct function loads;        /* makes the object of a pickle */
	/* Of the pickler, which is kept, because to make one takes as long as a small pickle. */
	struct function dump, clear;
	PyObject *watched; /* what it depends on, or None */
	Py_ssize_t known;  /* how much that held when it was made */
	PyObject *octets;  /* what it has written first */
	PyObject *written; /* the list of all that it has written, if that is more */
	PyObject *buffers; /* the list of what is to lie beside the pickle; NULL: nothing */
	bool busy;         /* a thread is using it */
};

/* ---- the pickler ---- */

static void drop_pickler(struct pickles *pickles)
{
	function_clear(&pickles->dump);
	function_clear(&pickles->clear);
	Py_CLEAR(pickles->watched);
	Py_CLEAR(pickles->octets);
	Py_CLEAR(pickles->written);
	Py_CLEAR(pickles->buffers);
}

static bool make_pickler(struct pickles *pickles)
{
	PyObject *dump, *clear, *watched;

	drop_pickler(pickles);
	PyObject *made = PyObject_CallFunctionObjArgs(pickles->make, pickles, NULL);
	bool good = made && PyArg_ParseTuple(made, "OOO", &dump, &clear, &watched);
	if (good) {
		function_set(&pickles->dump, dump);
		function_set(&pickles->clear, clear);
		pickles->watched = Py_NewRef(watched);
		pickles->known = watched == Py_None ? 0 : PyObject_Size(watched);
	}
	Py_XDECREF(made);
	return good;
}

static bool has_pickler(const struct pickles *pickles)
{
	return pickles->dump.object &&
	       (pickles->watched == Py_None || PyObject_Size(pickles->watched) == pickles->known);
}

static bool append(PyObject **list, PyObject *item)
{
	if (!*list)
		*list = PyList_New(0);
	return *list && !PyList_Append(*list, item);
}

/* Called by the pickler; once, unless there are long bytes in the object. */
static PyObject *write_part(PyObject *self, PyObject *octets)
{
	struct pickles *pickles = (struct pickles *)self;

	if (!pickles->octets) {
		pickles->octets = Py_NewRef(octets);
		return Py_NewRef(Py_None);
	}
	if (!pickles->written && !append(&pickles->written, pickles->octets))
		return NULL;
	return append(&pickles->written, octets) ? Py_NewRef(Py_None) : NULL;
}

/* Called by the pickler for each buffer: whether it is to be a part of the pickle. */
static PyObject *keep_buffer(PyObject *self, PyObject *buffer)
{
	struct pickles *pickles = (struct pickles *)self;
	PyObject *view = PyObject_CallMethodObjArgs(buffer, names.raw, NULL);
	Py_ssize_t size;

	if (!view && PyErr_ExceptionMatches(PyExc_BufferError)) {
		PyErr_Clear(); /* it is scattered, and the pickler refuses it */
		return Py_NewRef(Py_True);
	}
	size = view ? PyObject_Size(view) : -1; /* of bytes */
	bool part = size >= 0 && size < SMALL;
	bool good = part || (size >= 0 && append(&pickles->buffers, view));
	Py_XDECREF(view);
	return good ? PyBool_FromLong(part) : NULL;
}

static bool done(PyObject *result)
{
	Py_XDECREF(result);
	return result != NULL;
}

static PyObject *message_of(struct pickles *pickles)
{
	PyObject *message = NULL;

	if (!pickles->written && !pickles->buffers) {
		message = pickles->octets;
		pickles->octets = NULL;
	} else if (pickles->written || append(&pickles->written, pickles->octets)) {
		PyObject *buffers = pickles->buffers ? pickles->buffers : Py_None;
		message = PyObject_CallFunctionObjArgs(pickles->join, pickles->written, buffers,
						       NULL);
	}
	return message;
}

/* After an exception, or a large object, the pickler goes. */
static PyObject *pack_alone(struct pickles *pickles, PyObject *value)
{
	PyObject *message = NULL;

	if ((has_pickler(pickles) || make_pickler(pickles)) &&
	    done(function_call(&pickles->dump, value)) &&
	    done(function_call(&pickles->clear, NULL)))
		message = message_of(pickles);
	if (!message || !PyBytes_CheckExact(message) || PyBytes_Size(message) > SMALL)
		drop_pickler(pickles);
	return message;
}

static struct pickles *pickles_of(PyTypeObject *type, PyObject *make, PyObject *join,
				  PyObject *loads, PyObject *take_apart)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct pickles *pickles = (struct pickles *)allocate(type, 0);

	if (pickles) {
		pickles->make = Py_NewRef(make);
		pickles->join = Py_NewRef(join);
		pickles->take_apart = Py_NewRef(take_apart);
		function_set(&pickles->loads, loads);
	}
	return pickles;
}

PyDoc_STRVAR(
	pack_doc,
	"pack($self, value, /)\n--\n\n"
	"Make a message of an object: bytes, or Parts.\n\n"
	"Large buffers in it are not copied: they are copied when the message is sent. Raises\n"
	"what pickling raises.");

static PyObject *pack(PyObject *self, PyObject *value)
{
	struct pickles *pickles = (struct pickles *)self, *other;
	PyObject *message = NULL;

	if (rb_flag_take(&pickles->busy)) {
		message = pack_alone(pickles, value);
		rb_flag_give(&pickles->busy);
		return message;
	}
	/* Another thread is in there, or a pickle around this one. */
	other = pickles_of(Py_TYPE(self), pickles->make, pickles->join, pickles->loads.object,
			   pickles->take_apart);
	if (other) {
		message = pack_alone(other, value);
		drop_pickler(other); /* which has it for its file */
		Py_DECREF(other);
	}
	return message;
}

PyDoc_STRVAR(unpack_doc,
	     "unpack($self, octets, /)\n--\n\n"
	     "Make the object of a message.\n\n"
	     "Of `bytes`, which nobody else may have, the arrays become writable views. Of a view\n"
	     "they become read-only ones of the same memory. Raises what the code of the pickle\n"
	     "raises, UnpicklingError when it is none.");

static PyObject *unpack(PyObject *self, PyObject *octets)
{
	const struct pickles *pickles = (struct pickles *)self;
	bool whole = PyBytes_CheckExact(octets) && PyBytes_Size(octets) &&
		     (unsigned char)*PyBytes_AsString(octets) == PICKLE;

	if (whole)
		return function_call(&pickles->loads, octets);
	return PyObject_CallFunctionObjArgs(pickles->take_apart, octets, NULL);
}

/* ---- the type ---- */

static PyObject *pickles_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"make", "join", "loads", "take_apart", NULL};
	PyObject *make, *join, *loads, *take_apart;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOOO", names, &make, &join, &loads,
					 &take_apart))
		return NULL;
	return (PyObject *)pickles_of(type, make, join, loads, take_apart);
}

static void pickles_dealloc(PyObject *self)
{
	struct pickles *pickles = (struct pickles *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	drop_pickler(pickles);
	Py_DECREF(pickles->make);
	Py_DECREF(pickles->join);
	Py_DECREF(pickles->take_apart);
	function_clear(&pickles->loads);
	release(self);
	Py_DECREF(type);
}

static PyMethodDef pickles_methods[] = {
	{"write", write_part, METH_O,
	 "write($self, part, /)\n--\n\nTake a part of a pickle; for the pickler."},
	{"keep", keep_buffer, METH_O,
	 "keep($self, buffer, /)\n--\n\n"
	 "Say whether a buffer is to be a part of the pickle; for the pickler."},
	{"pack", pack, METH_O, pack_doc},
	{"unpack", unpack, METH_O, unpack_doc},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot pickles_slots[] = {
	{Py_tp_doc, "Makes messages of objects, and objects of messages."},
	{Py_tp_new, pickles_new},
	{Py_tp_dealloc, pickles_dealloc},
	{Py_tp_methods, pickles_methods},
	{0, NULL},
};

PyType_Spec pickles_spec = {
	.name = "ringbell._ends.Pickles",
	.basicsize = sizeof(struct pickles),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = pickles_slots,
};
