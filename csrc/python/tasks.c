/* SPDX-License-Identifier: MIT
 *
 * Answers for the tasks of an event loop. A future stands for each task that waits.
 */
#include "driver.h"

/* Resolves a future, unless its task was cancelled; false with what the loop raised. */
static bool resolve(PyObject *future, const struct answer *answer)
{
	PyObject *done = PyObject_CallMethodObjArgs(future, names.done, NULL);
	PyObject *none = NULL, *error;

	if (!done)
		return false;
	if (done != Py_False) {
		none = Py_NewRef(Py_None);
	} else if (answer->ok) {
		none = PyObject_CallMethodObjArgs(future, names.set_result, answer->payload, NULL);
	} else if ((error = request_failed(answer->payload))) {
		none = PyObject_CallMethodObjArgs(future, names.set_exception, error, NULL);
		Py_DECREF(error);
	}
	Py_DECREF(done);
	Py_XDECREF(none);
	return none != NULL;
}

/* Takes the future of this token out of the dictionary; NULL if there is none, or with an
 * exception. */
static PyObject *take_out(PyObject *waiting, uint64_t number)
{
	PyObject *token = PyLong_FromUnsignedLongLong(number);
	PyObject *future = token ? PyDict_GetItemWithError(waiting, token) : NULL;

	Py_XINCREF(future);
	if (future && PyDict_DelItem(waiting, token))
		Py_CLEAR(future);
	Py_XDECREF(token);
	return future;
}

static bool hand_over(PyObject *waiting, struct answer *answer)
{
	PyObject *future = take_out(waiting, answer->token);
	bool good = future ? resolve(future, answer) : !PyErr_Occurred();

	Py_XDECREF(future);
	Py_DECREF(answer->payload);
	PyMem_Free(answer);
	return good;
}

/* The loop has raised. The answers that are left come first the next time. */
static void keep_for_later(struct driver *driver, const struct answers *arrived)
{
	PyObject *kind, *error, *traceback;
	struct answers later = driver->ready;
	struct answer *answer;

	driver->ready = *arrived;
	while ((answer = answers_pop(&later)))
		answers_append(&driver->ready, answer);
	PyErr_Fetch(&kind, &error, &traceback);
	if (driver_enter(driver))
		driver_leave(driver); /* so that the loop calls again */
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

/* `_hand_out(waiting)`: takes all answers that have come, without waiting, and resolves the futures
 * that wait for them, by their tokens; gives how many came. An answer that nobody waits for is
 * dropped. */
PyObject *driver_hand_out(PyObject *self, PyObject *waiting)
{
	struct driver *driver = (struct driver *)self;
	PyObject *kind, *error, *traceback;
	struct answer *answer;
	long count = 0;

	if (!driver_enter(driver))
		return NULL;
	bool good = driver_set_aside(driver) && driver_look_for_end(driver);
	struct answers arrived = driver->ready;
	driver->ready = (struct answers){NULL};
	driver_leave(driver);
	/* Those that came before the end are handed over first. The loop may use the driver in
	 * here. */
	PyErr_Fetch(&kind, &error, &traceback);
	while ((answer = answers_pop(&arrived))) {
		count++;
		if (hand_over(waiting, answer))
			continue;
		keep_for_later(driver, &arrived);
		Py_XDECREF(kind);
		Py_XDECREF(error);
		Py_XDECREF(traceback);
		return NULL;
	}
	PyErr_Restore(kind, error, traceback);
	return good ? PyLong_FromLong(count) : NULL;
}
