# SPDX-License-Identifier: MIT
"""The descriptors of one side of a channel, and their owners, which close them."""

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

A_CHANNEL_TAKES = 4
"""Descriptors of one side: a socket, the eventfd of each side, and one for the memory until it is
mapped."""

LACKING = (errno.EMFILE, errno.ENFILE)
"""The errors that say that there is no descriptor left, for this process or for the system."""


class Descriptor(Closing):
    """A descriptor. `close`, the last reference, or a fork (in the child) closes it.

    C stores the descriptor in here when it makes it, so a signal handler that raises loses none.
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


class Share(Closing):
    """One of several owners of a descriptor; the last that is closed, or dropped, closes it."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: Descriptor) -> None:
        """Own it together with others."""
        self._descriptor: Descriptor | None = descriptor

    def fileno(self) -> int:
        """Give the number of the descriptor, or -1 once this owner has closed it."""
        return -1 if self._descriptor is None else self._descriptor.fileno()

    def close(self) -> None:
        """Own it no longer. Closing twice does nothing."""
        self._descriptor = None


class HasDescriptor(Protocol):
    """An object that has a descriptor."""

    def fileno(self) -> int:
        """Give its number."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def make(what: str, maker: Callable[..., int], *arguments: object) -> Descriptor:
    """Make a descriptor with `maker`, a function of C.

    Raises OSError, which names `what` could not be made.
    """
    made = Descriptor()
    if status := maker(made.handle, *arguments):
        raise os_error(-status, f"cannot make {what}: {os.strerror(-status)}")
    return made


def os_error(code: int, text: str) -> OSError:
    """Make an OSError with that text, or with the text of `lacking_descriptors` if it is that."""
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
    """The descriptors of one side of a channel.

    The end of a `with` block closes them, unless a channel has been opened with them. `Channel`
    sets `handed_over` and owns them from then on: it closes them when it is closed itself.
    """

    __slots__ = ("control", "handed_over", "pools", "segment", "wake_fds")

    def __init__(self, control: HasDescriptor) -> None:
        """Own the socket to the other side; the other descriptors are added later."""
        self.control: HasDescriptor = control
        self.wake_fds: list[HasDescriptor] = []
        """The eventfds: the one that wakes the driver, then the one that wakes the device."""
        self.segment: HasDescriptor | None = None
        """The shared memory, if the other side made it. The mapping needs no descriptor, so the
        end of the block always closes this one."""
        self.pools: list[HasDescriptor] = []
        """Of a pipe that sends by reference: the memory of the driver's blocks, then of the
        device's, as far as they send. Of a subscriber: that of the publisher's blocks, if there are
        any yet. They are closed with `segment`."""
        self.handed_over: bool = False

    def numbers(self) -> list[int]:
        """Give the eventfds as numbers."""
        return [descriptor.fileno() for descriptor in self.wake_fds]

    def close(self) -> None:
        """Close all descriptors.

        May be called again, even after an exception ended it, and by two threads at once.
        """
        self.give_up_memory()
        self.control.close()
        for descriptor in self.wake_fds:
            descriptor.close()

    def give_up_memory(self) -> None:
        """Close the descriptors of the memory; the mappings stay."""
        if self.segment is not None:
            self.segment.close()
        for pool in self.pools:
            pool.close()

    def __exit__(self, *_: object) -> None:
        if self.handed_over:
            self.give_up_memory()
        else:
            self.close()
