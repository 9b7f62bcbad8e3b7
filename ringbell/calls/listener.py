# SPDX-License-Identifier: MIT
"""Where a device waits for drivers."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ringbell.calls.device import Device, serve_channel
from ringbell.channel.channel import Channel
from ringbell.channel.closing import Closing
from ringbell.deadlines import deadline_after
from ringbell.errors import LayoutMismatch
from ringbell.meeting import handshake
from ringbell.meeting.reception import Guest, Reception
from ringbell.policy import Policy


class Listener(Closing):
    """Listens under a name; made by `listen`. A context manager: the block's end frees the name.

    A listener that is dropped without `close` frees its name too, and warns (ResourceWarning).
    """

    __slots__ = ("__weakref__", "_host", "_policy", "_reception")

    def __init__(self, path: Path, policy: Policy) -> None:
        """Listen on a Unix socket at `path`; users call `listen`.

        Raises OSError (EADDRINUSE) when somebody listens there already.
        """
        self._policy = policy
        self._host = _Host(policy)
        self._reception = Reception(path)

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._reception.path

    def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Blocks while none comes. Any other process that connects is refused, and the wait goes on:
        one that says nothing for two seconds, is of another version, brings unusable memory, is no
        driver, or belongs to another user. It is told the reason, and the log gets the reason, too.

        Raises TimeoutError after `timeout` seconds; ChannelClosed after close, also by another
        thread or a signal handler; OSError (EMFILE, ENFILE) when there is no file descriptor left
        for the channel. Then the driver is told, and the listener can accept the next one.
        """
        channel = self._reception.receive(self._host, deadline_after(timeout))
        assert channel is not None, "a listener keeps its name"
        return serve_channel(channel)

    def fileno(self) -> int:
        """Give a descriptor for `wait`, `select` or an event loop.

        It is readable when a process has connected or a guest has spoken. Then call
        `accept(timeout=0)` until it raises TimeoutError. The listener owns and closes the
        descriptor. A guest that says nothing is forgotten by the next `accept`. Raises
        ChannelClosed after close.
        """
        return self._reception.fileno()

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        An `accept` in another thread ends with ChannelClosed. Closing twice does nothing.
        """
        self._reception.close()

    def _silence_over(self) -> float | None:
        """Say when a silent guest has to be forgotten, by the monotonic clock."""
        return self._reception.silence_over()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Listener cannot be copied or pickled: its socket is this process's; listen again, "
            "under another name"
        )

    def __repr__(self) -> str:
        return f"<ringbell.Listener {self.path}{'' if self._reception.listens else ', closed'}>"


class _Host:
    """A device takes the memory that a driver brings."""

    role: handshake.Role = "device"

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy

    def meet(self, guest: Guest) -> Channel:
        header = handshake.check_memory(guest, _check_messages)
        channel = handshake.take_over(guest, header, self.policy)
        return handshake.welcome(channel, guest.control)

    def go_on(self, _guest: Guest, text: bytes, /) -> Channel | None:
        raise handshake.unknown(text)


def _check_messages(description: bytes, _slot_size: int) -> None:
    if description:
        raise LayoutMismatch("the driver brought a ring of records, but requests are messages")
