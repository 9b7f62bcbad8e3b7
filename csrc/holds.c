/* SPDX-License-Identifier: MIT
 *
 * The frames that a consumer holds: room for more of them, and the longer way to find one. See
 * holds.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "holds.h"

#define LEAST 16U

/* Makes room for at least one more frame, and drops the marks of released ones. The new circle is
 * at least half empty, so this is rarely called. It has room for no more frames than the ring has
 * slots. Returns 0, or -ENOMEM; then nothing has changed. */
int rb_holds_grow(struct rb_holds *holds)
{
	uint64_t held = 0, size = LEAST;

	for (uint64_t place = 0; place < holds->count; place++)
		held += !rb_holds_at(holds, place)->released;
	while (size / 2 < held)
		size *= 2;
	struct rb_holds grown = {.circle = (struct rb_hold *)malloc(size * sizeof(*grown.circle)),
				 .size = size};
	if (!grown.circle)
		return -ENOMEM;
	for (uint64_t place = 0; place < holds->count; place++) {
		const struct rb_hold *hold = rb_holds_at(holds, place);
		if (!hold->released)
			rb_holds_add(&grown, hold->index, hold->token, hold->bytes);
	}
	free(holds->circle);
	*holds = grown;
	return 0;
}

void rb_holds_free(struct rb_holds *holds)
{
	free(holds->circle);
	*holds = (struct rb_holds){0};
}

/* rb_holds_find for a frame that is not the first one. */
struct rb_hold *rb_holds_search(const struct rb_holds *holds, uint64_t index)
{
	if (holds->count < 2)
		return NULL;
	uint64_t low = 1, high = holds->count - 1;
	uint64_t first = rb_holds_at(holds, 0)->index;
	uint64_t last = rb_holds_at(holds, high)->index;
	if (index - first > last - first)
		return NULL;
	/* The first look finds the last frame, and any of frames that all have the same size. */
	uint64_t middle = (index - first) * high / (last - first);
	while (low <= high) {
		struct rb_hold *hold = rb_holds_at(holds, middle);
		if (hold->index == index)
			return hold->released ? NULL : hold;
		if (hold->index - first < index - first)
			low = middle + 1;
		else
			high = middle - 1;
		middle = low + (high - low) / 2;
	}
	return NULL;
}
