/* SPDX-License-Identifier: MIT
 *
 * The side that takes requests and answers them: take and iteration.
 */
#include "device.h"

/* Takes the frame that was peeked at, where it lies. */
static PyObject *take_whole(struct side *side)
{
	bool in_block = side->consumer->end.core->consumer.frame.flags & RB_FLAG_BLOCK;
	struct request *request = in_block ? request_in_block(side) : request_in_ring(side);

	if (request)
		rb_hold(side->consumer->end.core);
	return (PyObject *)request;
}

/* Notes that a request is refused, as soon as its token is known. True if that is news. */
static bool note_refusal(struct device *device, const struct message *message)
{
	struct consumer *doorbell = device->side.consumer;

	if (!message->named || doorbell->told)
		return false;
	device->refusal = consumer_refusal(doorbell, "a request");
	device->refused = message->token;
	doorbell->told = device->refusal != NULL;
	return true;
}

/* The next request; or NULL with an exception, or with a refusal to answer first. */
static PyObject *take_next(struct device *device, struct patience *patience)
{
	struct side *side = &device->side;
	struct consumer *doorbell = side->consumer;
	rb_channel *core = doorbell->end.core;
	struct message message;

	for (;;) {
		int status = rb_peek(core, 0);
		if (!status && !(core->consumer.frame.flags & ~RB_FLAG_BLOCK))
			return take_whole(side);
		if (!status) {
			enum took took = consumer_take_piece(doorbell, &message, true);
			if (took == TOOK_MESSAGE)
				return (PyObject *)request_in_pieces(side, &message);
			if (took == TOOK_FAILED ||
			    (took == TOOK_REFUSED && note_refusal(device, &message)) ||
			    !consumer_goes_on(doorbell, patience))
				return NULL;
			continue;
		}
		if (status != -EAGAIN)
			return end_fail(&doorbell->end, status);
		if (rb_all_held(core)) {
			PyErr_SetString(PyExc_RuntimeError,
					"every slot of the doorbell ring is held by requests that "
					"were taken and not completed, so no other can arrive; "
					"complete some of them first");
			return NULL;
		}
		if (!end_wait_for_data(&doorbell->end, patience))
			return NULL;
	}
}

static bool wait_to_refuse(PyObject *who, struct patience *patience)
{
	int ready = end_wait(&((struct side *)who)->producer->end, RB_SPACE, patience);

	if (!ready)
		PyErr_SetString(errors.ring_empty,
				"nothing arrived within the timeout, except for a "
				"request that is too long");
	return ready > 0;
}

/* Whether that is the exception that is set. */
bool is_driver_gone(void)
{
	return is_end_of_stream() || PyErr_ExceptionMatches(errors.peer_lost);
}

static bool send_refusal(struct device *device, struct patience *patience)
{
	struct side *side = &device->side;
	struct room room = {wait_to_refuse, (PyObject *)side, NULL};
	PyObject *text = PyUnicode_AsUTF8String(device->refusal);
	struct payload answer;
	bool sent = false;

	if (text && payload_open(&answer, text)) {
		if (side_enter(side)) {
			sent = producer_send_in_pieces(side->producer, &answer, device->refused,
						       RB_FAILURE, patience, room);
			side_leave(side);
		}
		payload_close(&answer);
	}
	Py_XDECREF(text);
	if (sent || !is_driver_gone())
		return sent;
	PyErr_Clear(); /* the next take says so, after all that has come */
	return true;
}

/* Fails the request that is too long; its other pieces are skipped when they come. The answer tells
 * the driver, and the log tells this side. False with an exception; if the driver has not been told
 * then, the next call tells it. */
static bool answer_refusal(struct device *device, struct patience *patience)
{
	/* A message without a token wants no answer. */
	if (device->refused && !send_refusal(device, patience))
		return false;
	PyObject *text = device->refusal;
	device->refusal = NULL;
	PyObject *none =
		PyObject_CallMethod(device->side.producer->end.channel, "log_refusal", "O", text);
	Py_DECREF(text);
	Py_XDECREF(none);
	return none != NULL;
}

/* The next request, or NULL with an exception. */
struct request *device_take(struct device *device, struct patience *patience)
{
	struct consumer *doorbell = device->side.consumer;
	PyObject *request = NULL;

	do {
		if (device->refusal && !answer_refusal(device, patience))
			return NULL;
		if (!end_enter(&doorbell->end))
			return NULL;
		if (consumer_end_loan(doorbell))
			request = take_next(device, patience);
		end_leave(&doorbell->end);
	} while (!request && !PyErr_Occurred());
	return (struct request *)request;
}

static PyObject *subscribe_take(PyObject *self, PyObject *timeout)
{
	struct patience patience;

	if (!patience_from(&patience, timeout))
		return NULL;
	return (PyObject *)device_take((struct device *)self, &patience);
}

static PyObject *take_for_ever(PyObject *self)
{
	return subscribe_take(self, Py_None);
}

/* Whether all that the driver has sent is answered, and nothing of a next request has come. */
static PyObject *device_idle(PyObject *self, PyObject *unused)
{
	const struct device *device = (struct device *)self;
	const struct consumer *doorbell = device->side.consumer;
	rb_channel *core = doorbell->end.core;
	bool half_done = doorbell->pieces || device->refusal || device->aside.request;

	(void)unused;
	return PyBool_FromLong(!half_done && rb_arrived(core) == core->consumer.read);
}

/* ---- the type ---- */

static PyObject *device_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"doorbell", "interrupt", NULL};
	PyObject *doorbell, *interrupt;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!", names, consumer_type, &doorbell,
					 producer_type, &interrupt))
		return NULL;
	struct device *device = (struct device *)side_new(type, interrupt, doorbell);
	if (!device)
		return NULL;
	device->take = taking_new((PyObject *)device, subscribe_take);
	if (device->take)
		return (PyObject *)device;
	Py_DECREF(device);
	return NULL;
}

static void device_dealloc(PyObject *self)
{
	taking_forget(&((struct device *)self)->take);
	Py_CLEAR(((struct device *)self)->refusal);
	set_aside_clear(&((struct device *)self)->aside);
	side_clear((struct side *)self);
}

static PyObject *device_iter(PyObject *self)
{
	return iterator_new(self, take_for_ever);
}

static PyMethodDef device_methods[] = {
	{"_idle", device_idle, METH_NOARGS, NULL},
	{"_serve", (PyCFunction)(void (*)(void))device_serve, METH_FASTCALL, NULL},
	{"_serve_ready", (PyCFunction)(void (*)(void))device_serve_ready, METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef device_members[] = {
	{"_take", T_OBJECT_EX, offsetof(struct device, take), READONLY, NULL},
	{"doorbell", T_OBJECT_EX, offsetof(struct device, side.consumer), READONLY,
	 "The consuming end of the doorbell ring."},
	{"interrupt", T_OBJECT_EX, offsetof(struct device, side.producer), READONLY,
	 "The producing end of the interrupt ring."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot device_slots[] = {
	{Py_tp_doc, "The side that takes requests and answers them."},
	{Py_tp_new, device_new},
	{Py_tp_dealloc, device_dealloc},
	{Py_tp_methods, device_methods},
	{Py_tp_members, device_members},
	{Py_tp_iter, device_iter},
	{0, NULL},
};

PyType_Spec device_spec = {
	.name = "ringbell._ends.Device",
	.basicsize = sizeof(struct device),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = device_slots,
};
