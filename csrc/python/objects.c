/* SPDX-License-Identifier: MIT
 *
 * Taking objects from a ring: messages that the channel's codec decodes.
 *
 * A codec may run Python code, and a signal handler may raise in it (Ctrl-C). The message is kept
 * then, and the next call decodes it again. An Exception counts as the codec's own: its message is
 * lost, because nobody can decode it.
 */
#include "codec.h"

static bool was_interrupted(void)
{
	return PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception);
}

/* Keeps a list of messages for the next call; NULL keeps none. Steals the list. Leaves the
 * exception that is set alone. */
static void keep(struct consumer *consumer, PyObject *list)
{
	PyObject *before = consumer->kept;

	consumer->kept = list;
	rb_in_hand(consumer->end.core, list != NULL);
	Py_XDECREF(before);
}

/* Keeps one message, as bytes: a view of the ring is about to end. Without memory it is lost. */
static void keep_one(struct consumer *consumer, PyObject *octets)
{
	PyObject *kind, *error, *traceback;

	PyErr_Fetch(&kind, &error, &traceback);
	PyObject *bytes = PyObject_Bytes(octets);
	PyObject *list = bytes ? PyList_New(1) : NULL;
	if (list) {
		PyList_SetItem(list, 0, Py_NewRef(bytes));
		keep(consumer, list);
	}
	Py_XDECREF(bytes);
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

/* Forgets the first `count` messages of a list, and keeps the others. */
static void keep_rest(struct consumer *consumer, PyObject *list, Py_ssize_t count)
{
	PyObject *kind, *error, *traceback;
	Py_ssize_t size = PyList_Size(list);

	if (count == size && !consumer->kept)
		return;
	PyErr_Fetch(&kind, &error, &traceback);
	keep(consumer, count < size ? PyList_GetSlice(list, count, size) : NULL);
	PyErr_Clear();
	PyErr_Restore(kind, error, traceback);
}

/* The first message that is kept, or NULL; after close NULL with an exception. */
static PyObject *first_kept(struct consumer *consumer)
{
	if (!consumer->kept)
		return NULL;
	if (rb_channel_closed(consumer->end.core))
		return end_fail(&consumer->end, -EBADF);
	return Py_NewRef(PyList_GetItem(consumer->kept, 0));
}

/* Decodes a message, and keeps it if that was interrupted. `kept`: it is the first that is kept. */
static PyObject *decode(struct consumer *consumer, PyObject *octets, bool kept)
{
	PyObject *object = codec_decode(&consumer->end.decode, octets);
	bool interrupted = !object && was_interrupted();

	if (kept && !interrupted)
		keep_rest(consumer, consumer->kept, 1);
	else if (!kept && interrupted)
		keep_one(consumer, octets);
	return object;
}

/* The object of the message that is kept, or of the next one that `take` gives. */
PyObject *object_of(struct consumer *consumer, struct patience *patience, take_function *take)
{
	PyObject *octets = first_kept(consumer);
	bool kept = octets;

	if (!octets && !PyErr_Occurred())
		octets = take(consumer, patience);
	if (!octets)
		return NULL;
	PyObject *object = decode(consumer, octets, kept);
	Py_DECREF(octets);
	return object;
}

/* The message that is kept, or the next one that `take` gives, as it came. */
PyObject *raw_of(struct consumer *consumer, struct patience *patience, take_function *take)
{
	PyObject *octets = first_kept(consumer);

	if (octets)
		keep_rest(consumer, consumer->kept, 1);
	else if (!PyErr_Occurred())
		octets = take(consumer, patience);
	return octets;
}

/* The object of the next message; blocks while there is none. */
PyObject *object_recv(struct consumer *consumer, struct patience *patience)
{
	return object_of(consumer, patience, consumer_take_bytes);
}

/* The same, but what lies in a block of the sender's stays there, and the object keeps it. */
PyObject *object_hold(struct consumer *consumer, struct patience *patience)
{
	return object_of(consumer, patience, consumer_hold_next);
}

/* The same, but what lies in the message's buffers is lent with it. */
PyObject *object_borrow(struct consumer *consumer, struct patience *patience)
{
	if (consumer->end.core->consumer.one_of_many)
		return object_recv(consumer, patience); /* what is lent may be overwritten */
	PyObject *octets = first_kept(consumer);
	bool kept = octets;

	if (PyErr_Occurred())
		return NULL;
	PyObject *view = octets ? consumer_lend_bytes(consumer, octets)
				: consumer_lend_next(consumer, patience);
	if (!view)
		return NULL;
	PyObject *object = decode(consumer, view, kept);
	Py_DECREF(view);
	return object;
}

/* The objects of all messages that have arrived, at most `most`. If one cannot be decoded, those
 * before it are given first, and the next call tells. */
PyObject *objects_recv(struct consumer *consumer, uint64_t most, struct patience *patience)
{
	PyObject *first = first_kept(consumer);
	PyObject *list = first ? Py_NewRef(consumer->kept) : NULL;

	Py_XDECREF(first);
	if (!list && !PyErr_Occurred())
		list = consumer_take_many(consumer, most, patience);
	if (!list)
		return NULL;
	Py_ssize_t size = PyList_Size(list), done = 0;
	PyObject *objects = PyList_New(0);
	for (; objects && done < size && (uint64_t)done < most; done++) {
		PyObject *object = codec_decode(&consumer->end.decode, PyList_GetItem(list, done));
		bool added = object && !PyList_Append(objects, object);
		Py_XDECREF(object);
		if (!added)
			break;
	}
	bool interrupted = was_interrupted();
	if (interrupted || (!done && PyErr_Occurred()))
		Py_CLEAR(objects);
	else
		PyErr_Clear();
	keep_rest(consumer, list, interrupted ? 0 : objects ? done : 1);
	Py_DECREF(list);
	return objects;
}
