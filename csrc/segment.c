/* SPDX-License-Identifier: MIT
 *
 * The segment: write its header, check one that somebody else wrote, map the areas, unmap them.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel.h"

/* Ring sizes are bounded so that every length and every offset has room in its type. */
#define RB_RING_BYTES_MAX (1ULL << 30)
#define RB_DTYPE_BYTES_MAX (1ULL << 20)

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

size_t rb_header_size(void)
{
	return sizeof(struct rb_header);
}

/* Whether so many slots of this size can be mapped twice in a row, which goes by pages. */
static bool is_ring(uint64_t slots, uint64_t slot_size)
{
	if (!slots || (slots & (slots - 1)) || !slot_size || slot_size > UINT32_MAX)
		return false;
	return slots <= RB_RING_BYTES_MAX / slot_size && slots * slot_size % page_size() == 0;
}

static struct rb_geometry geometry_at(uint64_t offset, uint64_t slots, uint64_t slot_size,
				      uint32_t kind)
{
	return (struct rb_geometry){
		.control_offset = offset,
		.slots_offset = offset + page_size(),
		.slots = slots,
		.slot_size = (uint32_t)slot_size,
		.ring_kind = kind,
	};
}

static uint64_t end_of(const struct rb_geometry *ring)
{
	return ring->slots_offset + ring->slots * ring->slot_size;
}

/* Fills in a header for two rings. With `dtype_bytes`, the length of the text that describes them,
 * the doorbell ring has records; the interrupt ring always has messages. Returns the segment's
 * size, or 0 when a number of slots is no power of two, or slots do not fill whole pages or are
 * more than 1 GiB together. */
uint64_t rb_header_make(void *header, uint64_t doorbell_slots, uint64_t doorbell_slot_size,
			uint64_t interrupt_slots, uint64_t dtype_bytes, uint64_t first_index)
{
	uint64_t page = page_size();
	uint32_t kind = dtype_bytes ? RB_RING_RECORDS : RB_RING_MESSAGES;

	if (!is_ring(doorbell_slots, doorbell_slot_size) || !is_ring(interrupt_slots, RB_SLOT) ||
	    (kind == RB_RING_MESSAGES && doorbell_slot_size != RB_SLOT) ||
	    dtype_bytes > RB_DTYPE_BYTES_MAX)
		return 0;
	uint64_t before = (sizeof(struct rb_header) + dtype_bytes + page - 1) / page * page;
	struct rb_header made = {
		.magic = RB_MAGIC,
		.version = RB_LAYOUT_VERSION,
		.ready = 1,
		.features = 0,
		.first_index = first_index,
		.doorbell = geometry_at(before, doorbell_slots, doorbell_slot_size, kind),
		.dtype_bytes = dtype_bytes,
	};
	made.interrupt =
		geometry_at(end_of(&made.doorbell), interrupt_slots, RB_SLOT, RB_RING_MESSAGES);
	made.segment_size = end_of(&made.interrupt);
	memcpy(header, &made, sizeof(made));
	return made.segment_size;
}

/* 0 when this version of ringbell made the header for a segment of this size, else RB_BAD_... */
int rb_header_check(const void *header, uint64_t segment_size)
{
	struct rb_header theirs, expected;

	memcpy(&theirs, header, sizeof(theirs));
	if (theirs.magic != RB_MAGIC)
		return RB_BAD_MAGIC;
	if (theirs.version != RB_LAYOUT_VERSION || theirs.features)
		return RB_BAD_VERSION;
	if (theirs.ready != 1)
		return RB_NOT_READY;
	if (rb_header_make(&expected, theirs.doorbell.slots, theirs.doorbell.slot_size,
			   theirs.interrupt.slots, theirs.dtype_bytes,
			   theirs.first_index) != segment_size)
		return RB_BAD_GEOMETRY;
	return memcmp(&theirs, &expected, sizeof(theirs)) ? RB_BAD_GEOMETRY : 0;
}

uint32_t rb_header_version(const void *header)
{
	struct rb_header copy;

	memcpy(&copy, header, sizeof(copy));
	return copy.version;
}

uint64_t rb_header_dtype_bytes(const void *header)
{
	struct rb_header copy;

	memcpy(&copy, header, sizeof(copy));
	return copy.dtype_bytes;
}

uint64_t rb_header_slot_size(const void *header)
{
	struct rb_header copy;

	memcpy(&copy, header, sizeof(copy));
	return copy.doorbell.slot_size;
}

uint64_t rb_message_slot(void)
{
	return RB_SLOT;
}

/* Maps a control page and its slots, and the slots a second time right behind them, so that a frame
 * that wraps is one piece. */
static int map_area(struct rb_area *mapped, int fd, const struct rb_geometry *geometry,
		    int protection)
{
	size_t page = page_size();
	size_t bytes = geometry->slots * geometry->slot_size;
	size_t whole = page + 2 * bytes;
	uint8_t *area = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return -errno;
	void *first = mmap(area, page + bytes, protection, MAP_SHARED | MAP_FIXED, fd,
			   (off_t)geometry->control_offset);
	void *again = MAP_FAILED;
	if (first != MAP_FAILED)
		again = mmap(area + page + bytes, bytes, protection, MAP_SHARED | MAP_FIXED, fd,
			     (off_t)geometry->slots_offset);
	if (again == MAP_FAILED) {
		int status = -errno;
		munmap(area, whole);
		return status;
	}
	*mapped = (struct rb_area){area, whole};
	return 0;
}

static void start_indices(rb_channel *channel, uint64_t first)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	producer->write = producer->read_seen = first;
	consumer->read = consumer->next = consumer->write_seen = first;
	rb_store_release(&producer->mine->write_index, first);
	rb_store_release(&producer->mine->read_index, first);
	/* An event that lies behind asks for no kick. */
	rb_store_release(&producer->mine->space_event, first - 1);
	rb_store_release(&producer->mine->data_event, first - 1);
	/* A channel that was opened here before, and given up while the sides met, has closed. */
	rb_store_release(&producer->mine->goodbye, 0);
}

static int map_both(rb_channel *channel, const struct rb_header *header, int segment_fd)
{
	bool driver = channel->side == RB_DRIVER;
	const struct rb_geometry *mine = driver ? &header->doorbell : &header->interrupt;
	const struct rb_geometry *theirs = driver ? &header->interrupt : &header->doorbell;
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;
	int status = map_area(&channel->my_area, segment_fd, mine, PROT_READ | PROT_WRITE);

	if (!status)
		status = map_area(&channel->their_area, segment_fd, theirs, PROT_READ);
	if (status)
		return status;
	producer->mine = consumer->mine = (struct rb_control *)(void *)channel->my_area.start;
	producer->theirs = consumer->theirs =
		(const struct rb_control *)(const void *)channel->their_area.start;
	producer->slots = channel->my_area.start + page_size();
	consumer->slots = channel->their_area.start + page_size();
	producer->count = mine->slots;
	consumer->count = theirs->slots;
	producer->slot_size = mine->slot_size;
	consumer->slot_size = theirs->slot_size;
	if (theirs->ring_kind == RB_RING_RECORDS)
		return 0;
	consumer->holds = calloc(theirs->slots, sizeof(*consumer->holds));
	return consumer->holds ? 0 : -ENOMEM;
}

/* Maps a segment whose header has been checked. The descriptors stay the caller's. Those for kicks
 * are the data eventfd, the timer and the space eventfd of the doorbell ring, then of the interrupt
 * ring. */
int rb_channel_open(rb_channel **channel, const void *header, int side, int segment_fd,
		    const int *kick_fds, int control_fd)
{
	struct rb_header checked;
	rb_channel *opened = calloc(1, sizeof(*opened));
	const int *mine = side == RB_DRIVER ? kick_fds : kick_fds + RB_KICK_FDS;
	const int *theirs = side == RB_DRIVER ? kick_fds + RB_KICK_FDS : kick_fds;

	if (!opened)
		return -ENOMEM;
	memcpy(&checked, header, sizeof(checked));
	opened->side = side;
	opened->control_fd = control_fd;
	opened->producer.data_fd = mine[RB_DATA_FD];
	opened->producer.timer_fd = mine[RB_TIMER_FD];
	opened->producer.space_fd = mine[RB_SPACE_FD];
	opened->consumer.data_fd = theirs[RB_DATA_FD];
	opened->consumer.timer_fd = theirs[RB_TIMER_FD];
	opened->consumer.space_fd = theirs[RB_SPACE_FD];
	int status = map_both(opened, &checked, segment_fd);
	if (status) {
		rb_channel_free(opened);
		return status;
	}
	start_indices(opened, checked.first_index);
	*channel = opened;
	return 0;
}

/* Says goodbye, after everything published before, and makes every later call fail. The caller
 * closes the control socket then, which wakes a peer that sleeps. */
void rb_channel_close(rb_channel *channel)
{
	channel->dead = -EBADF;
	rb_store_release(&channel->producer.mine->goodbye, 1);
}

void rb_channel_disown(rb_channel *channel)
{
	channel->dead = -EBADF;
}

void rb_channel_free(rb_channel *channel)
{
	if (channel->my_area.start)
		munmap(channel->my_area.start, channel->my_area.bytes);
	if (channel->their_area.start)
		munmap(channel->their_area.start, channel->their_area.bytes);
	free(channel->consumer.holds);
	free(channel);
}

char *rb_channel_mine(rb_channel *channel)
{
	return (char *)channel->producer.slots;
}

char *rb_channel_theirs(rb_channel *channel)
{
	/* Python makes only read-only views of it, and the mapping refuses writes in any case. */
	return (char *)(uintptr_t)channel->consumer.slots;
}

uint64_t rb_channel_my_slots(rb_channel *channel)
{
	return channel->producer.count;
}

uint64_t rb_channel_my_bytes(rb_channel *channel)
{
	return channel->producer.count * channel->producer.slot_size;
}

uint64_t rb_channel_their_bytes(rb_channel *channel)
{
	return channel->consumer.count * channel->consumer.slot_size;
}

static int copy_counters(uint64_t *words, const struct rb_counters *counters)
{
	const uint64_t *from = (const uint64_t *)(const void *)counters;
	int count = (int)(sizeof(*counters) / sizeof(*from));

	for (int i = 0; i < count; i++)
		words[i] = rb_load_relaxed(&from[i]);
	return count;
}

int rb_channel_stats(rb_channel *channel, uint64_t *words)
{
	const struct rb_control *mine = channel->producer.mine;
	const struct rb_control *theirs = channel->producer.theirs;
	const struct rb_control *driver = channel->side == RB_DRIVER ? mine : theirs;
	const struct rb_control *device = channel->side == RB_DRIVER ? theirs : mine;
	int count = 0;

	words[count++] = rb_load_relaxed(&driver->write_index);
	words[count++] = rb_load_relaxed(&device->read_index);
	words[count++] = rb_load_relaxed(&device->write_index);
	words[count++] = rb_load_relaxed(&driver->read_index);
	count += copy_counters(words + count, &driver->producer);
	count += copy_counters(words + count, &driver->consumer);
	count += copy_counters(words + count, &device->producer);
	count += copy_counters(words + count, &device->consumer);
	return count;
}
