# SPDX-License-Identifier: MIT
"""Where a device waits for drivers."""

from __future__ import annotations

import contextlib
import logging
import socket
from contextlib import ExitStack
from pathlib import Path

from ringbell.calls.device import Device, serve_channel
from ringbell.deadlines import deadline_after
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import handshake
from ringbell.meeting.control_socket import ListeningSocket
from ringbell.policy import Policy

_log = logging.getLogger("ringbell")


class Listener(ListeningSocket):
    """Listens under a name; made by `listen`. A context manager; leaving it frees the name."""

    __slots__ = ("_policy",)

    def __init__(self, path: Path, policy: Policy) -> None:
        """Listen on a Unix socket at `path`; users call `listen`.

        Raises OSError (EADDRINUSE) when somebody listens there already.
        """
        self._policy = policy
        super().__init__(path)

    def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Blocks while none connects. Raises TimeoutError after `timeout` seconds; LayoutMismatch
        when a driver brought a segment of another version or geometry, or what connected is no
        driver (it is told so, and the listener can accept the next one); ChannelClosed after close.
        A driver that goes away while it introduces itself is passed over, one of another user is
        refused.
        """
        deadline = deadline_after(timeout)
        while True:
            control = self.accept_socket(deadline)
            with ExitStack() as guard:
                guard.callback(control.close)
                try:
                    return self._welcome(control, guard, deadline)
                except LayoutMismatch as error:
                    with contextlib.suppress(OSError):
                        handshake.refuse(control, str(error))
                    raise
                except (PeerLost, ConnectionError, TimeoutError) as error:
                    _log.info("a driver on %s went away: %s", self.path, error)
                except OSError as error:  # another user's, or its memory cannot be mapped
                    _log.warning("refused a driver on %s: %s", self.path, error)
                    with contextlib.suppress(OSError):
                        handshake.refuse(control, str(error))

    def _welcome(self, control: socket.socket, guard: ExitStack, deadline: float | None) -> Device:
        handshake.limit_introduction(control, deadline)
        handshake.peer_of(control)
        try:
            descriptors = handshake.receive_hello(control, guard, "device")
        except handshake.WrongPartner as error:
            raise LayoutMismatch(str(error)) from None
        return serve_channel(
            handshake.take_over(control, descriptors, self._policy, guard, _check_messages)
        )

    def __repr__(self) -> str:
        return f"<ringbell.Listener {self.path}{'' if self._socket else ', closed'}>"


def _check_messages(description: bytes, _slot_size: int) -> None:
    if description:
        raise LayoutMismatch("the driver brought a ring of records, and requests are messages")
