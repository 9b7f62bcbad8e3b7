/* SPDX-License-Identifier: MIT
 *
 * Both sides of a channel in one program, over the very sources of the extension. The program then
 * makes threads of them, or forks.
 */
#ifndef RB_TEST_PAIR_H
#define RB_TEST_PAIR_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"

struct pair {
	rb_channel *driver;
	rb_channel *device;
	int control[2];
	int wake_fds[2];
	int segment;
};

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* With `dtype_bytes` the doorbell ring has records of the slots' size, else it has messages. */
static struct pair open_pair_of(uint64_t slots, uint64_t slot_size, uint64_t dtype_bytes,
				uint64_t first_index)
{
	struct pair pair;
	struct rb_header header;
	uint64_t messages = 4096 / RB_SLOT;
	uint64_t size = rb_header_make(&header, slots, slot_size, dtype_bytes ? messages : slots,
				       dtype_bytes, first_index);

	if (!size) {
		fprintf(stderr, "no ring has %llu slots of %llu bytes\n", (unsigned long long)slots,
			(unsigned long long)slot_size);
		exit(2);
	}
	pair.segment = memfd_create("ringbell-test", MFD_CLOEXEC);
	if (pair.segment < 0 || ftruncate(pair.segment, (off_t)size))
		die("memfd");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.control))
		die("socketpair");
	for (int side = 0; side < 2; side++) {
		pair.wake_fds[side] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (pair.wake_fds[side] < 0)
			die("eventfd");
	}
	if (rb_channel_open(&pair.driver, &header, RB_DRIVER, pair.segment, pair.wake_fds,
			    pair.control[0]) ||
	    rb_channel_open(&pair.device, &header, RB_DEVICE, pair.segment, pair.wake_fds,
			    pair.control[1]))
		die("rb_channel_open");
	return pair;
}

static inline struct pair open_pair(uint64_t ring_bytes, uint64_t first_index)
{
	return open_pair_of(ring_bytes / RB_SLOT, RB_SLOT, 0, first_index);
}

/* ThreadSanitizer knows memory by its address, so threads have to use one mapping of it. */
static inline void share_mapping(struct pair *pair)
{
	rb_channel *driver = pair->driver, *device = pair->device;

	driver->producer.theirs = driver->consumer.theirs = device->producer.mine;
	device->producer.theirs = device->consumer.theirs = driver->producer.mine;
	driver->consumer.slots = device->producer.slots;
	device->consumer.slots = driver->producer.slots;
}

static inline void close_pair(struct pair *pair)
{
	rb_channel_free(pair->driver);
	rb_channel_free(pair->device);
	for (int side = 0; side < 2; side++)
		close(pair->wake_fds[side]);
	close(pair->control[0]);
	close(pair->control[1]);
	close(pair->segment);
}

#endif
