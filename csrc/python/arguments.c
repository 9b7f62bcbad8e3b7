/* SPDX-License-Identifier: MIT
 *
 * What a caller passes: arguments by position and by name, counts, timeouts.
 */
#include <math.h>

#include "python.h"

#define NS_PER_S 1e9
/* Seconds; a longer timeout is for ever, as its nanoseconds would not fit. */
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

/* Puts the arguments of a call into `values`, which holds NULLs before and where nothing is given.
 * False with a TypeError, as a Python function would raise it. */
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

/* Reads a number of 64 bits; `what` is named when it is none. */
bool count_from(PyObject *value, const char *what, uint64_t *count)
{
	PyObject *number = PyNumber_Index(value);

	if (!number)
		return false;
	*count = PyLong_AsUnsignedLongLong(number);
	if (*count == UINT64_MAX && PyErr_Occurred()) {
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "%s is from 0 to 2**64 - 1, not %S", what, number);
		Py_DECREF(number);
		return false;
	}
	Py_DECREF(number);
	return true;
}

/* Reads a number that has to lie in a range; `complaint` gets the most and what it is. */
bool number_within(PyObject *value, uint64_t least, uint64_t most, const char *complaint,
		   uint64_t *number)
{
	PyObject *index = PyNumber_Index(value);

	if (!index)
		return false;
	uint64_t read = PyLong_AsUnsignedLongLong(index);
	bool fits = !PyErr_Occurred() && read >= least && read <= most;
	PyErr_Clear();
	if (fits)
		*number = read;
	else
		PyErr_Format(PyExc_ValueError, complaint, (unsigned long long)most, index);
	Py_DECREF(index);
	return fits;
}

/* ---- timeouts ---- */

/* Reads a timeout in seconds; None, or no argument, is for ever. Refuses nonsense whether or not
 * the call will have to wait. */
bool patience_from(struct patience *patience, PyObject *timeout)
{
	*patience = (struct patience){.for_ever = true};
	if (!timeout || timeout == Py_None)
		return true;
	double seconds = PyFloat_AsDouble(timeout);
	if (seconds == -1.0 && PyErr_Occurred()) {
		if (PyErr_ExceptionMatches(PyExc_TypeError)) {
			PyErr_Clear();
			PyErr_Format(PyExc_TypeError,
				     "timeout is a number of seconds or None, not %R", timeout);
		} else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
			PyErr_Clear();
			PyErr_SetString(PyExc_ValueError,
					"timeout is a number of seconds or None, and this one is "
					"larger than a float can be");
		}
		return false;
	}
	if (isnan(seconds)) {
		PyErr_SetString(PyExc_ValueError,
				"timeout is a number of seconds or None, not nan");
		return false;
	}
	patience->for_ever = seconds > LONGEST_TIMEOUT;
	if (!patience->for_ever && seconds > 0)
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

/* Whether one who has taken something that it does not wait for may take more. Once the time is
 * over it takes what had arrived by then, and nothing that came later: or a peer that keeps sending
 * would keep it for ever. */
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
