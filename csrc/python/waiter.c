/* SPDX-License-Identifier: MIT
 *
 * Waiting for many ends at once, and for other objects with a descriptor.
 */
#include "waiter.h"

#include "../life.h"

/* Objects that one wait gives at most; the others are given by the next. */
#define MOST 256

/* ---- who is inside ---- */

/* Whether this process was forked from the one that made it. */
static bool is_of_parent(const struct waiter *waiter)
{
	return rb_waiter_fd(waiter->core) < 0;
}

static bool enter(struct waiter *waiter)
{
	if (!waiter->core) {
		PyErr_SetString(errors.channel_closed,
				"this waiter has been closed; make another one");
		return false;
	}
	if (is_of_parent(waiter)) {
		PyErr_SetString(errors.channel_closed,
				"this waiter belongs to the process that this one was forked from; "
				"make another one in this process");
		return false;
	}
	if (rb_enter(&waiter->inside))
		return true;
	PyErr_SetString(
		PyExc_RuntimeError,
		"this waiter is in use: another thread (or the code that this signal handler "
		"interrupted) is inside it; a waiter is for one thread at a time");
	return false;
}

static void leave(struct waiter *waiter)
{
	rb_place_give(&waiter->inside);
}

/* ---- waiting ---- */

struct wait {
	rb_waiter *core;
	bool sleeps;
	uint64_t keys[MOST];
	int64_t left;
};

static int poll_among(struct wait *wait)
{
	int ready = wait->left ? rb_waiter_look(wait->core, wait->keys, MOST)
			       : rb_waiter_poll(wait->core, wait->keys, MOST, 0);

	if (ready || !wait->left)
		return ready;
	Py_BEGIN_ALLOW_THREADS
	ready = rb_waiter_poll(wait->core, wait->keys, MOST, wait->left);
	Py_END_ALLOW_THREADS
	return ready;
}

static int sleep_among(void *what, int64_t left_ns, int signal_fd)
{
	struct wait *wait = what;

	return rb_waiter_sleep(wait->core, wait->keys, MOST, left_ns, signal_fd);
}

/* The number of keys, 0 when the time is over, or -1 with an exception. */
static int wait_for_any(struct wait *wait, struct patience *patience)
{
	for (;;) {
		wait->left = patience_left(patience);
		int ready = poll_among(wait);
		if (!ready && wait->left && wait->sleeps)
			ready = sleep_watching_signals(sleep_among, wait, patience_left(patience));
		if (PyErr_Occurred() || PyErr_CheckSignals())
			return -1;
		if (ready > 0 || (!ready && !patience_left(patience)))
			return ready;
		if (ready < 0 && ready != -EINTR) {
			errno = -ready;
			PyErr_SetFromErrno(PyExc_OSError);
			return -1;
		}
	}
}

static PyObject *objects_of(const struct waiter *waiter, const struct wait *wait, int count)
{
	PyObject *objects = PyList_New(count);

	for (int i = 0; objects && i < count; i++)
		PyList_SetItem(objects, i, Py_NewRef(waiter->waited[wait->keys[i]].what));
	return objects;
}

PyDoc_STRVAR(
	wait_doc,
	"wait($self, timeout=None)\n--\n\n"
	"Wait until something can be taken from a member; give a list of such members.\n\n"
	"A member is in the list when it has something to take, or when its next call says\n"
	"why nothing more comes (EndOfStream, PeerLost, ChannelClosed). Those that are always\n"
	"ready come in turn; the list has 256 members at most, and while some are busy another\n"
	"one may come some 20 us late. Polls for a while, as the waiter's options say, and\n"
	"sleeps then: once, for whatever arrives. Gives an empty list when nothing came\n"
	"within `timeout` seconds; None waits for ever, 0 only looks.\n"
	"A signal handler that raises ends the wait, and nothing is lost.\n\n"
	"Raises RuntimeError when another thread is inside of the waiter, or when the waiter\n"
	"has no members and `timeout` is None.");

static PyObject *waiter_wait(PyObject *self, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"timeout", NULL};
	struct waiter *waiter = (struct waiter *)self;
	PyObject *timeout = Py_None, *objects = NULL;
	struct wait wait = {.core = waiter->core, .sleeps = waiter->sleeps};
	struct patience patience;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O", names, &timeout) ||
	    !patience_from(&patience, timeout) || !enter(waiter))
		return NULL;
	if (!waiter->count && patience.for_ever) {
		PyErr_SetString(PyExc_RuntimeError,
				"this waiter has no members, so nothing would "
				"ever end its wait; add some, or give a timeout");
	} else {
		int count = wait_for_any(&wait, &patience);
		if (count >= 0)
			objects = objects_of(waiter, &wait, count);
	}
	leave(waiter);
	return objects;
}

PyDoc_STRVAR(fileno_doc, "fileno($self)\n--\n\n"
			 "Give a descriptor for an event loop: readable when `wait(timeout=0)` may "
			 "give something.\n\n"
			 "Call `wait(timeout=0)` until it gives an empty list before you sleep on "
			 "it. The waiter owns\n"
			 "the descriptor. Raises ChannelClosed after close.");

static PyObject *waiter_fileno(PyObject *self, PyObject *unused)
{
	struct waiter *waiter = (struct waiter *)self;

	(void)unused;
	if (!enter(waiter))
		return NULL;
	int descriptor = rb_waiter_pollable(waiter->core);
	leave(waiter);
	return PyLong_FromLong(descriptor);
}

/* ---- the type ---- */

PyDoc_STRVAR(
	add_doc,
	"add($self, what, /)\n--\n\n"
	"Wait for `what`, too: a driver, a device, a consumer, or an object with a `fileno()`.\n\n"
	"The thread that waits is the one that takes from it. Raises ValueError when a waiter\n"
	"waits for it already, TypeError for a producer and for what has no descriptor,\n"
	"ChannelClosed after its close, OSError when the descriptor cannot be waited for.\n"
	"Remove what is no channel before its descriptor is closed.");

static PyObject *waiter_add(PyObject *self, PyObject *what)
{
	struct waiter *waiter = (struct waiter *)self;

	if (!enter(waiter))
		return NULL;
	bool added = waiter_adds(waiter, what);
	leave(waiter);
	return added ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(remove_doc,
	     "remove($self, what, /)\n--\n\n"
	     "Wait for it no longer. Raises KeyError when the waiter does not wait for it.");

static PyObject *waiter_remove(PyObject *self, PyObject *what)
{
	struct waiter *waiter = (struct waiter *)self;

	if (!enter(waiter))
		return NULL;
	bool removed = waiter_removes(waiter, what);
	leave(waiter);
	return removed ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(discard_doc, "discard($self, what, /)\n--\n\n"
			  "Wait for it no longer, if the waiter waits for it.");

static PyObject *waiter_discard(PyObject *self, PyObject *what)
{
	PyObject *removed = waiter_remove(self, what);

	if (removed || !PyErr_ExceptionMatches(PyExc_KeyError))
		return removed;
	PyErr_Clear();
	return Py_NewRef(Py_None);
}

static void close_waiter(struct waiter *waiter)
{
	waiter_removes_all(waiter);
	rb_waiter_free(waiter->core);
	waiter->core = NULL;
}

PyDoc_STRVAR(close_doc,
	     "close($self)\n--\n\n"
	     "Wait for nothing any longer. The members stay open. Closing twice does nothing.");

static PyObject *waiter_close(PyObject *self, PyObject *unused)
{
	struct waiter *waiter = (struct waiter *)self;

	(void)unused;
	if (!waiter->core)
		return Py_NewRef(Py_None);
	/* In a forked child another thread of the parent may be inside for ever. */
	if (!is_of_parent(waiter) && !enter(waiter))
		return NULL;
	close_waiter(waiter);
	leave(waiter);
	return Py_NewRef(Py_None);
}

static PyObject *waiter_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return Py_NewRef(self);
}

static PyObject *waiter_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)args;
	(void)nargs;
	return waiter_close(self, NULL);
}

static PyObject *waiter_counts(PyObject *self, PyObject *unused)
{
	struct waiter *waiter = (struct waiter *)self;
	uint64_t words[3] = {0};

	(void)unused;
	if (waiter->core)
		rb_waiter_stats(waiter->core, words);
	return Py_BuildValue("(KKK)", words[0], words[1], words[2]);
}

static Py_ssize_t waiter_length(PyObject *self)
{
	return ((struct waiter *)self)->count;
}

static PyObject *waiter_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static char *names[] = {"polling", "max_poll_ns", "max_share", NULL};
	int polling = RB_POLL_ADAPTIVE;
	unsigned long long max_poll_ns = 0, max_share = RB_SHARE_ALL;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "iKK", names, &polling, &max_poll_ns,
					 &max_share))
		return NULL;
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct waiter *waiter = (struct waiter *)allocate(type, 0);
	if (!waiter)
		return NULL;
	waiter->places = PyDict_New();
	int status = waiter->places ? rb_waiter_open(&waiter->core) : 0;
	if (status) {
		errno = -status;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	if (!waiter->core) {
		Py_DECREF(waiter);
		return NULL;
	}
	rb_waiter_policy(waiter->core, polling, max_poll_ns, max_share);
	waiter->sleeps = polling != RB_POLL_ALWAYS;
	return (PyObject *)waiter;
}

static int waiter_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct waiter *waiter = (struct waiter *)self;

	Py_VISIT(Py_TYPE(self));
	for (Py_ssize_t place = 0; place < waiter->room; place++)
		Py_VISIT(waiter->waited[place].what);
	return 0;
}

static int waiter_clear(PyObject *self)
{
	struct waiter *waiter = (struct waiter *)self;

	if (waiter->core)
		waiter_removes_all(waiter);
	return 0;
}

static void waiter_dealloc(PyObject *self)
{
	struct waiter *waiter = (struct waiter *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	PyObject_GC_UnTrack(self);
	if (waiter->core)
		close_waiter(waiter);
	Py_CLEAR(waiter->places);
	PyMem_Free(waiter->waited);
	release(self);
	Py_DECREF(type);
}

static PyMethodDef waiter_methods[] = {
	{"add", waiter_add, METH_O, add_doc},
	{"remove", waiter_remove, METH_O, remove_doc},
	{"discard", waiter_discard, METH_O, discard_doc},
	{"wait", (PyCFunction)(void (*)(void))waiter_wait, METH_VARARGS | METH_KEYWORDS, wait_doc},
	{"fileno", waiter_fileno, METH_NOARGS, fileno_doc},
	{"close", waiter_close, METH_NOARGS, close_doc},
	{"__enter__", waiter_enter, METH_NOARGS, NULL},
	{"__exit__", (PyCFunction)(void (*)(void))waiter_exit, METH_FASTCALL, NULL},
	{"_counts", waiter_counts, METH_NOARGS, NULL},
	{"__reduce__", refuse_copy, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot waiter_slots[] = {
	{Py_tp_doc, "Waits for many ends at once, for one thread at a time."},
	{Py_tp_new, waiter_new},
	{Py_tp_dealloc, waiter_dealloc},
	{Py_tp_traverse, waiter_traverse},
	{Py_tp_clear, waiter_clear},
	{Py_tp_methods, waiter_methods},
	{Py_sq_length, waiter_length},
	{0, NULL},
};

PyType_Spec waiter_spec = {
	.name = "ringbell._ends.Waiter",
	.basicsize = sizeof(struct waiter),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = waiter_slots,
};
