# SPDX-License-Identifier: MIT
"""How the two sides of a stream find each other under a name."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import LACKING, Descriptor, Descriptors
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import datagrams, handshake, segment, waits
from ringbell.meeting.address import hint_about
from ringbell.meeting.control_socket import connect_socket
from ringbell.meeting.reception import Guest, Reception
from ringbell.policy import Policy

if TYPE_CHECKING:
    import numpy as np

_PAUSE = 0.001  # seconds
_LONGEST_PAUSE = 0.05
_log = logging.getLogger("ringbell")


class Meeting:
    """One side of a stream, which looks for the other side.

    The side that comes first listens, and the other side connects. A process that is no partner is
    refused, and this side goes on listening. Otherwise a process that tries again and again could
    take a name that is in use.
    """

    role: handshake.Role
    nobody: ClassVar[str]

    def __init__(
        self, name: str | os.PathLike[str], path: Path, policy: Policy, timeout: float | None
    ) -> None:
        """Prepare to find a partner at `path` within `timeout` seconds from now."""
        self.policy: Policy = policy
        self.deadline: float | None = deadline_after(timeout)
        self._waits: bool = timeout != 0
        self._name = str(name)
        self._path = path
        self._reception: Reception | None = None
        self._what_happens = "waited on"  # at the path
        self._pause = _PAUSE

    def find_partner(self) -> Channel:
        """Find the other side, and open the channel with it.

        Raises TimeoutError when nobody came in time; LayoutMismatch when the process there is no
        partner, or carries something else; OSError (EADDRINUSE) when it has the same role as this
        side.
        """
        try:
            while True:
                if channel := self._look_once():
                    return channel
        except TimeoutError:
            raise self._timeout() from None

    def approach(self, owned: Descriptors) -> Channel | None:
        """Open the channel with the process that this side has connected to.

        Gives None when that one is no partner now, and this side should look again.
        """
        raise NotImplementedError

    def meet(self, guest: Guest) -> Channel | None:
        """Open the channel with a guest, or answer it; see `Host`."""
        raise NotImplementedError

    def go_on(self, guest: Guest, text: bytes, /) -> Channel | None:
        """Hear what a guest says next; see `Host`."""
        raise NotImplementedError

    def free_name(self) -> None:
        """Stop listening, before the other side can think that the name is free."""
        assert self._reception is not None, "somebody has connected"
        self._reception.stop_listening()

    def _timeout(self) -> OSError:
        """Make the error for a partner that did not come in time."""
        return TimeoutError(
            f"{self.nobody} {self._name!r} within the timeout ({self._what_happens} "
            f"{self._path}{hint_about(self._path)})"
        )

    def _look_once(self) -> Channel | None:
        """Connect if somebody listens, or else listen; None when that found no partner."""
        if control := self._connect():
            return self._approach(control)
        if reception := self._listen():
            with reception:
                self._reception = reception
                self._say_what_is_waited_for()
                return reception.receive(self, self.deadline)
        self._rest()
        return None

    def _rest(self) -> None:
        """Pause before the next look; raises TimeoutError when the time is over."""
        left = seconds_left(self.deadline)
        if left == 0:
            raise TimeoutError
        waits.pause(self._pause if left is None else min(self._pause, left))

    def _connect(self) -> Descriptor | None:
        try:
            return connect_socket(self._path, self.deadline)
        except ConnectionRefusedError:
            return None

    def _approach(self, control: Descriptor) -> Channel | None:
        with Descriptors(control) as owned:
            try:
                return self.approach(owned)
            except TimeoutError:
                self._what_happens = "somebody listens, but does not answer, on"
                raise
            except handshake.SameRole as error:
                handshake.refuse(control, error)
            except handshake.WrongPartner as error:
                raise LayoutMismatch(str(error)) from None
            except LayoutMismatch as error:
                handshake.refuse(control, error)
                raise LayoutMismatch(str(error)) from None
            except (PeerLost, BlockingIOError):  # the other side has gone, or has too many guests
                if seconds_left(self.deadline) == 0:
                    raise TimeoutError from None
            except OSError as error:
                if error.errno in LACKING:
                    handshake.refuse(control, handshake.lacking(self.role, error))
                raise
        return None

    def _listen(self) -> Reception | None:
        """Listen; None when another process has locked the name. It will listen soon."""
        try:
            return Reception(self._path, patient=False)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise

    def _say_what_is_waited_for(self) -> None:
        if not self._waits:
            return
        partner, elsewhere = handshake.PARTNERS[self.role], hint_about(self._path)
        _log.info("waiting for the %s of %r on %s%s", partner, self._name, self._path, elsewhere)


class ProducerMeeting(Meeting):
    """A producer looks for its consumer, and hands the memory to it.

    Where another producer waits already, this one waits behind it: a consumer that gathers takes
    both, and otherwise the next consumer takes this one. No event says that the name is free, so it
    looks now and then.
    """

    role: handshake.Role = "producer"
    nobody = "nobody consumed"

    def __init__(
        self,
        name: str | os.PathLike[str],
        path: Path,
        policy: Policy,
        timeout: float | None,
        made: segment.Segment,
    ) -> None:
        """Prepare to hand `made` over; the caller still owns it."""
        super().__init__(name, path, policy, timeout)
        self._made = made
        self._offered = Descriptors(Descriptor())  # the descriptors that kick
        self._ahead: OSError | None = None  # why this producer waits behind another one
        self._there: tuple[int, int] | None = None  # the socket of that one

    def approach(self, owned: Descriptors) -> Channel | None:
        """Hand the memory to a consumer that listens; None when a producer listens there."""
        try:
            return handshake.offer(
                owned, self.role, self._made, self.policy, self.deadline, self._path
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not self._waits:
                raise
            _log.info("another producer waits on %s already; waiting behind it", self._path)
            self._ahead = error
            return None

    def _connect(self) -> Descriptor | None:
        """Connect, unless the producer listens there that this one waits behind."""
        there = _socket_at(self._path)
        if self._ahead and there == self._there:
            self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
            return None
        self._there, self._ahead, self._pause = there, None, _PAUSE
        return super()._connect()

    def _listen(self) -> Reception | None:
        reception = super()._listen()
        if reception:
            self._ahead = None
        return reception

    def _timeout(self) -> OSError:
        return self._ahead or super()._timeout()

    def meet(self, guest: Guest) -> None:
        """Offer the memory to a guest; the first consumer that takes it gets it."""
        if not self._offered.wake_fds:
            handshake.make_wake_fds(self._offered)
        descriptors = [self._made.descriptor, *self._offered.numbers()]
        handshake.say_hello(guest.control, self.role, descriptors, self.policy.codec)
        guest.answered()

    def go_on(self, guest: Guest, text: bytes, /) -> Channel:
        """Give the memory to the consumer that has said welcome."""
        if text != handshake.WELCOME:
            _check_consumer(text)
        # If the rest fails, the guest's end closes these descriptors. Others have been offered them
        # too, so they have to go: once the name is free, the reception hears no guest any more.
        guest.wake_fds, self._offered = self._offered.wake_fds, Descriptors(Descriptor())
        self.free_name()
        channel = handshake.open_channel(guest, self._made, self.policy)
        try:
            datagrams.say(guest.control, handshake.YOURS)
        except BaseException:
            # The consumer must not take this for the end of the stream.
            channel.close(goodbye=False)
            raise
        return channel


def _socket_at(path: Path) -> tuple[int, int] | None:
    """Identify the socket at a path; None when there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def _check_consumer(text: bytes) -> None:
    """Raise the error for a consumer that did not say welcome."""
    try:
        handshake.check_answer(text, "consumer")
    except LayoutMismatch:
        raise
    except OSError as error:
        raise PeerLost(str(error)) from None
    raise handshake.unknown(text)


class ConsumerMeeting(Meeting):
    """A consumer looks for its producer, and takes the memory from it."""

    role: handshake.Role = "consumer"
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

    def approach(self, owned: Descriptors) -> Channel | None:
        """Take the memory that a producer offers, once the producer has said that it is ours."""
        partner = handshake.PARTNERS[self.role]
        datagrams.peer_of(owned.control)
        handshake.say_hello(owned.control, self.role, codec=self.policy.codec)
        text = datagrams.wait_to_hear(owned, self.deadline, self._path)
        handshake.check_answer(text, partner)
        handshake.check_hello(text, owned, self.role, self.policy.codec)
        return self._take(owned)

    def _take(self, owned: Descriptors) -> Channel:
        """Take the memory that has been offered."""
        header = handshake.check_memory(owned, self._check)
        self._accept_offer(owned)
        return handshake.take_over(owned, header, self.policy)

    def _accept_offer(self, owned: Descriptors) -> None:
        """Say that this side wants the memory, and hear that it has it."""
        datagrams.say(owned.control, handshake.WELCOME)
        text = datagrams.wait_to_hear(owned, self.deadline, self._path)
        if text != handshake.YOURS:
            handshake.check_answer(text, handshake.PARTNERS[self.role])
            raise handshake.unknown(text)

    def meet(self, guest: Guest) -> Channel:
        """Take the memory that a producer brings."""
        header = handshake.check_memory(guest, self._check)
        channel = handshake.take_over(guest, header, self.policy)
        self.free_name()
        return handshake.welcome(channel, guest.control)

    def go_on(self, _guest: Guest, text: bytes, /) -> Channel | None:
        """Refuse: a producer says one thing only."""
        raise handshake.unknown(text)

    def _check(self, description: bytes, slot_size: int) -> None:
        """Learn what the stream carries; refuse it if the caller asked for something else."""
        self.found = None
        if description:
            from ringbell.streams import dtypes  # loads NumPy

            try:
                self.found = dtypes.restore(description, slot_size)
            except dtypes.NotInstalledError as error:
                raise handshake.OtherRecords(str(error)) from None
        if self._wanted is not None and (self.found is None or self.found != self._wanted):
            carried = "messages" if self.found is None else f"records of {self.found}"
            raise handshake.OtherRecords(
                f"the stream carries {carried}, not records of {self._wanted}"
            )
