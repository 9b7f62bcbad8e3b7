/* SPDX-License-Identifier: MIT
 *
 * What a waiter has of its members, for members.c and waiter.c.
 */
#ifndef RB_MEMBERS_H
#define RB_MEMBERS_H

#include "channel.h"
#include "waiter.h"

struct rb_member {
	struct rb_member *next, *previous; /* of all */
	struct rb_member *before, *after;  /* among the awake, in a ring; NULL: armed */
	rb_channel *channel;               /* NULL: only a descriptor */
	int fd;                            /* of that */
	uint64_t key;                      /* the caller's name for it */
	unsigned int vain;                 /* looks in a row that found nothing */
	bool readable;                     /* the kernel has said so */
	bool gone;                         /* removed, but the kernel may still know it */
};

struct rb_waiter {
	rb_owned epoll;
	rb_owned closes; /* kicked when a channel of a member is closed */
	struct rb_member *all;
	struct rb_member *gone;
	struct rb_member awake; /* the head of the ring */
	bool found;             /* the last look found something */
	bool defers;            /* a member has held kicks back at some time */
	bool timer_lost;        /* of a member, so no sleep may be long */
	bool pollable;          /* an event loop sleeps on `epoll` */
	struct rb_poller poller;
	struct rb_counters counters;
	uint64_t asked_ns; /* when the kernel was asked last */
};

/* What an event is about: a member, and in the lowest bit whether it is the member's socket. NULL
 * is `closes`. */
#define RB_SOCKET ((uintptr_t)1)

int rb_waiter_watch(struct rb_waiter *waiter, int fd, uint32_t events, uintptr_t what);
void rb_member_wake(struct rb_waiter *waiter, struct rb_member *member);
void rb_member_leave_the_awake(struct rb_member *member);
void rb_waiter_forget_gone(struct rb_waiter *waiter);

#endif
