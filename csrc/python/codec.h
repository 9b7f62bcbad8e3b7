/* SPDX-License-Identifier: MIT
 *
 * Objects as messages: what a codec makes of them, and of messages.
 */
#ifndef RB_PYTHON_CODEC_H
#define RB_PYTHON_CODEC_H

#include "python.h"

/* ---- parts.c ---- */

bool is_parts(PyObject *object);
const struct rb_payload *parts_of(PyObject *object);
PyObject *parts_join(PyObject *object);

/* ---- codec.c ---- */

void function_set(struct function *function, PyObject *object);
void function_clear(struct function *function);

/* A second reference to it. */
static inline struct function function_ref(const struct function *function)
{
	Py_XINCREF(function->object);
	return *function;
}

/* Calls it with one argument, or with NULL for none. */
static inline PyObject *function_call(const struct function *function, PyObject *argument)
{
	if (function->plain)
		return function->plain(function->self, argument);
	if (function->several)
		return function->several(function->self, &argument, argument != NULL, NULL);
	return PyObject_CallFunctionObjArgs(function->object, argument, NULL);
}

PyObject *codec_encode(const struct end *end, PyObject *object);
PyObject *codec_encode_for_later(const struct end *end, PyObject *object);
PyObject *codec_decode(const struct function *decode, PyObject *octets);
extern PyMethodDef codec_methods[];

/* What is sent for an object; the object itself if the channel has no codec. */
static inline PyObject *end_encoded(const struct end *end, PyObject *object)
{
	return end->encode.object ? codec_encode(end, object) : Py_NewRef(object);
}

/* The object of a message, or the bytes without a codec; steals the bytes, which may be NULL. */
static inline PyObject *decoded(const struct function *decode, PyObject *octets)
{
	if (!octets || !decode->object)
		return octets;
	PyObject *object = codec_decode(decode, octets);
	Py_DECREF(octets);
	return object;
}

/* ---- module.c ---- */

/* What a completion and a request are with a codec. */
extern PyTypeObject *object_completion_type, *object_request_type;
extern PyType_Spec object_completion_spec, object_request_spec;

/* ---- objects.c ---- */

PyObject *object_of(struct consumer *consumer, struct patience *patience, take_function *take);
PyObject *raw_of(struct consumer *consumer, struct patience *patience, take_function *take);
PyObject *object_recv(struct consumer *consumer, struct patience *patience);
PyObject *object_hold(struct consumer *consumer, struct patience *patience);
PyObject *objects_recv(struct consumer *consumer, uint64_t most, struct patience *patience);
PyObject *object_borrow(struct consumer *consumer, struct patience *patience);

#endif
