/* SPDX-License-Identifier: MIT
 *
 * A device's answer to one request, as `reap` gives it.
 */
#include "python.h"

struct completion {
	PyObject_HEAD uint64_t token;
	PyObject *payload;
	char ok;
};

static PyObject *make(PyTypeObject *type, uint64_t token, PyObject *payload, bool ok)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct completion *completion = (struct completion *)allocate(type, 0);

	if (!completion)
		return NULL;
	completion->token = token;
	completion->payload = Py_NewRef(payload);
	completion->ok = ok;
	return (PyObject *)completion;
}

PyObject *completion_of(struct answer *answer)
{
	return make(completion_type, answer->token, answer->payload, answer->ok);
}

static PyObject *completion_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"token", "payload", "ok", NULL};
	unsigned long long token;
	PyObject *payload;
	int ok;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "KSp", names, &token, &payload, &ok))
		return NULL;
	return make(type, token, payload, ok);
}

static void completion_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(((struct completion *)self)->payload);
	release(self);
	Py_DECREF(type);
}

/* Makes RequestFailed with the device's text. */
PyObject *request_failed(PyObject *payload)
{
	PyObject *text = PyUnicode_FromEncodedObject(payload, "utf-8", "replace");
	PyObject *error =
		text ? PyObject_CallFunctionObjArgs(errors.request_failed, text, NULL) : NULL;

	Py_XDECREF(text);
	return error;
}

/* Gives the payload of an answer, or raises RequestFailed. */
static PyObject *result_of(PyObject *payload, bool ok)
{
	if (ok)
		return Py_NewRef(payload);
	PyObject *error = request_failed(payload);
	if (error)
		PyErr_SetObject(errors.request_failed, error);
	Py_XDECREF(error);
	return NULL;
}

/* The same for an answer that a call waited for; frees the answer. */
PyObject *driver_result(struct answer *answer)
{
	PyObject *result = result_of(answer->payload, answer->ok);

	Py_DECREF(answer->payload);
	PyMem_Free(answer);
	return result;
}

static PyObject *completion_result(PyObject *self, PyObject *unused)
{
	struct completion *completion = (struct completion *)self;

	(void)unused;
	return result_of(completion->payload, completion->ok);
}

static PyObject *completion_repr(PyObject *self)
{
	struct completion *completion = (struct completion *)self;

	return PyUnicode_FromFormat("Completion(token=%llu, payload=%R, ok=%s)",
				    (unsigned long long)completion->token, completion->payload,
				    completion->ok ? "True" : "False");
}

/* For copy and pickle: unlike a request, a completion is nothing but data. */
static PyObject *completion_reduce(PyObject *self, PyObject *unused)
{
	struct completion *completion = (struct completion *)self;

	(void)unused;
	return Py_BuildValue("O(KOO)", (PyObject *)Py_TYPE(self),
			     (unsigned long long)completion->token, completion->payload,
			     completion->ok ? Py_True : Py_False);
}

static PyMethodDef completion_methods[] = {
	{"result", completion_result, METH_NOARGS,
	 "result($self, /)\n--\n\n"
	 "Give the payload, or raise RequestFailed with the device's text."},
	{"__reduce__", completion_reduce, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef completion_members[] = {
	{"token", T_ULONGLONG, offsetof(struct completion, token), READONLY,
	 "The token that `submit` returned for the request."},
	{"payload", T_OBJECT_EX, offsetof(struct completion, payload), READONLY,
	 "The answer. If `ok` is false: the text of the failure, as UTF-8."},
	{"ok", T_BOOL, offsetof(struct completion, ok), READONLY,
	 "True if the device completed the request, false if it failed it."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot completion_slots[] = {
	{Py_tp_doc, "A device's answer to one request."},
	{Py_tp_new, completion_new},
	{Py_tp_dealloc, completion_dealloc},
	{Py_tp_repr, completion_repr},
	{Py_tp_methods, completion_methods},
	{Py_tp_members, completion_members},
	{0, NULL},
};

PyType_Spec completion_spec = {
	.name = "ringbell.Completion",
	.basicsize = sizeof(struct completion),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = completion_slots,
};
