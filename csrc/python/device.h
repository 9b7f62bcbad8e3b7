/* SPDX-License-Identifier: MIT
 *
 * A device, as device.c makes it and serving.c answers for it.
 */
#ifndef RB_PYTHON_DEVICE_H
#define RB_PYTHON_DEVICE_H

#include "request.h"

/* An answer that waits for room; serving.c has the rules. */
struct set_aside {
	struct request *request; /* NULL: nothing is set aside */
	PyObject *answer;        /* bytes, or parts that have not been sent at all */
	int kind;                /* RB_MESSAGE or RB_FAILURE */
	uint64_t done;           /* bytes that have been sent in pieces */
};

struct device {
	struct side side;
	PyObject *take; /* what takes the next request */
	/* Of a request that is too long, while its driver has not been told so. */
	PyObject *refusal;
	uint64_t refused;
	struct set_aside aside;
};

struct request *device_take(struct device *device, struct patience *patience);
bool is_driver_gone(void);
PyObject *device_serve(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *device_serve_ready(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
void set_aside_clear(struct set_aside *aside);

#endif
