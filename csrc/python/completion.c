/* SPDX-License-Identifier: MIT
 *
 * A device's answer to one request, as `reap` gives it.
 */
#include "codec.h"
#include "driver.h"

struct completion {
	PyObject_HEAD uint64_t token;
	PyObject *payload;
	struct function
		decode; /* makes an object of the payload; none: it is bytes, or it is one */
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

PyObject *completion_of(struct answer *answer, const struct function *decode)
{
	if (!decode->object || !answer->ok) /* a failure is a text */
		return make(completion_type, answer->token, answer->payload, answer->ok);
	PyObject *made = make(object_completion_type, answer->token, answer->payload, answer->ok);
	if (made)
		((struct completion *)made)->decode = function_ref(decode);
	return made;
}

static PyObject *completion_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"token", "payload", "ok", NULL};
	unsigned long long token;
	PyObject *payload;
	int ok;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "KOp", names, &token, &payload, &ok))
		return NULL;
	if (!ok && !PyBytes_Check(payload)) {
		PyErr_SetString(PyExc_TypeError, "the payload of a failure is its text, as bytes");
		return NULL;
	}
	return make(type, token, payload, ok);
}

static void completion_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(((struct completion *)self)->payload);
	function_clear(&((struct completion *)self)->decode);
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

/* Decoded when it is first asked for, so that taking a completion raises nothing of a codec's. */
static PyObject *completion_payload(PyObject *self, void *unused)
{
	struct completion *completion = (struct completion *)self;

	(void)unused;
	if (completion->decode.object) {
		/* References, because another thread may do the same meanwhile. */
		struct function decode = function_ref(&completion->decode);
		PyObject *object = decoded(&decode, Py_NewRef(completion->payload));
		function_clear(&decode);
		if (!object)
			return NULL;
		PyObject *before = completion->payload;
		completion->payload = object;
		function_clear(&completion->decode);
		Py_DECREF(before);
	}
	return Py_NewRef(completion->payload);
}

static PyObject *completion_result(PyObject *self, PyObject *unused)
{
	struct completion *completion = (struct completion *)self;

	(void)unused;
	return completion->ok ? completion_payload(self, NULL)
			      : result_of(completion->payload, false);
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
	PyObject *payload = completion_payload(self, NULL);
	if (!payload)
		return NULL;
	return Py_BuildValue("O(KNO)", (PyObject *)completion_type,
			     (unsigned long long)completion->token, payload,
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
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = completion_slots,
};

/* ---- with a codec ---- */

/* A type of its own, because the interpreter reads a member several times as fast as this. */
static PyGetSetDef object_completion_attributes[] = {
	{"payload", completion_payload, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot object_completion_slots[] = {
	{Py_tp_dealloc, completion_dealloc},
	{Py_tp_getset, object_completion_attributes},
	{0, NULL},
};

PyType_Spec object_completion_spec = {
	.name = "ringbell.Completion",
	.basicsize = sizeof(struct completion),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = object_completion_slots,
};
