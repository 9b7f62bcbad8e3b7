/* SPDX-License-Identifier: MIT
 *
 * The producing end of a message ring: send, send_many, reserve.
 */
#include <errno.h>
#include <string.h>

#include "codec.h"

/* How many messages send_many offers to the ring at a time. */
#define BATCH 1024

void ring_full(rb_channel *core)
{
	PyErr_SetString(errors.ring_full,
			core->producer.pool.needed
				? "no block was free for the whole timeout, because the other side "
				  "holds them; nothing was sent: have it drop some, use a larger "
				  "pool, or Blocks(when_lent='copy')"
				: "the ring stayed full for the whole timeout, because the "
				  "other side takes nothing; nothing was sent");
}

/* Blocks until there is room for the message that did not fit. */
bool producer_wait(PyObject *producer, struct patience *patience)
{
	int ready = end_wait((struct end *)producer, RB_SPACE, patience);

	if (!ready)
		ring_full(((struct end *)producer)->core);
	return ready > 0;
}

/* ---- one message ---- */

int producer_send_once(struct producer *producer, const struct payload *payload, uint64_t token)
{
	rb_channel *core = producer->end.core;
	int status;

	if (payload->whole.length < MUCH)
		return rb_send(core, &payload->whole, token, 0);
	Py_BEGIN_ALLOW_THREADS
	status = rb_send(core, &payload->whole, token, 0);
	Py_END_ALLOW_THREADS
	return status;
}

static int64_t send_piece(rb_channel *core, const struct payload *payload, uint64_t done,
			  uint64_t token, int kind)
{
	int64_t sent;

	Py_BEGIN_ALLOW_THREADS
	sent = rb_send_piece(core, &payload->whole, done, token, kind);
	Py_END_ALLOW_THREADS
	return sent;
}

/* Between two pieces of a message: whether to go on. Once the time is over, at most as much as the
 * ring holds is still sent. Otherwise a quick reader would keep us longer. */
static bool may_go_on(struct producer *producer, uint64_t done, uint64_t *most,
		      struct patience *patience, struct room room)
{
	if (PyErr_CheckSignals())
		return false;
	/* To copy into a block takes as long as it takes; the other side makes it no longer. */
	if (rb_fills_block(producer->end.core))
		return !room.look || room.look(room.who);
	if (*most == UINT64_MAX && !patience_left(patience))
		*most = done + rb_payload_max(producer->end.core);
	if (done > *most)
		ring_full(producer->end.core);
	return done <= *most && (!room.look || room.look(room.who));
}

/* Sends a message larger than half the ring; the other side puts it together again. */
bool producer_send_in_pieces(struct producer *producer, const struct payload *payload,
			     uint64_t token, int kind, struct patience *patience, struct room room)
{
	rb_channel *core = producer->end.core;
	uint64_t done = 0, most = UINT64_MAX;

	while (done < payload->whole.length) {
		int64_t sent = send_piece(core, payload, done, token, kind);
		if (sent >= 0)
			done = (uint64_t)sent;
		if (done == payload->whole.length)
			break;
		if (sent < 0 && sent != -EAGAIN)
			end_fail(&producer->end, sent);
		else if (sent < 0 ? room.wait(room.who, patience)
				  : may_go_on(producer, done, &most, patience, room))
			continue;
		rb_send_abandon(core);
		return false;
	}
	return true;
}

/* Finishes a message that one call could not send, as `status` says. */
bool producer_send_on(struct producer *producer, int64_t status, const struct payload *payload,
		      uint64_t token, int kind, struct patience *patience, struct room room)
{
	while (status == -EAGAIN) {
		if (!room.wait(room.who, patience))
			return false;
		status = producer_send_once(producer, payload, token);
	}
	if (status == -EMSGSIZE)
		return producer_send_in_pieces(producer, payload, token, kind, patience, room);
	return !status || end_fail(&producer->end, status);
}

static const struct signature send_signature = {"send", 1, 3, {"payload", "token", "timeout"}};

PyDoc_STRVAR(
	send_doc,
	"send($self, /, payload, token=0, timeout=None)\n--\n\n"
	"Copy one message (any contiguous buffer, of any size) into the ring.\n\n"
	"Blocks while the ring is full. It takes nothing from the other ring meanwhile\n"
	"(`Driver.submit` does). A message larger than half the ring is sent in pieces. Raises\n"
	"RingFull after `timeout` seconds (nothing of the message arrives then), EndOfStream or\n"
	"PeerLost when the other side is gone, TypeError when the payload is no buffer,\n"
	"ChannelClosed after close.");

static bool token_from(const struct producer *producer, PyObject *value, uint64_t *token)
{
	if (!number_within(value, 0, UINT64_MAX, "token is from 0 to %llu, not %S", token))
		return false;
	if (!*token || !producer->end.core->producer.readers)
		return true;
	PyErr_SetString(PyExc_ValueError,
			"a message of a publication has its number in the place of a token; put "
			"your own number into the payload");
	return false;
}

static PyObject *producer_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
			       PyObject *kwnames)
{
	struct producer *producer = (struct producer *)self;
	PyObject *values[3] = {NULL};
	struct patience patience;
	struct payload payload;
	uint64_t token = 0;

	if (!arguments_read(&send_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[2]) ||
	    (values[1] && !token_from(producer, values[1], &token)))
		return NULL;
	PyObject *octets = end_encoded(&producer->end, values[0]);
	if (!octets)
		return NULL;
	bool opened = payload_open(&payload, octets);
	bool sent = opened && end_enter(&producer->end);
	if (sent) {
		int status = producer_send_once(producer, &payload, token);
		if (status)
			sent = producer_send_on(producer, status, &payload, token, RB_MESSAGE,
						&patience,
						(struct room){producer_wait, self, NULL});
		end_leave(&producer->end);
	}
	if (opened)
		payload_close(&payload);
	Py_DECREF(octets);
	return sent ? Py_NewRef(Py_None) : NULL;
}

/* ---- many ---- */

/* Makes the list of what is sent: a copy, so that nobody changes it meanwhile. */
static PyObject *list_encoded(struct producer *producer, PyObject *payloads)
{
	PyObject *list = PySequence_List(payloads);

	for (Py_ssize_t i = 0; list && producer->end.encode.object && i < PyList_Size(list); i++) {
		PyObject *octets = codec_encode_for_later(&producer->end, PyList_GetItem(list, i));
		if (octets)
			PyList_SetItem(list, i, octets);
		else
			Py_CLEAR(list);
	}
	return list;
}

/* The part of a list that is offered to the ring at a time. */
struct batch {
	struct payload *payloads;
	struct rb_payload *offered;
	Py_ssize_t count;
};

static void batch_close(struct batch *batch)
{
	for (Py_ssize_t i = 0; i < batch->count; i++)
		payload_close(&batch->payloads[i]);
	batch->count = 0;
}

static bool batch_open(struct batch *batch, PyObject *list, Py_ssize_t first, Py_ssize_t count)
{
	for (batch->count = 0; batch->count < count; batch->count++) {
		struct payload *payload = &batch->payloads[batch->count];
		if (!payload_open(payload, PyList_GetItem(list, first + batch->count))) {
			batch_close(batch);
			return false;
		}
		/* Word by word: a copy of all at once would wait for the stores just before it. */
		batch->offered[batch->count] = (struct rb_payload){
			payload->whole.start, payload->whole.length, payload->whole.parts};
	}
	return true;
}

static int64_t offer(rb_channel *core, const struct rb_payload *payloads, Py_ssize_t count)
{
	return count ? rb_send_many(core, payloads, (uint64_t)count) : 0;
}

/* Sends all of a batch; returns how many were sent, all of them unless an exception is set. */
static Py_ssize_t batch_send(struct producer *producer, const struct batch *batch,
			     struct patience *patience)
{
	struct room room = {producer_wait, (PyObject *)producer, NULL};
	Py_ssize_t sent = 0;

	while (sent < batch->count) {
		int64_t status =
			offer(producer->end.core, batch->offered + sent, batch->count - sent);
		if (status > 0) {
			sent += (Py_ssize_t)status;
			continue;
		}
		/* The first one is too long for that, or has to wait. */
		if (!producer_send_on(producer, status, &batch->payloads[sent], 0, RB_MESSAGE,
				      patience, room))
			break;
		sent++;
	}
	return sent;
}

static Py_ssize_t list_send(struct producer *producer, PyObject *list, struct batch *batch,
			    Py_ssize_t most, struct patience *patience)
{
	Py_ssize_t sent = 0;

	if (!most && rb_channel_closed(producer->end.core)) /* no message would notice that */
		end_fail(&producer->end, -EBADF);
	for (Py_ssize_t size; sent < (size = PyList_Size(list));) {
		Py_ssize_t count = size - sent < most ? size - sent : most;
		if (!batch_open(batch, list, sent, count))
			break;
		Py_ssize_t more = batch_send(producer, batch, patience);
		batch_close(batch);
		sent += more;
		if (more < count || PyErr_CheckSignals())
			break;
	}
	return sent;
}

static const struct signature send_many_signature = {"send_many", 1, 2, {"payloads", "timeout"}};

PyDoc_STRVAR(
	send_many_doc,
	"send_many($self, /, payloads, timeout=None)\n--\n\n"
	"Copy many messages into the ring, as many at a time as fit.\n\n"
	"The other side sees a group that fits at once, and gets at most one kick for it.\n"
	"Blocks while the ring is full. Returns how many messages were sent: all, or fewer when\n"
	"`timeout` seconds are over. Raises RingFull when none was sent, TypeError for a\n"
	"payload that is no buffer, and what `send` raises. Messages sent before an exception\n"
	"do arrive.");

static PyObject *producer_send_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
				    PyObject *kwnames)
{
	struct producer *producer = (struct producer *)self;
	PyObject *values[2] = {NULL};
	struct patience patience;

	if (!arguments_read(&send_many_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[1]))
		return NULL;
	PyObject *list = list_encoded(producer, values[0]);
	if (!list)
		return NULL;
	Py_ssize_t size = PyList_Size(list);
	Py_ssize_t most = size < BATCH ? size : BATCH;
	struct batch batch = {
		.payloads = PyMem_Malloc((size_t)most * sizeof(struct payload) + 1),
		.offered = PyMem_Malloc((size_t)most * sizeof(struct rb_payload) + 1),
	};
	Py_ssize_t sent = 0;
	if (!batch.payloads || !batch.offered) {
		PyErr_NoMemory();
	} else if (end_enter(&producer->end)) {
		sent = list_send(producer, list, &batch, most, &patience);
		end_leave(&producer->end);
	}
	PyMem_Free(batch.payloads);
	PyMem_Free(batch.offered);
	Py_DECREF(list);
	if (sent && PyErr_Occurred() && PyErr_ExceptionMatches(errors.ring_full))
		PyErr_Clear();
	return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(sent);
}

/* ---- in place ---- */

static const struct signature reserve_signature = {"reserve", 1, 3, {"size", "token", "timeout"}};

PyDoc_STRVAR(
	reserve_doc,
	"reserve($self, /, size, token=0, timeout=None)\n--\n\n"
	"Give room for a message of up to `size` bytes, to be written in place.\n\n"
	"`with producer.reserve(4096) as frame: frame.payload[:] = ...` publishes the message\n"
	"at the end of the block. If an exception leaves the block, nothing is sent. With\n"
	"`blocks` a large message is written where the other side will read it. Blocks\n"
	"while the ring is full. Raises ValueError when `size` is larger than `max_payload` and\n"
	"than the pool of blocks; RingFull after `timeout` seconds, RuntimeError when a frame is\n"
	"reserved already; and what `send` raises.");

static PyObject *producer_reserve(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
				  PyObject *kwnames)
{
	struct producer *producer = (struct producer *)self;
	PyObject *values[3] = {NULL};
	struct patience patience;
	uint64_t token = 0;

	if (!arguments_read(&reserve_signature, args, nargs, kwnames, values) ||
	    !patience_from(&patience, values[2]) ||
	    (values[1] && !token_from(producer, values[1], &token)) || !end_enter(&producer->end))
		return NULL;
	PyObject *frame = frame_new(producer, NULL, values[0], token, &patience,
				    (struct room){producer_wait, self, NULL});
	end_leave(&producer->end);
	return frame;
}

static PyObject *producer_max_payload(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(rb_payload_max(((struct producer *)self)->end.core));
}

static PyMethodDef producer_methods[] = {
	{"send", (PyCFunction)(void (*)(void))producer_send, METH_FASTCALL | METH_KEYWORDS,
	 send_doc},
	{"send_many", (PyCFunction)(void (*)(void))producer_send_many,
	 METH_FASTCALL | METH_KEYWORDS, send_many_doc},
	{"reserve", (PyCFunction)(void (*)(void))producer_reserve, METH_FASTCALL | METH_KEYWORDS,
	 reserve_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef producer_attributes[] = {
	{"max_payload", producer_max_payload, NULL,
	 "The longest payload in bytes that `reserve` can give in the ring: all of it. With\n"
	 "`blocks` it can also give as much as `Blocks.pool` has.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot producer_slots[] = {
	{Py_tp_doc, "The producing end of a message ring."},
	{Py_tp_methods, producer_methods},
	{Py_tp_getset, producer_attributes},
	{0, NULL},
};

PyType_Spec producer_spec = {
	.name = "ringbell._ends.MessageProducer",
	.basicsize = sizeof(struct producer),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = producer_slots,
};
