/* SPDX-License-Identifier: MIT
 *
 * Answers for the tasks of an event loop. A future stands for each task that waits.
 */
#include "python.h"

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

/* `_hand_out(waiting)`: takes all answers that have come, without waiting, and resolves the futures
 * that wait for them, by their tokens; gives how many came. An answer that nobody waits for is
 * dropped. */
PyObject *driver_hand_out(PyObject *self, PyObject *waiting)
{
	struct driver *driver = (struct driver *)self;
	struct answer *answer;
	long count = 0;

	if (!driver_enter(driver))
		return NULL;
	bool good = driver_set_aside(driver) && driver_look_for_end(driver);
	driver_leave(driver);
	/* The loop may call back in here, so nobody is inside of the driver now. */
	PyObject *kind, *error, *traceback;
	PyErr_Fetch(&kind, &error, &traceback);
	while ((answer = answers_pop(&driver->ready))) {
		count++;
		if (!hand_over(waiting, answer)) {
			Py_XDECREF(kind);
			Py_XDECREF(error);
			Py_XDECREF(traceback);
			return NULL;
		}
	}
	PyErr_Restore(kind, error, traceback);
	return good ? PyLong_FromLong(count) : NULL;
}
