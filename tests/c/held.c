/* SPDX-License-Identifier: MIT
 *
 * What a consumer notes of the frames that it holds. Linked with --wrap=malloc, so that there may
 * be no memory.
 *
 *   held memory   without memory to note another frame the consumer says so; the frame stays in the
 *                 ring, and comes once there is memory, or once another frame has been released
 *   held slow     while the first frame stays held, those behind it that are released take no
 * memory
 *
 * Exits with 0 when all is well.
 */
#include "pair.h"

#define FRAMES 500

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

static bool refuses;
static struct pair pair;
static struct rb_consumer *consumer;
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

/* Takes the next frame; false without memory. */
static bool take_next(void)
{
	int status = rb_take(pair.device, 0);

	if (status == -ENOMEM)
		return false;
	check(!status && consumer->frame.token == taken + 1, "the next frame is taken");
	indices[taken++] = consumer->frame.index;
	return true;
}

static void release(uint64_t place)
{
	check(!rb_release(pair.device, indices[place]), "a held frame is released");
	check(rb_release(pair.device, indices[place]) == -EALREADY, "once");
}

static void release_rest(uint64_t place)
{
	for (; place < FRAMES; place++)
		release(place);
	check(consumer->read == consumer->next, "all is given back");
}

static void memory(void)
{
	uint64_t first = 0, refusals = 0, byte;

	while (taken < FRAMES) {
		refuses = true;
		if (take_next())
			continue;
		check(!take_next(), "it is refused again");
		check(rb_recv(pair.device, &byte, 1, 0) == -ENOMEM, "a copy is refused, too");
		refusals++;
		if (taken) {
			release(first++);
			check(take_next(), "there is room for one");
			check(!take_next(), "and for no other");
		}
		refuses = false;
		check(take_next(), "there is memory again");
	}
	check(refusals > 4, "memory was needed several times");
	release_rest(first);
}

static void slow(void)
{
	check(take_next() && take_next(), "there is memory");
	uint64_t size = consumer->holds.size;
	for (uint64_t place = 1; place < FRAMES - 1; place++) {
		check(take_next(), "there is memory");
		release(place);
		check(consumer->read == indices[0], "the first frame is held");
		check(consumer->holds.size == size, "two frames take no more memory");
	}
	release(0);
	check(consumer->read == indices[FRAMES - 1], "only the last is held");
	release_rest(FRAMES - 1);
}

int main(int argc, char **argv)
{
	pair = open_pair(65536, UINT64_MAX - 20);
	consumer = &pair.device->consumer;
	for (uint64_t token = 1; token <= FRAMES; token++)
		check(!rb_send(pair.driver, &(struct rb_payload){&token, 1, NULL}, token, 0),
		      "a frame is sent");
	if (argc == 2 && !strcmp(argv[1], "memory"))
		memory();
	else
		slow();
	return 0;
}
