/* SPDX-License-Identifier: MIT
 *
 * The consuming end of a record ring: borrow, read, iteration.
 */
#include "python.h"

struct record_consumer {
	struct end end;
	PyObject *dtype;
	PyObject *rows;       /* the ring as an array, two mappings in a row */
	PyObject *steps;      /* of a checked consumer, Steps in Python; NULL of others */
	uint64_t lent;        /* records that the user has been lent */
	PyObject *takings[3]; /* borrow, read, latest */
};

enum { TAKE_BORROW, TAKE_READ, TAKE_LATEST, TAKINGS };

/* Ends the step of a checked consumer. False with an exception, which a signal handler may raise
 * here; then the records are still lent. */
static bool end_step(struct record_consumer *consumer)
{
	if (!consumer->lent || !consumer->steps)
		return true;
	PyObject *none = PyObject_CallMethod(consumer->steps, "end", NULL);
	Py_XDECREF(none);
	return none != NULL;
}

/* Releases what was lent before. */
static int release(struct record_consumer *consumer)
{
	rb_channel *core = consumer->end.core;
	int status = consumer->lent ? rb_return(core, consumer->lent) : 0;

	consumer->lent = 0;
	rb_lend(core, 0);
	return status;
}

/* Ends the step and takes nothing else: the next step of the caller takes from another ring. */
static PyObject *give_back(PyObject *self, PyObject *unused)
{
	struct record_consumer *consumer = (struct record_consumer *)self;
	PyObject *result = NULL;

	(void)unused;
	if (!end_enter(&consumer->end))
		return NULL;
	if (end_step(consumer)) {
		int status = release(consumer);
		result = status ? end_fail(&consumer->end, status) : Py_NewRef(Py_None);
	}
	end_leave(&consumer->end);
	return result;
}

/* Releases what was lent before, then waits for records; returns how many lie there, or -1 with an
 * exception. They stay in the ring until they are released. */
static int64_t await_records(struct record_consumer *consumer, uint64_t most,
			     struct patience *patience)
{
	rb_channel *core = consumer->end.core;

	if (!end_step(consumer))
		return -1;
	int64_t status = release(consumer);
	if (!status)
		status = rb_borrow(core, most, 0);
	while (status == -EAGAIN && end_wait_for_data(&consumer->end, patience))
		status = rb_borrow(core, most, 0);
	if (status >= 0)
		return status;
	if (status != -EAGAIN)
		end_fail(&consumer->end, status);
	return -1;
}

static PyObject *borrow(struct record_consumer *consumer, uint64_t most, struct patience *patience)
{
	int64_t count = await_records(consumer, most, patience);

	if (count < 0)
		return NULL;
	Py_ssize_t start = (Py_ssize_t)consumer->end.core->consumer.frame.start;
	PyObject *rows = PySequence_GetSlice(consumer->rows, start, start + (Py_ssize_t)count);
	if (rows && consumer->steps) {
		/* Nothing is lent yet, so a handler that raises in there loses nothing. */
		PyObject *copy = PyObject_CallMethod(consumer->steps, "begin", "(O)", rows);
		Py_DECREF(rows);
		rows = copy;
	}
	if (rows) {
		consumer->lent = (uint64_t)count;
		rb_lend(consumer->end.core, consumer->lent);
	}
	return rows;
}

static bool copy_into(PyObject *rows, const void *start, uint64_t bytes)
{
	Py_buffer view;

	if (PyObject_GetBuffer(rows, &view, PyBUF_WRITABLE))
		return false;
	copy_bytes(view.buf, start, bytes);
	PyBuffer_Release(&view);
	return true;
}

/* A copy of the records that have arrived. NULL with an exception, or with a status: -ESTALE when
 * the writer of many readers has overwritten them meanwhile. */
static PyObject *copy_rows(struct record_consumer *consumer, uint64_t most,
			   struct patience *patience, int *status)
{
	const struct rb_consumer *ring = &consumer->end.core->consumer;
	int64_t count = await_records(consumer, most, patience);
	PyObject *numpy = count < 0 ? NULL : PyImport_ImportModule("numpy");
	PyObject *rows =
		numpy ? PyObject_CallMethod(numpy, "empty", "LO", (long long)count, consumer->dtype)
		      : NULL;

	Py_XDECREF(numpy);
	if (rows && copy_into(rows, ring->slots + ring->frame.start * ring->slot_size,
			      (uint64_t)count * ring->slot_size)) {
		*status = rb_return(consumer->end.core, (uint64_t)count);
		if (!*status)
			return rows;
	}
	Py_XDECREF(rows);
	return NULL;
}

static PyObject *read_rows(struct record_consumer *consumer, uint64_t most,
			   struct patience *patience)
{
	PyObject *rows;
	int status;

	do {
		status = 0;
		rows = copy_rows(consumer, most, patience, &status);
	} while (status == -ESTALE);
	return status ? end_fail(&consumer->end, status) : rows;
}

/* The newest record, if it is newer than the one that was taken last; otherwise waits for one. */
static PyObject *read_latest(struct record_consumer *consumer, uint64_t most,
			     struct patience *patience)
{
	rb_takes_newest(consumer->end.core, 1);
	PyObject *rows = read_rows(consumer, most, patience);
	rb_takes_newest(consumer->end.core, 0);
	return rows;
}

/* ---- the subscripts behind the methods of Python: the key is `(max, timeout)` ---- */

static PyObject *take(PyObject *self, PyObject *key,
		      PyObject *(*how)(struct record_consumer *, uint64_t, struct patience *))
{
	struct record_consumer *consumer = (struct record_consumer *)self;
	PyObject *max, *timeout;
	struct patience patience;
	uint64_t most;

	if (!PyArg_ParseTuple(key, "OO", &max, &timeout) ||
	    !how_many(max, consumer->end.core->consumer.count, &most) ||
	    !patience_from(&patience, timeout) || !end_enter(&consumer->end))
		return NULL;
	PyObject *rows = how(consumer, most, &patience);
	end_leave(&consumer->end);
	return rows;
}

static PyObject *subscribe_borrow(PyObject *self, PyObject *key)
{
	return take(self, key, borrow);
}

static PyObject *subscribe_read(PyObject *self, PyObject *key)
{
	return take(self, key, read_rows);
}

static PyObject *subscribe_latest(PyObject *self, PyObject *key)
{
	return take(self, key, read_latest);
}

static PyObject *take_for_ever(PyObject *self, PyObject *(*how)(struct record_consumer *, uint64_t,
								struct patience *))
{
	struct record_consumer *consumer = (struct record_consumer *)self;
	struct patience patience = {.for_ever = true};

	if (!end_enter(&consumer->end))
		return NULL;
	PyObject *rows = how(consumer, consumer->end.core->consumer.count, &patience);
	end_leave(&consumer->end);
	return rows;
}

static PyObject *borrow_for_ever(PyObject *self)
{
	return take_for_ever(self, borrow);
}

static PyObject *read_for_ever(PyObject *self)
{
	return take_for_ever(self, read_rows);
}

/* ---- the type ---- */

static PyObject *record_consumer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	newfunc base = (newfunc)PyType_GetSlot(end_type, Py_tp_new);
	PyObject *channel, *dtype, *rows, *steps;

	if (!PyArg_ParseTuple(args, "OOOO", &channel, &dtype, &rows, &steps))
		return NULL;
	PyObject *for_base = PyTuple_Pack(1, channel);
	struct record_consumer *consumer =
		for_base ? (struct record_consumer *)base(type, for_base, keywords) : NULL;
	Py_XDECREF(for_base);
	if (!consumer)
		return NULL;
	PyObject *self = (PyObject *)consumer;
	consumer->end.inside = &consumer->end.core->consumer.inside;
	consumer->dtype = Py_NewRef(dtype);
	consumer->rows = Py_NewRef(rows);
	consumer->steps = steps == Py_None ? NULL : Py_NewRef(steps);
	consumer->takings[TAKE_BORROW] = taking_new(self, subscribe_borrow);
	consumer->takings[TAKE_READ] = taking_new(self, subscribe_read);
	consumer->takings[TAKE_LATEST] = taking_new(self, subscribe_latest);
	if (consumer->takings[TAKE_BORROW] && consumer->takings[TAKE_READ] &&
	    consumer->takings[TAKE_LATEST])
		return self;
	Py_DECREF(self);
	return NULL;
}

static void record_consumer_dealloc(PyObject *self)
{
	struct record_consumer *consumer = (struct record_consumer *)self;

	for (int i = 0; i < TAKINGS; i++)
		taking_forget(&consumer->takings[i]);
	Py_CLEAR(consumer->dtype);
	Py_CLEAR(consumer->rows);
	Py_CLEAR(consumer->steps);
	end_clear(&consumer->end);
}

static PyObject *record_consumer_iter(PyObject *self)
{
	/* What the writer overwrites at any time is better copied than looked at. */
	bool copies = ((struct end *)self)->core->consumer.takes_newest;

	return iterator_new(self, copies ? read_for_ever : borrow_for_ever);
}

static PyObject *record_consumer_capacity(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct end *)self)->core->consumer.count);
}

static PyMemberDef record_consumer_members[] = {
	{"_borrow", T_OBJECT_EX, offsetof(struct record_consumer, takings[TAKE_BORROW]), READONLY,
	 NULL},
	{"_read", T_OBJECT_EX, offsetof(struct record_consumer, takings[TAKE_READ]), READONLY,
	 NULL},
	{"_latest", T_OBJECT_EX, offsetof(struct record_consumer, takings[TAKE_LATEST]), READONLY,
	 NULL},
	{"dtype", T_OBJECT_EX, offsetof(struct record_consumer, dtype), READONLY,
	 "The dtype of one record; the producer chose it."},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_consumer_attributes[] = {
	{"capacity", record_consumer_capacity, NULL, "How many records the ring holds.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef record_consumer_methods[] = {
	{"_give_back", give_back, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot record_consumer_slots[] = {
	{Py_tp_doc, "The consuming end of a record ring."},
	{Py_tp_new, record_consumer_new},
	{Py_tp_dealloc, record_consumer_dealloc},
	{Py_tp_members, record_consumer_members},
	{Py_tp_methods, record_consumer_methods},
	{Py_tp_getset, record_consumer_attributes},
	{Py_tp_iter, record_consumer_iter},
	{0, NULL},
};

PyType_Spec record_consumer_spec = {
	.name = "ringbell._ends.RecordConsumer",
	.basicsize = sizeof(struct record_consumer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = record_consumer_slots,
};
