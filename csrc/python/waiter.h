/* SPDX-License-Identifier: MIT
 *
 * The struct of a Waiter, for waiter.c and members.c.
 */
#ifndef RB_PYTHON_WAITER_H
#define RB_PYTHON_WAITER_H

#include "python.h"

#include "../waiter.h"

struct waiter {
	PyObject_HEAD rb_waiter *core;
	uint64_t inside;  /* the thread that is in one of its methods */
	bool sleeps;      /* once it has polled in vain */
	PyObject *places; /* of the objects in `waited`, by their address */
	struct waited {
		PyObject *what; /* NULL: the place is free */
		rb_member *member;
	} *waited;
	Py_ssize_t count, room;
};

bool waiter_adds(struct waiter *waiter, PyObject *what);
bool waiter_removes(struct waiter *waiter, PyObject *what);
void waiter_removes_all(struct waiter *waiter);

#endif
