/* SPDX-License-Identifier: MIT
 *
 * One side of a channel: opened, read off, closed.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "life.h"
#include "passed.h"

/* What a side's words are before anybody has used it. */
static void start_words(struct rb_control *control, uint64_t first)
{
	rb_store_release(&control->write_index, first);
	rb_store_release(&control->read_index, first);
	/* An event that lies behind asks for no kick. */
	rb_store_release(&control->space_event, first - 1);
	rb_store_release(&control->data_event, first - 1);
	/* The first message of a pipe chimes. */
	rb_store_release(&control->chime_event, first);
	rb_store_release(&control->chimed_index, first);
	/* This memory may have been opened and closed here before, in a meeting that failed. */
	rb_store_release(&control->goodbye, 0);
	rb_store_release(&control->block_event, 0);
	for (int block = 0; block < (int)RB_BLOCKS; block++)
		rb_store_release_byte(&control->blocks_returned[block], 0);
}

static void start_indices(rb_channel *channel, uint64_t first)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;

	producer->write = producer->read_seen = first;
	consumer->read = consumer->next = consumer->write_seen = first;
	consumer->pace = rb_pace_first();
	consumer->longest = UINT64_MAX;
	producer->pool.least = UINT64_MAX;
}

int rb_write_first_words(int fd, uint64_t offset, uint64_t first)
{
	struct rb_control control = {0};

	start_words(&control, first);
	if (pwrite(fd, &control, sizeof(control), (off_t)offset) != (ssize_t)sizeof(control))
		return errno ? -errno : -EIO;
	return 0;
}

static uint64_t slots_ahead(const struct rb_geometry *ring)
{
	return ring->slot_size < RB_AHEAD ? RB_AHEAD / ring->slot_size : 1;
}

/* Where things lie in the two areas, once they are mapped. */
static void find_places(rb_channel *channel, const struct rb_geometry *mine,
			const struct rb_geometry *theirs)
{
	struct rb_producer *producer = &channel->producer;
	struct rb_consumer *consumer = &channel->consumer;
	uint8_t *my_slots = channel->my_area.start + (mine->slots_offset - mine->control_offset);
	uint8_t *their_slots =
		channel->their_area.start + (theirs->slots_offset - theirs->control_offset);

	producer->mine = consumer->mine = (struct rb_control *)(void *)channel->my_area.start;
	producer->theirs = consumer->theirs =
		(const struct rb_control *)(const void *)channel->their_area.start;
	producer->slots = my_slots;
	consumer->slots = their_slots;
	producer->count = mine->slots;
	consumer->count = theirs->slots;
	producer->slot_size = mine->slot_size;
	consumer->slot_size = theirs->slot_size;
	producer->ahead = slots_ahead(mine);
	consumer->ahead = slots_ahead(theirs);
	channel->memory = (rb_memory){
		.mine = (char *)my_slots,
		.theirs = (char *)their_slots,
		.my_slots = mine->slots,
		.their_slots = theirs->slots,
		.my_bytes = mine->slots * mine->slot_size,
		.their_bytes = theirs->slots * theirs->slot_size,
	};
}

static int write_device_words(const struct rb_header *header, int segment_fd)
{
	return rb_write_first_words(segment_fd, header->interrupt.control_offset,
				    header->first_index);
}

/* Where the area of one side lies. */
struct place {
	int fd;
	struct rb_geometry ring;
};

static int map_both(rb_channel *channel, const struct place *mine, const struct place *theirs)
{
	int status = rb_area_map(&channel->my_area, mine->fd, &mine->ring, true);

	if (!status)
		status = rb_area_map(&channel->their_area, theirs->fd, &theirs->ring, false);
	if (!status)
		find_places(channel, &mine->ring, &theirs->ring);
	return status;
}

/* Maps the areas of a side. The caller still owns the descriptors. wake_fds has the eventfd that
 * wakes the driver, then the one that wakes the device. */
static int open_at(rb_channel **channel, int side, const struct place *mine,
		   const struct place *theirs, uint64_t first, const int *wake_fds, int control_fd)
{
	rb_channel *opened = calloc(1, sizeof(*opened));

	if (!opened)
		return -ENOMEM;
	rb_closing_begin(&opened->closing);
	opened->side = side;
	opened->control_fd = opened->producer.control_fd = control_fd;
	opened->wake_fd = wake_fds[side];
	opened->asleep.waits_for = RB_DATA;
	opened->producer.kick_fd = opened->consumer.kick_fd = wake_fds[!side];
	int status = map_both(opened, mine, theirs);
	if (status) {
		rb_channel_free(opened);
		return status;
	}
	start_indices(opened, first);
	*channel = opened;
	return 0;
}

/* The same for a segment that has both areas, and whose header has been checked. */
static int open_side(rb_channel **channel, const struct rb_header *header, int side, int segment_fd,
		     const int *wake_fds, int control_fd)
{
	const struct place driver = {segment_fd, header->doorbell};
	const struct place device = {segment_fd, header->interrupt};
	const struct place *mine = side == RB_DRIVER ? &driver : &device;

	return open_at(channel, side, mine, mine == &driver ? &device : &driver,
		       header->first_index, wake_fds, control_fd);
}

int rb_channel_open(rb_channel **channel, const void *header, int side, int segment_fd,
		    const int *wake_fds, int control_fd)
{
	struct rb_header checked;
	rb_channel *opened;

	memcpy(&checked, header, sizeof(checked));
	int status = open_side(&opened, &checked, side, segment_fd, wake_fds, control_fd);
	if (status)
		return status;
	start_words(opened->producer.mine, checked.first_index);
	/* The driver writes the device's first words, because it made the memory and opens its side
	 * first. So it need not wait for the device. */
	if (side == RB_DRIVER)
		status = write_device_words(&checked, segment_fd);
	if (status)
		rb_channel_free(opened);
	else
		*channel = opened;
	return status;
}

/* ---- one reader among many ---- */

/* Opens a reader: a device whose own area lies in memory of its own, page_fd, of rb_reader_bytes.
 * The writer has started its words (rb_readers_admit). */
int rb_reader_open(rb_channel **channel, const void *header, int segment_fd, int page_fd,
		   const int *wake_fds, int control_fd)
{
	struct rb_header checked;
	rb_channel *opened;

	memcpy(&checked, header, sizeof(checked));
	struct place writer = {segment_fd, checked.doorbell};
	struct place mine = {page_fd, checked.interrupt};
	mine.ring.control_offset = 0;
	mine.ring.slots_offset = rb_whole_pages(1);
	mine.ring.slots = mine.ring.slots_offset / RB_SLOT;
	int status = open_at(&opened, RB_DEVICE, &mine, &writer, 0, wake_fds, control_fd);
	if (status)
		return status;
	struct rb_consumer *consumer = &opened->consumer;
	consumer->one_of_many = true;
	consumer->takes_newest = checked.features & RB_FEATURE_NEWEST;
	consumer->records = checked.doorbell.ring_kind == RB_RING_RECORDS;
	rb_reader_begin(consumer, checked.first_index);
	rb_count_cpus(opened);
	*channel = opened;
	return 0;
}

/* ---- pipes ---- */

/* Writes the first words of both sides of a pipe, before either may be opened. */
int rb_pipe_prepare(const void *header, int segment_fd)
{
	struct rb_header made;

	memcpy(&made, header, sizeof(made));
	int status =
		rb_write_first_words(segment_fd, made.doorbell.control_offset, made.first_index);
	return status ? status : write_device_words(&made, segment_fd);
}

/* Any number of processes may have the descriptors of a side of a pipe. The first that opens the
 * side has it for ever: the words and the indices of a side belong to one process. *channel is
 * NULL, or what an earlier call has stored there. */
int rb_pipe_open(rb_channel **channel, const void *header, int side, int segment_fd,
		 const int *wake_fds, int control_fd, const int *pools)
{
	uint64_t me = (uint64_t)getpid();
	struct rb_header checked;
	rb_channel *opened = *channel;

	if (opened) /* it was stored and then cut short, perhaps in the parent of this process */
		return rb_load_relaxed(&opened->producer.mine->claimed) == me ? 0 : -EALREADY;
	memcpy(&checked, header, sizeof(checked));
	int status = open_side(&opened, &checked, side, segment_fd, wake_fds, control_fd);
	if (status)
		return status;
	uint64_t *claimed = &opened->producer.mine->claimed;
	/* Last what cannot be taken back. */
	status = rb_take_given_pools(opened, pools);
	if (!status && !rb_place_take(claimed, me))
		status = rb_load_relaxed(claimed) == me ? -EINPROGRESS : -EALREADY;
	if (status) {
		rb_channel_free(opened);
		return status;
	}
	rb_chime_begin(opened, checked.first_index);
	*channel = opened;
	return 0;
}

void rb_channel_free(rb_channel *channel)
{
	rb_close_own(channel);
	rb_closing_end(&channel->closing);
	rb_area_unmap(&channel->my_area);
	rb_area_unmap(&channel->their_area);
	rb_area_unmap(&channel->consumer.their_pool);
	rb_pool_free(&channel->producer.pool);
	rb_readers_free(&channel->producer);
	rb_holds_free(&channel->consumer.holds);
	free(channel);
}

const rb_memory *rb_channel_memory(rb_channel *channel)
{
	return &channel->memory;
}

char *rb_channel_mine(rb_channel *channel)
{
	return channel->memory.mine;
}

char *rb_channel_theirs(rb_channel *channel)
{
	return channel->memory.theirs;
}

uint64_t rb_channel_my_slots(rb_channel *channel)
{
	return channel->memory.my_slots;
}

static int copy_blocks(uint64_t *words, const struct rb_control *control)
{
	words[0] = rb_load_relaxed(&control->blocks_sent);
	words[1] = rb_load_relaxed(&control->blocks_copied);
	words[2] = rb_load_relaxed(&control->blocks_lent);
	return 3;
}

int rb_copy_counters(uint64_t *words, const struct rb_counters *counters)
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
	count += copy_blocks(words + count, driver);
	count += copy_blocks(words + count, device);
	count += rb_copy_counters(words + count, &driver->producer);
	count += rb_copy_counters(words + count, &driver->consumer);
	count += rb_copy_counters(words + count, &device->producer);
	count += rb_copy_counters(words + count, &device->consumer);
	return count;
}
