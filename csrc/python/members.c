/* SPDX-License-Identifier: MIT
 *
 * The members of a Waiter: the objects that it keeps, and what the core waits for in each.
 */
#include <string.h>

#include "waiter.h"

/* The end that is waited for, if `what` is a side, a consumer or a stream that is consumed. */
static struct end *end_of(PyObject *what)
{
	if (PyObject_TypeCheck(what, side_type))
		return &((struct side *)what)->consumer->end;
	if (PyObject_TypeCheck(what, consumer_type) ||
	    PyObject_TypeCheck(what, record_consumer_type))
		return (struct end *)what;
	return NULL;
}

static bool refuse_producer(PyObject *what)
{
	if (!PyObject_TypeCheck(what, end_type) || end_of(what))
		return true;
	PyErr_SetString(PyExc_TypeError, "a producer has nothing to take; wait for the consumers, "
					 "drivers and devices of this process");
	return false;
}

static bool add_failed(struct end *end, int status)
{
	if (status == -EBUSY) {
		PyErr_SetString(PyExc_ValueError,
				"a waiter waits for this channel already; remove it there first");
	} else if (status == -EEXIST) {
		PyErr_SetString(PyExc_ValueError,
				"this waiter waits for this file descriptor already; remove an "
				"object before its descriptor is closed");
	} else if (status == -EPERM) {
		PyErr_SetString(PyExc_OSError, "nobody can wait for a plain file or a folder: it "
					       "is always readable");
	} else if (end) {
		end_fail(end, status);
	} else {
		errno = -status;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	return false;
}

static bool add_member(struct waiter *waiter, PyObject *what, uint64_t place)
{
	struct end *end = end_of(what);
	rb_member **member = &waiter->waited[place].member;

	if (end) {
		int status = rb_waiter_add(waiter->core, end->core, place, member);
		return !status || add_failed(end, status);
	}
	int fd = PyObject_AsFileDescriptor(what);
	if (fd < 0)
		return false;
	int status = rb_waiter_add_fd(waiter->core, fd, place, member);
	return !status || add_failed(NULL, status);
}

/* A free place among the objects, or -1 with an exception. */
static Py_ssize_t find_place(struct waiter *waiter)
{
	for (Py_ssize_t place = waiter->count; place < waiter->room; place++)
		if (!waiter->waited[place].what)
			return place;
	for (Py_ssize_t place = 0; place < waiter->room; place++)
		if (!waiter->waited[place].what)
			return place;
	Py_ssize_t room = waiter->room ? 2 * waiter->room : 8;
	struct waited *waited = PyMem_Realloc(waiter->waited, (size_t)room * sizeof(*waited));
	if (!waited) {
		PyErr_NoMemory();
		return -1;
	}
	memset(waited + waiter->room, 0, (size_t)(room - waiter->room) * sizeof(*waited));
	Py_ssize_t place = waiter->room;
	waiter->waited = waited;
	waiter->room = room;
	return place;
}

bool waiter_adds(struct waiter *waiter, PyObject *what)
{
	PyObject *address = PyLong_FromVoidPtr(what);
	Py_ssize_t place = address && refuse_producer(what) ? find_place(waiter) : -1;
	PyObject *number = place < 0 ? NULL : PyLong_FromSsize_t(place);
	bool added = false;

	if (number && PyDict_Contains(waiter->places, address))
		PyErr_SetString(PyExc_ValueError, "this waiter waits for this already");
	else if (number && add_member(waiter, what, (uint64_t)place)) {
		added = !PyDict_SetItem(waiter->places, address, number);
		if (added) {
			waiter->waited[place].what = Py_NewRef(what);
			waiter->count++;
		} else {
			rb_waiter_remove(waiter->core, waiter->waited[place].member);
		}
	}
	Py_XDECREF(address);
	Py_XDECREF(number);
	return added;
}

static void remove_at(struct waiter *waiter, Py_ssize_t place)
{
	PyObject *what = waiter->waited[place].what;

	rb_waiter_remove(waiter->core, waiter->waited[place].member);
	waiter->waited[place].what = NULL;
	waiter->count--;
	Py_DECREF(what);
}

bool waiter_removes(struct waiter *waiter, PyObject *what)
{
	PyObject *address = PyLong_FromVoidPtr(what);
	PyObject *number = address ? PyDict_GetItemWithError(waiter->places, address) : NULL;
	Py_ssize_t place = number ? PyLong_AsSsize_t(number) : -1;

	if (address && !number && !PyErr_Occurred())
		PyErr_SetString(PyExc_KeyError, "this waiter does not wait for this");
	if (number && !PyDict_DelItem(waiter->places, address))
		remove_at(waiter, place);
	Py_XDECREF(address);
	return !PyErr_Occurred();
}

void waiter_removes_all(struct waiter *waiter)
{
	PyDict_Clear(waiter->places);
	for (Py_ssize_t place = 0; place < waiter->room; place++)
		if (waiter->waited[place].what)
			remove_at(waiter, place);
}
