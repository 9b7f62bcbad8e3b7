/* SPDX-License-Identifier: MIT
 *
 * The wait for somebody to come, or to say something: on many sockets at once.
 */
#include <poll.h>
#include <unistd.h>

#include "python.h"

#define NS_PER_S 1000000000LL

struct crowd {
	struct pollfd *fds; /* one more than there are sockets, for signals */
	Py_ssize_t count;
	pid_t process; /* whose sockets they are */
};

/* A signal handler may fork. The child has none of the sockets, and perhaps others of the same
 * numbers. */
static bool is_of_the_parent(const struct crowd *crowd)
{
	return crowd->process != getpid();
}

static int sleep_among(void *what, int64_t left_ns, int signal_fd)
{
	struct crowd *crowd = what;
	struct timespec timeout = {
		.tv_sec = (time_t)(left_ns / NS_PER_S),
		.tv_nsec = (long)(left_ns % NS_PER_S),
	};

	if (is_of_the_parent(crowd))
		return -EINTR;
	crowd->fds[crowd->count] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
	int ready =
		ppoll(crowd->fds, (nfds_t)crowd->count + 1, left_ns < 0 ? NULL : &timeout, NULL);
	if (ready < 0)
		return -errno;
	return crowd->fds[crowd->count].revents ? -EINTR : ready;
}

static bool read_crowd(struct crowd *crowd, PyObject *descriptors)
{
	crowd->process = getpid();
	crowd->count = PyList_Size(descriptors);
	if (crowd->count < 0)
		return false;
	crowd->fds = PyMem_Calloc((size_t)crowd->count + 1, sizeof(*crowd->fds));
	if (!crowd->fds) {
		PyErr_NoMemory();
		return false;
	}
	for (Py_ssize_t i = 0; i < crowd->count; i++) {
		crowd->fds[i].fd = (int)PyLong_AsLong(PyList_GetItem(descriptors, i));
		crowd->fds[i].events = POLLIN;
	}
	return !PyErr_Occurred();
}

static PyObject *readable_ones(const struct crowd *crowd)
{
	PyObject *readable = PyList_New(0);

	for (Py_ssize_t i = 0; readable && i < crowd->count; i++) {
		if (!crowd->fds[i].revents)
			continue;
		PyObject *one = PyLong_FromLong(crowd->fds[i].fd);
		if (!one || PyList_Append(readable, one))
			Py_CLEAR(readable);
		Py_XDECREF(one);
	}
	return readable;
}

/* Signal handlers run in here, even if the signal came before. */
static bool wait_among(struct crowd *crowd, struct patience *patience)
{
	for (;;) {
		if (PyErr_CheckSignals())
			return false;
		if (is_of_the_parent(crowd)) {
			crowd->count = 0;
			return true;
		}
		int ready = sleep_watching_signals(sleep_among, crowd, patience_left(patience));
		if (PyErr_Occurred())
			return false;
		if (ready > 0 || (!ready && !patience_left(patience)))
			return true;
		if (ready < 0 && ready != -EINTR) {
			errno = -ready;
			PyErr_SetFromErrno(PyExc_OSError);
			return false;
		}
	}
}

PyDoc_STRVAR(wait_readable_doc,
	     "wait_readable(descriptors, timeout, /)\n--\n\n"
	     "Wait until a descriptor is readable or at its end; give all that are.\n\n"
	     "Gives an empty list after `timeout` seconds, and at once in a child that a signal\n"
	     "handler has forked; None waits for ever. Ignores negative descriptors.");

static PyObject *wait_readable(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	struct crowd crowd = {0};
	struct patience patience;
	PyObject *readable = NULL;

	(void)module;
	if (nargs != 2) {
		PyErr_SetString(PyExc_TypeError, "wait_readable() takes a list and a timeout");
		return NULL;
	}
	/* In advance: the first sleep in the channel that is opened here needs this, too. */
	if (patience_from(&patience, args[1]) && prepare_to_sleep() &&
	    read_crowd(&crowd, args[0]) && wait_among(&crowd, &patience))
		readable = readable_ones(&crowd);
	PyMem_Free(crowd.fds);
	return readable;
}

PyMethodDef meeting_methods[] = {
	{"wait_readable", (PyCFunction)(void (*)(void))wait_readable, METH_FASTCALL,
	 wait_readable_doc},
	{NULL, NULL, 0, NULL},
};
