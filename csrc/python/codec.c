/* SPDX-License-Identifier: MIT
 *
 * The two functions of a codec, called for each object. They are the user's code: they may raise,
 * and may give anything.
 */
#include "codec.h"

/* An iterator, or a loop over one, would take StopIteration for its end, and the user would take an
 * error of ringbell's, which may come from another channel, for the state of this one. */
static void tell_apart(const char *what)
{
	PyObject *kind, *error, *traceback, *told_kind, *told, *told_traceback;

	if (!PyErr_ExceptionMatches(PyExc_StopIteration) && !PyErr_ExceptionMatches(errors.any))
		return;
	PyErr_Fetch(&kind, &error, &traceback);
	PyErr_NormalizeException(&kind, &error, &traceback);
	if (traceback)
		PyException_SetTraceback(error, traceback);
	PyErr_Format(PyExc_RuntimeError, "%s raised %R", what, error);
	PyErr_Fetch(&told_kind, &told, &told_traceback);
	PyErr_NormalizeException(&told_kind, &told, &told_traceback);
	PyException_SetCause(told, error); /* which it keeps */
	PyErr_Restore(told_kind, told, told_traceback);
	Py_XDECREF(kind);
	Py_XDECREF(traceback);
}

static PyObject *refuse_encoded(PyObject *made)
{
	PyObject *name = PyType_GetName(Py_TYPE(made));

	if (name)
		PyErr_Format(PyExc_TypeError,
			     "the codec's encode function returned %U; it has to return bytes or "
			     "another buffer",
			     name);
	Py_XDECREF(name);
	Py_DECREF(made);
	return NULL;
}

/* What is sent for an object: a buffer, or Parts. Parts have been encoded already. */
PyObject *codec_encode(const struct end *end, PyObject *object)
{
	if (is_parts(object))
		return Py_NewRef(object);
	PyObject *made = function_call(&end->encode, object);
	if (!made)
		tell_apart("encoding an object");
	else if (!PyBytes_CheckExact(made) && !is_parts(made) && !PyObject_CheckBuffer(made))
		return refuse_encoded(made);
	return made;
}

/* The same for what is sent later: a codec may use its buffer again for the next object. */
PyObject *codec_encode_for_later(const struct end *end, PyObject *object)
{
	PyObject *made = codec_encode(end, object);

	if (!made || PyBytes_CheckExact(made) || is_parts(made))
		return made;
	PyObject *bytes = PyBytes_FromObject(made);
	Py_DECREF(made);
	return bytes;
}

/* The object of a message. `octets` are bytes that nobody else has, or a view of the ring. */
PyObject *codec_decode(const struct function *decode, PyObject *octets)
{
	PyObject *object = function_call(decode, octets);

	if (!object)
		tell_apart("decoding a message");
	return object;
}

/* ---- functions ---- */

void function_set(struct function *function, PyObject *object)
{
	*function = (struct function){.object = Py_NewRef(object)};
	if (!PyCFunction_Check(object))
		return;
	PyCFunction found = PyCFunction_GetFunction(object);
	int flags = PyCFunction_GetFlags(object);
	function->self = PyCFunction_GetSelf(object);
	if (flags == METH_O || flags == METH_NOARGS)
		function->plain = found;
	else if (flags == (METH_FASTCALL | METH_KEYWORDS))
		function->several = (_PyCFunctionFastWithKeywords)(void (*)(void))found;
}

void function_clear(struct function *function)
{
	PyObject *object = function->object;

	*function = (struct function){NULL};
	Py_XDECREF(object);
}

PyDoc_STRVAR(writable_doc,
	     "writable(octets, /)\n--\n\n"
	     "Give a view of bytes that nobody else has, and through which they may be written.\n\n"
	     "The view, and everything made from it, keeps them alive.");

static PyObject *writable(PyObject *module, PyObject *octets)
{
	(void)module;
	if (!PyBytes_CheckExact(octets)) {
		PyErr_SetString(PyExc_TypeError, "writable() takes bytes");
		return NULL;
	}
	/* Python itself keeps bytes that are as short, and gives them to everybody. */
	if (PyBytes_Size(octets) < 2)
		return PyMemoryView_FromObject(octets);
	struct loan *loan = loan_new(octets);
	PyObject *view = loan ? loan_lend(loan, PyBytes_AsString(octets),
					  (uint64_t)PyBytes_Size(octets), false)
			      : NULL;
	loan_drop(&loan); /* the view keeps it */
	return view;
}

PyMethodDef codec_methods[] = {
	{"writable", writable, METH_O, writable_doc},
	{NULL, NULL, 0, NULL},
};
