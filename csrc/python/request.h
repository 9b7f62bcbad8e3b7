/* SPDX-License-Identifier: MIT
 *
 * A request in a device's hands, as device.c makes and answers it.
 */
#ifndef RB_PYTHON_REQUEST_H
#define RB_PYTHON_REQUEST_H

#include "python.h"

struct request {
	PyObject_HEAD struct side *device;
	uint64_t index; /* of its last frame */
	uint64_t token;
	struct loan *loan; /* NULL if the channel has a codec: then the payload is a copy */
	PyObject
		*payload; /* the view that the loan lends; or bytes, and later the object in them */
	bool encoded;     /* it is bytes that the codec has to decode */
};

struct request *request_in_ring(struct side *device);
struct request *request_in_block(struct side *device);
bool request_take_back(struct request *request);
PyObject *request_payload(struct request *request);
struct request *request_in_pieces(struct side *device, const struct message *message);
bool request_complete(struct request *request, PyObject *payload, int kind,
		      struct patience *patience);
bool request_fail(struct request *request, PyObject *why, struct patience *patience);

#endif
