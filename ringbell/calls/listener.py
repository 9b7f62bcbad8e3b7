# SPDX-License-Identifier: MIT
"""Where a device waits for drivers."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from ringbell.calls.device import Device, serve_channel
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import Descriptors
from ringbell.deadlines import deadline_after
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import handshake
from ringbell.meeting.control_socket import ListeningSocket
from ringbell.policy import Policy

_log = logging.getLogger("ringbell")


class Listener(Closing):
    """Listens under a name; made by `listen`. A context manager; leaving it frees the name."""

    __slots__ = ("__weakref__", "_listening", "_policy")

    def __init__(self, path: Path, policy: Policy) -> None:
        """Listen on a Unix socket at `path`; users call `listen`.

        Raises OSError (EADDRINUSE) when somebody listens there already.
        """
        self._policy = policy
        self._listening = ListeningSocket(path)

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._listening.path

    def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Blocks while none connects. Raises TimeoutError after `timeout` seconds; ChannelClosed after
        close; LayoutMismatch when a driver brought a segment of another version or geometry, or
        when something else than a driver connected. Whoever connected is told so, and the listener
        can accept the next one. A driver that goes away while it introduces itself is passed over;
        a driver of another user is refused.
        """
        deadline = deadline_after(timeout)
        while True:
            with Descriptors(self._listening.accept(deadline)) as owned:
                try:
                    return self._welcome(owned, deadline)
                except LayoutMismatch as error:
                    with contextlib.suppress(OSError):
                        handshake.refuse(owned.control, str(error))
                    raise
                except (PeerLost, ConnectionError, TimeoutError) as error:
                    _log.info("a driver on %s went away: %s", self.path, error)
                except OSError as error:  # another user's, or its memory cannot be mapped
                    _log.warning("refused a driver on %s: %s", self.path, error)
                    with contextlib.suppress(OSError):
                        handshake.refuse(owned.control, str(error))

    def _welcome(self, owned: Descriptors, deadline: float | None) -> Device:
        handshake.limit_introduction(owned.control, deadline)
        handshake.peer_of(owned.control)
        try:
            handshake.receive_hello(owned, "device")
        except handshake.WrongPartner as error:
            raise LayoutMismatch(str(error)) from None
        return serve_channel(handshake.take_over(owned, self._policy, _check_messages))

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        An `accept` in another thread ends with ChannelClosed. Closing twice does nothing.
        """
        self._listening.close()

    def __repr__(self) -> str:
        return f"<ringbell.Listener {self.path}{'' if self._listening.listens else ', closed'}>"


def _check_messages(description: bytes, _slot_size: int) -> None:
    if description:
        raise LayoutMismatch("the driver brought a ring of records, and requests are messages")
