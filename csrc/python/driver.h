/* SPDX-License-Identifier: MIT
 *
 * What the files of a driver offer each other: the requests in flight, and their answers.
 */
#ifndef RB_PYTHON_DRIVER_H
#define RB_PYTHON_DRIVER_H

#include "python.h"

/* ---- in_flight.c ---- */

/* A request that a driver has sent, and then its answer. */
struct answer {
	uint64_t token;
	enum { FOR_NOBODY, FOR_REAP, FOR_CALL, FOR_MAP } place;
	bool ok;
	PyObject *payload; /* NULL until it has arrived */
	struct map *map;   /* FOR_MAP */
	struct answer *next;
};

/* First in, first out. */
struct answers {
	struct answer *first, *last;
	uint64_t count;
};

void answers_append(struct answers *answers, struct answer *answer);
struct answer *answers_pop(struct answers *answers);

/* The requests in flight by their tokens: open addressing, linear probing. */
struct in_flight {
	struct answer **slots;
	uint64_t size; /* a power of two, or 0 */
	uint64_t count;
};

bool in_flight_make_room(struct in_flight *in_flight);
void in_flight_add(struct in_flight *in_flight, struct answer *answer);
struct answer *in_flight_remove(struct in_flight *in_flight, uint64_t token);
void in_flight_free(struct in_flight *in_flight);

/* ---- driver.c ---- */

struct driver {
	struct side side;
	uint64_t next_token; /* 0 is for messages that want no completion */
	struct in_flight in_flight;
	struct answers ready;   /* what reap gives next */
	uint64_t for_reap;      /* how many requests in flight are for reap */
	uint64_t maps_ready;    /* maps whose next answer has arrived */
	PyObject *reap;         /* the taking of the next completion */
	struct answer *sending; /* the request that is going out in pieces, or NULL */
	uint64_t holds;         /* the token of the call that holds its answer, or 0 */
};

bool driver_enter(struct driver *driver);
void driver_leave(struct driver *driver);

/* ---- requests.c ---- */

struct answer *driver_request(struct driver *driver, int place);
void driver_give_up(struct answer *answer);
bool driver_send(struct driver *driver, struct answer *answer, PyObject *payload,
		 struct patience *patience);
bool driver_publish(struct driver *driver, struct answer *answer, uint64_t reservation,
		    uint64_t length);
bool driver_wait_for_room(PyObject *driver, struct patience *patience);
bool driver_set_aside(struct driver *driver);
bool driver_advance(struct driver *driver, struct patience *patience);
bool driver_may_take_more(struct driver *driver, struct patience *patience);
int driver_settle(struct driver *driver);
bool driver_look_for_end(struct driver *driver);
bool driver_await(struct driver *driver, struct answer *answer, struct patience *patience);

/* ---- completion.c ---- */

PyObject *driver_result(struct answer *answer);
PyObject *completion_of(struct answer *answer, const struct function *decode);
PyObject *request_failed(PyObject *payload);

/* ---- tasks.c ---- */

PyObject *driver_hand_out(PyObject *driver, PyObject *waiting);

/* ---- map.c ---- */

PyObject *map_new(struct driver *driver, PyObject *payloads, PyObject *depth, PyObject *timeout);
void map_answer_arrived(struct map *map, struct answer *answer);

#endif
