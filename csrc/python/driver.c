/* SPDX-License-Identifier: MIT
 *
 * The side that sends requests and takes the answers: submit, reserve, reap, call, map.
 */
#include "codec.h"
#include "driver.h"

/* Tells an event loop of answers that a later call would give at once. */
static void tell_of_what_is_in_hand(struct driver *driver)
{
	rb_channel *core = driver->side.consumer->end.core;
	bool in_hand = driver->ready.count || driver->maps_ready || driver->side.consumer->kept;

	if (in_hand != rb_load_relaxed_bool(&core->consumer.in_hand))
		rb_in_hand(core, in_hand);
}

bool driver_enter(struct driver *driver)
{
	if (!side_enter(&driver->side))
		return false;
	/* A map may have been dropped since, with an answer in hand. */
	tell_of_what_is_in_hand(driver);
	return true;
}

void driver_leave(struct driver *driver)
{
	tell_of_what_is_in_hand(driver);
	side_leave(&driver->side);
}

static const struct signature submit_signature = {"submit", 1, 2, {"payload", "timeout"}};

PyDoc_STRVAR(
	submit_doc,
	"submit($self, /, payload, timeout=None)\n--\n\n"
	"Copy one request (any contiguous buffer, of any size) into the ring; return its token.\n\n"
	"Blocks while the doorbell ring is full. Meanwhile it takes completions that arrive and\n"
	"keeps them for `reap`, so that a device which waits for room itself can go on. Raises\n"
	"RingFull after `timeout` seconds (the request was not sent), EndOfStream or PeerLost\n"
	"when the device is gone, TypeError when the payload is no buffer, ChannelClosed after\n"
	"close.");

static PyObject *driver_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
			       PyObject *kwnames)
{
	struct driver *driver = (struct driver *)self;
	PyObject *values[2] = {NULL};
	struct patience patience;

	if (!arguments_read(&submit_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]))
		return NULL;
	PyObject *octets = end_encoded(&driver->side.producer->end, values[0]);
	if (!octets || !driver_enter(driver)) {
		Py_XDECREF(octets);
		return NULL;
	}
	struct answer *answer = driver_request(driver, FOR_REAP);
	uint64_t token = answer ? answer->token : 0;
	bool sent = driver_send(driver, answer, octets, &patience);
	driver_leave(driver);
	Py_DECREF(octets);
	return sent ? PyLong_FromUnsignedLongLong(token) : NULL;
}

static const struct signature reserve_signature = {"reserve", 1, 2, {"size", "timeout"}};

PyDoc_STRVAR(reserve_doc,
	     "reserve($self, /, size, timeout=None)\n--\n\n"
	     "Give room for a request of up to `size` bytes, to be written in place.\n\n"
	     "`with driver.reserve(4096) as frame: frame.payload[:] = ...` submits the request at\n"
	     "the end of the block, with `frame.token` as its token. If an exception leaves the\n"
	     "block, nothing is sent. Set `frame.length` to send fewer bytes. Blocks as `submit`\n"
	     "does. Raises ValueError when `size` is larger than `max_payload`, and what `submit`\n"
	     "raises.");

static PyObject *driver_reserve(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
				PyObject *kwnames)
{
	struct driver *driver = (struct driver *)self;
	PyObject *values[2] = {NULL};
	struct patience patience;

	if (!arguments_read(&reserve_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]) || !driver_enter(driver))
		return NULL;
	PyObject *frame = frame_new(driver->side.producer, driver, values[0], 0, &patience,
				    (struct room){driver_wait_for_room, self, NULL});
	driver_leave(driver);
	return frame;
}

/* ---- taking ---- */

static const struct signature call_signature = {"call", 1, 2, {"payload", "timeout"}};

PyDoc_STRVAR(
	call_doc,
	"call($self, /, payload, timeout=None)\n--\n\n"
	"Submit one request and wait for its answer, at most `timeout` seconds in all.\n\n"
	"Raises RequestFailed with the device's text when the device failed the request;\n"
	"RingFull or RingEmpty when the time is over (an answer that comes later is dropped);\n"
	"and what `submit` raises.");

/* Sends `values[0]` within `values[1]` seconds; with `hold` the answer may stay in its block. */
static PyObject *call(struct driver *driver, PyObject **values, bool hold)
{
	struct patience patience;
	PyObject *result = NULL;

	if (!patience_from(&patience, values[1]))
		return NULL;
	PyObject *octets = end_encoded(&driver->side.producer->end, values[0]);
	if (!octets || !driver_enter(driver)) {
		Py_XDECREF(octets);
		return NULL;
	}
	struct answer *answer = driver_request(driver, FOR_CALL);
	if (driver_send(driver, answer, octets, &patience)) {
		driver->holds = hold ? answer->token : 0;
		if (driver_await(driver, answer, &patience))
			result = driver_result(answer);
		else
			driver_give_up(answer);
		driver->holds = 0;
	}
	driver_leave(driver);
	Py_DECREF(octets);
	return decoded(&driver->side.consumer->end.decode, result);
}

static PyObject *driver_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
			     PyObject *kwnames)
{
	PyObject *values[2] = {NULL};

	if (!arguments_read(&call_signature, args, nargs, kwnames, values))
		return NULL;
	return call((struct driver *)self, values, false);
}

static const struct signature call_and_hold_signature = {
	"call_and_hold", 1, 2, {"payload", "timeout"}};

PyDoc_STRVAR(
	call_and_hold_doc,
	"call_and_hold($self, /, payload, timeout=None)\n--\n\n"
	"Do as `call`, but leave an answer that the device sent by reference in its block.\n\n"
	"Gives a read-only view of the block, which everything made from it keeps; the device\n"
	"gets the block back when the last of that is dropped. Of a channel with a codec: the\n"
	"object, whose large arrays are such views. Any other answer comes as from `call`.\n"
	"Raises what `call` raises.");

static PyObject *driver_call_and_hold(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
				      PyObject *kwnames)
{
	PyObject *values[2] = {NULL};

	if (!arguments_read(&call_and_hold_signature, args, nargs, kwnames, values))
		return NULL;
	return call((struct driver *)self, values, true);
}

static const struct signature map_signature = {"map", 1, 3, {"payloads", "depth", "timeout"}};

PyDoc_STRVAR(
	map_doc,
	"map($self, /, payloads, depth=128, timeout=None)\n--\n\n"
	"Submit each payload and yield the answers in the same order, `depth` in flight.\n\n"
	"It takes a payload from the iterable only when there is room, so the iterable may be\n"
	"endless. `timeout` is in seconds, for each step. Where `call` would raise, the step of\n"
	"that answer raises the same. After an exception, or when the iterator is dropped,\n"
	"answers still in flight are dropped when they arrive.");

static PyObject *driver_map(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
			    PyObject *kwnames)
{
	PyObject *values[3] = {NULL};

	if (!arguments_read(&map_signature, args, nargs, kwnames, values))
		return NULL;
	return map_new((struct driver *)self, values[0], values[1], values[2]);
}

/* No request that was made by submit or reserve is in flight, so no completion can come. */
static PyObject *nothing_to_reap(struct driver *driver)
{
	struct end *interrupt = &driver->side.consumer->end;
	int status = rb_wait_poll(interrupt->core, RB_DATA, 0);

	if (status < 0)
		return end_fail(interrupt, status);
	/* Drops answers that nobody waits for; otherwise the descriptor would stay readable. */
	if (rb_load_relaxed_bool(&interrupt->core->consumer.pollable) && !driver_set_aside(driver))
		return NULL;
	driver_settle(driver);
	PyErr_SetString(errors.ring_empty, "no request is in flight, so no completion can arrive");
	return NULL;
}

static PyObject *reap(struct driver *driver, struct patience *patience)
{
	while (!driver->ready.count) {
		if (!driver->for_reap)
			return nothing_to_reap(driver);
		if (!driver_advance(driver, patience))
			return NULL;
		if (!driver->ready.count && !driver_may_take_more(driver, patience))
			return NULL;
	}
	PyObject *completion =
		completion_of(driver->ready.first, &driver->side.consumer->end.decode);
	if (completion) {
		struct answer *answer = answers_pop(&driver->ready);
		Py_DECREF(answer->payload);
		PyMem_Free(answer);
	}
	return completion;
}

static PyObject *subscribe_reap(PyObject *self, PyObject *timeout)
{
	struct driver *driver = (struct driver *)self;
	struct patience patience;

	if (!patience_from(&patience, timeout) || !driver_enter(driver))
		return NULL;
	PyObject *completion = reap(driver, &patience);
	driver_leave(driver);
	return completion;
}

/* ---- the type ---- */

static PyObject *driver_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"doorbell", "interrupt", NULL};
	PyObject *doorbell, *interrupt;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!", names, producer_type, &doorbell,
					 consumer_type, &interrupt))
		return NULL;
	struct driver *driver = (struct driver *)side_new(type, doorbell, interrupt);
	if (!driver)
		return NULL;
	driver->next_token = 1;
	driver->reap = taking_new((PyObject *)driver, subscribe_reap);
	if (driver->reap)
		return (PyObject *)driver;
	Py_DECREF(driver);
	return NULL;
}

static void driver_dealloc(PyObject *self)
{
	struct driver *driver = (struct driver *)self;
	struct answer *answer;

	taking_forget(&driver->reap);
	while ((answer = answers_pop(&driver->ready))) {
		Py_DECREF(answer->payload);
		PyMem_Free(answer);
	}
	in_flight_free(&driver->in_flight);
	side_clear(&driver->side);
}

static PyObject *driver_in_flight(PyObject *self, void *unused)
{
	struct driver *driver = (struct driver *)self;

	(void)unused;
	return PyLong_FromUnsignedLongLong(driver->in_flight.count + driver->ready.count);
}

static PyMethodDef driver_methods[] = {
	{"submit", (PyCFunction)(void (*)(void))driver_submit, METH_FASTCALL | METH_KEYWORDS,
	 submit_doc},
	{"call", (PyCFunction)(void (*)(void))driver_call, METH_FASTCALL | METH_KEYWORDS, call_doc},
	{"call_and_hold", (PyCFunction)(void (*)(void))driver_call_and_hold,
	 METH_FASTCALL | METH_KEYWORDS, call_and_hold_doc},
	{"map", (PyCFunction)(void (*)(void))driver_map, METH_FASTCALL | METH_KEYWORDS, map_doc},
	{"reserve", (PyCFunction)(void (*)(void))driver_reserve, METH_FASTCALL | METH_KEYWORDS,
	 reserve_doc},
	{"_hand_out", driver_hand_out, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef driver_members[] = {
	{"_reap", T_OBJECT_EX, offsetof(struct driver, reap), READONLY, NULL},
	{"doorbell", T_OBJECT_EX, offsetof(struct driver, side.producer), READONLY,
	 "The producing end of the doorbell ring, for messages that want no completion."},
	{"interrupt", T_OBJECT_EX, offsetof(struct driver, side.consumer), READONLY,
	 "The consuming end of the interrupt ring.\n\n"
	 "When this driver takes a completion, it releases what `borrow` of this end has lent.\n"
	 "It raises BufferError while a part of that is in use."},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef driver_attributes[] = {
	{"in_flight", driver_in_flight, NULL,
	 "How many requests have no completion yet, or one that `reap` has not handed over.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot driver_slots[] = {
	{Py_tp_doc, "The side that sends requests and takes the answers."},
	{Py_tp_new, driver_new},
	{Py_tp_dealloc, driver_dealloc},
	{Py_tp_methods, driver_methods},
	{Py_tp_members, driver_members},
	{Py_tp_getset, driver_attributes},
	{0, NULL},
};

PyType_Spec driver_spec = {
	.name = "ringbell._ends.Driver",
	.basicsize = sizeof(struct driver),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = driver_slots,
};
