/* SPDX-License-Identifier: MIT
 *
 * Messages that are not copied: borrow lends one until the next call, hold gives a view of a block
 * for as long as it is wanted.
 */
#include "../reader.h"
#include "python.h"

/* Takes back what borrow lent; false with BufferError when somebody still looks at it, and with
 * Overwritten when a writer of many readers has written it anew meanwhile. Then it is taken back
 * from those who still look, too: an exception that comes from what was overwritten may have left
 * an array of it in its traceback. */
bool consumer_end_loan(struct consumer *consumer)
{
	rb_channel *core = consumer->end.core;
	int status = 0;

	if (!consumer->lent)
		return true;
	bool in_use = consumer->lent_in_ring ? !loan_end(consumer->loan, consumer->lent)
					     : !view_release(consumer->lent);
	bool torn = consumer->lent_in_ring && !rb_still_whole(core, &status);
	if (in_use) {
		if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_BufferError))
			PyErr_Clear();
		if (!torn || PyErr_Occurred()) {
			still_in_use("the message that was borrowed");
			return false;
		}
		loan_drop(&consumer->loan);
	}
	Py_CLEAR(consumer->lent);
	if (!consumer->lent_in_ring)
		return true;
	rb_lend(core, 0);
	if (torn)
		return end_fail(&consumer->end, status);
	rb_skip(core);
	rb_give_back(core);
	return true;
}

static PyObject *lend(struct consumer *consumer, PyObject *view, bool in_ring)
{
	consumer->lent_in_ring = in_ring;
	consumer->lent = view;
	return Py_NewRef(view);
}

/* Lends the peeked message; it is skipped when the loan ends. */
PyObject *consumer_lend_found(struct consumer *consumer)
{
	rb_channel *core = consumer->end.core;

	if (!loan_renew(&consumer->loan, consumer->end.memory))
		return NULL;
	PyObject *view = loan_lend(consumer->loan, (void *)(uintptr_t)payload_start(core),
				   payload_length(&core->consumer.frame), true);
	if (!view)
		return NULL;
	rb_lend(core, rb_frame_slots(core));
	return lend(consumer, view, true);
}

/* Lends a message that lies in private memory, or that is held in a block. A view that stays alive
 * does no harm there. */
PyObject *consumer_lend_bytes(struct consumer *consumer, PyObject *bytes)
{
	PyObject *view = PyMemoryView_FromObject(bytes);

	Py_DECREF(bytes); /* the view keeps it */
	return view ? lend(consumer, view, false) : NULL;
}

/* Takes the peeked frame, whose message lies in a block, and holds that. */
static PyObject *take_held(struct consumer *consumer)
{
	PyObject *held = held_new(&consumer->end);

	if (!held)
		return NULL;
	rb_skip(consumer->end.core);
	rb_give_back(consumer->end.core);
	return held;
}

PyObject *consumer_lend_next(struct consumer *consumer, struct patience *patience)
{
	rb_channel *core = consumer->end.core;
	struct message message;

	for (;;) {
		int status = rb_peek(core, 0);
		if (!status && !core->consumer.frame.flags)
			return consumer_lend_found(consumer);
		if (!status && core->consumer.frame.flags == RB_FLAG_BLOCK) {
			PyObject *held = take_held(consumer);
			return held ? consumer_lend_bytes(consumer, held) : NULL;
		}
		if (status == -EAGAIN) {
			if (!end_wait_for_data(&consumer->end, patience))
				return NULL;
			continue;
		}
		if (status)
			return end_fail(&consumer->end, status);
		enum took took = consumer_take_piece(consumer, &message, false);
		if (took == TOOK_MESSAGE)
			return consumer_lend_bytes(consumer, message.payload);
		if (took == TOOK_FAILED ||
		    (took == TOOK_REFUSED && consumer_tell_of_refusal(consumer)))
			return NULL;
		if (!consumer_goes_on(consumer, patience))
			return NULL;
	}
}

/* ---- holding ---- */

/* Takes the peeked frame, whose message lies in a block, and gives a view that holds that. */
PyObject *consumer_hold_found(struct consumer *consumer)
{
	PyObject *held = take_held(consumer);
	PyObject *view = held ? PyMemoryView_FromObject(held) : NULL;

	Py_XDECREF(held);
	return view;
}

/* Takes the next message: a view of it if it lies in a block, else bytes. */
PyObject *consumer_hold_next(struct consumer *consumer, struct patience *patience)
{
	rb_channel *core = consumer->end.core;
	int status = rb_peek(core, 0);

	while (status == -EAGAIN && end_wait_for_data(&consumer->end, patience))
		status = rb_peek(core, 0);
	if (status)
		return status == -EAGAIN ? NULL : end_fail(&consumer->end, status);
	if (core->consumer.frame.flags != RB_FLAG_BLOCK)
		return consumer_take_bytes(consumer, patience);
	return consumer_hold_found(consumer);
}
