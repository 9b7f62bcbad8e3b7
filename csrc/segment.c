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

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

size_t rb_header_size(void)
{
	return sizeof(struct rb_header);
}

static struct rb_geometry geometry_at(uint64_t control_offset, uint64_t ring_bytes)
{
	return (struct rb_geometry){
		.control_offset = control_offset,
		.slots_offset = control_offset + page_size(),
		.slots = ring_bytes / RB_SLOT,
		.slot_size = RB_SLOT,
		.ring_kind = RB_RING_MESSAGES,
	};
}

/* Fills in a header for two message rings of so many bytes each. Returns the segment's size, or 0
 * when ring_bytes is no power of two between a page and 1 GiB: slots are mapped twice in a row,
 * and that goes by pages. */
uint64_t rb_header_make(void *header, uint64_t ring_bytes, uint64_t first_index)
{
	uint64_t page = page_size();
	uint64_t area = page + ring_bytes;

	if (ring_bytes < page || ring_bytes > RB_RING_BYTES_MAX || (ring_bytes & (ring_bytes - 1)))
		return 0;
	struct rb_header made = {
		.magic = RB_MAGIC,
		.version = RB_LAYOUT_VERSION,
		.ready = 1,
		.features = 0,
		.segment_size = page + 2 * area,
		.first_index = first_index,
		.doorbell = geometry_at(page, ring_bytes),
		.interrupt = geometry_at(page + area, ring_bytes),
	};
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
	if (theirs.doorbell.slots > RB_RING_BYTES_MAX / RB_SLOT)
		return RB_BAD_GEOMETRY;
	if (rb_header_make(&expected, theirs.doorbell.slots * RB_SLOT, theirs.first_index) !=
	    segment_size)
		return RB_BAD_GEOMETRY;
	return memcmp(&theirs, &expected, sizeof(theirs)) ? RB_BAD_GEOMETRY : 0;
}

uint32_t rb_header_version(const void *header)
{
	struct rb_header copy;

	memcpy(&copy, header, sizeof(copy));
	return copy.version;
}

/* Maps a control page and its slots, and the slots a second time right behind them, so that a frame
 * that wraps is one piece. */
static uint8_t *map_area(int fd, const struct rb_geometry *geometry, int protection)
{
	size_t page = geometry->slots_offset - geometry->control_offset;
	size_t bytes = geometry->slots * geometry->slot_size;
	size_t whole = page + 2 * bytes;
	uint8_t *area = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	void *first = mmap(area, page + bytes, protection, MAP_SHARED | MAP_FIXED, fd,
			   (off_t)geometry->control_offset);
	void *again = MAP_FAILED;
	if (first != MAP_FAILED)
		again = mmap(area + page + bytes, bytes, protection, MAP_SHARED | MAP_FIXED, fd,
			     (off_t)geometry->slots_offset);
	if (again == MAP_FAILED) {
		int saved = errno;
		munmap(area, whole);
		errno = saved;
		return NULL;
	}
	return area;
}

static void start_indices(rb_channel *channel, uint64_t first)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	producer->write = producer->read_seen = first;
	producer->last_token = UINT64_MAX;
	consumer->read = consumer->next = consumer->write_seen = first;
	rb_store_release(&producer->mine->write_index, first);
	rb_store_release(&producer->mine->read_index, first);
	/* An event that lies behind asks for no kick. */
	rb_store_release(&producer->mine->space_event, first - 1);
	rb_store_release(&producer->mine->data_event, first - 1);
}

static int map_both(rb_channel *channel, const struct rb_header *header, int segment_fd)
{
	bool driver = channel->side == RB_DRIVER;
	const struct rb_geometry *mine = driver ? &header->doorbell : &header->interrupt;
	const struct rb_geometry *theirs = driver ? &header->interrupt : &header->doorbell;
	size_t page = mine->slots_offset - mine->control_offset;
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	channel->area_bytes = page + 2 * mine->slots * mine->slot_size;
	channel->my_area = map_area(segment_fd, mine, PROT_READ | PROT_WRITE);
	if (!channel->my_area)
		return -errno;
	channel->their_area = map_area(segment_fd, theirs, PROT_READ);
	if (!channel->their_area)
		return -errno;
	producer->mine = consumer->mine = (struct rb_control *)(void *)channel->my_area;
	producer->theirs = consumer->theirs =
		(const struct rb_control *)(const void *)channel->their_area;
	producer->slots = channel->my_area + page;
	consumer->slots = channel->their_area + page;
	producer->count = mine->slots;
	consumer->count = theirs->slots;
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
	if (channel->my_area)
		munmap(channel->my_area, channel->area_bytes);
	if (channel->their_area)
		munmap(channel->their_area, channel->area_bytes);
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

uint64_t rb_channel_ring_bytes(rb_channel *channel)
{
	return channel->producer.count * RB_SLOT;
}

char *rb_channel_scratch(rb_channel *channel)
{
	return (char *)channel->consumer.scratch;
}

uint64_t rb_channel_scratch_bytes(void)
{
	return RB_SCRATCH;
}

char *rb_channel_batch(rb_channel *channel)
{
	return (char *)channel->consumer.batch.bytes;
}

uint64_t rb_channel_batch_bytes(void)
{
	return RB_BATCH_BYTES;
}

char *rb_channel_batch_ends(rb_channel *channel)
{
	return (char *)channel->consumer.batch.ends;
}

uint64_t rb_channel_batch_messages(void)
{
	return RB_BATCH_MESSAGES;
}

rb_frame *rb_channel_frame(rb_channel *channel)
{
	return &channel->consumer.frame;
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
