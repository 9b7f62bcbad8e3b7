/* SPDX-License-Identifier: MIT
 *
 * A consumer without memory to note another frame that it holds: it says so, the frame stays in the
 * ring, and comes once there is memory, or once another frame has been released. Linked with
 * --wrap=malloc. Exits with 0 when all is well.
 */
#include "pair.h"

#define FRAMES 100

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

static bool refuses;
static struct pair pair;
static uint64_t taken, indices[FRAMES];

void *__wrap_malloc(size_t size)
{
	return refuses ? NULL : __real_malloc(size);
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "FAILED after %llu frames: %s\n", (unsigned long long)taken, what);
	exit(1);
}

static bool take_next(void)
{
	const rb_frame *frame = &pair.device->consumer.frame;
	int status = rb_take(pair.device, 0);

	if (status == -ENOMEM)
		return false;
	check(!status && frame->token == taken + 1, "the next frame is taken");
	indices[taken++] = frame->index;
	return true;
}

int main(void)
{
	uint64_t byte, refusals = 0, first = 0;

	pair = open_pair(65536, UINT64_MAX - 20);
	for (uint64_t token = 1; token <= FRAMES; token++)
		check(!rb_send(pair.driver, &token, 1, token, 0), "a frame is sent");
	while (taken < FRAMES) {
		refuses = true;
		if (take_next())
			continue;
		check(!take_next(), "it is refused again");
		check(rb_recv(pair.device, &byte, 1, 0) == -ENOMEM, "so is a copy");
		refusals++;
		if (taken) {
			check(!rb_release(pair.device, indices[first++]), "the first is released");
			check(take_next() && !take_next(), "that is room for one");
		}
		refuses = false;
		check(take_next(), "there is memory again");
	}
	check(refusals >= 3, "memory was needed several times");
	for (uint64_t place = first; place < FRAMES; place++)
		check(!rb_release(pair.device, indices[place]), "it was held");
	check(pair.device->consumer.read == pair.device->consumer.next, "all is given back");
	return 0;
}
