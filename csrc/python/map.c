/* SPDX-License-Identifier: MIT
 *
 * Many requests in flight, and their answers in order: the iterator of Driver.map.
 */
#include "codec.h"
#include "driver.h"

struct map {
	PyObject_HEAD struct driver *driver;
	PyObject *payloads; /* an iterator; NULL when it is exhausted */
	PyObject *payload;  /* drawn and not sent yet */
	PyObject *gone[3];  /* the error that the device is gone; its answers come before */
	PyObject *timeout;
	struct answers in_order; /* in flight, or arrived before the first one */
	uint64_t depth;
	bool inside; /* a thread takes the next answer */
};

/* Whether the next step would give an answer at once. */
static bool is_ready(const struct map *map)
{
	return map->in_order.first && map->in_order.first->payload;
}

void map_answer_arrived(struct map *map, struct answer *answer)
{
	map->driver->maps_ready += answer == map->in_order.first;
}

static struct answer *pop(struct map *map)
{
	bool ready = is_ready(map);
	struct answer *answer = answers_pop(&map->in_order);

	map->driver->maps_ready += (uint64_t)is_ready(map) - (uint64_t)ready;
	return answer;
}

/* Ends the map: sends nothing more, and answers still in flight are dropped when they arrive. */
static void give_up(struct map *map)
{
	struct answer *answer;

	while ((answer = pop(map)))
		driver_give_up(answer);
	Py_CLEAR(map->payloads);
	Py_CLEAR(map->payload);
	for (int i = 0; i < 3; i++)
		Py_CLEAR(map->gone[i]);
}

/* Draws the next payload, if none waits. The thread is inside of no end, because the user's code
 * runs here. */
static bool draw(struct map *map)
{
	if (map->payload || !map->payloads)
		return true;
	/* A reference, because that code may end this map. */
	PyObject *payloads = Py_NewRef(map->payloads);
	PyObject *payload = PyIter_Next(payloads);
	Py_DECREF(payloads);
	if (payload) {
		const struct end *doorbell = &map->driver->side.producer->end;
		map->payload = doorbell->encode.object ? codec_encode_for_later(doorbell, payload)
						       : Py_NewRef(payload);
		Py_DECREF(payload);
	} else if (!PyErr_Occurred()) {
		Py_CLEAR(map->payloads);
	}
	return !PyErr_Occurred();
}

/* Notes that the device is gone; the map gives the answers that came before first. */
static bool keep_for_later(struct map *map)
{
	if (!is_end_of_stream() && !PyErr_ExceptionMatches(errors.peer_lost))
		return false;
	PyErr_Fetch(&map->gone[0], &map->gone[1], &map->gone[2]);
	Py_CLEAR(map->payloads);
	Py_CLEAR(map->payload);
	return true;
}

static bool send_next(struct map *map)
{
	struct driver *driver = map->driver;
	struct patience patience;

	if (!patience_from(&patience, map->timeout) || !driver_enter(driver))
		return false;
	struct answer *answer = driver_request(driver, FOR_MAP);
	if (answer)
		answer->map = map;
	bool sent = driver_send(driver, answer, map->payload, &patience);
	if (sent) {
		answers_append(&map->in_order, answer);
		if (answer->payload)
			map_answer_arrived(map, answer);
		Py_CLEAR(map->payload);
	}
	driver_leave(driver);
	return sent || keep_for_later(map);
}

static PyObject *next_answer(struct map *map)
{
	struct patience patience;
	PyObject *result = NULL;

	if (!patience_from(&patience, map->timeout) || !driver_enter(map->driver))
		return NULL;
	if (driver_await(map->driver, map->in_order.first, &patience))
		result = driver_result(pop(map));
	driver_leave(map->driver);
	return decoded(&map->driver->side.consumer->end.decode, result);
}

/* The next answer; NULL with an exception, or at the end without one. */
static PyObject *step(struct map *map)
{
	for (;;) {
		if (!draw(map))
			return NULL;
		if (!map->payload || map->in_order.count == map->depth)
			break;
		if (!send_next(map))
			return NULL;
	}
	if (map->in_order.count)
		return next_answer(map);
	PyErr_Restore(map->gone[0], map->gone[1], map->gone[2]);
	map->gone[0] = map->gone[1] = map->gone[2] = NULL;
	return NULL;
}

/* Like a generator, it ends with its first exception, and only one thread at a time may run it. */
static PyObject *map_next(PyObject *self)
{
	struct map *map = (struct map *)self;
	PyObject *kind, *error, *traceback;

	if (!rb_flag_take(&map->inside)) {
		struct end *doorbell = &map->driver->side.producer->end;
		/* Also if this process was forked while another thread was inside. */
		if (rb_channel_closed(doorbell->core))
			return end_fail(doorbell, -EBADF);
		PyErr_SetString(PyExc_RuntimeError,
				"this map is in use: another thread, or the code that gives its "
				"payloads, is taking its next answer");
		return NULL;
	}
	PyObject *answer = step(map);
	if (!answer) {
		PyErr_Fetch(&kind, &error, &traceback);
		give_up(map);
		PyErr_Restore(kind, error, traceback);
	}
	rb_flag_give(&map->inside);
	return answer;
}

PyObject *map_new(struct driver *driver, PyObject *payloads, PyObject *depth, PyObject *timeout)
{
	struct patience patience;
	uint64_t in_flight = 128;

	if (!patience_from(&patience, timeout))
		return NULL;
	if (depth &&
	    !one_or_more(depth, "depth is how many requests may be in flight, at least 1, not %S",
			 &in_flight))
		return NULL;
	PyObject *iterator = PyObject_GetIter(payloads);
	allocfunc allocate = (allocfunc)PyType_GetSlot(map_type, Py_tp_alloc);
	struct map *map = iterator ? (struct map *)allocate(map_type, 0) : NULL;
	if (!map) {
		Py_XDECREF(iterator);
		return NULL;
	}
	map->driver = (struct driver *)Py_NewRef((PyObject *)driver);
	map->payloads = iterator;
	map->timeout = Py_XNewRef(timeout);
	map->depth = in_flight;
	return (PyObject *)map;
}

/* For the garbage collector: the source of the payloads may refer to this iterator. */
static int map_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct map *map = (struct map *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(map->driver);
	Py_VISIT(map->payloads);
	Py_VISIT(map->payload);
	for (int i = 0; i < 3; i++)
		Py_VISIT(map->gone[i]);
	return 0;
}

static int map_clear(PyObject *self)
{
	give_up((struct map *)self);
	return 0;
}

static void map_dealloc(PyObject *self)
{
	struct map *map = (struct map *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	PyObject_GC_UnTrack(self);
	give_up(map);
	Py_XDECREF(map->timeout);
	Py_XDECREF((PyObject *)map->driver);
	release(self);
	Py_DECREF(type);
}

static PyMethodDef map_methods[] = {
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot map_slots[] = {
	{Py_tp_doc, "The answers to many requests, in their order; made by `Driver.map`."},
	{Py_tp_dealloc, map_dealloc},
	{Py_tp_traverse, map_traverse},
	{Py_tp_clear, map_clear},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, map_next},
	{Py_tp_methods, map_methods},
	{0, NULL},
};

PyType_Spec map_spec = {
	.name = "ringbell._ends.Map",
	.basicsize = sizeof(struct map),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = map_slots,
};
