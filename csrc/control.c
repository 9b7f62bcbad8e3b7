/* SPDX-License-Identifier: MIT
 *
 * The Unix sockets (SOCK_SEQPACKET) on which two sides meet. A call that would have to wait returns
 * -EAGAIN; only a connect may wait a little. Nothing raises SIGPIPE.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "owned.h"

/* The most descriptors that the kernel passes with one text (SCM_MAX_FD). With room for all of them
 * a control message is cut only if this process has no descriptor left. */
#define MOST_PASSED 253

/* How many processes may wait to be accepted. Further ones wait in the kernel, in connect. */
#define BACKLOG 128

int rb_socket_make(rb_owned *owned)
{
	rb_owned_begin();
	int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int status = rb_owned_take(owned, made < 0 ? -errno : made);
	rb_owned_end();
	return status;
}

/* The two ends of a pipe's control socket. It is a stream of bytes, and a call of the user's on it
 * waits, because it takes the place of the socket of multiprocessing.Pipe. */
int rb_socket_pair(rb_owned *one, rb_owned *other)
{
	int ends[2];

	rb_owned_begin();
	int status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ? -errno : 0;
	if (!status) {
		status = rb_owned_take(one, ends[0]);
		if (status)
			close(ends[1]);
		else
			status = rb_owned_take(other, ends[1]);
	}
	rb_owned_end();
	return status;
}

static int address_of(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	return 0;
}

/* If the listener's queue is full, waits at most `wait_ms` (0: not at all) and returns -EAGAIN.
 * Only the kernel knows whose turn it is, so this is the one place that waits in the kernel. */
int rb_socket_connect(int fd, const char *path, int wait_ms)
{
	struct timeval wait = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
	struct sockaddr_un address;
	int status = address_of(&address, path);

	if (status)
		return status;
	if (wait_ms &&
	    (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) || fcntl(fd, F_SETFL, 0)))
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		status = -errno;
	if (wait_ms && fcntl(fd, F_SETFL, O_NONBLOCK) && !status)
		status = -errno;
	return status;
}

int rb_socket_bind(int fd, const char *path)
{
	struct sockaddr_un address;
	int status = address_of(&address, path);

	if (status)
		return status;
	return bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
}

/* Whether the socket has been bound to a path: 1 or 0. */
int rb_socket_is_bound(int fd)
{
	struct sockaddr_un address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length))
		return -errno;
	return length > offsetof(struct sockaddr_un, sun_path);
}

int rb_socket_listen(int fd)
{
	return listen(fd, BACKLOG) ? -errno : 0;
}

int rb_socket_accept(rb_owned *owned, int listening_fd)
{
	rb_owned_begin();
	int made = accept4(listening_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int status = rb_owned_take(owned, made < 0 ? -errno : made);
	rb_owned_end();
	return status;
}

/* Tells the process at the other end; 0 if it is in another PID namespace. */
int rb_socket_peer(int fd, int *process, unsigned *user)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return -errno;
	*process = peer.pid;
	*user = peer.uid;
	return 0;
}

/* Both sides see the end from now on, even if another process has a copy of the socket. */
void rb_socket_shutdown(int fd)
{
	shutdown(fd, SHUT_RDWR);
}

int rb_socket_send(int fd, const char *text, size_t length, const int *fds, size_t count)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(MOST_PASSED * sizeof(int))];
	} control;
	struct iovec data = {(void *)(uintptr_t)text, length};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

	if (count > MOST_PASSED)
		return -EINVAL;
	if (count) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Gives the descriptors that came to `owners`, of which there are `count`, and closes the rest.
 * Returns how many came, or -errno. */
static int hand_out(struct msghdr *message, rb_owned **owners, int count)
{
	int came = 0, status = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part;
	     part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < here; i++, came++) {
			int fd;
			memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
			if (came >= count || status)
				close(fd);
			else
				status = rb_owned_take(owners[came], fd);
		}
	}
	return status ? status : came;
}

static int receive(int fd, char *text, size_t length, rb_owned **owners, int count, int *came,
		   int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(MOST_PASSED * sizeof(int))];
	} control;
	struct iovec data = {text, length};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = owners ? &control : NULL,
		.msg_controllen = owners ? sizeof(control) : 0,
	};

	*came = 0;
	rb_owned_begin();
	ssize_t received = recvmsg(fd, &message, flags);
	/* The other side has gone before it read all of our texts. Its own texts are still
	 * there. */
	if (received < 0 && errno == ECONNRESET)
		received = recvmsg(fd, &message, flags);
	int status = received < 0 ? -errno : hand_out(&message, owners, count);
	rb_owned_end();
	if (status < 0)
		return status;
	if (owners && message.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	*came = status;
	return (int)received;
}

/* Takes a text of at most `length` bytes, and up to `count` descriptors that came with it. Returns
 * the length of the text, which is 0 at the end; *came is how many descriptors were sent. Returns
 * -EMFILE when this process has no descriptor left; then all that came are lost. Without owners the
 * descriptors are dropped. */
int rb_socket_receive(int fd, char *text, size_t length, rb_owned **owners, int count, int *came)
{
	return receive(fd, text, length, owners, count, came, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
}

/* The same, but takes nothing: the next call finds the same text with the same descriptors, also
 * after -EMFILE. The owners get copies of these. */
int rb_socket_look(int fd, char *text, size_t length, rb_owned **owners, int count, int *came)
{
	return receive(fd, text, length, owners, count, came,
		       MSG_PEEK | MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
}
