/* SPDX-License-Identifier: MIT
 *
 * The arguments of a call: by position and by name, counts, timeouts.
 */
#include <math.h>

#include "python.h"

#define NS_PER_S 1e9
/* Seconds. A longer timeout counts as for ever, because its nanoseconds would not fit. */
#define LONGEST_TIMEOUT 4e9

static int parameter_named(const struct signature *signature, PyObject *name)
{
	for (int i = 0; i < 6 && signature->parameters[i]; i++)
		if (!PyUnicode_CompareWithASCIIString(name, signature->parameters[i]))
			return i;
	PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", signature->name,
		     name);
	return -1;
}

/* Puts the arguments of a call into `values`, which is all NULL before; a missing argument stays
 * NULL. False with the TypeError that a Python function would raise. */
bool arguments_read(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
		    PyObject *kwnames, PyObject **values)
{
	Py_ssize_t named = kwnames ? PyTuple_Size(kwnames) : 0;

	if (nargs > signature->positional) {
		PyErr_Format(PyExc_TypeError,
			     "%s() takes %d positional arguments but %zd were given",
			     signature->name, signature->positional, nargs);
		return false;
	}
	for (Py_ssize_t i = 0; i < nargs; i++)
		values[i] = args[i];
	for (Py_ssize_t i = 0; i < named; i++) {
		int parameter = parameter_named(signature, PyTuple_GetItem(kwnames, i));
		if (parameter < 0)
			return false;
		if (values[parameter]) {
			PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
				     signature->name, signature->parameters[parameter]);
			return false;
		}
		values[parameter] = args[nargs + i];
	}
	for (int i = 0; i < signature->required; i++)
		if (!values[i]) {
			PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
				     signature->name, signature->parameters[i]);
			return false;
		}
	return true;
}

/* ---- numbers ---- */

/* Raises TypeError or ValueError; `complaint` gets the most, if it names one, and what was given.
 */
static bool refuse_number(PyObject *kind, const char *complaint, const uint64_t *most,
			  PyObject *value)
{
	PyObject *shown = PyObject_Repr(value);

	if (!shown && PyErr_ExceptionMatches(PyExc_ValueError)) { /* of thousands of digits */
		PyErr_Clear();
		shown = PyUnicode_FromString("an integer that large");
	}
	if (shown && most)
		PyErr_Format(kind, complaint, (unsigned long long)*most, shown);
	else if (shown)
		PyErr_Format(kind, complaint, shown);
	Py_XDECREF(shown);
	return false;
}

/* Returns the integer, or NULL with an exception when the value is none. */
static PyObject *integer_from(PyObject *value, const char *complaint, const uint64_t *most)
{
	PyObject *integer = PyNumber_Index(value);

	if (!integer && PyErr_ExceptionMatches(PyExc_TypeError)) {
		PyErr_Clear();
		refuse_number(PyExc_TypeError, complaint, most, value);
	}
	return integer;
}

/* Reads an integer that has to lie in a range; `complaint` gets the most and what was given. */
bool number_within(PyObject *value, uint64_t least, uint64_t most, const char *complaint,
		   uint64_t *number)
{
	PyObject *index = integer_from(value, complaint, &most);

	if (!index)
		return false;
	uint64_t read = PyLong_AsUnsignedLongLong(index);
	bool fits = !PyErr_Occurred() && read >= least && read <= most;
	PyErr_Clear();
	if (fits)
		*number = read;
	else
		refuse_number(PyExc_ValueError, complaint, &most, index);
	Py_DECREF(index);
	return fits;
}

/* Reads an integer that is 1 or more, however large; `complaint` gets what was given. */
bool one_or_more(PyObject *value, const char *complaint, uint64_t *number)
{
	PyObject *index = integer_from(value, complaint, NULL);
	int overflow;

	if (!index)
		return false;
	long long read = PyLong_AsLongLongAndOverflow(index, &overflow);
	bool fits = overflow > 0 || (!overflow && read >= 1);
	if (fits)
		*number = overflow ? UINT64_MAX : (uint64_t)read;
	else
		refuse_number(PyExc_ValueError, complaint, NULL, index);
	Py_DECREF(index);
	return fits;
}

/* ---- timeouts ---- */

#define NO_TIMEOUT "timeout is a number of seconds or None, not "

/* Reads a timeout in seconds; None, or no argument, is for ever. Refuses nonsense even if the call
 * will not have to wait. */
bool patience_from(struct patience *patience, PyObject *timeout)
{
	*patience = (struct patience){.for_ever = true};
	if (!timeout || timeout == Py_None)
		return true;
	double seconds = PyFloat_AsDouble(timeout);
	if (seconds == -1.0 && PyErr_Occurred()) {
		if (PyErr_ExceptionMatches(PyExc_TypeError)) {
			PyErr_Clear();
			PyErr_Format(PyExc_TypeError, NO_TIMEOUT "%R", timeout);
		} else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
			PyErr_Clear();
			PyErr_SetString(PyExc_ValueError, NO_TIMEOUT "an integer that large");
		}
		return false;
	}
	if (isnan(seconds)) {
		PyErr_SetString(PyExc_ValueError, NO_TIMEOUT "nan");
		return false;
	}
	if (seconds < 0) {
		PyErr_Format(PyExc_ValueError,
			     NO_TIMEOUT "%R; 0 does not wait, None waits for ever", timeout);
		return false;
	}
	patience->for_ever = seconds > LONGEST_TIMEOUT;
	if (!patience->for_ever)
		patience->timeout_ns = (uint64_t)(seconds * NS_PER_S);
	return true;
}

/* Nanoseconds that are left, as the core takes them: negative is for ever. */
int64_t patience_left(struct patience *patience)
{
	if (patience->for_ever)
		return -1;
	if (!patience->timeout_ns)
		return 0;
	uint64_t now = rb_now_ns();
	if (!patience->began) {
		patience->began = true;
		patience->over_ns = now + patience->timeout_ns;
	}
	return now < patience->over_ns ? (int64_t)(patience->over_ns - now) : 0;
}

/* Whether a call that has taken something else than it waits for may take more. Once the time is
 * over it may take what had arrived by then, but nothing later. Otherwise a peer that keeps sending
 * would keep the call for ever. */
bool patience_goes_on(struct patience *patience, rb_channel *core)
{
	if (patience->for_ever)
		return true;
	if (!patience->over) {
		if (patience_left(patience))
			return true;
		patience->over = true;
		patience->last = rb_arrived(core);
	}
	return (int64_t)(patience->last - core->consumer.next) > 0;
}
