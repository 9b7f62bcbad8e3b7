# SPDX-License-Identifier: MIT
"""The shared memory of a channel: one side makes it, the other side checks it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from pathlib import Path
from typing import Literal

from ringbell import _ends
from ringbell._ffi import ffi, lib
from ringbell.arguments import shown, whole_number
from ringbell.available import available_memory
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import Descriptor, os_error
from ringbell.errors import LayoutMismatch

Memory = Literal["memfd", "posix"]
Keep = Literal["all", "newest"]

_KINDS: dict[Memory, int] = {"memfd": lib.RB_MEMORY_MEMFD, "posix": lib.RB_MEMORY_POSIX}
_FOLDER = "/dev/shm"
_NO_MEMFD = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL)

RING_SIZE = 1 << 20
"""Bytes of slots in each ring, by default."""

FIRST_INDEX = 0
"""Where the indices of new rings start; only tests of wrap-around set it."""

LONGEST_RING = 2**30
"""Bytes."""

_COMPLAINTS = {
    lib.RB_BAD_MAGIC: "it does not start with ringbell's magic number",
    lib.RB_BAD_GEOMETRY: "its geometry does not fit its size, or the rules of this ringbell",
    lib.RB_NOT_READY: "its header is not marked as ready",
}


class Segment(Closing):
    """A segment that this side made; closed at the end of a `with` block, or when it is dropped."""

    __slots__ = ("_memory", "header")

    def __init__(self) -> None:
        """Own nothing yet; `make` makes the memory."""
        self._memory: Descriptor = Descriptor()
        self.header: bytes = b""

    @property
    def descriptor(self) -> int:
        """The descriptor of the memory."""
        return self._memory.fileno()

    def make(self, memory: Memory | None, size: int, content: bytes, sealed: bool = True) -> None:
        """Make memory of that size, reserve all of it, and write `content` at its start."""
        if size > _ends.MUCH_MEMORY and size > (available := available_memory()):
            raise OSError(
                errno.ENOSPC,
                f"no memory for {size} bytes: the machine has {available} available; use a "
                "smaller ring_size",
            )
        kind = self._open(memory)
        try:
            os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            raise OSError(error.errno, _no_room(kind, size, error)) from error
        os.pwrite(self.descriptor, content, 0)
        if kind == "memfd" and sealed and (status := lib.rb_memory_seal(self.descriptor)):
            raise OSError(-status, f"cannot seal the memory: {os.strerror(-status)}")

    def _open(self, memory: Memory | None) -> Memory:
        """Make memory of size 0, of the kind asked for; None takes the first kind there is."""
        if memory != "posix":
            status = lib.rb_memory_make(self._memory.handle, lib.RB_MEMORY_MEMFD)
            if not status:
                return "memfd"
            if memory or -status not in _NO_MEMFD:
                why = os.strerror(-status)
                raise os_error(-status, f"cannot make a memfd ({why}); try memory='posix'")
        status = lib.rb_memory_make(self._memory.handle, lib.RB_MEMORY_POSIX)
        if status:
            instead = "this system has no memfd" if memory is None else "try memory='memfd'"
            why = os.strerror(-status)
            raise os_error(-status, f"cannot make memory in {_FOLDER} ({why}); {instead}")
        return "posix"

    def seal_for_writer(self) -> None:
        """Let nobody write from now on, but this process, which has mapped it.

        A file on /dev/shm cannot be sealed.
        """
        if lib.rb_memory_is_memfd(self.descriptor) and (
            status := lib.rb_memory_seal_for_writer(self.descriptor)
        ):
            raise OSError(-status, f"cannot seal the memory: {os.strerror(-status)}")

    def hand_over(self) -> Descriptor:
        """Give the descriptor of the memory to the caller, who closes it from now on."""
        memory, self._memory = self._memory, Descriptor()
        return memory

    def close(self) -> None:
        """Close the descriptor; what is mapped stays. Closing twice does nothing."""
        self._memory.close()


def _no_room(kind: Memory, size: int, error: OSError) -> str:
    if kind == "memfd":
        return f"no memory for {size} bytes ({error.strerror}); use a smaller ring_size"
    return (
        f"{_FOLDER} has no room for {size} bytes ({error.strerror}); free some of it "
        f"(df {_FOLDER}), enlarge it, use a smaller ring_size, or memory='memfd'"
    )


def create(ring_size: int, memory: Memory | None = None) -> Segment:
    """Make a segment with two rings of `ring_size` bytes for messages.

    `memory` is the kind; None takes a memfd, or else a file on /dev/shm. Reserves all of the
    memory, because a page that is missing later would be a SIGBUS. Raises TypeError or ValueError
    for a bad size or kind, OSError (ENOSPC) when there is too little memory.
    """
    slots = check_ring_size(ring_size) // lib.rb_message_slot()
    return _create(slots, lib.rb_message_slot(), slots, b"", memory)


def create_stream(
    ring_size: int,
    record_size: int = 0,
    description: bytes = b"",
    memory: Memory | None = None,
    keep: Keep | None = None,
) -> Segment:
    """Make a segment with one ring in use, the doorbell ring, for messages or for records.

    The number of slots in a ring of records is a power of two: as many as fit into `ring_size`
    bytes, but enough to fill whole pages. With `keep` the ring is one with many readers, and the
    memory is not sealed yet. Raises what `create` raises.
    """
    ring_size = check_ring_size(ring_size)
    page = os.sysconf("SC_PAGESIZE")
    unused = page // lib.rb_message_slot()
    if not description:
        slots = ring_size // lib.rb_message_slot()
        return _create(slots, lib.rb_message_slot(), unused, b"", memory, keep)
    slots = records_in(ring_size, record_size)
    if slots * record_size > LONGEST_RING:
        raise ValueError(
            f"a ring has whole pages and at most {LONGEST_RING} bytes, which records of "
            f"{record_size} bytes cannot fill; pad the dtype to a multiple of {page} bytes"
        )
    return _create(slots, record_size, unused, description, memory, keep)


def records_in(ring_size: int, record_size: int) -> int:
    """Say how many records a ring of that size has room for."""
    page = os.sysconf("SC_PAGESIZE")
    whole_pages = page // math.gcd(page, record_size)
    return max(whole_pages, 1 << (ring_size // record_size).bit_length() >> 1)


def check_ring_size(ring_size: int) -> int:
    """Read the option `ring_size`; raises TypeError or ValueError."""
    page = os.sysconf("SC_PAGESIZE")
    complaint = f"ring_size is a power of two from {page} to {LONGEST_RING} bytes"
    size = whole_number(ring_size, page, LONGEST_RING, complaint)
    if size & (size - 1):
        raise ValueError(f"{complaint}, not {size}")
    return size


def _create(
    slots: int,
    slot_size: int,
    interrupt_slots: int,
    description: bytes,
    memory: Memory | None,
    keep: Keep | None = None,
) -> Segment:
    if not (memory is None or (isinstance(memory, str) and memory in _KINDS)):
        kind = ValueError if isinstance(memory, str) else TypeError
        raise kind(f"memory is 'memfd', 'posix' or None, not {shown(memory)}")
    header = ffi.new("char[]", lib.rb_header_size())
    size = lib.rb_header_make(
        header, slots, slot_size, interrupt_slots, len(description), FIRST_INDEX
    )
    if not size:
        raise ValueError(f"the dtype is too long to describe: {len(description)} bytes of text")
    if keep:
        lib.rb_header_for_readers(header, keep == "newest")
    made = Segment()
    made.header = bytes(ffi.buffer(header))
    made.make(memory, size, made.header + description, sealed=keep is None)
    return made


def create_page() -> Segment:
    """Make the memory of a reader's control page; raises what `create` raises."""
    made = Segment()
    made.make(None, lib.rb_reader_bytes(), b"")
    return made


def sweep_old_names() -> list[Path]:
    """Remove files of this user on /dev/shm that processes of an earlier version left when killed.

    That version used a name for a moment only, so no process needs it. Gives the removed paths.
    """
    removed = []
    for path in sorted(Path(_FOLDER).glob(f"ringbell.{os.geteuid()}.*")):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink()
                removed.append(path)
    return removed


def check_page(page: int) -> None:
    """Check the memory of a reader's control page, which the writer made; raises LayoutMismatch."""
    status = os.fstat(page)
    if (
        not stat.S_ISREG(status.st_mode)
        or lib.rb_memory_kind(page) < 0
        or status.st_size != lib.rb_reader_bytes()
    ):
        raise LayoutMismatch("the other side sent something else where a control page belongs")


def check(segment: int, readers: bool = False) -> tuple[bytes, bytes]:
    """Check a segment that the other side made, before it is mapped.

    `readers`: whether its ring should be one with many readers. Returns its header, and the text
    that describes the records of its doorbell ring, b"" for messages. Raises LayoutMismatch when it
    is no segment, or its version or geometry is wrong.
    """
    status = os.fstat(segment)
    if not stat.S_ISREG(status.st_mode):
        raise LayoutMismatch("the other side sent a descriptor that is no shared memory")
    if status.st_uid != os.geteuid():
        raise LayoutMismatch(f"the segment belongs to user {status.st_uid}")
    if lib.rb_memory_kind(segment) < 0:
        # A process that shortens it would kill its readers.
        raise LayoutMismatch("the other side sent a memfd that is not sealed against shrinking")
    header = os.pread(segment, lib.rb_header_size(), 0)
    if len(header) < lib.rb_header_size():
        raise LayoutMismatch(f"the segment has only {status.st_size} bytes")
    complaint = lib.rb_header_check(header, status.st_size)
    if not complaint and readers != bool(lib.rb_header_features(header)):
        complaint = lib.RB_BAD_GEOMETRY
    if complaint == lib.RB_BAD_VERSION:
        raise LayoutMismatch(
            f"the segment has layout version {lib.rb_header_version(header)}, which this ringbell "
            "does not know; install the same release of ringbell on both sides"
        )
    if complaint:
        raise LayoutMismatch(f"the segment is not usable: {_COMPLAINTS[complaint]}")
    description = os.pread(segment, lib.rb_header_dtype_bytes(header), lib.rb_header_size())
    return header, description
