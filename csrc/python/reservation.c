/* SPDX-License-Identifier: MIT
 *
 * Room in a ring that is written in place. A signal handler that raises finds it either published
 * or not, because `__exit__` is one call and no handler runs inside of it. If a handler raises
 * earlier, `with` calls `__exit__` with the exception; if it raises before the block begins, the
 * object is dropped.
 */
#include "../readers.h"
#include "driver.h"

bool reservation_end_enter(struct reservation *reservation)
{
	return end_enter(reservation->end);
}

void reservation_end_leave(struct reservation *reservation)
{
	end_leave(reservation->end);
}

/* Before the block begins: RuntimeError when the reservation has been used before. */
bool reservation_begin(struct reservation *reservation)
{
	if (reservation->ended)
		PyErr_SetString(PyExc_RuntimeError,
				"this room was published or abandoned before; reserve again");
	return !reservation->ended;
}

/* Gives the room back without publishing; keeps the exception that is set, if there is one. */
static void give_up(struct reservation *reservation)
{
	PyObject *kind, *error, *traceback;

	if (reservation->ended)
		return;
	PyErr_Fetch(&kind, &error, &traceback);
	reservation->ended = true;
	rb_unreserve(reservation->end->core, reservation->number);
	/* Keeps the user from writing into room that is no longer reserved, as far as possible. */
	if (!reservation->kind->take_back(reservation))
		PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

PyDoc_STRVAR(exit_doc,
	     "Publish the message; if an exception leaves the block, abandon it.\n\n"
	     "Raises BufferError, and publishes nothing, while a slice of the payload is still in\n"
	     "use; EndOfStream or PeerLost when the other side is gone.");

PyObject *reservation_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct reservation *reservation = (struct reservation *)self;
	bool passes = nargs > 0 && args[0] != Py_None;
	bool good = true;

	if (reservation->ended)
		return Py_NewRef(Py_None);
	if (!reservation->kind->enter(reservation))
		return NULL;
	if (!passes)
		good = reservation->kind->take_back(reservation) &&
		       reservation->kind->publish(reservation);
	give_up(reservation);
	reservation->kind->leave(reservation);
	return good ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(abandon_doc, "abandon($self, /)\n--\n\n"
			  "Give the room back without publishing. A second call does nothing.");

PyObject *reservation_abandon(PyObject *self, PyObject *unused)
{
	struct reservation *reservation = (struct reservation *)self;

	(void)unused;
	if (reservation->ended)
		return Py_NewRef(Py_None);
	if (!reservation->kind->enter(reservation))
		return NULL;
	give_up(reservation);
	reservation->kind->leave(reservation);
	return Py_NewRef(Py_None);
}

/* For an object that is dropped. While room is reserved nobody else can reserve or send. So this
 * disturbs nobody, even if another thread is inside of the end. */
void reservation_drop(struct reservation *reservation)
{
	give_up(reservation);
	Py_DECREF(reservation->end);
}

/* ---- a message ---- */

struct frame {
	struct reservation reservation;
	struct driver *driver; /* of a request; else NULL */
	struct answer *answer; /* of a request that has not been published */
	uint64_t token;
	uint64_t size;
	uint64_t length;
	struct loan *loan;
	PyObject *payload; /* the view of it */
};

static bool frame_enter(struct reservation *reservation)
{
	struct driver *driver = ((struct frame *)reservation)->driver;

	return driver ? driver_enter(driver) : reservation_end_enter(reservation);
}

static void frame_leave(struct reservation *reservation)
{
	struct driver *driver = ((struct frame *)reservation)->driver;

	if (driver)
		driver_leave(driver);
	else
		reservation_end_leave(reservation);
}

static bool frame_take_back(struct reservation *reservation)
{
	struct frame *frame = (struct frame *)reservation;

	if (!frame->payload || loan_end(frame->loan, frame->payload))
		return true;
	still_in_use("this frame");
	return false;
}

static bool frame_publish(struct reservation *reservation)
{
	struct frame *frame = (struct frame *)reservation;

	if (frame->driver) {
		struct answer *answer = frame->answer;
		frame->answer = NULL;
		return driver_publish(frame->driver, answer, reservation->number, frame->length);
	}
	int status =
		rb_commit(reservation->end->core, reservation->number, frame->length, frame->token);
	return !status || end_fail(reservation->end, status);
}

static const struct reservation_kind frame_kind = {frame_enter, frame_leave, frame_take_back,
						   frame_publish};

static PyObject *frame_make(struct producer *producer, void *start, uint64_t size)
{
	rb_channel *core = producer->end.core;
	struct frame *frame = PyObject_New(struct frame, frame_type);

	if (!frame) {
		rb_unreserve(core, rb_reservation(core));
		return NULL;
	}
	frame->reservation.kind = &frame_kind;
	frame->reservation.end = (struct end *)Py_NewRef((PyObject *)producer);
	frame->reservation.number = rb_reservation(core);
	frame->reservation.ended = false;
	frame->driver = NULL;
	frame->answer = NULL;
	frame->size = frame->length = size;
	frame->payload = NULL;
	frame->loan = loan_new(producer->end.memory);
	if (frame->loan)
		frame->payload = loan_lend(frame->loan, start, size, false);
	if (frame->payload)
		return (PyObject *)frame;
	Py_DECREF(frame);
	return NULL;
}

/* A large block may have to get its memory from the kernel first, which takes long. */
static int reserve(rb_channel *core, uint64_t size, void **start)
{
	int status;

	if (size < MUCH)
		return rb_reserve(core, size, start);
	Py_BEGIN_ALLOW_THREADS
	status = rb_reserve(core, size, start);
	Py_END_ALLOW_THREADS
	return status;
}

/* What is wrong with a size. Where the newest are kept, no call sends in pieces. */
static const char *too_much(const struct rb_producer *producer)
{
	return rb_most_slots(producer) == producer->count
		       ? "reserve gives from 0 to %llu bytes, what the ring can hold, not %S; "
			 "choose a larger ring_size, Blocks with a larger pool, or use a call that "
			 "copies"
		       : "reserve gives from 0 to %llu bytes, what half the ring can hold, not "
			 "%S; choose a larger ring_size, or Blocks with a larger pool";
}

/* Reserves, with the caller's way to wait. `answer` of a driver's request belongs to the frame. */
PyObject *frame_new(struct producer *producer, struct driver *driver, PyObject *wanted,
		    uint64_t token, struct patience *patience, struct room room)
{
	rb_channel *core = producer->end.core;
	void *start;
	uint64_t size;
	int status;

	if (!number_within(wanted, 0, rb_reserve_max(core), too_much(&core->producer), &size))
		return NULL;
	while ((status = reserve(core, size, &start)) == -EAGAIN || status == -EINTR)
		if (status == -EAGAIN ? !room.wait(room.who, patience) : PyErr_CheckSignals())
			return NULL;
	if (status)
		return end_fail(&producer->end, status);
	struct frame *frame = (struct frame *)frame_make(producer, start, size);
	if (!frame || !driver) {
		if (frame)
			frame->token = token;
		return (PyObject *)frame;
	}
	frame->answer = driver_request(driver, FOR_REAP);
	if (!frame->answer) {
		Py_DECREF(frame);
		return NULL;
	}
	frame->driver = (struct driver *)Py_NewRef((PyObject *)driver);
	frame->token = frame->answer->token;
	return (PyObject *)frame;
}

static void frame_dealloc(PyObject *self)
{
	struct frame *frame = (struct frame *)self;
	PyTypeObject *type = Py_TYPE(self);

	reservation_drop(&frame->reservation);
	PyMem_Free(frame->answer);
	Py_XDECREF((PyObject *)frame->driver);
	Py_XDECREF(frame->payload);
	if (frame->loan)
		loan_drop(&frame->loan);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyObject *frame_begin(PyObject *self, PyObject *unused)
{
	(void)unused;
	return reservation_begin((struct reservation *)self) ? Py_NewRef(self) : NULL;
}

static PyObject *frame_length(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct frame *)self)->length);
}

static int frame_set_length(PyObject *self, PyObject *value, void *unused)
{
	struct frame *frame = (struct frame *)self;

	(void)unused;
	if (!value) {
		PyErr_SetString(PyExc_AttributeError, "length cannot be deleted");
		return -1;
	}
	return number_within(value, 0, frame->size, "the frame holds from 0 to %llu bytes, not %S",
			     &frame->length)
		       ? 0
		       : -1;
}

static PyMethodDef frame_methods[] = {
	{"__enter__", frame_begin, METH_NOARGS,
	 "Begin to write. Raises RuntimeError when the frame has been used before."},
	{"__exit__", (PyCFunction)(void (*)(void))reservation_exit, METH_FASTCALL, exit_doc},
	{"abandon", reservation_abandon, METH_NOARGS, abandon_doc},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef frame_members[] = {
	{"token", T_ULONGLONG, offsetof(struct frame, token), READONLY,
	 "The token of the message: the one that `submit` would have returned, or that `reserve`\n"
	 "was given."},
	{"payload", T_OBJECT_EX, offsetof(struct frame, payload), READONLY,
	 "Writable view of the reserved bytes, with undefined content at first. Using it after\n"
	 "the `with` block raises ValueError."},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef frame_attributes[] = {
	{"length", frame_length, frame_set_length,
	 "How many bytes of the payload will be published; at first all that were reserved.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot frame_slots[] = {
	{Py_tp_doc,
	 "Room in the ring for one message; made by `reserve`, published when its `with` "
	 "block ends."},
	{Py_tp_dealloc, frame_dealloc},
	{Py_tp_methods, frame_methods},
	{Py_tp_members, frame_members},
	{Py_tp_getset, frame_attributes},
	{0, NULL},
};

PyType_Spec frame_spec = {
	.name = "ringbell.Frame",
	.basicsize = sizeof(struct frame),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = frame_slots,
};
