/* SPDX-License-Identifier: MIT
 *
 * The producing end of a record ring: write, reserve.
 */
#include <errno.h>

#include "../readers.h"
#include "python.h"

struct record_producer {
	struct end end;
	PyObject *dtype; /* the caller's, whose fields may be renamed at any time */
	PyObject *names; /* of its fields at first; NULL if it has structures as fields */
	PyObject *exact; /* what the consumer was told; nobody else has it */
	PyObject *rows;  /* the ring as an array, two mappings in a row */
};

/* ---- written in place ---- */

struct block {
	struct reservation reservation;
	PyObject *rows;
	uint64_t size;
	uint64_t count; /* of those that will be published */
};

/* Makes the array read-only. Views of it that exist already stay writable. */
static bool block_take_back(struct reservation *reservation)
{
	PyObject *rows = ((struct block *)reservation)->rows;
	PyObject *flags = PyObject_GetAttrString(rows, "flags");
	bool good = flags && !PyObject_SetAttrString(flags, "writeable", Py_False);

	Py_XDECREF(flags);
	return good;
}

static bool block_publish(struct reservation *reservation)
{
	int status = rb_commit_records(reservation->end->core, reservation->number,
				       ((struct block *)reservation)->count);

	return !status || end_fail(reservation->end, status);
}

static const struct reservation_kind block_kind = {reservation_end_enter, reservation_end_leave,
						   block_take_back, block_publish};

static PyObject *block_new(struct record_producer *producer, Py_ssize_t start, uint64_t size)
{
	rb_channel *core = producer->end.core;
	uint64_t number = rb_reservation(core);
	PyObject *rows = PySequence_GetSlice(producer->rows, start, start + (Py_ssize_t)size);
	struct block *block = rows ? PyObject_New(struct block, block_type) : NULL;

	if (!block) {
		Py_XDECREF(rows);
		rb_unreserve(core, number);
		return NULL;
	}
	block->reservation.kind = &block_kind;
	block->reservation.end = (struct end *)Py_NewRef((PyObject *)producer);
	block->reservation.number = number;
	block->reservation.ended = false;
	block->rows = rows;
	block->size = block->count = size;
	return (PyObject *)block;
}

static void block_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	reservation_drop((struct reservation *)self);
	Py_DECREF(((struct block *)self)->rows);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyObject *block_begin(PyObject *self, PyObject *unused)
{
	(void)unused;
	return reservation_begin((struct reservation *)self)
		       ? Py_NewRef(((struct block *)self)->rows)
		       : NULL;
}

static PyObject *block_count(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct block *)self)->count);
}

static int block_set_count(PyObject *self, PyObject *value, void *unused)
{
	struct block *block = (struct block *)self;

	(void)unused;
	if (!value) {
		PyErr_SetString(PyExc_AttributeError, "count cannot be deleted");
		return -1;
	}
	return number_within(value, 0, block->size,
			     "the block holds from 0 to %llu records, not %S", &block->count)
		       ? 0
		       : -1;
}

static PyMethodDef block_methods[] = {
	{"__enter__", block_begin, METH_NOARGS,
	 "Give the array to write to. Raises RuntimeError when the block was used before."},
	{"__exit__", (PyCFunction)(void (*)(void))reservation_exit, METH_FASTCALL,
	 "Publish the records; if an exception leaves the block, abandon them."},
	{"abandon", reservation_abandon, METH_NOARGS,
	 "abandon($self, /)\n--\n\n"
	 "Give the room back without publishing. A second call does nothing."},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef block_members[] = {
	{"rows", T_OBJECT_EX, offsetof(struct block, rows), READONLY,
	 "Writable array of the reserved records, with undefined content at first. Writing to it\n"
	 "after the `with` block raises ValueError."},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef block_attributes[] = {
	{"count", block_count, block_set_count,
	 "How many of the records will be published, from the first; at first all of them.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot block_slots[] = {
	{Py_tp_doc,
	 "Room in the ring for records; made by `reserve`, published when its `with` block ends."},
	{Py_tp_dealloc, block_dealloc},
	{Py_tp_methods, block_methods},
	{Py_tp_members, block_members},
	{Py_tp_getset, block_attributes},
	{0, NULL},
};

PyType_Spec block_spec = {
	.name = "ringbell.RecordBlock",
	.basicsize = sizeof(struct block),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = block_slots,
};

static const struct signature reserve_signature = {"reserve", 1, 2, {"count", "timeout"}};

PyDoc_STRVAR(
	reserve_doc,
	"reserve($self, /, count, timeout=None)\n--\n\n"
	"Give room for `count` records, to be written in place.\n\n"
	"`with producer.reserve(1000) as rows: rows[\"price\"] = ...` gives a writable array of\n"
	"the stream's dtype and publishes it at the end of the block. If an exception leaves\n"
	"the block, nothing is published. To publish fewer records, keep the block: `block =\n"
	"producer.reserve(1000)`, `with block as rows: ...; block.count = 10`. Blocks while\n"
	"there is no room for all of them. Raises ValueError unless `count` is from 1 to\n"
	"`capacity` (to half of it where a publication keeps the newest), RingFull after\n"
	"`timeout` seconds, RuntimeError when a block is reserved already, and what `write`\n"
	"raises.");

static PyObject *reserve(struct record_producer *producer, uint64_t count,
			 struct patience *patience)
{
	rb_channel *core = producer->end.core;
	int64_t start;

	while ((start = rb_reserve_records(core, count)) == -EAGAIN)
		if (!producer_wait((PyObject *)producer, patience))
			return NULL;
	if (start < 0)
		return end_fail(&producer->end, start);
	return block_new(producer, (Py_ssize_t)start, count);
}

static PyObject *record_producer_reserve(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
					 PyObject *kwnames)
{
	struct record_producer *producer = (struct record_producer *)self;
	PyObject *values[2] = {NULL};
	struct patience patience;
	uint64_t count;

	if (!arguments_read(&reserve_signature, args, nargs, kwnames, values) ||
	    !number_within(values[0], 1, rb_most_slots(&producer->end.core->producer),
			   "reserve gives from 1 to %llu records, what the ring can hold, not %S; "
			   "make the stream with a larger ring_size, or use write",
			   &count) ||
	    !patience_from(&patience, values[1]) || !end_enter(&producer->end))
		return NULL;
	PyObject *block = reserve(producer, count, &patience);
	end_leave(&producer->end);
	return block;
}

/* ---- copied ---- */

static int64_t write_once(rb_channel *core, const char *records, uint64_t count)
{
	int64_t written;

	if (count * core->producer.slot_size < MUCH)
		return rb_write(core, records, count);
	Py_BEGIN_ALLOW_THREADS
	written = rb_write(core, records, count);
	Py_END_ALLOW_THREADS
	return written;
}

/* Writes records until the time is over; returns how many, or -1 with an exception. */
static int64_t write_all(struct record_producer *producer, const char *records, uint64_t count,
			 struct patience *patience)
{
	rb_channel *core = producer->end.core;
	uint64_t written = 0;

	if (!count && rb_channel_closed(core)) { /* no record would notice that */
		end_fail(&producer->end, -EBADF);
		return -1;
	}
	for (;;) {
		int64_t status = write_once(core, records + written * core->producer.slot_size,
					    count - written);
		if (status >= 0)
			written += (uint64_t)status;
		if (written == count)
			return (int64_t)written;
		if (status < 0 && status != -EAGAIN) {
			end_fail(&producer->end, status);
			return -1;
		}
		if (status >= 0 || producer_wait((PyObject *)producer, patience))
			continue;
		if (!written || !PyErr_ExceptionMatches(errors.ring_full))
			return -1;
		PyErr_Clear();
		return (int64_t)written;
	}
}

/* Whether it is the caller's dtype, with the names that its fields had at first. */
static bool is_unchanged(struct record_producer *producer, PyObject *dtype)
{
	if (dtype != producer->dtype || !producer->names)
		return false;
	PyObject *now = PyObject_GetAttr(dtype, names.names);
	bool same = now == producer->names; /* who renames a field makes another tuple */

	Py_XDECREF(now);
	return same;
}

/* Views rows as records. False without an exception when they are no contiguous array of the
 * stream's dtype. */
static bool view_rows(struct record_producer *producer, PyObject *rows, Py_buffer *view)
{
	if (Py_TYPE(rows) != Py_TYPE(producer->rows))
		return false;
	PyObject *dtype = PyObject_GetAttr(rows, names.dtype);
	bool same = dtype && (is_unchanged(producer, dtype) ||
			      PyObject_RichCompareBool(dtype, producer->exact, Py_EQ) == 1);
	Py_XDECREF(dtype);
	if (same && !PyObject_GetBuffer(rows, view, PyBUF_ND)) {
		if (view->ndim == 1)
			return true;
		PyBuffer_Release(view);
	}
	PyErr_Clear();
	return false;
}

static const struct signature write_signature = {"write", 1, 2, {"rows", "timeout"}};

PyDoc_STRVAR(
	write_doc,
	"write($self, /, rows, timeout=None)\n--\n\n"
	"Copy records into the ring, as many at a time as fit; return how many.\n\n"
	"`rows` is a one-dimensional array of the stream's dtype, one record (a tuple of its\n"
	"fields), or lists of records. Python values become records only if that changes none\n"
	"of them (a float may be rounded). The consumer sees a group that fits at once, and\n"
	"gets at most one kick for it. Blocks while the ring is full. Returns less than all\n"
	"when `timeout` seconds are over; raises RingFull when none was written.\n\n"
	"Raises TypeError for an array of another dtype, a masked array, a table, or values of\n"
	"another kind; OverflowError for numbers that do not fit; ValueError for text that does\n"
	"not fit and for another shape; EndOfStream or PeerLost when the consumer is gone;\n"
	"ChannelClosed after close. Records written before an exception do arrive.");

static PyObject *record_producer_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
				       PyObject *kwnames)
{
	struct record_producer *producer = (struct record_producer *)self;
	PyObject *values[2] = {NULL}, *made = NULL;
	struct patience patience;
	int64_t written = -1;
	Py_buffer view;

	if (!arguments_read(&write_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]))
		return NULL;
	bool viewed = view_rows(producer, values[0], &view);
	if (!viewed) {
		/* The general way: what NumPy can make an array of. */
		made = PyObject_CallMethod(self, "_as_rows", "(O)", values[0]);
		viewed = made && !PyObject_GetBuffer(made, &view, PyBUF_ND);
	}
	if (viewed) {
		uint64_t size = producer->end.core->producer.slot_size;
		if (end_enter(&producer->end)) {
			written =
				write_all(producer, view.buf, (uint64_t)view.len / size, &patience);
			end_leave(&producer->end);
		}
		PyBuffer_Release(&view);
	}
	Py_XDECREF(made);
	return written < 0 ? NULL : PyLong_FromLongLong((long long)written);
}

/* ---- the type ---- */

static PyObject *record_producer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	newfunc base = (newfunc)PyType_GetSlot(end_type, Py_tp_new);
	PyObject *channel, *dtype, *fields, *exact, *rows;

	if (!PyArg_ParseTuple(args, "OOOOO", &channel, &dtype, &fields, &exact, &rows))
		return NULL;
	PyObject *for_base = PyTuple_Pack(1, channel);
	struct record_producer *producer =
		for_base ? (struct record_producer *)base(type, for_base, keywords) : NULL;
	Py_XDECREF(for_base);
	if (!producer)
		return NULL;
	producer->dtype = Py_NewRef(dtype);
	producer->names = fields == Py_False ? NULL : Py_NewRef(fields);
	producer->exact = Py_NewRef(exact);
	producer->rows = Py_NewRef(rows);
	return (PyObject *)producer;
}

static void record_producer_dealloc(PyObject *self)
{
	struct record_producer *producer = (struct record_producer *)self;

	Py_CLEAR(producer->dtype);
	Py_CLEAR(producer->names);
	Py_CLEAR(producer->exact);
	Py_CLEAR(producer->rows);
	end_clear(&producer->end);
}

static PyObject *record_producer_capacity(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct end *)self)->core->producer.count);
}

static PyMethodDef record_producer_methods[] = {
	{"write", (PyCFunction)(void (*)(void))record_producer_write, METH_FASTCALL | METH_KEYWORDS,
	 write_doc},
	{"reserve", (PyCFunction)(void (*)(void))record_producer_reserve,
	 METH_FASTCALL | METH_KEYWORDS, reserve_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef record_producer_members[] = {
	{"dtype", T_OBJECT_EX, offsetof(struct record_producer, dtype), READONLY,
	 "The dtype of one record."},
	{"_exact", T_OBJECT_EX, offsetof(struct record_producer, exact), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_producer_attributes[] = {
	{"capacity", record_producer_capacity, NULL,
	 "How many records the ring holds; `reserve` can give all of them.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot record_producer_slots[] = {
	{Py_tp_doc, "The producing end of a record ring."},
	{Py_tp_new, record_producer_new},
	{Py_tp_dealloc, record_producer_dealloc},
	{Py_tp_methods, record_producer_methods},
	{Py_tp_members, record_producer_members},
	{Py_tp_getset, record_producer_attributes},
	{0, NULL},
};

PyType_Spec record_producer_spec = {
	.name = "ringbell._ends.RecordProducer",
	.basicsize = sizeof(struct record_producer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = record_producer_slots,
};
