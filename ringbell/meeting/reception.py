# SPDX-License-Identifier: MIT
"""The reception hears all processes that have connected at once, until one is the partner.

Such a process is a guest. Any process may connect, say nothing or garbage, or go away half-way.
The reception does not wait for a single guest. It tells a wrong guest the reason, and forgets it.
Guests are bounded in number and in time: when one too many comes, the oldest guest has to go.
"""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path
from typing import Protocol, TypeVar

from ringbell._ffi import lib
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import LACKING, Descriptor, Descriptors, make, os_error
from ringbell.deadlines import seconds_left
from ringbell.errors import ChannelClosed, LayoutMismatch, PeerLost
from ringbell.meeting import datagrams, handshake, waits
from ringbell.meeting.control_socket import ListeningSocket
from ringbell.policy import Policy

_log = logging.getLogger("ringbell")

MOST_GUESTS = 100
_FIRST_WORDS = 2.0  # seconds; a partner speaks as soon as it has connected
_ANSWER = 10.0  # seconds; a consumer may have to load NumPy before it answers
_PAUSE = 0.1  # seconds
_MOST_TEXTS = 20
# The errors of accept when no guest is there (any more), or when this side has stopped listening.
_NOBODY = (errno.EAGAIN, errno.ECONNABORTED, errno.EINVAL, errno.EBADF)


class Guest(Descriptors):
    """A process that has connected to this side."""

    __slots__ = ("introduced", "over")

    def __init__(self, control: Descriptor) -> None:
        """Give the guest two seconds for its first words."""
        super().__init__(control)
        self.introduced: bool = False
        """Whether the guest has the right role, and the host has answered."""
        self.over: float = time.monotonic() + _FIRST_WORDS

    def answered(self) -> None:
        """Note that the host has answered, and waits for what the guest says next."""
        self.introduced = True
        self.over = time.monotonic() + _ANSWER


_Partner = TypeVar("_Partner", covariant=True)
_T = TypeVar("_T")


class Host(Protocol[_Partner]):
    """A side that waits for a partner, and answers guests."""

    role: handshake.Role
    policy: Policy

    def meet(self, guest: Guest) -> _Partner | None:
        """Open the channel with a guest of the right role, or answer and wait for its next words.

        Raises an error that says what is wrong with the guest, or with this side.
        """

    def go_on(self, guest: Guest, text: bytes, /) -> _Partner | None:
        """Hear what a guest says next."""


class Reception(Closing):
    """Listens at a path, and hears all guests at once."""

    __slots__ = ("_closed", "_guests", "_listening", "_spare", "_texts", "_watch")

    def __init__(self, path: Path, patient: bool = True) -> None:
        """Listen at `path`; raises OSError (EADDRINUSE) when another process does already."""
        self._closed = False
        self._listening = ListeningSocket(path, patient)
        self._guests: list[Guest] = []
        self._spare = Descriptor()
        self._watch = Descriptor()
        self._texts: set[str] = set()
        try:
            self._spare = make("a spare descriptor", lib.rb_owned_spare)
            # A sleep makes descriptors the first time. They are made now, while there are some.
            waits.pause(0)
        except OSError as error:
            self.close()
            raise os_error(error.errno or errno.EIO, str(error)) from None
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The path of the socket."""
        return self._listening.path

    @property
    def listens(self) -> bool:
        """Whether it has not been closed."""
        return self._listening.listens

    def fileno(self) -> int:
        """Give a descriptor that is readable when `receive` has something to do."""
        listening = self._listening.socket
        if listening is None:
            raise _closed_error()
        if self._watch.fileno() < 0:
            watch = make("an epoll descriptor", lib.rb_owned_epoll)
            for owner in (listening, *(guest.control for guest in self._guests)):
                lib.rb_epoll_watch(watch.fileno(), owner.fileno())
            self._watch = watch
        return self._watch.fileno()

    def silence_over(self) -> float | None:
        """Say when `receive` has to forget a silent guest, by the monotonic clock."""
        guests = list(self._guests)
        return min(guest.over for guest in guests) if guests else None

    def close(self) -> None:
        """Free the name, and drop all guests. Closing twice does nothing."""
        self._closed = True
        self._watch.close()
        self.stop_listening()
        self._guests.clear()
        self._spare.close()

    def stop_listening(self) -> None:
        """Free the name, and keep the guests."""
        self._listening.close()

    def receive(self, host: Host[_T], deadline: float | None) -> _T | None:
        """Wait for the partner of `host`, and give what the host has made for it, mostly a channel.

        Gives None when the host has freed the name for a guest, and then that guest failed. Raises
        TimeoutError; ChannelClosed when this has been closed; OSError (EMFILE, ENFILE) when there
        is no descriptor for a guest; LayoutMismatch when the partner has other records.
        """
        while True:
            listening = self._listening.socket
            if self._listening.forked:
                raise ChannelClosed(
                    f"the process that this one was forked from waits at {self.path}; use another "
                    "name in this process"
                )
            if listening is None and self._closed:
                raise _closed_error()
            if listening is None:
                return None
            over = seconds_left(deadline) == 0
            guests = list(self._guests)
            fds = [guest.control.fileno() for guest in guests]
            ready = set(
                waits.wait_readable([listening.fileno(), *fds], self._patience(guests, deadline))
            )
            for guest, fd in zip(guests, fds, strict=True):
                if fd in ready and self.listens and (channel := self._hear(guest, host)):
                    return channel
            if listening.fileno() in ready and (channel := self._let_in(listening, host)):
                return channel
            self._forget_silent()
            if over:
                raise TimeoutError(f"nobody connected to {self.path} within the timeout")

    def _patience(self, guests: list[Guest], deadline: float | None) -> float | None:
        """Say how long to wait: until the deadline, or until the time of a guest is over."""
        times = [guest.over for guest in guests]
        return seconds_left(min(times if deadline is None else [*times, deadline], default=None))

    def _forget_silent(self) -> None:
        now = time.monotonic()
        for guest in list(self._guests):
            if guest.over <= now and self._claim(guest):
                self._turn_away(guest, LayoutMismatch("the guest said nothing for too long"))

    # ---- coming in ----

    def _let_in(self, listening: Descriptor, host: Host[_T]) -> _T | None:
        """Accept all guests that have connected, and hear those that have spoken already."""
        for _ in range(MOST_GUESTS):
            control = self._accept(listening, host)
            if control is None:
                return None
            guest = Guest(control)
            try:
                datagrams.peer_of(control)
            except OSError as error:
                self._turn_away(guest, error)
                continue
            self._guests.append(guest)
            if self._watch.fileno() >= 0:
                lib.rb_epoll_watch(self._watch.fileno(), control.fileno())
            if channel := self._hear(guest, host):
                return channel
            if len(self._guests) > MOST_GUESTS:
                self._make_room(BlockingIOError(errno.EAGAIN, f"too many guests at {self.path}"))
        return None

    def _accept(self, listening: Descriptor, host: Host[object]) -> Descriptor | None:
        """Accept one guest; None when nobody is there."""
        while True:
            control = Descriptor()
            status = lib.rb_socket_accept(control.handle, listening.fileno())
            if not status:
                return control
            if -status in LACKING:
                # The kernel says this even when nobody is there to be accepted.
                if not waits.wait_readable([listening.fileno()], 0):
                    return None
                error = os_error(-status, "")
                if not self._make_room(handshake.lacking(host.role, error)):
                    self._refuse_one(listening, handshake.lacking(host.role, error))
                    raise error
            elif -status in _NOBODY:
                return None
            else:
                _pause()
                return None

    def _refuse_one(self, listening: Descriptor, error: OSError) -> None:
        """Accept one guest with the spare descriptor, and tell it that there is no other one."""
        self._spare.close()
        control = Descriptor()
        if lib.rb_socket_accept(control.handle, listening.fileno()):
            _pause()  # without a pause the caller's next attempts would be a busy loop
        else:
            handshake.refuse(control, error)
        control.close()
        lib.rb_owned_spare(self._spare.handle)

    # ---- being heard ----

    def _claim(self, guest: Guest) -> bool:
        """Take a guest off the list; False when another thread has taken it."""
        try:
            self._guests.remove(guest)
        except ValueError:
            return False
        return True

    def _hear(self, guest: Guest, host: Host[_T]) -> _T | None:
        """Hear what a guest says, and answer. If anything is wrong, the guest has to go."""
        if not self._claim(guest):
            return None
        try:
            text = datagrams.hear(guest)
            channel = None if text is None else self._act(guest, text, host)
        except ConnectionError as error:  # PeerLost is one
            guest.close()
            _log.debug("a guest at %s went away: %s", self.path, error)
            return None
        except handshake.OtherRecords as error:
            self._turn_away(guest, error)
            raise LayoutMismatch(str(error)) from None
        except (LayoutMismatch, handshake.WrongPartner) as error:
            self._turn_away(guest, error)
            return None
        except OSError as error:
            if error.errno in LACKING:
                handshake.refuse(guest.control, handshake.lacking(host.role, error))
                guest.close()
                raise
            # The guest must not take this for a failure of its own.
            why = f"the {host.role} cannot open the channel: {error.strerror or error}"
            self._turn_away(guest, OSError(error.errno, why))
            return None
        except BaseException:
            guest.close()
            raise
        if channel:
            guest.give_up_memory()
            if self._watch.fileno() >= 0:
                lib.rb_epoll_forget(self._watch.fileno(), guest.control.fileno())
        else:
            self._guests.append(guest)
        return channel

    def _act(self, guest: Guest, text: bytes, host: Host[_T]) -> _T | None:
        if guest.introduced:
            return host.go_on(guest, text)
        if not text:
            raise PeerLost("the guest said nothing")
        handshake.check_hello(text, guest, host.role, host.policy.codec)
        return host.meet(guest)

    def _turn_away(self, guest: Guest, error: Exception) -> None:
        """Tell a guest why it has to go."""
        handshake.refuse(guest.control, error)
        guest.close()
        text = str(error)
        # A guest that comes again and again gives one warning; the commands show INFO, too.
        level = logging.DEBUG
        if text not in self._texts and len(self._texts) < _MOST_TEXTS:
            self._texts.add(text)
            # One with the role of this side is told by its own error, or waits behind this one.
            same = isinstance(error, handshake.SameRole)
            level = logging.INFO if same else logging.WARNING
        _log.log(level, "refused a guest at %s: %s", self.path, text)

    def _make_room(self, error: OSError) -> bool:
        """Turn the oldest guest away; False when there is none."""
        guest = min(list(self._guests), key=lambda guest: guest.over, default=None)
        if guest is None:
            return False
        if self._claim(guest):
            self._turn_away(guest, error)
        return True


def _closed_error() -> ChannelClosed:
    return ChannelClosed("this listener has been closed; listen again to go on")


def _pause() -> None:
    waits.pause(_PAUSE)
