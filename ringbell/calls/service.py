# SPDX-License-Identifier: MIT
"""The loop that answers many drivers in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ringbell.arguments import shown
from ringbell.calls.device import Device
from ringbell.calls.failures import Failures
from ringbell.calls.listener import Listener
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import LACKING
from ringbell.channel.nudge import Nudge
from ringbell.deadlines import seconds_left
from ringbell.errors import ChannelClosed, CorruptRing, EndOfStream, PeerLost
from ringbell.waiting import Waiter

if TYPE_CHECKING:
    from ringbell._types import ObjectHandler

_log = logging.getLogger("ringbell")

_TURN = 32
"""The most requests of one driver that are answered before the next driver has its turn."""


@dataclass(eq=False, slots=True)
class ServedDriver:
    """A driver that a `Server` serves."""

    pid: int
    """Of its process; 0 when it is in another PID namespace."""
    since: float
    """When it connected, in seconds of `time.time()`."""
    device: Device = field(repr=False)
    """This side of its channel. `device.stats()` has its counters; `device.close()` ends it."""
    requests: int = 0
    """How many of its requests the handler has been called for."""


def check_handler(handler: ObjectHandler) -> None:
    """Raise TypeError if the handler cannot be called, before any driver connects."""
    if not callable(handler):
        raise TypeError(
            "the handler is a function that takes a request's payload and returns the answer, not "
            f"{shown(handler)}"
        )


class Service(Closing):
    """Answers the drivers that connect to a listener, which the caller owns."""

    def __init__(
        self,
        listener: Listener,
        handler: ObjectHandler,
        arrived: Callable[[ServedDriver], object] | None = None,
        left: Callable[[ServedDriver], object] | None = None,
    ) -> None:
        """Prepare to serve; `run` does."""
        check_handler(handler)
        self._listener = listener
        self._handler = handler
        self._arrived = arrived
        self._left = left
        self._failures = Failures()
        self._drivers: dict[Device, ServedDriver] = {}
        self._running = threading.Lock()
        self._closed = False
        self._stops = False
        policy = listener._policy
        self._waiter: Waiter[Device | Listener | Nudge] = Waiter(
            polling=policy.polling, max_poll=policy.max_poll, max_share=policy.max_share
        )
        self._nudge = Nudge()
        self._waiter.add(self._nudge)
        self._waiter.add(listener)

    @property
    def drivers(self) -> list[ServedDriver]:
        """The drivers that are connected, in the order of their arrival."""
        return list(self._drivers.values())

    def run(self) -> None:
        """Serve until `stop`, `close`, or an exception of the handler that is no Exception."""
        if not self._running.acquire(blocking=False):
            raise RuntimeError("this server serves already, in another thread or in its handler")
        try:
            self._serve_all()
        finally:
            self._running.release()
            if self._closed:
                self._close_waiter()

    def stop(self) -> None:
        """Have `run` return. Any thread, signal handler or handler may call this."""
        self._stops = True
        self._nudge.give()

    def close(self) -> None:
        """Close the channels of all drivers. Those with requests in flight get PeerLost."""
        self._closed = True
        self._nudge.give()
        for device in list(self._drivers):
            _part_from(device)
        self._close_waiter()

    # ---- the loop ----

    def _serve_all(self) -> None:
        while True:
            if self._closed:
                raise ChannelClosed("this server has been closed; make another one")
            if self._stops:
                self._stops = False
                return
            ready = self._waiter.wait(seconds_left(self._listener._silence_over()))
            if not ready:
                self._let_in()  # a guest has been silent for too long, and has to go
            for member in ready:
                if isinstance(member, Device):
                    self._serve(self._drivers[member])
                elif member is self._listener:
                    self._let_in()
                else:
                    self._nudge.take()
                if self._stops or self._closed:
                    break

    def _let_in(self) -> None:
        """Accept all drivers that have come."""
        while True:
            try:
                device = self._listener.accept(timeout=0)
            except TimeoutError:
                return
            except OSError as error:
                if error.errno not in LACKING:
                    raise
                _log.warning("refused a driver on %s: %s", self._listener.path, error.strerror)
                return
            try:
                self._waiter.add(device)
            except OSError as error:  # the kernel has a limit of its own for what one may watch
                device._give_up()
                _log.warning("gave up a driver on %s: %s", self._listener.path, error.strerror)
                return
            self._welcome(device)

    def _welcome(self, device: Device) -> None:
        driver = ServedDriver(device._channel.peer_pid, time.time(), device)
        self._drivers[device] = driver
        try:
            if self._arrived:
                self._arrived(driver)
        except BaseException:
            self._forget(driver)
            device._give_up()
            raise

    def _serve(self, driver: ServedDriver) -> None:
        """Answer what has come from one driver."""
        device = driver.device
        sole = len(self._drivers) == 1
        try:
            answered = device._serve_ready(self._handler, self._failures.text_of, _TURN, sole)
            driver.requests += answered
        except BaseException as error:
            ended = _end(device, error)
            self._forget(driver)
            if not ended:
                raise
            if self._left:
                self._left(driver)

    def _forget(self, driver: ServedDriver) -> None:
        if self._drivers.pop(driver.device, None):
            self._waiter.discard(driver.device)

    def _close_waiter(self) -> None:
        """Close what this made, unless a thread is inside of `run`: that one does it then."""
        if not self._running.acquire(blocking=False):
            return
        try:
            for driver in list(self._drivers.values()):
                _part_from(driver.device)
                self._forget(driver)
                if self._left:
                    self._left(driver)
            self._waiter.close()
            self._nudge.close()
        finally:
            self._running.release()


def serve_driver(device: Device, handler: ObjectHandler) -> None:
    """Answer one driver until it closes or dies. Nobody else has to be waited for."""
    try:
        device._serve(handler, Failures().text_of)
    except BaseException as error:
        if not _end(device, error):
            raise


def _end(device: Device, error: BaseException) -> bool:
    """Close a channel after its serving has raised; say whether its driver's end was all."""
    if isinstance(error, (PeerLost, CorruptRing)):
        _log.warning("%s", error)
    elif not isinstance(error, (EndOfStream, ChannelClosed)):
        _part_from(device)
        return False
    device.close()
    return True


def _part_from(device: Device) -> None:
    """Close a channel: a driver that waits for an answer must get PeerLost, not EndOfStream."""
    if not device._channel.closed and device._idle():
        device.close()
    device._give_up()  # does nothing if it has been closed
