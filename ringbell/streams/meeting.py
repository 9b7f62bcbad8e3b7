# SPDX-License-Identifier: MIT
"""How the two sides of a stream find each other under a name."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import Descriptors
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import handshake, segment
from ringbell.meeting.address import hint_about
from ringbell.meeting.control_socket import ListeningSocket, connect_socket
from ringbell.policy import Policy

if TYPE_CHECKING:
    import numpy as np

_PAUSE = 0.001  # seconds
_log = logging.getLogger("ringbell")


class Meeting:
    """One side of a stream, which looks for the other side.

    Whichever side comes first listens, and the other one connects. Somebody who is no partner is
    refused and does not end the listening: else whoever tries again and again under a name in use
    would get it.
    """

    role: ClassVar[handshake.Role]
    nobody: ClassVar[str]

    def __init__(
        self, name: str | os.PathLike[str], path: Path, policy: Policy, timeout: float | None
    ) -> None:
        """Prepare to meet somebody at `path` within `timeout` seconds from now on."""
        self.policy = policy
        self.deadline: float | None = deadline_after(timeout)
        self._name = str(name)
        self._path = path

    def meet(self) -> Channel:
        """Find the other side, and open the channel with it.

        Raises TimeoutError when nobody came in time, and what `open_channel` raises.
        """
        try:
            while True:
                if channel := self._look_once():
                    return channel
        except TimeoutError:
            raise TimeoutError(
                f"{self.nobody} {self._name!r} within the timeout (waited on {self._path}"
                f"{hint_about(self._path)})"
            ) from None

    def open_channel(self, owned: Descriptors, listening: ListeningSocket | None) -> Channel:
        """Open the channel with whoever connected to `listening`, or whom this side connected to.

        Frees the name when the partner is there. Raises WrongPartner when somebody else is.
        """
        raise NotImplementedError

    def _look_once(self) -> Channel | None:
        """Connect to who is there, or else listen; None when there was no partner."""
        if control := self._connect():
            return self._try(control, None)
        if listening := self._listen():
            with listening:
                self._say_what_is_waited_for()
                channel = None
                while listening.listens and not channel:
                    channel = self._try(listening.accept(self.deadline), listening)
                return channel
        if seconds_left(self.deadline) == 0:
            raise TimeoutError
        time.sleep(_PAUSE)
        return None

    def _connect(self) -> socket.socket | None:
        try:
            return connect_socket(self._path, self.deadline)
        except ConnectionRefusedError:
            return None

    def _listen(self) -> ListeningSocket | None:
        """Listen; None when somebody else has locked the name, who will listen before long."""
        try:
            return ListeningSocket(self._path)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise

    def _try(self, control: socket.socket, listening: ListeningSocket | None) -> Channel | None:
        """Open the channel with whoever that is; None when it is no partner, or has gone."""
        with Descriptors(control) as owned:
            try:
                return self.open_channel(owned, listening)
            except handshake.SameRole:
                with suppress(OSError):
                    handshake.refuse_same_role(control, self._in_use())
            except (LayoutMismatch, handshake.WrongPartner) as error:
                with suppress(OSError):
                    handshake.refuse(control, str(error))
                if isinstance(error, LayoutMismatch):
                    raise
            except PermissionError as error:  # another user's
                if not listening or not listening.listens:
                    raise
                with suppress(OSError):
                    handshake.refuse(control, str(error))
            except (PeerLost, ConnectionError, TimeoutError):
                if seconds_left(self.deadline) == 0:
                    raise TimeoutError from None
        return None

    def _say_what_is_waited_for(self) -> None:
        if seconds_left(self.deadline) == 0:
            return
        partner, elsewhere = handshake.PARTNERS[self.role], hint_about(self._path)
        _log.info("waiting for the %s of %r on %s%s", partner, self._name, self._path, elsewhere)

    def _in_use(self) -> str:
        partner = handshake.PARTNERS[self.role]
        return f"another {self.role} waits for the {partner} of {self._name!r} already"


class ProducerMeeting(Meeting):
    """A producer looks for its consumer, and hands the memory to it."""

    role: ClassVar[handshake.Role] = "producer"
    nobody = "nobody consumed"

    def __init__(
        self,
        name: str | os.PathLike[str],
        path: Path,
        policy: Policy,
        timeout: float | None,
        made: segment.Segment,
    ) -> None:
        """Prepare to hand `made` over; it stays the caller's."""
        super().__init__(name, path, policy, timeout)
        self._made = made

    def open_channel(self, owned: Descriptors, listening: ListeningSocket | None) -> Channel:
        """Hand the memory to the other side, once it has said that it is a consumer."""
        if listening:
            handshake.peer_of(owned.control)
            handshake.limit_introduction(owned.control, self.deadline)
            handshake.receive_hello(owned, self.role)
            listening.close()  # before the other side can think that the name is free
        return handshake.offer(owned, self.role, self._made, self.policy, self.deadline)


class ConsumerMeeting(Meeting):
    """A consumer looks for its producer, and takes the memory from it."""

    role: ClassVar[handshake.Role] = "consumer"
    nobody = "nobody produced"

    def __init__(
        self,
        name: str | os.PathLike[str],
        path: Path,
        policy: Policy,
        timeout: float | None,
        wanted: np.dtype[Any] | None,
    ) -> None:
        """Prepare to take a stream of `wanted` records; None takes any stream."""
        super().__init__(name, path, policy, timeout)
        self._wanted = wanted
        self.found: np.dtype[Any] | None = None
        """The dtype of the records of the stream, once it is there; None for messages."""

    def open_channel(self, owned: Descriptors, listening: ListeningSocket | None) -> Channel:
        """Take the memory that the other side hands over."""
        handshake.peer_of(owned.control)
        if listening:
            handshake.limit_introduction(owned.control, self.deadline)
        else:
            owned.control.settimeout(seconds_left(self.deadline))
            handshake.say_hello(owned.control, self.role, [])
        handshake.receive_hello(owned, self.role)
        if listening:
            listening.close()  # before the other side can think that the name is free
        return handshake.take_over(owned, self.policy, self._check)

    def _check(self, description: bytes, slot_size: int) -> None:
        """Learn what the stream carries; refuse what was not asked for."""
        self.found = None
        if description:
            from ringbell.streams import dtypes  # loads NumPy

            self.found = dtypes.restore(description, slot_size)
        if self._wanted is not None and (self.found is None or self.found != self._wanted):
            carried = "messages" if self.found is None else f"records of {self.found}"
            raise LayoutMismatch(f"the stream carries {carried}, not records of {self._wanted}")
