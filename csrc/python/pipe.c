/* SPDX-License-Identifier: MIT
 *
 * What only the connections of a pipe ask of a consuming end.
 */
#include <errno.h>

#include "python.h"

/* Whether a failed wait says that the other side has gone, so that the next take does not wait. */
static bool has_gone(void)
{
	return is_end_of_stream() || PyErr_ExceptionMatches(errors.peer_lost);
}

/* Waits until a take would not wait, also because it would raise: true; false after `timeout`. */
PyObject *consumer_poll(PyObject *self, PyObject *timeout)
{
	struct consumer *consumer = (struct consumer *)self;
	struct patience patience;

	if (!patience_from(&patience, timeout) || !end_enter(&consumer->end))
		return NULL;
	int ready = rb_pipe_ready(consumer->end.core);
	if (ready == -EBADF) {
		end_fail(&consumer->end, ready);
	} else if (!ready && (patience.for_ever || patience.timeout_ns)) {
		ready = end_wait(&consumer->end, RB_DATA, &patience);
		if (ready < 0 && has_gone())
			PyErr_Clear();
	}
	end_leave(&consumer->end);
	return PyErr_Occurred() ? NULL : PyBool_FromLong(ready);
}

/* Has the control socket be readable while there is something to take. A thread inside of the end
 * does so when it leaves. */
PyObject *consumer_watch(PyObject *self, PyObject *unused)
{
	struct consumer *consumer = (struct consumer *)self;

	(void)unused;
	if (end_try_to_enter(&consumer->end)) {
		rb_chime_watch(consumer->end.core);
		end_leave(&consumer->end);
	} else {
		rb_store_relaxed_bool(&consumer->end.core->consumer.chime.watched, true);
	}
	return Py_NewRef(Py_None);
}
