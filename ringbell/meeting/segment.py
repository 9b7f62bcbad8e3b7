# SPDX-License-Identifier: MIT
"""The shared memory of a channel: one side makes it, the other side checks it."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import stat
from types import TracebackType
from typing import NamedTuple, Self

import posix_ipc

from ringbell._ffi import ffi, lib
from ringbell.arguments import whole_number
from ringbell.errors import LayoutMismatch

RING_SIZE = 1 << 20
"""Bytes of slots in each ring, unless asked for otherwise."""

_LONGEST_RING = 2**30

_COMPLAINTS = {
    lib.RB_BAD_MAGIC: "it does not start with ringbell's magic number",
    lib.RB_BAD_GEOMETRY: "its geometry does not fit its size, or the rules of this ringbell",
    lib.RB_NOT_READY: "its header is not marked as ready",
}


class Segment(NamedTuple):
    """A segment that this side made, and the header at its start. A `with` block closes it."""

    descriptor: int
    header: bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.descriptor)


def create(ring_size: int, first_index: int = 0) -> Segment:
    """Make a segment with two rings of `ring_size` bytes for messages.

    Raises ValueError for a bad size and OSError (ENOSPC) when /dev/shm is too full: all of the
    space is reserved here, because a page that is missing later would be a SIGBUS.
    """
    slots = _check_ring_size(ring_size) // lib.rb_message_slot()
    return _create(slots, lib.rb_message_slot(), slots, b"", first_index)


def create_stream(
    ring_size: int, record_size: int = 0, description: bytes = b"", first_index: int = 0
) -> Segment:
    """Make a segment with one ring in use, the doorbell ring, for messages or for records.

    A ring of records has a power of two of slots: as many as fit into `ring_size` bytes, and at
    least as many as fill whole pages. Raises what `create` raises.
    """
    ring_size = _check_ring_size(ring_size)
    page = os.sysconf("SC_PAGESIZE")
    unused = page // lib.rb_message_slot()
    if not description:
        slots = ring_size // lib.rb_message_slot()
        return _create(slots, lib.rb_message_slot(), unused, b"", first_index)
    whole_pages = page // math.gcd(page, record_size)
    slots = max(whole_pages, 1 << (ring_size // record_size).bit_length() >> 1)
    if slots * record_size > _LONGEST_RING:
        raise ValueError(
            f"a ring has whole pages and at most {_LONGEST_RING} bytes, which records of "
            f"{record_size} bytes cannot fill; pad the dtype to a multiple of {page} bytes"
        )
    return _create(slots, record_size, unused, description, first_index)


def _check_ring_size(ring_size: int) -> int:
    page = os.sysconf("SC_PAGESIZE")
    complaint = f"ring_size is a power of two from {page} to {_LONGEST_RING} bytes"
    size = whole_number(ring_size, page, _LONGEST_RING, complaint)
    if size & (size - 1):
        raise ValueError(f"{complaint}, not {size}")
    return size


def _create(
    slots: int, slot_size: int, interrupt_slots: int, description: bytes, first_index: int
) -> Segment:
    """Make the segment. Its name is gone at once, so no kill leaves anything in /dev/shm."""
    first_index = whole_number(first_index, 0, 2**64 - 1, "first_index is from 0 to 2**64 - 1")
    header = ffi.new("char[]", lib.rb_header_size())
    size = lib.rb_header_make(
        header, slots, slot_size, interrupt_slots, len(description), first_index
    )
    if not size:
        raise ValueError(f"the dtype is too long to describe: {len(description)} bytes of text")
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
        os.pwrite(memory, written + description, 0)
        return Segment(memory, written)
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


def check(segment: int) -> tuple[bytes, bytes]:
    """Check a segment that somebody else made, before it is mapped.

    Returns its header, and the text that describes the records of its doorbell ring, b"" for
    messages. Raises LayoutMismatch when it is no segment, or of another version or geometry.
    """
    status = os.fstat(segment)
    if not stat.S_ISREG(status.st_mode):
        raise LayoutMismatch("the other side sent a descriptor that is no shared memory")
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
    description = os.pread(segment, lib.rb_header_dtype_bytes(header), lib.rb_header_size())
    return header, description
