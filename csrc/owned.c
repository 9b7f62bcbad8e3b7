/* SPDX-License-Identifier: MIT
 *
 * Descriptors that have an owner from the moment they exist.
 *
 * The owner exists first, and the function that makes a descriptor stores it in the owner. So no
 * signal handler of the caller's language can run between the two and lose the descriptor.
 *
 * All owners are in one list, and a child of fork closes every descriptor in the list: its copies
 * would keep the parent's sockets alive after the parent's death. The list is locked while a
 * descriptor is made, and during a fork, so a child has no copy that is not in the list. No code
 * waits while it holds the lock.
 *
 * A program may have two copies of this file, as each extension module of Python has one. Then one
 * copy uses the list of the other, because either may close what the other has made.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "channel.h"
#include "owned.h"

struct owners {
	pthread_mutex_t lock;
	rb_owned *first;
};

static struct owners of_this_copy = {PTHREAD_MUTEX_INITIALIZER, NULL};
static struct owners *owners = &of_this_copy;

static void leave_list(rb_owned *owned)
{
	if (owned->before)
		owned->before->after = owned->after;
	else if (owners->first == owned) /* it may be shared, and not in the list */
		owners->first = owned->after;
	if (owned->after)
		owned->after->before = owned->before;
	owned->before = owned->after = NULL;
}

static void join_list(rb_owned *owned)
{
	owned->before = NULL;
	owned->after = owners->first;
	if (owned->after)
		owned->after->before = owned;
	owners->first = owned;
}

static void drop(rb_owned *owned)
{
	close(owned->fd);
	owned->fd = 0;
	leave_list(owned);
}

/* Only the copy whose list it is does something in a fork. */
static void lock_for_fork(void)
{
	if (owners == &of_this_copy)
		pthread_mutex_lock(&owners->lock);
}

static void unlock_after_fork(void)
{
	if (owners == &of_this_copy)
		pthread_mutex_unlock(&owners->lock);
}

static void close_in_child(void)
{
	if (owners != &of_this_copy)
		return;
	while (owners->first)
		drop(owners->first);
	pthread_mutex_unlock(&owners->lock);
}

/* When the library is loaded. pthread_once would do it later, but binds to the newest C library. */
__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(lock_for_fork, unlock_after_fork, close_in_child);
}

/* Gives the list, for rb_use_owners of another copy of this file. */
uintptr_t rb_owners(void)
{
	return (uintptr_t)owners;
}

/* From now on this copy uses the list of another one. It must not have made a descriptor yet. */
void rb_use_owners(uintptr_t list)
{
	owners = (struct owners *)list;
}

void rb_owned_begin(void)
{
	pthread_mutex_lock(&owners->lock);
}

void rb_owned_end(void)
{
	pthread_mutex_unlock(&owners->lock);
}

/* Moves a new descriptor away from 0, 1 and 2: the program must never print to it or read from it.
 * Returns its new number; or closes it and returns -errno. */
int rb_descriptor_move(int descriptor)
{
	if (descriptor < 0 || descriptor > STDERR_FILENO)
		return descriptor;
	int moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	int status = moved < 0 ? -errno : moved;
	close(descriptor);
	return status;
}

/* Between rb_owned_begin and rb_owned_end: stores a new descriptor, or passes on an -errno. The
 * owner has no descriptor yet. */
int rb_owned_take(rb_owned *owned, int descriptor)
{
	descriptor = rb_descriptor_move(descriptor);
	if (descriptor < 0)
		return descriptor;
	owned->fd = descriptor;
	join_list(owned);
	return 0;
}

/* The number of the descriptor, or -1 when there is none. */
int rb_owned_fd(const rb_owned *owned)
{
	return owned->fd ? owned->fd : -1;
}

/* Closes the descriptor; a second call does nothing. */
void rb_owned_close(rb_owned *owned)
{
	rb_owned_begin();
	if (owned->fd)
		drop(owned);
	rb_owned_end();
}

static int finish(rb_owned *owned, int made)
{
	int status = rb_owned_take(owned, made < 0 ? -errno : made);

	rb_owned_end();
	return status;
}

int rb_owned_eventfd(rb_owned *owned)
{
	rb_owned_begin();
	return finish(owned, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* Kicks an eventfd that the peer does not have, if it has not been closed. The lock keeps its
 * number from becoming another descriptor's meanwhile. */
void rb_owned_kick(rb_owned *owned)
{
	rb_owned_begin();
	if (owned->fd)
		rb_kick(owned->fd);
	rb_owned_end();
}

void rb_owned_drain(rb_owned *owned)
{
	rb_owned_begin();
	if (owned->fd)
		rb_drain(owned->fd);
	rb_owned_end();
}

int rb_owned_timer(rb_owned *owned)
{
	rb_owned_begin();
	int status = rb_owned_take(owned, rb_timer_make());
	rb_owned_end();
	return status;
}

int rb_owned_epoll(rb_owned *owned)
{
	rb_owned_begin();
	return finish(owned, epoll_create1(EPOLL_CLOEXEC));
}

/* From now on the epoll descriptor is readable while `fd` is, or is at its end. */
int rb_epoll_watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

void rb_epoll_forget(int epoll, int fd)
{
	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* Opens a file to be locked, and makes it if it does not exist. */
int rb_owned_file(rb_owned *owned, const char *path)
{
	rb_owned_begin();
	return finish(owned, open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

/* A descriptor that only keeps a number, to be closed when there is no other one left. */
int rb_owned_spare(rb_owned *owned)
{
	rb_owned_begin();
	return finish(owned, eventfd(0, EFD_CLOEXEC));
}

/* Owns a descriptor that the caller got from elsewhere. If that fails, it is closed. */
int rb_owned_adopt(rb_owned *owned, int fd)
{
	rb_owned_begin();
	/* It may have been passed to this process by exec. */
	int status = fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : rb_owned_take(owned, fd);
	rb_owned_end();
	return status;
}

/* Owns a copy of a descriptor that the caller keeps. */
int rb_owned_copy(rb_owned *owned, int fd)
{
	rb_owned_begin();
	return finish(owned, fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/* From now on a forked child keeps its copy of the descriptor, with a copy of the owner. */
void rb_owned_share(rb_owned *owned)
{
	rb_owned_begin();
	if (owned->fd)
		leave_list(owned);
	rb_owned_end();
}
