/* SPDX-License-Identifier: MIT
 *
 * A request in a device's hands: its payload where it lies, and its completion.
 */
#include <stdio.h>

#include "codec.h"
#include "request.h"

static bool wait_for_room(PyObject *who, struct patience *patience)
{
	return producer_wait((PyObject *)((struct side *)who)->producer, patience);
}

/* ---- the payload ---- */

/* Makes a request of a payload that lies in `memory`: its own bytes, or the memory of a ring. */
static struct request *request_new(struct side *device, uint64_t index, uint64_t token,
				   PyObject *memory, const void *start, uint64_t length)
{
	bool encoded = device->consumer->end.decode.object;
	struct request *request =
		PyObject_New(struct request, encoded ? object_request_type : request_type);

	if (!request)
		return NULL;
	request->device = (struct side *)Py_NewRef((PyObject *)device);
	request->index = index;
	request->token = token;
	request->payload = NULL;
	request->encoded = encoded;
	request->loan = request->encoded ? NULL : loan_new(memory);
	if (request->loan)
		request->payload = loan_lend(request->loan, (void *)(uintptr_t)start, length, true);
	else if (request->encoded)
		request->payload =
			PyBytes_CheckExact(memory) ? Py_NewRef(memory) : bytes_of(start, length);
	if (request->payload)
		return request;
	Py_DECREF(request);
	return NULL;
}

/* The view of the bytes, or the object in them, as a new reference. It is decoded when it is first
 * asked for, so that a request whose payload cannot be decoded can be failed. */
PyObject *request_payload(struct request *request)
{
	if (request->encoded) {
		/* A reference, because another thread may do the same meanwhile. */
		PyObject *object = decoded(&request->device->consumer->end.decode,
					   Py_NewRef(request->payload));
		if (!object)
			return NULL;
		PyObject *before = request->payload;
		request->payload = object;
		request->encoded = false;
		Py_DECREF(before);
	}
	return Py_NewRef(request->payload);
}

/* Of the frame that was peeked at. */
struct request *request_in_ring(struct side *device)
{
	rb_channel *core = device->consumer->end.core;
	const rb_frame *frame = &core->consumer.frame;

	return request_new(device, frame->index, frame->token, device->consumer->end.memory,
			   core->consumer.slots + frame->start, frame->stop - frame->start);
}

/* Of the frame that was peeked at, whose message lies in a block. */
struct request *request_in_block(struct side *device)
{
	const rb_frame *frame = &device->consumer->end.core->consumer.frame;
	PyObject *held = held_new(&device->consumer->end);
	struct request *request = held ? request_new(device, frame->index, frame->token, held,
						     frame->block.start, frame->block.length)
				       : NULL;

	Py_XDECREF(held); /* the loan keeps it */
	return request;
}

/* Of a message that was put together in memory of its own. */
struct request *request_in_pieces(struct side *device, const struct message *message)
{
	PyObject *bytes = message->payload;
	struct request *request =
		request_new(device, message->index, message->token, bytes, PyBytes_AsString(bytes),
			    (uint64_t)PyBytes_Size(bytes));

	Py_DECREF(bytes); /* the loan keeps it */
	return request;
}

/* Takes the payload back. False with BufferError while the user still uses a part of it; then the
 * payload is usable again. */
bool request_take_back(struct request *request)
{
	char what[40];

	if (!request->loan || loan_end(request->loan, request->payload))
		return true;
	snprintf(what, sizeof(what), "request %llu", (unsigned long long)request->token);
	still_in_use(what);
	loan_lend_again(request->loan, &request->payload);
	return false;
}

/* ---- completing ---- */

static int complete_once(struct request *request, const struct payload *answer, int kind)
{
	rb_channel *core = request->device->consumer->end.core;
	int status;

	if (answer->whole.length < MUCH)
		return rb_complete(core, request->index, &answer->whole, kind);
	Py_BEGIN_ALLOW_THREADS
	status = rb_complete(core, request->index, &answer->whole, kind);
	Py_END_ALLOW_THREADS
	return status;
}

static bool send_in_pieces(struct request *request, const struct payload *answer, int kind,
			   struct patience *patience)
{
	struct side *device = request->device;

	return producer_send_in_pieces(device->producer, answer, request->token, kind, patience,
				       (struct room){wait_for_room, (PyObject *)device, NULL});
}

/* Finishes an answer that one call could not send, as `status` says. If the driver has closed, it
 * wants no answer, and the request is only released. */
static bool complete_on(struct request *request, int status, const struct payload *answer, int kind,
			struct patience *patience)
{
	struct side *device = request->device;
	rb_channel *core = device->consumer->end.core;
	bool good = true;

	while (good && status == -EAGAIN) {
		good = wait_for_room((PyObject *)device, patience);
		if (good)
			status = complete_once(request, answer, kind);
	}
	if (good && status == -EMSGSIZE)
		good = send_in_pieces(request, answer, kind, patience);
	else if (good && status == -EALREADY)
		PyErr_Format(PyExc_RuntimeError, "request %llu has been answered before",
			     (unsigned long long)request->token);
	else if (good && status && status != -EPIPE)
		end_fail(&device->consumer->end, status);
	if (!good && is_end_of_stream())
		PyErr_Clear();
	if (PyErr_Occurred())
		return false;
	if (status)
		rb_release(core, request->index);
	return true;
}

/* Answers with a buffer that does not lie in the request. */
static bool complete_with(struct request *request, PyObject *object, int kind,
			  struct patience *patience)
{
	rb_channel *core = request->device->consumer->end.core;
	struct payload answer;

	if (!payload_open(&answer, object))
		return false;
	bool good = request_take_back(request);
	if (good) {
		int status = complete_once(request, &answer, kind);
		good = !status || complete_on(request, status, &answer, kind, patience);
		if (good && request->loan)
			loan_let_go(request->loan); /* a block goes back at once */
		else if (!good && request->loan && rb_holds(core, request->index))
			loan_lend_again(request->loan, &request->payload);
	}
	payload_close(&answer);
	return good;
}

/* If the answer is a slice of the request, copies it and releases the slice. */
static PyObject *own_copy(struct request *request, PyObject *payload)
{
	if (!request->loan || !loan_is_of(request->loan, payload))
		return Py_NewRef(payload);
	PyObject *copy = PyObject_Bytes(payload);
	if (copy && payload != request->payload && !view_release(payload)) {
		if (PyErr_ExceptionMatches(PyExc_BufferError))
			PyErr_Clear(); /* request_take_back says so */
		if (PyErr_Occurred())
			Py_CLEAR(copy);
	}
	return copy;
}

/* What is sent as an answer, as a new reference. A failure is a text, which has no codec. */
static PyObject *answer_of(struct request *request, PyObject *payload, int kind)
{
	const struct end *end = &request->device->producer->end;
	PyObject *given = payload ? Py_NewRef(payload) : PyBytes_FromStringAndSize(NULL, 0);

	if (!given || !end->encode.object || kind != RB_MESSAGE)
		return given;
	PyObject *encoded = codec_encode(end, given);
	Py_DECREF(given);
	return encoded;
}

bool request_complete(struct request *request, PyObject *payload, int kind,
		      struct patience *patience)
{
	PyObject *given = answer_of(request, payload, kind), *answer = NULL;
	bool good = false;

	if (given && side_enter(request->device)) {
		answer = own_copy(request, given);
		if (answer)
			good = complete_with(request, answer, kind, patience);
		side_leave(request->device);
	}
	Py_XDECREF(answer);
	Py_XDECREF(given);
	return good;
}

static const struct signature complete_signature = {"complete", 0, 2, {"payload", "timeout", "ok"}};

PyDoc_STRVAR(
	complete_doc,
	"complete($self, /, payload=b'', timeout=None, *, ok=True)\n--\n\n"
	"Answer with any contiguous buffer, of any size; the request's own payload will do.\n\n"
	"If the answer is a slice of the request's payload, this call releases the slice. A\n"
	"message that was sent without a token wants no completion: it is only released. With\n"
	"`ok=False` the answer is a failure, see `fail`. Blocks while the interrupt ring is\n"
	"full. If the driver has closed the channel, it wants no answers, and this one is\n"
	"dropped.\n\n"
	"Raises BufferError while a slice of the payload, or an array made from it, is alive;\n"
	"RuntimeError when the request has been answered before; RingFull after `timeout`\n"
	"seconds (the request can still be completed); PeerLost when the driver died.");

static PyObject *complete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
			  PyObject *kwnames)
{
	struct request *request = (struct request *)self;
	PyObject *values[3] = {NULL};
	struct patience patience;

	if (!arguments_read(&complete_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]))
		return NULL;
	int ok = values[2] ? PyObject_IsTrue(values[2]) : 1;
	if (ok < 0)
		return NULL;
	bool good = request_complete(request, values[0], ok ? RB_MESSAGE : RB_FAILURE, &patience);
	return good ? Py_NewRef(Py_None) : NULL;
}

/* Answers with a failure, and why. */
bool request_fail(struct request *request, PyObject *why, struct patience *patience)
{
	PyObject *text = PyUnicode_AsEncodedString(why, "utf-8", "backslashreplace");
	bool good = text && request_complete(request, text, RB_FAILURE, patience);

	Py_XDECREF(text);
	return good;
}

static const struct signature fail_signature = {"fail", 1, 2, {"text", "timeout"}};

PyDoc_STRVAR(fail_doc,
	     "fail($self, /, text, timeout=None)\n--\n\n"
	     "Answer that the request cannot be done, and why; the driver gets RequestFailed.\n\n"
	     "Otherwise like `complete`.");

static PyObject *fail(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	PyObject *values[2] = {NULL};
	struct patience patience;

	if (!arguments_read(&fail_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]))
		return NULL;
	return request_fail((struct request *)self, values[0], &patience) ? Py_NewRef(Py_None)
									  : NULL;
}

PyDoc_STRVAR(hold_doc,
	     "hold($self, /)\n--\n\n"
	     "Give the payload to be kept for as long as you want, also after the completion.\n\n"
	     "If it lies in a block of the driver's (see `Blocks`), this is a read-only view of\n"
	     "it. The driver gets the block back once the request is completed and nothing made\n"
	     "from the view is left. Any other payload is copied, as bytes. Raises ValueError\n"
	     "when the request has been completed.");

static PyObject *hold(PyObject *self, PyObject *unused)
{
	struct request *request = (struct request *)self;

	(void)unused;
	return request->loan ? loan_hold(request->loan, request->payload)
			     : request_payload(request);
}

/* ---- the type ---- */

static void request_dealloc(PyObject *self)
{
	struct request *request = (struct request *)self;
	PyTypeObject *type = Py_TYPE(self);

	Py_XDECREF(request->payload);
	if (request->loan)
		loan_drop(&request->loan);
	Py_DECREF(request->device);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyObject *request_repr(PyObject *self)
{
	return PyUnicode_FromFormat("<ringbell.Request %llu>",
				    (unsigned long long)((struct request *)self)->token);
}

static PyMethodDef request_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{"complete", (PyCFunction)(void (*)(void))complete, METH_FASTCALL | METH_KEYWORDS,
	 complete_doc},
	{"hold", hold, METH_NOARGS, hold_doc},
	{"fail", (PyCFunction)(void (*)(void))fail, METH_FASTCALL | METH_KEYWORDS, fail_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef request_members[] = {
	{"token", T_ULONGLONG, offsetof(struct request, token), READONLY,
	 "The driver's name for the request, 64 bits."},
	{"payload", T_OBJECT_EX, offsetof(struct request, payload), READONLY,
	 "Read-only view of the request's bytes in shared memory.\n\n"
	 "Valid until the request is completed; using it after that raises ValueError. A request\n"
	 "larger than half the ring lies in private memory instead, or in a block of the\n"
	 "driver's. If the channel has a codec, this is the object, which the request's receiver\n"
	 "owns; it raises what the codec raises."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot request_slots[] = {
	{Py_tp_doc,
	 "A request that a device has taken and has to complete or fail, in any order.\n\n"
	 "Its slots stay in use until then. A producer can write again only up to the oldest\n"
	 "request that is not completed."},
	{Py_tp_dealloc, request_dealloc},
	{Py_tp_repr, request_repr},
	{Py_tp_methods, request_methods},
	{Py_tp_members, request_members},
	{0, NULL},
};

PyType_Spec request_spec = {
	.name = "ringbell.Request",
	.basicsize = sizeof(struct request),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = request_slots,
};

/* ---- with a codec ---- */

/* A type of its own, because the interpreter reads a member several times as fast as this. */
static PyObject *request_get_payload(PyObject *self, void *unused)
{
	(void)unused;
	return request_payload((struct request *)self);
}

static PyGetSetDef object_request_attributes[] = {
	{"payload", request_get_payload, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot object_request_slots[] = {
	{Py_tp_dealloc, request_dealloc},
	{Py_tp_getset, object_request_attributes},
	{0, NULL},
};

PyType_Spec object_request_spec = {
	.name = "ringbell.Request",
	.basicsize = sizeof(struct request),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = object_request_slots,
};
