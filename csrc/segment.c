/* SPDX-License-Identifier: MIT
 *
 * The segment: makes its header, checks a header that the other side made, maps the areas of both
 * sides.
 */
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

uint64_t rb_whole_pages(uint64_t bytes)
{
	return (bytes + page_size() - 1) / page_size() * page_size();
}

size_t rb_header_size(void)
{
	return sizeof(struct rb_header);
}

/* Whether that many slots of this size can be mapped twice in a row: they must fill whole pages. */
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

/* Fills in a header for two rings. If `dtype_bytes` is not 0, the doorbell ring has records, and a
 * text of that length describes them; the interrupt ring always has messages. Returns the segment's
 * size. Returns 0 when a number of slots is no power of two, or the slots of a ring do not fill
 * whole pages, or are more than 1 GiB together. */
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
	if (theirs.version != RB_LAYOUT_VERSION ||
	    theirs.features & ~(uint64_t)(RB_FEATURE_READERS | RB_FEATURE_NEWEST))
		return RB_BAD_VERSION;
	if (theirs.ready != 1)
		return RB_NOT_READY;
	if (rb_header_make(&expected, theirs.doorbell.slots, theirs.doorbell.slot_size,
			   theirs.interrupt.slots, theirs.dtype_bytes,
			   theirs.first_index) != segment_size)
		return RB_BAD_GEOMETRY;
	expected.features = theirs.features;
	return memcmp(&theirs, &expected, sizeof(theirs)) ? RB_BAD_GEOMETRY : 0;
}

uint64_t rb_header_features(const void *header)
{
	struct rb_header copy;

	memcpy(&copy, header, sizeof(copy));
	return copy.features;
}

/* Notes in a header that the doorbell ring has many readers; `newest`: the writer waits for none of
 * them. */
void rb_header_for_readers(void *header, int newest)
{
	struct rb_header made;

	memcpy(&made, header, sizeof(made));
	made.features = RB_FEATURE_READERS | (newest ? RB_FEATURE_NEWEST : 0);
	memcpy(header, &made, sizeof(made));
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
int rb_area_map(struct rb_area *mapped, int fd, const struct rb_geometry *geometry, bool writable)
{
	int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
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

void rb_area_unmap(struct rb_area *area)
{
	if (area->start)
		munmap(area->start, area->bytes);
	area->start = NULL;
}
