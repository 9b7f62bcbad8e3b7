/* SPDX-License-Identifier: MIT
 *
 * What is sent: any contiguous buffer, or a tensor that speaks DLPack.
 */
#include <string.h>
#include <sys/mman.h>

#include "codec.h"

static bool not_contiguous(PyObject *object)
{
	PyObject *name = PyType_GetName(Py_TYPE(object));

	if (name)
		PyErr_Format(PyExc_ValueError,
			     "the %U is not contiguous; send a contiguous copy of it", name);
	Py_XDECREF(name);
	return false;
}

static bool no_buffer(PyObject *object)
{
	PyObject *name = PyType_GetName(Py_TYPE(object));

	if (name)
		PyErr_Format(PyExc_TypeError,
			     "a payload is bytes or another buffer (bytearray, memoryview, array, "
			     "NumPy array), or a tensor in memory, not %U; encode it first",
			     name);
	Py_XDECREF(name);
	return false;
}

/* A dtype of NumPy whose elements are references, which mean nothing to another process. */
static bool has_references(PyObject *object)
{
	PyObject *dtype = PyObject_GetAttr(object, names.dtype);
	PyObject *references = dtype ? PyObject_GetAttr(dtype, names.hasobject) : NULL;
	bool has = references == Py_True;

	Py_XDECREF(dtype);
	Py_XDECREF(references);
	PyErr_Clear();
	return has;
}

/* A masked array, whose buffer is its data without the mask. False with the exception of an array
 * that may not be used any longer, such as checked records whose step is over. */
static bool has_mask(PyObject *object)
{
	PyObject *mask = PyObject_GetAttrString(object, "mask");

	if (!mask) {
		if (PyErr_ExceptionMatches(PyExc_AttributeError))
			PyErr_Clear();
		return false;
	}
	Py_DECREF(mask);
	return PyObject_HasAttrString(object, "filled");
}

static bool may_go_out(PyObject *object);

/* Whether a format of the buffer protocol has a pointer among its elements: an object (O), an
 * address (P, &, and ctypes' z and Z), a function (X). Names of fields stand between colons; NumPy
 * writes Z before the letter of a complex number. */
static bool has_pointers(const char *format)
{
	bool in_name = false;

	for (; *format; format++) {
		if (*format == ':')
			in_name = !in_name;
		else if (in_name)
			continue;
		else if (*format == 'Z' && format[1] && strchr("efdg", format[1]))
			format++;
		else if (strchr("OP&zZX", *format))
			return true;
	}
	return false;
}

/* Whether it is a value of ctypes that holds pointers. Its format may not say so. False with an
 * exception if that cannot be found out. */
static bool is_of_pointers(PyObject *object)
{
	if (!PyObject_HasAttrString(object, "_b_base_")) /* all values of ctypes have it */
		return false;
	PyObject *module = PyImport_ImportModule("ringbell.pointers");
	PyObject *holds = module ? PyObject_CallMethod(module, "holds_pointers", "(O)",
						       (PyObject *)Py_TYPE(object))
				 : NULL;
	bool has = holds == Py_True;

	Py_XDECREF(module);
	Py_XDECREF(holds);
	return has;
}

/* False with a TypeError if it shows memory that another process can make nothing of, or shows it
 * for an object that may not go out. */
static bool shows_what_may_go_out(PyObject *object)
{
	Py_buffer view;

	/* What has no buffer, or cannot tell a format, such as NumPy's times, is met further on. */
	if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO)) {
		PyErr_Clear();
		return true;
	}
	if ((view.format && has_pointers(view.format)) || is_of_pointers(object))
		PyErr_SetString(PyExc_TypeError,
				"this buffer shows pointers or references to objects, which mean "
				"nothing to another process; encode what they point to, for "
				"instance with pickle");
	bool may = !PyErr_Occurred();
	if (may && view.obj != object && !PyMemoryView_Check(object))
		may = may_go_out(view.obj); /* of a PickleBuffer, say */
	PyBuffer_Release(&view);
	return may;
}

/* False with a TypeError for an array that would not arrive as what it is, or for a view of one. */
static bool may_go_out(PyObject *object)
{
	if (PyMemoryView_Check(object)) {
		PyObject *whose = PyObject_GetAttrString(object, "obj");
		bool may = whose ? may_go_out(whose) : true;

		Py_XDECREF(whose);
		if (may)
			PyErr_Clear(); /* a view that was released says so itself */
		return may && shows_what_may_go_out(object);
	}
	if (PyBytes_Check(object) || PyByteArray_Check(object))
		return true;
	if (!PyObject_HasAttrString(object, "dtype"))
		return shows_what_may_go_out(object);
	if (has_references(object))
		PyErr_SetString(
			PyExc_TypeError,
			"the elements of this array are references to objects, which mean "
			"nothing in another process; send numbers or fixed-length strings "
			"(astype('S16')), or encode the array first, for instance with pickle");
	else if (has_mask(object))
		PyErr_SetString(PyExc_TypeError, "this is a masked array, and a mask is not sent; "
						 "use filled()");
	return !PyErr_Occurred();
}

/* Has NumPy make an array of a tensor, without a copy; NULL with an exception. */
static PyObject *through_dlpack(PyObject *object)
{
	PyObject *numpy = PyImport_ImportModule("numpy");
	PyObject *array = numpy ? PyObject_CallMethod(numpy, "from_dlpack", "(O)", object) : NULL;

	Py_XDECREF(numpy);
	if (!array &&
	    (PyErr_ExceptionMatches(PyExc_AttributeError) ||
	     PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_BufferError) ||
	     PyErr_ExceptionMatches(PyExc_RuntimeError))) {
		PyErr_Clear();
		no_buffer(object);
	}
	return array;
}

/* Whether an object has a buffer that is not contiguous. If not, with an exception. */
static bool is_scattered(PyObject *object)
{
	Py_buffer view;

	PyErr_Clear();
	if (PyObject_GetBuffer(object, &view, PyBUF_INDIRECT))
		return false;
	PyBuffer_Release(&view);
	return true;
}

/* True; or false with an exception, which is a TypeError where there is no buffer. */
static bool view_of(struct payload *payload, PyObject *object, PyObject *named)
{
	if (!PyObject_GetBuffer(object, &payload->view, PyBUF_SIMPLE)) {
		payload->whole.start = payload->view.buf;
		payload->whole.length = (uint64_t)payload->view.len;
		payload->viewed = true;
		return true;
	}
	if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError))
		return false;
	/* If it is not scattered, it has no memory any more: a released view, a closed map. */
	return is_scattered(object) && not_contiguous(named);
}

/* ---- what most callers send ---- */

/* Whether it is an array of NumPy's own class. It is found once NumPy has been loaded. */
static bool is_array(PyObject *object)
{
	static PyTypeObject *array_type;

	if (array_type)
		return Py_TYPE(object) == array_type;
	PyObject *module = PyImport_GetModule(names.numpy);
	PyObject *type = module ? PyObject_GetAttrString(module, "ndarray") : NULL;
	Py_XDECREF(module);
	PyErr_Clear();
	array_type = (PyTypeObject *)type;
	return type && Py_TYPE(object) == array_type;
}

/* Whether it is memory of a kind that has no mask and no pointers, whatever its subclasses have. */
static bool is_plain(PyObject *object)
{
	return PyBytes_CheckExact(object) || PyByteArray_CheckExact(object) ||
	       (is_array(object) && !has_references(object));
}

/* The same for a view; it may show the memory as pointers. */
static bool is_plain_view(PyObject *object)
{
	PyObject *whose = PyMemoryView_Check(object) ? PyObject_GetAttr(object, names.obj) : NULL;
	bool plain = whose && is_plain(whose);
	Py_buffer view;

	Py_XDECREF(whose);
	PyErr_Clear();
	if (!plain)
		return false;
	if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO)) {
		PyErr_Clear();
		return false;
	}
	plain = !view.format || !has_pointers(view.format);
	PyBuffer_Release(&view);
	return plain;
}

static bool open_slowly(struct payload *payload, PyObject *object)
{
	if (is_parts(object)) {
		payload->whole = *parts_of(object);
		return true;
	}
	if (is_plain(object) || is_plain_view(object))
		return view_of(payload, object, object);
	if (!may_go_out(object))
		return false;
	if (view_of(payload, object, object))
		return true;
	if (!PyErr_ExceptionMatches(PyExc_TypeError))
		return false;
	PyErr_Clear();
	if (!PyObject_HasAttrString(object, "__dlpack__"))
		return no_buffer(object);
	PyObject *array = through_dlpack(object);
	bool opened = array && view_of(payload, array, object);
	Py_XDECREF(array); /* the view keeps it */
	return opened;
}

/* Gives access to a payload until payload_close. Raises TypeError for what is no buffer, and
 * ValueError for one that is not contiguous. */
bool payload_open(struct payload *payload, PyObject *object)
{
	payload->viewed = false;
	payload->whole.parts = NULL;
	if (!PyBytes_CheckExact(object))
		return open_slowly(payload, object);
	payload->whole.start = PyBytes_AsString(object);
	payload->whole.length = (uint64_t)PyBytes_Size(object);
	return true;
}

void payload_close(struct payload *payload)
{
	if (payload->viewed)
		PyBuffer_Release(&payload->view);
}

/* Makes bytes of that length, to be filled. The allocator maps long ones anew each time, so each of
 * their pages has to be found and cleared, which takes longer than to fill it. With large pages
 * that takes a third of the time. The kernel uses them where it can. */
PyObject *bytes_to_fill(uint64_t length)
{
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);

	if (bytes && length >= MUCH_MEMORY) {
		uint64_t start = (uintptr_t)PyBytes_AsString(bytes), first = rb_whole_pages(start);
		madvise((void *)(uintptr_t)first, length - (first - start), MADV_HUGEPAGE);
	}
	return bytes;
}

/* Copies while other threads run, if that takes long. */
void copy_bytes(void *target, const void *source, uint64_t length)
{
	if (length < MUCH) {
		memcpy(target, source, length);
		return;
	}
	Py_BEGIN_ALLOW_THREADS
	memcpy(target, source, length);
	Py_END_ALLOW_THREADS
}
