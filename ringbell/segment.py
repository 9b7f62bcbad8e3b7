# SPDX-License-Identifier: MIT
"""The shared memory of a channel: made by the driver, checked by the device."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

import posix_ipc

from ringbell._ffi import ffi, lib
from ringbell.errors import LayoutMismatch

RING_SIZE = 1 << 20
"""Bytes of slots in each ring, unless asked for otherwise."""

_COMPLAINTS = {
    lib.RB_BAD_MAGIC: "it does not start with ringbell's magic number",
    lib.RB_BAD_GEOMETRY: "its geometry does not fit its size, or the rules of this ringbell",
    lib.RB_NOT_READY: "its header is not marked as ready",
}


def create(ring_size: int, first_index: int = 0) -> tuple[int, bytes]:
    """Make a segment with two rings of `ring_size` bytes; return its descriptor and its header.

    Its name is gone at once, so no kill leaves anything behind in /dev/shm; the device gets the
    descriptor. Raises ValueError for a bad size and OSError (ENOSPC) when /dev/shm is too full:
    all of the space is reserved here, because a page that is missing later would be a SIGBUS.
    """
    page = os.sysconf("SC_PAGESIZE")
    if not 0 <= first_index < 2**64:
        raise ValueError(f"first_index is from 0 to 2**64 - 1, not {first_index}")
    header = ffi.new("char[]", lib.rb_header_size())
    size = lib.rb_header_make(header, ring_size, first_index) if 0 < ring_size < 2**63 else 0
    if not size:
        raise ValueError(
            f"ring_size is a power of two from {page} to {2**30} bytes, not {ring_size}"
        )
    memory = _create_unnamed()
    try:
        try:
            os.posix_fallocate(memory, 0, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"/dev/shm has no room for {size} bytes ({error.strerror}); "
                "free some of it (df /dev/shm), enlarge it, or use a smaller ring_size",
            ) from error
        written = bytes(ffi.buffer(header))
        os.pwrite(memory, written, 0)
        return memory, written
    except BaseException:
        os.close(memory)
        raise


def _create_unnamed() -> int:
    name = f"/ringbell.{os.geteuid()}.{secrets.token_hex(8)}"
    try:
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
    finally:
        # Also if a signal handler raises here.
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(name)
    descriptor: int = memory.fd
    os.set_inheritable(descriptor, False)
    return descriptor


def check(segment: int) -> bytes:
    """Check a segment that somebody else made, before it is mapped; return its header.

    Raises LayoutMismatch when it is none, or one of another version or geometry.
    """
    status = os.fstat(segment)
    if not stat.S_ISREG(status.st_mode):
        raise LayoutMismatch("the driver sent a descriptor that is no shared memory")
    if status.st_uid != os.geteuid():
        raise LayoutMismatch(f"the segment belongs to user {status.st_uid}")
    header = os.pread(segment, lib.rb_header_size(), 0)
    if len(header) < lib.rb_header_size():
        raise LayoutMismatch(f"the segment has only {status.st_size} bytes")
    complaint = lib.rb_header_check(header, status.st_size)
    if complaint == lib.RB_BAD_VERSION:
        raise LayoutMismatch(
            f"the segment has layout version {lib.rb_header_version(header)}, which this ringbell "
            "does not speak; install the same release of ringbell on both sides"
        )
    if complaint:
        raise LayoutMismatch(f"the segment is not usable: {_COMPLAINTS[complaint]}")
    return header
