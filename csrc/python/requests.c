/* SPDX-License-Identifier: MIT
 *
 * How a driver's requests go out and their answers come in. Each request has a `struct answer`,
 * which says which call waits for it. A call that gives up writes FOR_NOBODY there, and the answer
 * is dropped when it arrives.
 */
#include "driver.h"

/* ---- requests, and who waits for their answers ---- */

struct answer *driver_request(struct driver *driver, int place)
{
	struct answer *answer = PyMem_Malloc(sizeof(*answer));

	if (!answer) {
		PyErr_NoMemory();
		return NULL;
	}
	*answer = (struct answer){.token = driver->next_token++, .place = place};
	return answer;
}

/* Nobody waits for it any longer. */
void driver_give_up(struct answer *answer)
{
	if (answer->payload) {
		Py_DECREF(answer->payload);
		PyMem_Free(answer);
		return;
	}
	answer->place = FOR_NOBODY;
}

static void file(struct driver *driver, const struct message *message)
{
	struct answer *answer = in_flight_remove(&driver->in_flight, message->token);

	/* The device may answer before all of a request has come, if the request is too long. */
	if (driver->sending && driver->sending->token == message->token &&
	    !driver->sending->payload) {
		driver->sending->payload = message->payload;
		driver->sending->ok = message->ok;
		return;
	}
	if (!answer || answer->place == FOR_NOBODY) {
		Py_DECREF(message->payload);
		PyMem_Free(answer);
		return;
	}
	answer->payload = message->payload;
	answer->ok = message->ok;
	if (answer->place == FOR_REAP) {
		driver->for_reap--;
		answers_append(&driver->ready, answer);
	} else if (answer->place == FOR_MAP) {
		map_answer_arrived(answer->map, answer);
	}
}

/* An answer that is too long fails its request, once all of the answer has been skipped. */
static enum took refuse_answer(struct driver *driver, struct message *message)
{
	if (!message->ended)
		return TOOK_PIECE;
	PyObject *text = consumer_refusal(driver->side.consumer, "an answer");
	message->payload = text ? PyUnicode_AsUTF8String(text) : NULL;
	message->ok = false;
	Py_XDECREF(text);
	return message->payload ? TOOK_MESSAGE : TOOK_FAILED;
}

/* Whether the next completion lies in a block, for a call that holds its answer. */
static bool is_to_be_held(struct driver *driver)
{
	rb_channel *core = driver->side.consumer->end.core;
	const rb_frame *frame = &core->consumer.frame;

	return driver->holds && !rb_peek(core, 0) && frame->flags == RB_FLAG_BLOCK &&
	       frame->kind == RB_MESSAGE && frame->token == driver->holds;
}

static enum took hold(struct consumer *consumer, struct message *message)
{
	message_describe(message, &consumer->end.core->consumer.frame);
	message->payload = consumer_hold_found(consumer);
	return message->payload ? TOOK_MESSAGE : TOOK_FAILED;
}

/* Takes one completion, if one is there, and stores it for the call that waits for it. Drops a
 * completion that nobody waits for. */
static enum took take_one(struct driver *driver)
{
	struct message message;

	if (!consumer_end_loan(driver->side.consumer))
		return TOOK_FAILED;
	enum took took = is_to_be_held(driver) ? hold(driver->side.consumer, &message)
					       : consumer_take(driver->side.consumer, &message);
	if (took == TOOK_REFUSED)
		took = refuse_answer(driver, &message);
	if (took == TOOK_MESSAGE)
		file(driver, &message);
	return took;
}

/* If the exception says that the device is gone, adds a note: how many requests have no answer. */
static void note_unanswered(struct driver *driver)
{
	PyObject *kind, *error, *traceback;

	if (!driver->in_flight.count)
		return;
	if (!is_end_of_stream() && !PyErr_ExceptionMatches(errors.peer_lost))
		return;
	PyErr_Fetch(&kind, &error, &traceback);
	PyErr_NormalizeException(&kind, &error, &traceback);
	PyObject *note = PyUnicode_FromFormat("requests in flight that were not answered: %llu",
					      (unsigned long long)driver->in_flight.count);
	PyObject *none = note ? PyObject_CallMethod(error, "add_note", "O", note) : NULL;
	Py_XDECREF(note);
	Py_XDECREF(none);
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

static bool wait_for_completion(struct driver *driver, struct patience *patience)
{
	return end_wait_for_data(&driver->side.consumer->end, patience);
}

/* A last look: if the ring is empty now, an event loop's descriptor is no longer readable. It does
 * not look while a message of the ring is lent, because that message has to be skipped as it was
 * peeked. */
int driver_settle(struct driver *driver)
{
	struct consumer *interrupt = driver->side.consumer;

	if (interrupt->lent && interrupt->lent_in_ring)
		return 0;
	return rb_peek(interrupt->end.core, 0);
}

/* When all that has come was taken: false with an exception if nothing more will come. Otherwise an
 * event loop's descriptor is no longer readable. */
bool driver_look_for_end(struct driver *driver)
{
	struct end *interrupt = &driver->side.consumer->end;
	int status = rb_wait_poll(interrupt->core, RB_DATA, 0);

	if (status >= 0)
		return true;
	end_fail(interrupt, status);
	note_unanswered(driver);
	return false;
}

/* After a completion that this call does not wait for: whether to take more. */
bool driver_may_take_more(struct driver *driver, struct patience *patience)
{
	struct end *interrupt = &driver->side.consumer->end;

	if (patience_goes_on(patience, interrupt->core))
		return true;
	int status = driver_settle(driver);
	if (status && status != -EAGAIN) {
		end_fail(interrupt, status);
		note_unanswered(driver);
	} else {
		PyErr_SetString(
			errors.ring_empty,
			"the answer that this call waits for did not arrive within the timeout");
	}
	return false;
}

/* Takes one completion, or waits; false with an exception, RingEmpty when the time is over. */
bool driver_advance(struct driver *driver, struct patience *patience)
{
	enum took took = take_one(driver);
	bool good = took == TOOK_NOTHING  ? wait_for_completion(driver, patience)
		    : took == TOOK_FAILED ? false
					  : true;

	if (!good)
		note_unanswered(driver);
	return good;
}

/* ---- sending ---- */

/* Takes all completions that have arrived; those that come meanwhile can wait. */
bool driver_set_aside(struct driver *driver)
{
	struct patience now = {.for_ever = false};
	enum took took;

	while ((took = take_one(driver)) > TOOK_NOTHING)
		if (!patience_goes_on(&now, driver->side.consumer->end.core))
			return true;
	return took == TOOK_NOTHING;
}

/* The same; false without an exception when the request that is going out was answered. */
static bool set_aside_unanswered(struct driver *driver)
{
	return driver_set_aside(driver) && !(driver->sending && driver->sending->payload);
}

/* Waits until the doorbell ring may have room, and sets aside what arrives meanwhile. Without that
 * a device that waits for room in the interrupt ring and a driver that waits for room in the
 * doorbell ring would wait for each other. */
bool driver_wait_for_room(PyObject *who, struct patience *patience)
{
	struct driver *driver = (struct driver *)who;

	/* Also before the wait: completions that are there already do not end a wait. */
	if (!set_aside_unanswered(driver))
		return false;
	int ready = patience->last_try
			    ? 0
			    : end_wait(&driver->side.producer->end, RB_SPACE | RB_DATA, patience);
	if (!ready)
		ring_full(driver->side.producer->end.core);
	/* Data may end each wait, so the time has to be checked here, too. */
	patience->last_try = !patience_left(patience);
	return ready > 0 && set_aside_unanswered(driver);
}

/* Between two pieces of a request. Does not end a loan of the user's. */
static bool look_for_answer(PyObject *who)
{
	struct driver *driver = (struct driver *)who;

	return driver->side.consumer->lent || set_aside_unanswered(driver);
}

/* Sends the rest of a request that one call could not send. Also returns true when the request was
 * answered before all of it was sent. */
static bool send_on(struct driver *driver, struct answer *answer, int status,
		    const struct payload *payload, struct patience *patience)
{
	struct room room = {driver_wait_for_room, (PyObject *)driver, look_for_answer};

	driver->sending = answer;
	bool sent = producer_send_on(driver->side.producer, status, payload, answer->token,
				     RB_MESSAGE, patience, room);
	driver->sending = NULL;
	return sent || !PyErr_Occurred();
}

/* Sends a request. On success `answer` is in flight, or has its payload already; otherwise it is
 * freed. */
bool driver_send(struct driver *driver, struct answer *answer, PyObject *object,
		 struct patience *patience)
{
	struct producer *doorbell = driver->side.producer;
	struct payload payload;

	if (!answer)
		return false;
	bool sent = in_flight_make_room(&driver->in_flight) && payload_open(&payload, object);
	if (sent) {
		int status = producer_send_once(doorbell, &payload, answer->token);
		if (status)
			sent = send_on(driver, answer, status, &payload, patience);
		payload_close(&payload);
	}
	if (!sent) {
		Py_XDECREF(answer->payload);
		PyMem_Free(answer);
	} else if (!answer->payload) {
		in_flight_add(&driver->in_flight, answer);
		driver->for_reap += answer->place == FOR_REAP;
	} else if (answer->place == FOR_REAP) {
		answers_append(&driver->ready, answer);
	}
	return sent;
}

/* Submits what was written in place. */
bool driver_publish(struct driver *driver, struct answer *answer, uint64_t reservation,
		    uint64_t length)
{
	struct end *doorbell = &driver->side.producer->end;
	int status = -ENOMEM;

	if (in_flight_make_room(&driver->in_flight))
		status = rb_commit(doorbell->core, reservation, length, answer->token);
	if (status) {
		PyMem_Free(answer);
		return status == -ENOMEM ? false : end_fail(doorbell, status);
	}
	in_flight_add(&driver->in_flight, answer);
	driver->for_reap++;
	return true;
}

/* ---- waiting ---- */

/* Waits for one answer. False with an exception; the request is still in flight then. */
bool driver_await(struct driver *driver, struct answer *answer, struct patience *patience)
{
	while (!answer->payload) {
		if (!driver_advance(driver, patience))
			return false;
		if (!answer->payload && !driver_may_take_more(driver, patience))
			return false;
	}
	return true;
}
