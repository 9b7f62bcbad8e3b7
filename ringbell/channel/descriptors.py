# SPDX-License-Identifier: MIT
"""The descriptors of one side of a channel, and who closes them."""

from __future__ import annotations

import contextlib
import os
import socket
from types import TracebackType
from typing import Self


class Descriptors:
    """What one side of a channel has open; it closes all of that.

    A `with` block closes it until a channel is opened with it. From then on it is the channel's:
    `Channel` sets `handed_over`, closes it when it is closed itself, and the block leaves it alone.
    """

    __slots__ = ("control", "handed_over", "kick_fds", "segment")

    def __init__(self, control: socket.socket) -> None:
        """Own the socket to the other side, and whatever is put in here later."""
        self.control: socket.socket = control
        self.kick_fds: list[int] = []
        """Those that kick, of both rings, in the order of csrc/api.h."""
        self.segment: int | None = None
        """The shared memory, if the other side made it. Its mapping needs no descriptor, so the
        end of the block closes it in any case."""
        self.handed_over: bool = False

    def close(self) -> None:
        """Close the socket and what kicks. May be done again, also when an exception ended it.

        Two threads may do it at once.
        """
        self.control.close()
        while self.kick_fds:
            with contextlib.suppress(IndexError):
                os.close(self.kick_fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.segment is not None:
            os.close(self.segment)
        if not self.handed_over:
            self.close()
