/* SPDX-License-Identifier: MIT
 *
 * What Python may call. C includes this file and cffi parses it, so it holds declarations only.
 * Unless said otherwise a function returns 0 or a count, or -errno:
 *
 *   -EAGAIN      no room, or nothing there, within the patience given
 *   -EMSGSIZE    longer than one call can carry; use the calls that move a piece at a time
 *   -EBUSY       a reserved or half-sent message is in the way
 *   -EALREADY    the frame has been released before; or records were read that the caller has
 *                not safely in hand
 *   -EINTR       a signal arrived while asleep
 *   -ENOMSG      there is another frame than the one asked for; it will be given again
 *   -EBADF       this side closed the channel
 *   -EPIPE       the peer said goodbye; all it sent has been taken
 *   -ECONNRESET  the peer died; all it sent has been taken
 *   -EPROTO      the peer broke the format; the channel is dead from then on
 *
 * `patience_ns` is how long a call may poll: 0 looks once, a negative number leaves it to the
 * polling policy. No call sleeps but rb_wait_sleep.
 */

/* One channel as one process sees it. Its memory stays mapped until rb_channel_free. */
typedef struct rb_channel rb_channel;

enum { RB_DRIVER = 0, RB_DEVICE = 1 }; /* the sides */
enum { RB_POLL_NEVER = 0, RB_POLL_ADAPTIVE = 1, RB_POLL_ALWAYS = 2 };
enum { RB_DATA = 1, RB_SPACE = 2 }; /* what to wait for; may be or-ed */
/* The descriptors that kick for one ring, in the order in which they are passed. */
enum { RB_DATA_FD = 0, RB_TIMER_FD = 1, RB_SPACE_FD = 2, RB_KICK_FDS = 3 };
enum { RB_SHARE_ALL = 1000000 };                  /* of the time that polling may take: no bound */
enum { RB_MESSAGE = 1, RB_FAILURE = 2 };          /* kinds of frames */
enum { RB_FLAG_MORE = 1, RB_FLAG_CONTINUED = 2 }; /* flags of frames: fragments */

/* What rb_header_check found wrong. */
enum { RB_BAD_MAGIC = 1, RB_BAD_VERSION = 2, RB_BAD_GEOMETRY = 3, RB_NOT_READY = 4 };

/* The frame that rb_recv or rb_take found last. start and stop bound its payload within the
 * memory of rb_channel_theirs (rb_take) or rb_channel_scratch (rb_recv). */
typedef struct {
	uint64_t index;
	uint64_t token;
	uint64_t start;
	uint64_t stop;
	uint16_t kind;
	uint16_t flags;
} rb_frame;

/* segment.c: the header, and mapping the rest */
size_t rb_header_size(void);
uint64_t rb_header_make(void *header, uint64_t doorbell_slots, uint64_t doorbell_slot_size,
			uint64_t interrupt_slots, uint64_t dtype_bytes, uint64_t first_index);
int rb_header_check(const void *header, uint64_t segment_size);
uint32_t rb_header_version(const void *header);
uint64_t rb_header_dtype_bytes(const void *header);
uint64_t rb_header_slot_size(const void *header); /* of the doorbell ring, in bytes */
uint64_t rb_message_slot(void);                   /* the size of a message ring's slots in bytes */
int rb_channel_open(rb_channel **channel, const void *header, int side, int segment_fd,
		    const int *kick_fds, int control_fd);
void rb_channel_close(rb_channel *channel);
void rb_channel_disown(rb_channel *channel); /* in a forked child: as close, unsaid */
void rb_channel_free(rb_channel *channel);
char *rb_channel_mine(rb_channel *channel);   /* my slots, mapped twice in a row */
char *rb_channel_theirs(rb_channel *channel); /* the peer's, mapped twice in a row */
uint64_t rb_channel_my_slots(rb_channel *channel);
uint64_t rb_channel_my_bytes(rb_channel *channel);    /* of my slots, mapped once */
uint64_t rb_channel_their_bytes(rb_channel *channel); /* of theirs */
char *rb_channel_scratch(rb_channel *channel);
uint64_t rb_channel_scratch_bytes(void);
char *rb_channel_batch(rb_channel *channel);
uint64_t rb_channel_batch_bytes(void);
char *rb_channel_batch_format(rb_channel *channel);
uint64_t rb_channel_batch_format_bytes(void);
uint64_t rb_channel_batch_messages(void);
rb_frame *rb_channel_frame(rb_channel *channel);
/* dwi, dri, iwi, iri; then the counters of layout.h for the driver's producer and consumer and
 * for the device's producer and consumer. Returns how many words it wrote. */
int rb_channel_stats(rb_channel *channel, uint64_t *words);

/* message.c: producing */
uint64_t rb_payload_max(rb_channel *channel);
int rb_send(rb_channel *channel, const void *payload, uint64_t length, uint64_t token,
	    int64_t patience_ns);
int64_t rb_send_many(rb_channel *channel, const char *payloads, const uint64_t *lengths,
		     uint64_t count);
int64_t rb_send_piece(rb_channel *channel, const void *payload, uint64_t length, uint64_t done,
		      uint64_t token, int kind);
uint64_t *rb_last_token(rb_channel *channel); /* of the last message sent whole */
void rb_send_abandon(rb_channel *channel);
int64_t rb_reserve(rb_channel *channel, uint64_t length);
uint64_t rb_reservation(rb_channel *channel);
int rb_commit(rb_channel *channel, uint64_t reservation, uint64_t length, uint64_t token);
void rb_unreserve(rb_channel *channel, uint64_t reservation);

/* message.c: consuming. `taken` is how many frames the caller has safely in hand: what was given
 * beyond that is given again, so that an exception raised between the call and the caller's next
 * step loses nothing. */
int rb_peek(rb_channel *channel, int64_t patience_ns);
void rb_skip(rb_channel *channel);
void rb_give_back(rb_channel *channel);
int64_t rb_recv(rb_channel *channel, uint64_t taken, int64_t patience_ns);
int64_t rb_recv_many(rb_channel *channel, uint64_t taken, uint64_t most, int64_t patience_ns);
int64_t rb_recv_answer(rb_channel *channel, uint64_t taken, int64_t patience_ns, uint64_t token);
int rb_take(rb_channel *channel, uint64_t taken, int64_t patience_ns);
int rb_release(rb_channel *channel, uint64_t index);
int rb_complete(rb_channel *channel, uint64_t index, const void *payload, uint64_t length,
		int kind);
int rb_all_held(rb_channel *channel);

/* record.c: records on a ring, one in a slot. `done` is how many records the caller needs no more,
 * counted since the channel was opened; they are given back, and what was lent beyond them is lent
 * again. For the records that rb_read copied, `taken` is as above. */
int64_t rb_write(rb_channel *channel, const void *records, uint64_t count);
int64_t rb_reserve_records(rb_channel *channel, uint64_t count);
int rb_commit_records(rb_channel *channel, uint64_t reservation, uint64_t count);
int64_t rb_borrow(rb_channel *channel, uint64_t done, uint64_t most, int64_t patience_ns);
int64_t rb_read(rb_channel *channel, uint64_t taken, void *records, uint64_t count);

/* wait.c: returns what is ready (RB_DATA, RB_SPACE), 0 when the time is over, or -errno */
int rb_wait_poll(rb_channel *channel, int want, int64_t patience_ns);
int rb_wait_sleep(rb_channel *channel, int want, int64_t timeout_ns, int signal_fd);

/* wait.c: how to wait, to kick and to be kicked */
void rb_channel_policy(rb_channel *channel, int polling, uint64_t max_poll_ns, uint64_t max_share,
		       int always_kick);
void rb_channel_moderation(rb_channel *channel, uint64_t entries, uint64_t delay_ns);
int rb_defer_begin(rb_channel *channel, uint64_t block, uint64_t max_entries,
		   uint64_t max_delay_ns);
void rb_defer_end(rb_channel *channel, uint64_t block);
int rb_peer_lost(rb_channel *channel);
int rb_pollable(rb_channel *channel);
void rb_in_hand(rb_channel *channel, int in_hand);
int rb_timer_make(void);
