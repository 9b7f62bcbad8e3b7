/* SPDX-License-Identifier: MIT
 *
 * The memory of a channel before it is mapped. It is a memfd, or a file without a name on /dev/shm.
 * Neither ever has a name, so a process that is killed at any time leaves nothing behind.
 *
 * A process that shortens the memory kills the other side by SIGBUS. A memfd is sealed against
 * that; a file on /dev/shm cannot be sealed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "owned.h"

/* For C libraries that are too old to define it. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define FOLDER "/dev/shm"
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int make_memfd(void)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	long made = syscall(SYS_memfd_create, "ringbell", flags | MFD_NOEXEC_SEAL);

	/* Before Linux 6.3, which may refuse one without that flag. */
	if (made < 0 && errno == EINVAL)
		made = syscall(SYS_memfd_create, "ringbell", flags);
	return made < 0 ? -errno : (int)made;
}

static int make_in_folder(void)
{
	int made = open(FOLDER, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	return made < 0 ? -errno : made;
}

/* Makes memory of size 0. */
int rb_memory_make(rb_owned *owned, int kind)
{
	rb_owned_begin();
	int status =
		rb_owned_take(owned, kind == RB_MEMORY_MEMFD ? make_memfd() : make_in_folder());
	rb_owned_end();
	return status;
}

/* Seals a memfd whose size has been set. */
int rb_memory_seal(int descriptor)
{
	return fcntl(descriptor, F_ADD_SEALS, SEALS) ? -errno : 0;
}

/* The same for memory that this process has mapped to write to: no mapping and no write from now on
 * may change it. */
int rb_memory_seal_for_writer(int descriptor)
{
	/* Before Linux 5.1, which knows no such seal. */
	if (fcntl(descriptor, F_ADD_SEALS, SEALS | F_SEAL_FUTURE_WRITE) && errno == EINVAL)
		return rb_memory_seal(descriptor);
	return fcntl(descriptor, F_GET_SEALS) & F_SEAL_SEAL ? 0 : -EPERM;
}

int rb_memory_is_memfd(int descriptor)
{
	static const char name[] = "/memfd:";
	char path[32], link[sizeof(name)];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
	return readlink(path, link, sizeof(link)) >= (ssize_t)sizeof(name) - 1 &&
	       !memcmp(link, name, sizeof(name) - 1);
}

/* Returns the kind of a memory, RB_MEMORY_POSIX or RB_MEMORY_MEMFD, or -EPERM for a memfd that is
 * not sealed. */
int rb_memory_kind(int descriptor)
{
	int seals = fcntl(descriptor, F_GET_SEALS);

	if (seals >= 0 && (seals & SEALS) == SEALS)
		return RB_MEMORY_MEMFD;
	return rb_memory_is_memfd(descriptor) ? -EPERM : RB_MEMORY_POSIX;
}
