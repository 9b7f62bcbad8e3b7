# SPDX-License-Identifier: MIT
"""The descriptors of one side of a channel, and who closes them."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ringbell._ffi import ffi, lib
from ringbell.channel.closing import Closing

if TYPE_CHECKING:
    from ringbell._ffi import CData

A_CHANNEL_TAKES = 8
"""Descriptors of one side: a socket, three for each ring, and while it is opened the memory."""

LACKING = (errno.EMFILE, errno.ENFILE)
"""The errors of one who can have no more descriptors."""


class Descriptor(Closing):
    """A descriptor that is closed by `close`, by a fork in the child, or when nobody refers to it.

    C puts the descriptor in here as it makes it, so a signal handler that raises loses none.
    """

    __slots__ = ("handle",)

    def __init__(self) -> None:
        """Own nothing yet."""
        self.handle: CData = ffi.gc(ffi.new("rb_owned *"), lib.rb_owned_close)

    def fileno(self) -> int:
        """Give the number of the descriptor, or -1 when there is none."""
        return lib.rb_owned_fd(self.handle)

    def close(self) -> None:
        """Close it. Closing twice does nothing."""
        lib.rb_owned_close(self.handle)


class HasDescriptor(Protocol):
    """What stands for an open file."""

    def fileno(self) -> int:
        """Give its number."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def make(what: str, maker: Callable[..., int], *arguments: object) -> Descriptor:
    """Make a descriptor by one of the functions of C that do.

    Raises OSError, which says that it was `what` that could not be made.
    """
    made = Descriptor()
    if status := maker(made.handle, *arguments):
        raise os_error(-status, f"cannot make {what}: {os.strerror(-status)}")
    return made


def os_error(code: int, text: str) -> OSError:
    """Make an OSError with that text; where descriptors are lacking, with one that says so."""
    return OSError(code, lacking_descriptors(code) if code in LACKING else text)


def lacking_descriptors(code: int) -> str:
    """Say that there is no descriptor left, and what to do."""
    takes = f"a channel takes {A_CHANNEL_TAKES} of them"
    if code == errno.ENFILE:
        return f"the system has no file descriptor left; {takes}"
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"this process has no file descriptor left of its {limit}; {takes}: close some files or "
        "channels, or raise the limit (ulimit -n)"
    )


class Descriptors(Closing):
    """What one side of a channel has open; it closes all of that.

    A `with` block closes it until a channel is opened with it. From then on it is the channel's:
    `Channel` sets `handed_over`, closes it when it is closed itself, and the block leaves it alone.
    """

    __slots__ = ("control", "handed_over", "kick_fds", "segment")

    def __init__(self, control: HasDescriptor) -> None:
        """Own the socket to the other side, and whatever is put in here later."""
        self.control: HasDescriptor = control
        self.kick_fds: list[Descriptor] = []
        """Those that kick, of both rings, in the order of csrc/api.h."""
        self.segment: Descriptor | None = None
        """The shared memory, if the other side made it. Its mapping needs no descriptor, so the
        end of the block closes it in any case."""
        self.handed_over: bool = False

    def numbers(self) -> list[int]:
        """Give the descriptors that kick as numbers."""
        return [descriptor.fileno() for descriptor in self.kick_fds]

    def close(self) -> None:
        """Close all of it. May be done again, also when an exception ended it.

        Two threads may do it at once.
        """
        self.give_up_memory()
        self.control.close()
        for descriptor in self.kick_fds:
            descriptor.close()

    def give_up_memory(self) -> None:
        """Close the descriptor of the memory; what is mapped of it stays."""
        if self.segment is not None:
            self.segment.close()

    def __exit__(self, *_: object) -> None:
        if self.handed_over:
            self.give_up_memory()
        else:
            self.close()
