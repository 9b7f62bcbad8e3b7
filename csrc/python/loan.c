/* SPDX-License-Identifier: MIT
 *
 * Memory of a ring that is lent out, and taken back.
 *
 * The user gets a memoryview of a loan. Releasing that view does not tell whether a slice of it, or
 * an array made from it, is still alive. But the loan counts the exports of its memory, and
 * everything made from the view hangs on one export. So memory is taken back when the view has been
 * released and no export is left.
 */
#include "python.h"

struct loan {
	PyObject_HEAD PyObject *memory; /* keeps it alive */
	void *start;
	Py_ssize_t length;
	Py_ssize_t exported;
	bool read_only;
	bool over;
};

/* `memory` is what keeps the memory alive: that of a ring, or bytes. */
struct loan *loan_new(PyObject *memory)
{
	struct loan *loan = PyObject_New(struct loan, loan_type);

	if (!loan)
		return NULL;
	loan->memory = Py_NewRef(memory);
	loan->exported = 0;
	loan->over = true;
	return loan;
}

/* Whether nobody else refers to the loan. */
static bool is_ours(struct loan *loan)
{
#ifdef Py_GIL_DISABLED
	(void)loan;
	return false; /* a count of references says nothing then */
#else
	return !loan->exported && Py_REFCNT((PyObject *)loan) == 1;
#endif
}

/* Makes `*loan` one that can lend that memory; uses the old one again if nobody else refers to
 * it. */
bool loan_renew(struct loan **loan, PyObject *memory)
{
	struct loan *old = *loan;

	if (old && old->memory == memory && is_ours(old))
		return true;
	Py_XDECREF((PyObject *)old);
	*loan = loan_new(memory);
	return *loan != NULL;
}

/* Returns the view to hand out, or NULL with an exception. */
PyObject *loan_lend(struct loan *loan, void *start, uint64_t length, bool read_only)
{
	loan->start = start;
	loan->length = (Py_ssize_t)length;
	loan->read_only = read_only;
	loan->over = false;
	return PyMemoryView_FromObject((PyObject *)loan);
}

/* Replaces a view that was released although its memory could not be taken back. */
void loan_lend_again(struct loan *loan, PyObject **view)
{
	PyObject *kind, *error, *traceback;

	PyErr_Fetch(&kind, &error, &traceback);
	if (PyObject_Size(*view) < 0) {
		PyErr_Clear();
		loan->over = false;
		PyObject *again = PyMemoryView_FromObject((PyObject *)loan);
		if (again) {
			Py_DECREF(*view);
			*view = again;
		}
	}
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

bool view_release(PyObject *view)
{
	PyObject *none = PyObject_CallFunctionObjArgs(names.release, view, NULL);

	Py_XDECREF(none);
	return none != NULL;
}

/* Takes the memory back. False while it is still in use; any error but BufferError stays set as an
 * exception. */
bool loan_end(struct loan *loan, PyObject *view)
{
	if (!view_release(view)) {
		if (PyErr_ExceptionMatches(PyExc_BufferError))
			PyErr_Clear();
		return false;
	}
	if (loan->exported)
		return false;
	loan->over = true;
	return true;
}

/* Whether a memoryview looks at this loan. */
bool loan_is_of(struct loan *loan, PyObject *view)
{
	PyObject *object = PyMemoryView_Check(view) ? PyObject_GetAttrString(view, "obj") : NULL;

	if (!object)
		PyErr_Clear();
	Py_XDECREF(object);
	return object == (PyObject *)loan;
}

/* Gives what a view shows, to be kept: a view of the block that it lies in, or a copy. */
PyObject *loan_hold(struct loan *loan, PyObject *view)
{
	if (loan->over || Py_TYPE(loan->memory) != held_type)
		return PyObject_Bytes(view); /* which raises once the view has been released */
	return PyMemoryView_FromObject(loan->memory);
}

/* Says why lent memory cannot be taken back. */
void still_in_use(const char *what)
{
	if (!PyErr_Occurred())
		PyErr_Format(PyExc_BufferError,
			     "the payload of %s is still in use: a slice of it, or an array made "
			     "from it, is alive; delete it first, or make it from a copy, "
			     "bytes(payload)",
			     what);
}

/* After loan_end: the memory need not be kept for this loan any longer. */
void loan_let_go(struct loan *loan)
{
	if (!loan) /* of a request that was decoded */
		return;
	PyObject *memory = loan->memory;
	loan->memory = Py_NewRef(Py_None);
	Py_DECREF(memory);
}

void loan_drop(struct loan **loan)
{
	Py_CLEAR(*loan);
}

/* Any thread that has a view may export it and release the export. */
static void count_export(struct loan *loan, Py_ssize_t more)
{
#ifdef Py_GIL_DISABLED
	__atomic_fetch_add(&loan->exported, more, __ATOMIC_ACQ_REL);
#else
	loan->exported += more;
#endif
}

static int loan_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct loan *loan = (struct loan *)self;

	if (loan->over) {
		PyErr_SetString(PyExc_ValueError, "this memory has been given back to the ring");
		return -1;
	}
	if (PyBuffer_FillInfo(view, self, loan->start, loan->length, loan->read_only, flags))
		return -1;
	count_export(loan, 1);
	return 0;
}

static void loan_releasebuffer(PyObject *self, Py_buffer *view)
{
	(void)view;
	count_export((struct loan *)self, -1);
}

static void loan_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_DECREF(((struct loan *)self)->memory);
	PyObject_Free(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(memory_at_doc,
	     "memory_at(keeper, address, size, read_only, /)\n--\n\n"
	     "Give a view of memory that exists as long as `keeper` does.\n\n"
	     "Everything made from the view keeps `keeper` alive. No Python code runs\n"
	     "when the last of it is dropped.");

static PyObject *memory_at(PyObject *module, PyObject *args)
{
	PyObject *keeper;
	unsigned long long address, size;
	int read_only;

	(void)module;
	if (!PyArg_ParseTuple(args, "OKKp", &keeper, &address, &size, &read_only))
		return NULL;
	struct loan *loan = loan_new(keeper);
	if (!loan)
		return NULL;
	PyObject *view = loan_lend(loan, (void *)(uintptr_t)address, size, read_only);
	loan_drop(&loan); /* the view keeps it */
	return view;
}

PyMethodDef loan_methods[] = {
	{"memory_at", memory_at, METH_VARARGS, memory_at_doc},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot loan_slots[] = {
	{Py_tp_doc, "Memory of a ring that is lent out."},
	{Py_tp_dealloc, loan_dealloc},
	{Py_bf_getbuffer, loan_getbuffer},
	{Py_bf_releasebuffer, loan_releasebuffer},
	{0, NULL},
};

PyType_Spec loan_spec = {
	.name = "ringbell._ends.Loan",
	.basicsize = sizeof(struct loan),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = loan_slots,
};
