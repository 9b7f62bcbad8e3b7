/* SPDX-License-Identifier: MIT
 *
 * The books of a driver: which requests are in flight, and who waits for each answer.
 */
#include "driver.h"

#define SMALLEST 64

void answers_append(struct answers *answers, struct answer *answer)
{
	answer->next = NULL;
	if (answers->last)
		answers->last->next = answer;
	else
		answers->first = answer;
	answers->last = answer;
	answers->count++;
}

/* Takes the first one out; NULL when there is none. */
struct answer *answers_pop(struct answers *answers)
{
	struct answer *answer = answers->first;

	if (!answer)
		return NULL;
	answers->first = answer->next;
	if (!answers->first)
		answers->last = NULL;
	answers->count--;
	return answer;
}

/* Where a token belongs: Fibonacci hashing (Knuth, volume 3), because consecutive tokens would make
 * one long run, which each removal has to walk. */
static uint64_t home_of(uint64_t token, uint64_t size)
{
	return (token * 0x9e3779b97f4a7c15ULL >> 32) & (size - 1);
}

static void put(struct answer **slots, uint64_t size, struct answer *answer)
{
	uint64_t slot = home_of(answer->token, size);

	while (slots[slot])
		slot = (slot + 1) & (size - 1);
	slots[slot] = answer;
}

/* Makes room for one more request, with half of the slots empty. False with MemoryError. */
bool in_flight_make_room(struct in_flight *in_flight)
{
	if (in_flight->count < in_flight->size / 2)
		return true;
	uint64_t size = in_flight->size ? 2 * in_flight->size : SMALLEST;
	struct answer **slots = PyMem_Calloc(size, sizeof(*slots));
	if (!slots) {
		PyErr_NoMemory();
		return false;
	}
	for (uint64_t i = 0; i < in_flight->size; i++)
		if (in_flight->slots[i])
			put(slots, size, in_flight->slots[i]);
	PyMem_Free(in_flight->slots);
	in_flight->slots = slots;
	in_flight->size = size;
	return true;
}

void in_flight_add(struct in_flight *in_flight, struct answer *answer)
{
	put(in_flight->slots, in_flight->size, answer);
	in_flight->count++;
}

/* Closes the gap of an emptied slot: moves the entries behind it forward as far as they may go, so
 * that no search ends too early. */
static void close_gap(struct in_flight *in_flight, uint64_t gap)
{
	uint64_t mask = in_flight->size - 1;

	for (uint64_t slot = (gap + 1) & mask; in_flight->slots[slot]; slot = (slot + 1) & mask) {
		uint64_t home = home_of(in_flight->slots[slot]->token, in_flight->size);
		if (((slot - home) & mask) < ((slot - gap) & mask))
			continue;
		in_flight->slots[gap] = in_flight->slots[slot];
		gap = slot;
	}
	in_flight->slots[gap] = NULL;
}

/* Takes the one with this token out; NULL when there is none. */
struct answer *in_flight_remove(struct in_flight *in_flight, uint64_t token)
{
	uint64_t mask = in_flight->size - 1;

	if (!in_flight->size)
		return NULL;
	for (uint64_t slot = home_of(token, in_flight->size); in_flight->slots[slot];
	     slot = (slot + 1) & mask) {
		struct answer *answer = in_flight->slots[slot];
		if (answer->token != token)
			continue;
		close_gap(in_flight, slot);
		in_flight->count--;
		return answer;
	}
	return NULL;
}

void in_flight_free(struct in_flight *in_flight)
{
	for (uint64_t i = 0; i < in_flight->size; i++)
		PyMem_Free(in_flight->slots[i]);
	PyMem_Free(in_flight->slots);
}
