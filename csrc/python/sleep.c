/* SPDX-License-Identifier: MIT
 *
 * A sleep for data, for room, or for a partner, which a signal ends at any moment.
 *
 * A signal that comes between the interpreter's last look and the system call would not end the
 * call. Blocking signals around the call does not help, because another thread may take them. So
 * during the sleep Python's wake-up descriptor (signal.set_wakeup_fd) is the write end of a pipe,
 * and the sleep watches the read end, too. After the sleep the descriptor that an event loop had
 * set is put back, and gets the signals that came meanwhile. Only the main thread handles signals,
 * so one pipe is enough for a process. A child of fork makes its own.
 *
 * To set the descriptor and to put it back costs more than all else that a sleep does. So the sleep
 * is unwatched for its first 20 ms. Nearly every signal ends it all the same, because the kernel
 * interrupts the main thread. Otherwise the watched sleep begins with a look for signals.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../owned.h"
#include "python.h"

/* How long a sleep is not watched. Polling for 50 ms and this are less than the 100 ms within which
 * a signal ends every wait. */
#define UNWATCHED_NS 20000000LL
/* The most signals of one sleep that are passed on; more of them would say nothing new. */
#define SIGNALS 512

static struct {
	pid_t process; /* whose pipe it is */
	int reader, writer;
	PyObject *module; /* signal */
	PyObject *options;
} pipe_of_signals;

/* Sets Python's wake-up descriptor; returns the one before, or -2 with an exception. */
static int set_wakeup_fd(int descriptor)
{
	PyObject *set = PyObject_GetAttrString(pipe_of_signals.module, "set_wakeup_fd");
	PyObject *arguments = Py_BuildValue("(i)", descriptor);
	PyObject *before =
		set && arguments ? PyObject_Call(set, arguments, pipe_of_signals.options) : NULL;
	int previous = before ? (int)PyLong_AsLong(before) : -2;

	Py_XDECREF(set);
	Py_XDECREF(arguments);
	Py_XDECREF(before);
	return previous;
}

/* In the child: forgets the parent's pipe, because signals of the child must not write to it. */
static PyObject *forget(PyObject *self, PyObject *unused)
{
	(void)self;
	(void)unused;
	if (pipe_of_signals.process && pipe_of_signals.process != getpid()) {
		int previous = set_wakeup_fd(-1);
		if (previous >= 0 && previous != pipe_of_signals.writer)
			set_wakeup_fd(previous);
		close(pipe_of_signals.reader);
		close(pipe_of_signals.writer);
		pipe_of_signals.process = 0;
	}
	return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef forget_method = {"forget_signals", forget, METH_NOARGS, NULL};

/* Has `forget` called in every child of fork. */
static bool watch_forks(void)
{
	PyObject *os = PyImport_ImportModule("os");
	PyObject *hook = os ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
	PyObject *function = hook ? PyCFunction_New(&forget_method, NULL) : NULL;
	PyObject *none = Py_None, *arguments = PyTuple_New(0);
	PyObject *options = function ? Py_BuildValue("{sO}", "after_in_child", function) : NULL;

	none = options && arguments ? PyObject_Call(hook, arguments, options) : NULL;
	Py_XDECREF(os);
	Py_XDECREF(hook);
	Py_XDECREF(function);
	Py_XDECREF(arguments);
	Py_XDECREF(options);
	Py_XDECREF(none);
	return none != NULL;
}

static void raise_no_pipe(int code)
{
	const char *text =
		code == EMFILE ? "this process has no file descriptor left, and its first sleep "
				 "takes two: close some files or channels, or raise the limit "
				 "(ulimit -n)"
			       : strerror(code);
	PyObject *error = PyObject_CallFunction(PyExc_OSError, "is", code, text);

	if (error)
		PyErr_SetObject(PyExc_OSError, error);
	Py_XDECREF(error);
}

/* Once, before the first sleep of a process. */
static bool make_pipe(void)
{
	int ends[2];

	if (!pipe_of_signals.module) {
		pipe_of_signals.options = Py_BuildValue("{sO}", "warn_on_full_buffer", Py_False);
		PyObject *module = PyImport_ImportModule("signal");
		if (!pipe_of_signals.options || !module || !watch_forks()) {
			Py_XDECREF(module);
			return false;
		}
		pipe_of_signals.module = module;
	}
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		raise_no_pipe(errno);
		return false;
	}
	ends[0] = rb_descriptor_move(ends[0]);
	ends[1] = rb_descriptor_move(ends[1]);
	if (ends[0] < 0 || ends[1] < 0) {
		raise_no_pipe(ends[0] < 0 ? -ends[0] : -ends[1]);
		for (int i = 0; i < 2; i++)
			if (ends[i] >= 0)
				close(ends[i]);
		return false;
	}
	pipe_of_signals.reader = ends[0];
	pipe_of_signals.writer = ends[1];
	pipe_of_signals.process = getpid();
	return true;
}

/* Passes the signals that came meanwhile on to the descriptor that was set before. */
static void pass_on(int descriptor)
{
	char signals[SIGNALS];
	ssize_t count = read(pipe_of_signals.reader, signals, sizeof(signals));

	if (count > 0 && descriptor != -1 && write(descriptor, signals, (size_t)count) < 0)
		return; /* it is full, so its reader wakes up in any case */
}

/* Puts back the descriptor from before the sleep; keeps the exception that is set, if there is one.
 */
static void put_back(int descriptor)
{
	PyObject *kind, *error, *traceback;

	PyErr_Fetch(&kind, &error, &traceback);
	if (set_wakeup_fd(descriptor) == -2) {
		PyErr_Clear(); /* it has been closed meanwhile */
		descriptor = -1;
		set_wakeup_fd(-1);
	}
	pass_on(descriptor);
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

/* Makes the pipe of the sleeps in advance, so that a later sleep cannot lack a descriptor. */
bool prepare_to_sleep(void)
{
	return pipe_of_signals.process == getpid() || make_pipe();
}

static int sleep_unwatched(sleep_function sleep, void *what, int64_t left_ns)
{
	int status;

	Py_BEGIN_ALLOW_THREADS
	status = sleep(what, left_ns, -1);
	Py_END_ALLOW_THREADS
	return status;
}

static int sleep_watched(sleep_function sleep, void *what, int64_t left_ns)
{
	if (!prepare_to_sleep())
		return 0;
	int previous = set_wakeup_fd(pipe_of_signals.writer);
	if (previous == -2) {
		/* Python's main thread is another one. */
		if (!PyErr_ExceptionMatches(PyExc_ValueError))
			return 0;
		PyErr_Clear();
		return sleep_unwatched(sleep, what, left_ns);
	}
	/* A signal that came before did not write to the pipe. */
	if (PyErr_CheckSignals()) {
		put_back(previous);
		return 0;
	}
	/* From here on no handler runs until the descriptor from before is put back. */
	PyThreadState *thread = PyEval_SaveThread();
	int status = sleep(what, left_ns, pipe_of_signals.reader);
	PyEval_RestoreThread(thread);
	put_back(previous);
	return status;
}

/* Calls `sleep` without the GIL, at most `left_ns`; negative is for ever. In the main thread it
 * calls it again after a while, with a descriptor that a signal makes readable; else that is -1.
 * Returns what it returns; with an exception set it returns 0. */
int sleep_watching_signals(sleep_function sleep, void *what, int64_t left_ns)
{
	/* The kernel's name for the main thread. */
	if (syscall(SYS_gettid) != getpid())
		return sleep_unwatched(sleep, what, left_ns);
	/* One that came while this thread polled does not interrupt the sleep. */
	if (PyErr_CheckSignals())
		return 0;
	bool brief = left_ns >= 0 && left_ns <= UNWATCHED_NS;
	int status = sleep_unwatched(sleep, what, brief ? left_ns : UNWATCHED_NS);
	if (status || brief)
		return status;
	return sleep_watched(sleep, what, left_ns < 0 ? left_ns : left_ns - UNWATCHED_NS);
}

struct sleep_of_channel {
	rb_channel *core;
	int want;
};

static int sleep_in_channel(void *what, int64_t left_ns, int signal_fd)
{
	struct sleep_of_channel *sleep = what;

	return rb_wait_sleep(sleep->core, sleep->want, left_ns, signal_fd);
}

/* As rb_wait_sleep; with an exception set it returns 0. */
int sleep_until_signal(rb_channel *core, int want, int64_t left_ns)
{
	struct sleep_of_channel sleep = {core, want};

	return sleep_watching_signals(sleep_in_channel, &sleep, left_ns);
}
