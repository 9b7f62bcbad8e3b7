# SPDX-License-Identifier: MIT
"""Ending the wait of another thread."""

from __future__ import annotations

import os

from ringbell._ffi import lib
from ringbell.channel.descriptors import Descriptor, os_error


class Nudge(Descriptor):
    """A descriptor that becomes readable when anybody gives a nudge.

    Who waits has it among the descriptors of the wait, and takes the nudge then. Any thread and any
    signal handler may give one, also after `close`: then nothing happens.
    """

    __slots__ = ()

    def __init__(self) -> None:
        """Make it. Raises OSError (EMFILE, ENFILE) when there is no file descriptor left."""
        super().__init__()
        if status := lib.rb_owned_eventfd(self.handle):
            raise os_error(-status, f"cannot make an eventfd: {os.strerror(-status)}")

    def give(self) -> None:
        """Make it readable."""
        lib.rb_owned_kick(self.handle)

    def take(self) -> None:
        """Make it unreadable until the next nudge. Never blocks."""
        lib.rb_owned_drain(self.handle)
