/* SPDX-License-Identifier: MIT
 *
 * The ends of a ring as C methods: the work for each message or batch. This header has what the C
 * files in this folder offer each other. The core in the folder above knows nothing of Python.
 *
 * Every method here follows the same steps: read the arguments, enter the end, do the work, leave.
 * It looks once with the GIL held, and gives the GIL up only to wait or to copy much.
 *
 * The hand-over. A signal handler may raise (Ctrl-C) wherever the interpreter looks for signals:
 * when a Python function begins, at a jump back, and after a call into C. Inside a method here no
 * handler runs between taking a message and returning it. Handlers run only in end_wait, in
 * end_fail and between the pieces of a long message, and the method holds no message then. The
 * step from a method to its caller is left: after a call the interpreter looks for signals before
 * it stores the result. It does not look after a subscript, nor when a `for` loop takes its next
 * item. So everything that takes is a subscript, `self._recv[timeout]`, in a Python method that
 * returns the result at once; see struct taking. A method that only sends has nothing to hand over,
 * and is a plain method. `with` stores what `__enter__` gives without a look, too, up to Python
 * 3.13; see lent.c. From 3.14 on it is a call, and a signal handler that raises just then loses
 * what a subscriber borrowed.
 */
#ifndef RB_PYTHON_H
#define RB_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* In the limited API of 3.11 only this header has the kinds of members. */
#include <structmember.h>

#ifndef Py_GIL_DISABLED
/* Threads hold the GIL when they leave an end or close a side; see rb_leave. */
#define RB_LEAVES_WITH_LOCK
#endif
#include "../channel.h"

/* ---- arguments.c ---- */

/* The parameters of a method, in their order. */
struct signature {
	const char *name;
	int required;   /* how many of the first are required */
	int positional; /* how many of the first may come without a name */
	const char *parameters[6];
};

bool arguments_read(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
		    PyObject *kwnames, PyObject **values);
bool number_within(PyObject *value, uint64_t least, uint64_t most, const char *complaint,
		   uint64_t *number);
bool one_or_more(PyObject *value, const char *complaint, uint64_t *number);

/* How long a call may wait. The clock is read only when it has to. */
struct patience {
	bool for_ever;
	bool began;
	bool over;
	bool last_try; /* for room */
	uint64_t timeout_ns;
	uint64_t over_ns; /* of the monotonic clock, once it began */
	uint64_t last;    /* once it is over: the index up to which entries may still be taken */
};

bool patience_from(struct patience *patience, PyObject *timeout);
int64_t patience_left(struct patience *patience);
bool patience_goes_on(struct patience *patience, rb_channel *core);

/* ---- end.c ---- */

/* A function that is called for each object. Of one in C it has what calls it at once: the steps
 * before that take as long as a part of a small pickle. */
struct function {
	PyObject *object; /* NULL: there is none */
	PyObject *self;   /* borrowed from it */
	PyCFunction plain;
	_PyCFunctionFastWithKeywords several;
};

/* One end of a ring: the base of all ends. */
struct end {
	PyObject_HEAD PyObject *channel; /* the Channel of Python, which owns the descriptors */
	PyObject *memory;                /* keeps the mapping alive, even after a close */
	rb_channel *core;
	uint64_t *inside;               /* in the core: the thread that is in one of its methods */
	struct function encode, decode; /* of the channel's codec; none: it carries bytes */
};

bool end_enter(struct end *end);
void end_leave(struct end *end);
bool ends_enter(PyObject *owner, struct end *one, struct end *other);
void ends_leave(struct end *one, struct end *other);
bool end_try_to_enter(struct end *end);
void *end_fail(struct end *end, int64_t status);
int end_wait(struct end *end, int want, struct patience *patience);
bool end_wait_for_data(struct end *end, struct patience *patience);
void end_clear(struct end *end);
PyObject *refuse_copy(PyObject *self, PyObject *unused);
bool is_end_of_stream(void);

/* `taking[key]` takes something; see the page above. A taking belongs to its `end`. An end that
 * goes clears the pointer. */
struct taking {
	PyObject_HEAD PyObject *end; /* borrowed; NULL once that has gone */
	PyObject *(*take)(PyObject *end, PyObject *key);
};

PyObject *taking_new(PyObject *end, PyObject *(*take)(PyObject *end, PyObject *key));
void taking_forget(PyObject **taking);

/* An iterator over what `take` gives, until the other side has closed. */
PyObject *iterator_new(PyObject *end, PyObject *(*take)(PyObject *end));

/* ---- closing.c ---- */

extern PyMethodDef closing_methods[];

void closing_done(PyObject *channel);

/* ---- sleep.c ---- */

typedef int (*sleep_function)(void *what, int64_t left_ns, int signal_fd);

bool prepare_to_sleep(void);
int sleep_watching_signals(sleep_function sleep, void *what, int64_t left_ns);
int sleep_until_signal(rb_channel *core, int want, int64_t left_ns);

/* ---- meeting.c ---- */

extern PyMethodDef meeting_methods[];

/* ---- serving.c ---- */

extern PyMethodDef serving_methods[];

/* ---- payload.c ---- */

/* Bytes. A copy of this size or more lets other threads run meanwhile. */
#define MUCH (128U << 10)

/* The caller's buffer, or parts, during a call. */
struct payload {
	struct rb_payload whole;
	Py_buffer view;
	bool viewed;
};

bool payload_open(struct payload *payload, PyObject *object);
void payload_close(struct payload *payload);
void copy_bytes(void *target, const void *source, uint64_t length);
PyObject *bytes_to_fill(uint64_t length);

/* ---- loan.c ---- */

struct loan;

struct loan *loan_new(PyObject *memory);
bool loan_renew(struct loan **loan, PyObject *memory);
PyObject *loan_lend(struct loan *loan, void *start, uint64_t length, bool read_only);
bool loan_end(struct loan *loan, PyObject *view);
void loan_lend_again(struct loan *loan, PyObject **view);
bool loan_is_of(struct loan *loan, PyObject *view);
void loan_let_go(struct loan *loan);
PyObject *loan_hold(struct loan *loan, PyObject *view);
void loan_drop(struct loan **loan);
extern PyMethodDef loan_methods[];
bool view_release(PyObject *view);
void still_in_use(const char *what);

/* ---- producer.c ---- */

struct producer {
	struct end end;
};

/* How to wait for room: a driver takes completions meanwhile. `wait` returns false with RingFull or
 * another exception; or without one if the request was answered before all of it was sent. */
struct room {
	bool (*wait)(PyObject *who, struct patience *patience);
	PyObject *who;
	/* Between two pieces of a message, if it is not NULL: whether to go on. */
	bool (*look)(PyObject *who);
};

bool producer_wait(PyObject *producer, struct patience *patience);
int producer_send_once(struct producer *producer, const struct payload *payload, uint64_t token);
bool producer_send_on(struct producer *producer, int64_t status, const struct payload *payload,
		      uint64_t token, int kind, struct patience *patience, struct room room);
bool producer_send_in_pieces(struct producer *producer, const struct payload *payload,
			     uint64_t token, int kind, struct patience *patience, struct room room);
void ring_full(rb_channel *core);

/* ---- reservation.c ---- */

struct driver;
struct reservation;

/* What differs between a frame and a block of records. */
struct reservation_kind {
	bool (*enter)(struct reservation *reservation);
	void (*leave)(struct reservation *reservation);
	bool (*take_back)(
		struct reservation *reservation); /* from the user; or false, BufferError */
	bool (*publish)(struct reservation *reservation);
};

/* Room in a ring that is written in place. The end of its `with` block publishes it; an exception
 * that leaves the block, or the last reference, abandons it. */
struct reservation {
	PyObject_HEAD const struct reservation_kind *kind;
	struct end *end;
	uint64_t number; /* the core's name for it */
	bool ended;
};

bool reservation_end_enter(struct reservation *reservation);
void reservation_end_leave(struct reservation *reservation);
bool reservation_begin(struct reservation *reservation);
PyObject *reservation_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *reservation_abandon(PyObject *self, PyObject *unused);
void reservation_drop(struct reservation *reservation);

PyObject *frame_new(struct producer *producer, struct driver *driver, PyObject *size,
		    uint64_t token, struct patience *patience, struct room room);

/* ---- consumer.c ---- */

struct consumer {
	struct end end;
	struct loan *loan; /* of what borrow lends */
	PyObject *lent;    /* the view that borrow lent, or NULL */
	bool lent_in_ring; /* the lent message lies in the ring, not in private memory */
	PyObject *pieces;  /* bytes, which grow, of a message that comes in pieces; or NULL */
	uint64_t filled;   /* how many of these bytes have come */
	uint64_t whole;    /* how many bytes the message has */
	/* Why this message is refused and its pieces are skipped, and the bound that it exceeds. */
	enum { NOT_REFUSED, OVER_LIMIT, OVER_MEMORY, OUT_OF_MEMORY } refusal;
	uint64_t most;
	bool told;            /* the user has been told of the refusal */
	PyObject *kept;       /* a list of messages that are to be decoded again; or NULL */
	PyObject *takings[5]; /* recv, recv_many, borrow, hold, latest */
};

struct message {
	PyObject *payload; /* bytes */
	uint64_t token;
	uint64_t index; /* of its last frame */
	bool ok;
	/* For a refused message: its token is known; this was its last piece. */
	bool named, ended;
};

enum took {
	TOOK_FAILED = -1, /* an exception is set */
	TOOK_NOTHING,     /* there is nothing yet */
	TOOK_PIECE,       /* a piece, and there may be more */
	TOOK_REFUSED,     /* a piece, or all, of a message that is too long, and it was skipped */
	TOOK_MESSAGE,
};

/* Where the payload of the frame that was found last lies: in the ring or in a block. */
static inline const uint8_t *payload_start(const rb_channel *core)
{
	const rb_frame *frame = &core->consumer.frame;

	return frame->flags & RB_FLAG_BLOCK ? frame->block.start
					    : core->consumer.slots + frame->start;
}

static inline uint64_t payload_length(const rb_frame *frame)
{
	return frame->flags & RB_FLAG_BLOCK ? frame->block.length : frame->stop - frame->start;
}

static inline void message_describe(struct message *message, const rb_frame *frame)
{
	message->index = frame->index;
	message->token = frame->token;
	message->ok = frame->kind == RB_MESSAGE;
}

static inline PyObject *bytes_of(const void *start, uint64_t length)
{
	if (length < MUCH)
		return PyBytes_FromStringAndSize((const char *)start, (Py_ssize_t)length);
	PyObject *bytes = bytes_to_fill(length);
	if (bytes)
		copy_bytes(PyBytes_AsString(bytes), start, length);
	return bytes;
}

bool consumer_end_loan(struct consumer *consumer); /* lending.c */

typedef PyObject *take_function(struct consumer *consumer, struct patience *patience);

/* What all subscripts do that take one message by `take`. The key is the timeout. */
static inline PyObject *consumer_subscript(PyObject *self, PyObject *timeout, take_function *take)
{
	struct consumer *consumer = (struct consumer *)self;
	PyObject *message = NULL;
	struct patience patience;

	if (!patience_from(&patience, timeout) || !end_enter(&consumer->end))
		return NULL;
	if (consumer_end_loan(consumer))
		message = take(consumer, &patience);
	if (rb_load_relaxed_bool(&consumer->end.core->consumer.chime.watched))
		rb_chime_settle(consumer->end.core);
	end_leave(&consumer->end);
	return message;
}

PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
void consumer_dealloc(PyObject *self);
enum took consumer_take(struct consumer *consumer, struct message *message);
bool consumer_tell_of_refusal(struct consumer *consumer);
PyObject *consumer_take_bytes(struct consumer *consumer, struct patience *patience);
PyObject *consumer_take_many(struct consumer *consumer, uint64_t most, struct patience *patience);
bool consumer_goes_on(struct consumer *consumer, struct patience *patience);
bool how_many(PyObject *max, uint64_t most, uint64_t *count);

/* ---- lending.c ---- */

PyObject *consumer_lend_found(struct consumer *consumer);
PyObject *consumer_lend_bytes(struct consumer *consumer, PyObject *bytes);
PyObject *consumer_lend_next(struct consumer *consumer, struct patience *patience);
PyObject *consumer_hold_found(struct consumer *consumer);
PyObject *consumer_hold_next(struct consumer *consumer, struct patience *patience);

/* ---- held.c ---- */

PyObject *held_new(const struct end *end);

/* ---- pieces.c ---- */

/* Bytes. For less than this nothing checks the available memory, because the check takes as
 * long. */
#define MUCH_MEMORY (16ULL << 20)

enum took consumer_take_piece(struct consumer *consumer, struct message *message, bool hold_last);
PyObject *consumer_refusal(const struct consumer *consumer, const char *what);

/* ---- side.c ---- */

/* Both ends of one side: the base of a driver and a device. */
struct side {
	PyObject_HEAD struct producer *producer;
	struct consumer *consumer;
};

bool side_enter(struct side *side);
void side_leave(struct side *side);
void side_clear(struct side *side);
PyObject *side_new(PyTypeObject *type, PyObject *producer, PyObject *consumer);

/* ---- module.c ---- */

extern PyTypeObject *side_type, *record_consumer_type, *end_type, *taking_type, *iterator_type,
	*loan_type, *held_type, *producer_type, *consumer_type, *frame_type, *map_type,
	*completion_type, *request_type, *block_type, *parts_type;

/* The classes of ringbell.errors. */
extern struct errors {
	PyObject *any; /* the base of all */
	PyObject *ring_full, *ring_empty, *end_of_stream, *peer_lost, *request_failed,
		*message_too_long, *channel_closed;
} errors;

/* What is looked up once. */
extern struct names {
	PyObject *release;                           /* memoryview.release */
	PyObject *dtype, *hasobject, *names;         /* of arrays and of dtypes */
	PyObject *numpy;                             /* the module */
	PyObject *obj;                               /* of a memoryview */
	PyObject *raw;                               /* of a PickleBuffer */
	PyObject *done, *set_result, *set_exception; /* of futures */
} names;

extern PyType_Spec end_spec, taking_spec, iterator_spec, loan_spec, held_spec, producer_spec,
	consumer_spec, frame_spec, coalescing_spec, side_spec, driver_spec, map_spec,
	completion_spec, device_spec, request_spec, record_producer_spec, record_consumer_spec,
	block_spec, waiter_spec, parts_spec, pickles_spec, lent_spec, pipe_consumer_spec;

#endif
