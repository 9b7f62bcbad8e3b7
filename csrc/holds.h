/* SPDX-License-Identifier: MIT
 *
 * The frames that a consumer holds: it has taken them, and has not released them yet.
 *
 * They lie in a circle, in the order of the ring. So the first one tells up to where the slots may
 * be given back. Nearly always the first or the last frame is released, and leaves the circle. A
 * frame between them keeps its place, marked as released, until it is the first or the last one.
 */
#ifndef RB_HOLDS_H
#define RB_HOLDS_H

#include <stdbool.h>
#include <stdint.h>

struct rb_hold {
	uint64_t index; /* of its first slot */
	uint64_t token;
	uint64_t bytes;
	bool released;
};

/* Zeros are a circle of size 0. */
struct rb_holds {
	struct rb_hold *circle;
	uint64_t size;  /* 0, or a power of two */
	uint64_t first; /* runs freely, as the indices of a ring do */
	uint64_t count; /* of the frames in the circle; the first and the last are not released */
};

static inline struct rb_hold *rb_holds_at(const struct rb_holds *holds, uint64_t place)
{
	return &holds->circle[(holds->first + place) & (holds->size - 1)];
}

static inline bool rb_holds_full(const struct rb_holds *holds)
{
	return holds->count == holds->size;
}

/* Adds a frame behind all others. The circle must not be full. */
static inline void rb_holds_add(struct rb_holds *holds, uint64_t index, uint64_t token,
				uint64_t bytes)
{
	struct rb_hold *hold = rb_holds_at(holds, holds->count++);

	/* One by one: a compiler makes the whole elsewhere first, and copying it takes longer. */
	hold->index = index;
	hold->token = token;
	hold->bytes = bytes;
	hold->released = false;
}

int rb_holds_grow(struct rb_holds *holds);
void rb_holds_free(struct rb_holds *holds);
struct rb_hold *rb_holds_search(const struct rb_holds *holds, uint64_t index);

/* The held frame that starts at an index of the ring, or NULL. */
static inline struct rb_hold *rb_holds_find(const struct rb_holds *holds, uint64_t index)
{
	if (holds->count && rb_holds_at(holds, 0)->index == index)
		return rb_holds_at(holds, 0);
	return rb_holds_search(holds, index);
}

/* Releases a frame that rb_holds_find found. */
static inline void rb_holds_release(struct rb_holds *holds, struct rb_hold *hold)
{
	hold->released = true;
	while (holds->count && rb_holds_at(holds, 0)->released) {
		holds->first++;
		holds->count--;
	}
	while (holds->count && rb_holds_at(holds, holds->count - 1)->released)
		holds->count--;
}

#endif
