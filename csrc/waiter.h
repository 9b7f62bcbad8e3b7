/* SPDX-License-Identifier: MIT
 *
 * The functions of waiter.c: one thread that waits for many channels.
 */
#ifndef RB_WAITER_H
#define RB_WAITER_H

#include <stdint.h>

#include "ends.h"

typedef struct rb_waiter rb_waiter;
typedef struct rb_member rb_member;

int rb_waiter_open(rb_waiter **opened);
void rb_waiter_free(rb_waiter *waiter);
void rb_waiter_policy(rb_waiter *waiter, int polling, uint64_t max_poll_ns, uint64_t max_share);
int rb_waiter_add(rb_waiter *waiter, rb_channel *channel, uint64_t key, rb_member **added);
int rb_waiter_add_fd(rb_waiter *waiter, int fd, uint64_t key, rb_member **added);
void rb_waiter_remove(rb_waiter *waiter, rb_member *member);
int rb_waiter_fd(const rb_waiter *waiter);
int rb_waiter_pollable(rb_waiter *waiter);
int rb_waiter_look(rb_waiter *waiter, uint64_t *keys, int most);
int rb_waiter_poll(rb_waiter *waiter, uint64_t *keys, int most, int64_t patience_ns);
int rb_waiter_sleep(rb_waiter *waiter, uint64_t *keys, int most, int64_t timeout_ns, int signal_fd);
void rb_waiter_stats(const rb_waiter *waiter, uint64_t *words);

/* For the channel: a kick of this descriptor is for the member. */
int rb_waiter_watches(rb_waiter *waiter, rb_member *member, int fd);

#endif
