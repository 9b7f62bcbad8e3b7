/* SPDX-License-Identifier: MIT
 *
 * Answering the requests of a driver with a handler. _serve does so until the driver is gone.
 * _serve_ready is for one driver among many, and never waits for that driver.
 *
 * If the ring has no room for an answer, the answer is put aside: it goes out, perhaps in pieces,
 * when there is room. Until then the device takes no other request.
 */
#include "codec.h"
#include "device.h"

#include "../life.h"

/* ---- what a handler returns ---- */

/* Copies a buffer however it lies; NULL with the exception that is set already if that fails. */
static PyObject *copy_scattered(PyObject *result)
{
	PyObject *kind, *error, *traceback;

	PyErr_Fetch(&kind, &error, &traceback);
	PyObject *view = PyMemoryView_FromObject(result);
	PyObject *bytes = view ? PyObject_Bytes(view) : NULL;
	Py_XDECREF(view);
	if (!bytes) {
		PyErr_Restore(kind, error, traceback);
		return NULL;
	}
	Py_XDECREF(kind);
	Py_XDECREF(error);
	Py_XDECREF(traceback);
	return bytes;
}

static void handler_returned(PyObject *result)
{
	PyObject *name = PyType_GetName(Py_TYPE(result));

	if (name)
		PyErr_Format(PyExc_TypeError,
			     "the handler returned %U; return bytes or another buffer", name);
	Py_XDECREF(name);
}

/* Makes bytes of what a handler returned: it may lie in the request, which is about to end. What
 * is no payload is no answer either; but an answer may lie scattered, such as a view reversed. */
static PyObject *as_bytes(PyObject *result)
{
	struct payload payload;
	PyObject *bytes = NULL;

	if (!result || PyBytes_CheckExact(result))
		return result;
	if (is_parts(result)) {
		bytes = parts_join(result);
	} else if (payload_open(&payload, result)) {
		bytes = PyBytes_FromStringAndSize(payload.whole.start,
						  (Py_ssize_t)payload.whole.length);
		payload_close(&payload);
	} else if (PyErr_ExceptionMatches(PyExc_ValueError)) {
		bytes = copy_scattered(result);
	} else if (PyErr_ExceptionMatches(PyExc_TypeError) && !PyObject_CheckBuffer(result)) {
		handler_returned(result);
	}
	Py_DECREF(result);
	return bytes;
}

/* Gives the exception that is set to `failed`, and what that makes of it, a text. NULL with an
 * exception; what is no Exception stays set and ends the serving. Nobody here refers to the error
 * afterwards: it may keep the payload, in its frames, its causes or its attributes. */
static PyObject *text_of_failure(PyObject *failed)
{
	PyObject *kind, *error, *traceback;

	if (!PyErr_ExceptionMatches(PyExc_Exception))
		return NULL;
	PyErr_Fetch(&kind, &error, &traceback);
	PyErr_NormalizeException(&kind, &error, &traceback);
	if (traceback)
		PyException_SetTraceback(error, traceback);
	Py_XDECREF(kind);
	Py_XDECREF(traceback);
	PyObject *text = PyObject_CallFunctionObjArgs(failed, error, NULL);
	Py_DECREF(error);
	return text;
}

PyDoc_STRVAR(octets_of_doc,
	     "octets_of(result, /)\n--\n\n"
	     "Make bytes of what a handler returned, which may lie in the request.\n\n"
	     "Raises TypeError when it is no payload, and what `send` raises for one.");

static PyObject *octets_of(PyObject *module, PyObject *result)
{
	(void)module;
	return as_bytes(Py_NewRef(result));
}

PyMethodDef serving_methods[] = {
	{"octets_of", octets_of, METH_O, octets_of_doc},
	{NULL, NULL, 0, NULL},
};

/* The answer of a handler that raised, as bytes; NULL with an exception that ends the serving. */
static PyObject *answer_of_failure(PyObject *failed)
{
	PyObject *text = text_of_failure(failed);
	PyObject *bytes =
		text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;

	Py_XDECREF(text);
	return bytes;
}

/* ---- answers that wait for room ---- */

void set_aside_clear(struct set_aside *aside)
{
	Py_CLEAR(aside->answer);
	Py_CLEAR(aside->request);
	aside->done = 0;
}

enum sent { FAILED = -1, NO_ROOM = 0, SENT = 1 };

/* Sends as many pieces as there is room for. 0 when all have been sent, else what the core
 * returned. */
static int64_t send_pieces(rb_channel *core, struct set_aside *aside,
			   const struct rb_payload *answer)
{
	int64_t status = 0;

	Py_BEGIN_ALLOW_THREADS
	while (status >= 0 && aside->done < answer->length) {
		status = rb_send_piece(core, answer, aside->done, aside->request->token,
				       aside->kind);
		if (status > 0)
			aside->done = (uint64_t)status;
	}
	Py_END_ALLOW_THREADS
	return status < 0 ? status : 0;
}

static int complete_whole(rb_channel *core, uint64_t index, const struct rb_payload *answer,
			  int kind)
{
	int status;

	if (answer->length < MUCH)
		return rb_complete(core, index, answer, kind);
	Py_BEGIN_ALLOW_THREADS
	status = rb_complete(core, index, answer, kind);
	Py_END_ALLOW_THREADS
	return status;
}

static int64_t try_to_send(struct device *device)
{
	struct set_aside *aside = &device->aside;
	rb_channel *core = device->side.consumer->end.core;
	uint64_t index = aside->request->index;
	struct payload answer;

	if (!payload_open(&answer,
			  aside->answer)) /* opens without a view, so nothing is to close */
		return -ENOMEM;
	if (!aside->done) {
		int status = complete_whole(core, index, &answer.whole, aside->kind);
		if (status != -EMSGSIZE)
			return status;
	}
	int64_t status = send_pieces(core, aside, &answer.whole);
	if (!status)
		rb_release(core, index);
	return status;
}

/* Copies an answer that has to wait: what it is made of may change meanwhile. */
static bool own_answer(struct set_aside *aside)
{
	if (!is_parts(aside->answer))
		return true;
	PyObject *joined = parts_join(aside->answer);
	if (!joined)
		return false;
	Py_DECREF(aside->answer);
	aside->answer = joined;
	return true;
}

/* If the driver has closed, it wants no answer, and the request is only released. */
static enum sent send_set_aside(struct device *device)
{
	struct set_aside *aside = &device->aside;
	rb_channel *core = device->side.consumer->end.core;
	int64_t status = -EBADF;

	if (!side_enter(&device->side))
		return FAILED;
	if (!rb_channel_closed(core))
		status = try_to_send(device);
	if (status == -EPIPE)
		rb_release(core, aside->request->index);
	core->asleep.waits_for = status == -EAGAIN ? RB_SPACE : RB_DATA;
	side_leave(&device->side);
	if (status == -EAGAIN)
		return own_answer(aside) ? NO_ROOM : FAILED;
	set_aside_clear(aside);
	if (!status || status == -EPIPE)
		return SENT;
	end_fail(&device->side.consumer->end, status);
	return FAILED;
}

/* ---- serving ---- */

/* The next request; NULL when none has come as a whole, or with an exception. */
static struct request *take_what_has_come(struct device *device)
{
	struct patience patience = {.timeout_ns = 0};
	rb_channel *core = device->side.consumer->end.core;

	core->asleep.waits_for = RB_DATA;
	if (!device->refusal && !rb_look(core, RB_DATA, 0))
		return NULL;
	struct request *request = device_take(device, &patience);
	if (request || !PyErr_Occurred())
		return request;
	if (PyErr_ExceptionMatches(errors.ring_empty)) {
		PyErr_Clear();
		/* Its driver is told that a request is too long once there is room. */
		if (device->refusal)
			core->asleep.waits_for = RB_SPACE;
	}
	return NULL;
}

/* Whether the payload could be taken back from the handler. An error that the handler raised may
 * hold it, and refer to itself. */
static bool take_back_payload(struct request *request, bool failed)
{
	if (request_take_back(request))
		return true;
	if (!failed || !PyErr_ExceptionMatches(PyExc_BufferError))
		return false;
	PyErr_Clear();
	PyGC_Collect();
	return request_take_back(request);
}

/* What the handler answers; bytes, or parts. NULL with an exception. */
static PyObject *answer_with(struct device *device, struct request *request, PyObject *handler)
{
	const struct end *interrupt = &device->side.producer->end;
	PyObject *payload = request_payload(request);
	PyObject *result = payload ? PyObject_CallFunctionObjArgs(handler, payload, NULL) : NULL;

	Py_XDECREF(payload);
	if (!result || !interrupt->encode.object)
		return as_bytes(result);
	PyObject *encoded = codec_encode(interrupt, result);
	Py_DECREF(result);
	return encoded && is_parts(encoded) ? encoded : as_bytes(encoded);
}

/* Answers one request, or sets the answer aside. */
static enum sent serve_one(struct device *device, struct request *request, PyObject *handler,
			   PyObject *failed)
{
	struct set_aside *aside = &device->aside;
	PyObject *answer = answer_with(device, request, handler);

	aside->kind = answer ? RB_MESSAGE : RB_FAILURE;
	if (!answer)
		answer = answer_of_failure(failed);
	if (!answer || !take_back_payload(request, aside->kind == RB_FAILURE)) {
		Py_XDECREF(answer);
		Py_DECREF(request);
		return FAILED;
	}
	loan_let_go(request->loan); /* a block goes back before the answer has room */
	aside->request = request;
	aside->answer = answer;
	return send_set_aside(device);
}

/* Answers the requests that have come, at most `most`, and waits for nothing. Returns how many, or
 * -1 with an exception. With `sole` it looks a little longer for the next one. */
static Py_ssize_t serve_ready(struct device *device, PyObject *handler, PyObject *failed,
			      Py_ssize_t most, bool sole)
{
	rb_channel *core = device->side.consumer->end.core;
	Py_ssize_t count = 0;

	enum sent sent = device->aside.request ? send_set_aside(device) : SENT;
	while (sent == SENT && count < most) {
		struct request *request = take_what_has_come(device);
		if (!request && (PyErr_Occurred() || !sole || !rb_glance(core, RB_DATA)))
			break;
		if (!request)
			continue;
		sent = serve_one(device, request, handler, failed);
		count++;
		if (sent != FAILED && PyErr_CheckSignals())
			break;
	}
	return PyErr_Occurred() ? -1 : count;
}

/* `_serve_ready(handler, failed, most, sole)`: gives how many requests it has answered. */
PyObject *device_serve_ready(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct device *device = (struct device *)self;
	Py_ssize_t most = nargs == 4 ? PyLong_AsSsize_t(args[2]) : 0;
	bool sole = nargs == 4 && PyObject_IsTrue(args[3]);

	if (nargs != 4) {
		PyErr_SetString(PyExc_TypeError,
				"_serve_ready() takes a handler, what fails for it, and two more");
		return NULL;
	}
	Py_ssize_t count = serve_ready(device, args[0], args[1], most, sole);
	return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

/* Waits for a request, or for room if an answer is set aside; false with an exception. */
static bool wait_for_next(struct device *device)
{
	struct side *side = &device->side;
	struct patience patience = {.for_ever = true};
	int want = side->consumer->end.core->asleep.waits_for;
	struct end *end = want == RB_SPACE ? &side->producer->end : &side->consumer->end;

	if (!side_enter(side))
		return false;
	int ready = end_wait(end, want, &patience);
	side_leave(side);
	if (ready > 0)
		return true;
	if (want != RB_SPACE || !is_driver_gone())
		return false;
	PyErr_Clear(); /* the next take says so, after all that has come */
	return true;
}

/* `_serve(handler, failed)`: answers requests until an exception ends it. */
PyObject *device_serve(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct device *device = (struct device *)self;

	if (nargs != 2) {
		PyErr_SetString(PyExc_TypeError, "_serve() takes a handler, and what fails for it");
		return NULL;
	}
	while (serve_ready(device, args[0], args[1], PY_SSIZE_T_MAX, false) >= 0 &&
	       wait_for_next(device))
		;
	return NULL;
}
