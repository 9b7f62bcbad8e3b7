/* SPDX-License-Identifier: MIT
 *
 * The functions that Python may call. C includes this file and cffi parses it, so it holds
 * declarations only. Unless said otherwise, a function returns 0 or a count, or -errno:
 *
 *   -EAGAIN      no room, or nothing to take, within the patience given
 *   -EMSGSIZE    longer than one call can carry; use the calls that move a piece at a time
 *   -EBUSY       a reserved or half-sent message is in the way
 *   -EALREADY    the frame was released before, or more records are returned than were lent
 *   -EINTR       a signal arrived while asleep
 *   -EBADF       this side closed the channel
 *   -EPIPE       the peer said goodbye, and all that it sent has been taken
 *   -ECONNRESET  the peer died, and all that it sent has been taken
 *   -ETIMEDOUT   the writer of many readers let this one go, because it did not move
 *   -ESTALE      the writer of many readers has overwritten what this one read
 *   -EPROTO      the peer broke the format; the channel is dead from then on
 *
 * `patience_ns` is how long a call may poll: 0 looks once, and with a negative number the polling
 * policy decides. Only rb_wait_sleep sleeps.
 */

/* One channel as one process sees it. Its memory stays mapped until rb_channel_free. */
typedef struct rb_channel rb_channel;

enum { RB_DRIVER = 0, RB_DEVICE = 1 }; /* the sides */
enum { RB_POLL_NEVER = 0, RB_POLL_ADAPTIVE = 1, RB_POLL_ALWAYS = 2 };
enum { RB_DATA = 1, RB_SPACE = 2 }; /* what to wait for; may be or-ed */
enum { RB_SHARE_ALL = 1000000 };    /* of the time that polling may take: no bound */

/* What rb_header_check found wrong. */
enum { RB_BAD_MAGIC = 1, RB_BAD_VERSION = 2, RB_BAD_GEOMETRY = 3, RB_NOT_READY = 4 };

/* Where the slots of a channel lie, from rb_channel_open to rb_channel_free. */
typedef struct {
	char *mine;   /* the slots that this side writes, mapped twice in a row */
	char *theirs; /* the slots that the peer writes, mapped twice in a row, read-only */
	uint64_t my_slots;
	uint64_t their_slots;
	uint64_t my_bytes; /* of my slots, mapped once */
	uint64_t their_bytes;
} rb_memory;

/* The owner of a descriptor. It exists before its descriptor. An owner of zeros has none. A
 * function that makes a descriptor takes such an owner; the owner must not move in memory until it
 * is closed. In a child of fork all owners are empty. */
typedef struct rb_owned {
	int fd; /* 0: none; ours are never 0, 1 or 2 */
	struct rb_owned *before, *after;
} rb_owned;

/* What the memory of a channel is: a sealed memfd, or a file on /dev/shm. */
enum { RB_MEMORY_MEMFD = 1, RB_MEMORY_POSIX = 2 };

/* memory.c: made, sealed, looked at */
int rb_memory_make(rb_owned *owned, int kind);
int rb_memory_seal(int descriptor);
int rb_memory_seal_for_writer(int descriptor);
int rb_memory_kind(int descriptor);
int rb_memory_is_memfd(int descriptor);

/* segment.c: the header */
size_t rb_header_size(void);
uint64_t rb_header_make(void *header, uint64_t doorbell_slots, uint64_t doorbell_slot_size,
			uint64_t interrupt_slots, uint64_t dtype_bytes, uint64_t first_index);
int rb_header_check(const void *header, uint64_t segment_size);
uint32_t rb_header_version(const void *header);
uint64_t rb_header_features(const void *header);
void rb_header_for_readers(void *header, int newest);
uint64_t rb_header_dtype_bytes(const void *header);
uint64_t rb_header_slot_size(const void *header); /* of the doorbell ring, in bytes */
uint64_t rb_message_slot(void);                   /* the size of a message ring's slots in bytes */

/* channel.c: one side, opened and read off */
int rb_channel_open(rb_channel **channel, const void *header, int side, int segment_fd,
		    const int *wake_fds, int control_fd);
/* The same for a side of a pipe, whose words rb_pipe_prepare has written. `pools` has the memory of
 * the driver's blocks, then of the device's, or -1. -EALREADY: another process uses this side;
 * -EINPROGRESS: another thread of this one opens it. */
int rb_pipe_open(rb_channel **channel, const void *header, int side, int segment_fd,
		 const int *wake_fds, int control_fd, const int *pools);
int rb_pipe_prepare(const void *header, int segment_fd);
/* One reader among many, which the writer has admitted; its own words lie in page_fd. */
int rb_reader_open(rb_channel **channel, const void *header, int segment_fd, int page_fd,
		   const int *wake_fds, int control_fd);
/* Before it is used: the writer's pool, if that came with the text that admitted the reader. */
int rb_reader_take_pool(rb_channel *channel, int fd);
void rb_channel_free(rb_channel *channel);
void rb_channel_drop(rb_channel **opened);
const rb_memory *rb_channel_memory(rb_channel *channel);
char *rb_channel_mine(rb_channel *channel); /* three fields of rb_memory, for C programs */
char *rb_channel_theirs(rb_channel *channel);
uint64_t rb_channel_my_slots(rb_channel *channel);
/* dwi, dri, iwi, iri; the blocks that each side has sent, has copied instead, and has lent; then
 * the counters of layout.h for the driver's producer and consumer and for the device's producer and
 * consumer. Returns how many words it wrote. */
int rb_channel_stats(rb_channel *channel, uint64_t *words);

/* owned.c */
uintptr_t rb_owners(void);
int rb_owned_fd(const rb_owned *owned);
void rb_owned_close(rb_owned *owned);
int rb_owned_eventfd(rb_owned *owned);
void rb_owned_kick(rb_owned *owned);
void rb_owned_drain(rb_owned *owned);
int rb_owned_epoll(rb_owned *owned);
int rb_epoll_watch(int epoll, int fd);
void rb_epoll_forget(int epoll, int fd);
int rb_owned_file(rb_owned *owned, const char *path);
int rb_owned_spare(rb_owned *owned);
int rb_owned_adopt(rb_owned *owned, int fd);
void rb_owned_share(rb_owned *owned);

/* control.c: the sockets on which two sides meet */
int rb_socket_make(rb_owned *owned);
int rb_socket_pair(rb_owned *one, rb_owned *other);
int rb_socket_connect(int fd, const char *path, int wait_ms);
int rb_socket_bind(int fd, const char *path);
int rb_socket_is_bound(int fd);
int rb_socket_listen(int fd);
int rb_socket_accept(rb_owned *owned, int listening_fd);
int rb_socket_peer(int fd, int *process, unsigned *user);
void rb_socket_shutdown(int fd);
int rb_socket_send(int fd, const char *text, size_t length, const int *fds, size_t count);
int rb_socket_receive(int fd, char *text, size_t length, rb_owned **owners, int count, int *came);

/* admission.c: one writer, many readers */
int rb_readers_begin(rb_channel *channel, int newest, uint64_t awaited, uint64_t stall_ns);
int rb_readers_admit(rb_channel *channel, int page_fd, int kick_fd, int control_fd,
		     const char *text, size_t length);
int rb_readers_let_go(rb_channel *channel, int place);
int rb_readers_leave(rb_channel *channel, int place);
void rb_readers_remove(rb_channel *channel, int place);
uint64_t rb_reader_bytes(void);

uint64_t rb_readers_behind(rb_channel *channel, int place);
void rb_readers_counters(rb_channel *channel, int place, uint64_t *words);

/* message_producer.c: the longest payload that one frame can carry */
uint64_t rb_payload_max(rb_channel *channel);

/* reader.c: one of them */
uint64_t rb_missed(const rb_channel *channel);
int rb_reader_is_whole(const rb_channel *channel, uint64_t index);
int rb_reader_takes_newest(const rb_channel *channel);

/* closing.c: every call of a side that is closed returns -EBADF */
int rb_channel_close(rb_channel *channel, int goodbye, uint64_t wait_ns);
void rb_channel_disown(rb_channel *channel);
int rb_channel_closed(const rb_channel *channel);

/* wait.c: returns what is ready (RB_DATA, RB_SPACE), 0 when the time is over, or -errno */
int rb_wait_poll(rb_channel *channel, int want, int64_t patience_ns);
int rb_wait_sleep(rb_channel *channel, int want, int64_t timeout_ns, int signal_fd);

/* wait.c: how to wait, and to be woken */
void rb_channel_policy(rb_channel *channel, int polling, uint64_t max_poll_ns, uint64_t max_share,
		       int always_kick);
void rb_channel_moderation(rb_channel *channel, uint64_t entries, uint64_t delay_ns);
int rb_pollable(rb_channel *channel);
int rb_pollable_fd(const rb_channel *channel);

/* message_consumer.c: the longest message that this side takes, in bytes; by default there is no
 * limit */
void rb_channel_limit(rb_channel *channel, uint64_t longest);

/* pool.c: payloads of at least so many bytes lie in a pool of that size; with `copies` they go
 * through the ring when no block is free, and otherwise they wait. By default there is no pool. */
void rb_channel_blocks(rb_channel *channel, uint64_t bytes, uint64_t least, int copies);

/* ends.c */
int rb_untold_loss(rb_channel *channel);
void rb_lend(rb_channel *channel, uint64_t slots);
