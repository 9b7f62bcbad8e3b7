# SPDX-License-Identifier: MIT
"""The side that asks."""

from __future__ import annotations

import contextlib
import errno
import operator
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.calls.completion import Completion
from ringbell.calls.side import Side
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import EndOfStream, PeerLost, RingEmpty
from ringbell.ring.buffers import as_buffer
from ringbell.ring.consumer import Consumer
from ringbell.ring.ends import in_use, ring_full
from ringbell.ring.frame import Frame
from ringbell.ring.producer import Producer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_send = lib.rb_send
_recv = lib.rb_recv
_recv_answer = lib.rb_recv_answer
_MESSAGE = lib.RB_MESSAGE
_DATA = lib.RB_DATA
_SPACE = lib.RB_SPACE
_EAGAIN = -errno.EAGAIN
_NOW = 0.0  # a deadline that has passed


class Driver(Side):
    """Submits requests to a device and takes its completions; made by `connect`.

    For one thread at a time: a second one gets RuntimeError. A context manager; leaving it closes
    the channel.

    If a signal handler raises in the middle of a call (Ctrl-C), the channel stays usable: what was
    asked for by `call` or `map` and not yet answered is dropped when its answer arrives, and what
    `submit` sent without being able to return its token comes out of `reap`.
    """

    __slots__ = (
        "_for_reap",
        "_handle",
        "_in_flight",
        "_last_token",
        "_next_token",
        "_ready",
        "doorbell",
        "interrupt",
    )

    def __init__(self, channel: Channel) -> None:
        """Drive a channel that has been opened; users call `connect`."""
        self._handle = channel.handle
        self.doorbell = Producer(channel)
        """The producing end of the doorbell ring, for messages that want no completion."""
        self.interrupt = Consumer(channel)
        """The consuming end of the interrupt ring.

        What it lent by `borrow` is released when this driver takes a completion; BufferError then
        while a part of it is in use."""
        super().__init__(channel, self.doorbell, self.interrupt)
        self._next_token = 1  # 0 is for messages that want no completion
        # By token, where the one who waits for the completion will look for it. What nobody waits
        # for any longer goes to a place that nobody has any longer.
        self._in_flight: dict[int, dict[int, Completion]] = {}
        self._ready: OrderedDict[int, Completion] = OrderedDict()  # the place of reap
        self._for_reap = 0  # how many are in flight to there
        sent = channel.memory(lib.rb_last_token(self._handle), 8)
        self._last_token = memoryview(sent).cast("Q")

    @property
    def in_flight(self) -> int:
        """How many requests have no completion yet, or one that `reap` has not handed over."""
        return len(self._in_flight) + len(self._ready)

    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give: all of the ring."""
        return self.doorbell.max_payload

    def submit(self, payload: ReadableBuffer, timeout: float | None = None) -> int:
        """Copy one request (any contiguous buffer, of any size) into the ring; return its token.

        Blocks while the doorbell ring is full; completions that arrive meanwhile are set aside
        for `reap`, so that a device which waits for room itself goes on. Raises RingFull after
        `timeout` seconds (the request was not sent), EndOfStream or PeerLost when the device is
        gone, TypeError for what is not a buffer, ChannelClosed after close.
        """
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            deadline = None if timeout is None else deadline_after(timeout)
            return self._send(payload, deadline, self._ready)
        finally:
            requests.inside = arrivals.inside = False

    def reap(self, timeout: float | None = None) -> Completion:
        """Take the next completion of a request made by `submit` or `reserve`, in any order.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds, and at once when no
        such request is in flight; EndOfStream or PeerLost when the device is gone and all that it
        completed has been taken; ChannelClosed after close.
        """
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            polled = False
            if (
                timeout is None
                and self._for_reap
                and not (arrivals.whole or arrivals.lent or self._ready)
            ):
                # The short way, for a short answer of our own. What it does not take in hand is
                # given again to the long way.
                length = _recv(self._handle, arrivals.taken, -1)
                if length >= 0:
                    token = arrivals.frame.token
                    if self._in_flight.get(token) is self._ready:
                        completion = Completion(
                            token, arrivals.scratch[:length], arrivals.frame.kind == _MESSAGE
                        )
                        del self._in_flight[token]
                        self._for_reap -= 1
                        arrivals.taken += 1
                        return completion
                polled = length == _EAGAIN
            deadline = deadline_after(timeout)
            if not self._ready:
                lib.rb_in_hand(self._handle, False)
            while not self._ready:
                if not self._for_reap:
                    self._raise_if_unusable()
                    if self._channel.is_pollable:
                        self._set_aside()  # drops what nobody waits for, or it stays readable
                    raise RingEmpty("no request is in flight, so no completion can arrive")
                self._receive(deadline, polled)
                polled = False
            token = next(iter(self._ready))
            completion = self._ready[token]
            # Last, and no call: a signal handler cannot come between this and the return.
            del self._ready[token]
            return completion
        finally:
            requests.inside = arrivals.inside = False

    def call(self, payload: ReadableBuffer, timeout: float | None = None) -> bytes:
        """Submit one request and wait for its answer, at most `timeout` seconds in all.

        Raises RequestFailed with the device's text when it failed the request, RingFull or
        RingEmpty when the time is over (an answer that comes later is dropped), and what `submit`
        raises.
        """
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            arrived: dict[int, Completion] = {}
            if timeout is None and not arrivals.whole and not arrivals.lent:
                # The short way, for a short answer that comes next. If an exception ends it, the
                # answer belongs to no token in flight, and is dropped.
                token = self._next_token
                self._next_token = token + 1
                data = payload if type(payload) is bytes else as_buffer(payload)
                if _send(self._handle, data, len(data), token, 0) == 0:
                    length = _recv_answer(self._handle, arrivals.taken, -1, token)
                    if length >= 0:
                        answer: bytes = arrivals.scratch[:length]
                        arrivals.taken += 1
                        return answer
                    self._in_flight[token] = arrived
                    return self._answer_to(token, arrived, None, polled=True)
            deadline = None if timeout is None else deadline_after(timeout)
            token = self._send(payload, deadline, arrived)
            return self._answer_to(token, arrived, deadline)
        finally:
            requests.inside = arrivals.inside = False

    def map(
        self, payloads: Iterable[ReadableBuffer], depth: int = 128, timeout: float | None = None
    ) -> Iterator[bytes]:
        """Submit each payload and yield the answers in the same order, `depth` in flight.

        Payloads are drawn from the iterable as room is there, so it may be endless. `timeout` is
        for each step, in seconds. Raises, at the place of the answer, what `call` raises; what is
        still in flight then, or when the iterator is dropped, is dropped when it arrives.
        """
        if operator.index(depth) < 1:
            raise ValueError(f"depth is how many requests may be in flight, not {depth}")
        return self._map(payloads, depth, timeout)

    def _map(
        self, payloads: Iterable[ReadableBuffer], depth: int, timeout: float | None
    ) -> Iterator[bytes]:
        tokens: deque[int] = deque()
        arrived: dict[int, Completion] = {}
        gone: Exception | None = None
        for payload in payloads:
            if len(tokens) == depth:
                yield self._first_answer(tokens, arrived, timeout)
            try:
                self._send_for_map(payload, tokens, arrived, timeout)
            except (EndOfStream, PeerLost) as error:
                gone = error  # but first what was answered before
                break
        while tokens:
            yield self._first_answer(tokens, arrived, timeout)
        if gone is not None:
            raise gone

    def reserve(self, size: int, timeout: float | None = None) -> Frame:
        """Give room for a request of up to `size` bytes, to be written in place.

        `with driver.reserve(4096) as frame: frame.payload[:] = ...` submits it at the end of the
        block as `frame.token`; an exception abandons it. Set `frame.length` to send fewer bytes.
        Blocks as `submit` does. Raises ValueError when `size` is larger than `max_payload`, and
        what `submit` raises.
        """
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            token = self._next_token
            self._next_token = token + 1
            return self.doorbell.reserve_frame(
                size, token, timeout, self._wait_for_room, self._publish
            )
        finally:
            requests.inside = arrivals.inside = False

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else f"{self.in_flight} in flight"
        return f"<ringbell.Driver of process {self._channel.peer_pid}, {state}>"

    def _send(
        self,
        payload: ReadableBuffer,
        deadline: float | None,
        place: dict[int, Completion],
    ) -> int:
        data = payload if type(payload) is bytes else as_buffer(payload)
        size = len(data)
        token = self._next_token
        try:
            # In flight before it is sent: whatever happens after that, its answer is known.
            self._in_flight[token] = place
            self._for_reap += place is self._ready
            self._next_token = token + 1
            status = _send(self._handle, data, size, token, 0)
            if status:
                self.doorbell.send_slowly(status, data, token, deadline, self._wait_for_room)
            return token
        except BaseException:
            # Not sent whole, so no answer will come. No call here, see _receive.
            if self._last_token[0] != token and token in self._in_flight:
                del self._in_flight[token]
                self._for_reap -= place is self._ready
            raise

    def _publish(self, reservation: int, length: int, token: int) -> None:
        try:
            self._in_flight[token] = self._ready
            self._for_reap += 1
            self.doorbell.publish(reservation, length, token)
        except BaseException:
            if self._last_token[0] != token and token in self._in_flight:
                del self._in_flight[token]
                self._for_reap -= 1
            raise

    def _wait_for_room(self, deadline: float | None) -> None:
        """Wait until the doorbell ring has room, and set aside what arrives meanwhile.

        Without that a device that waits for room in the interrupt ring and a driver that waits
        for room in the doorbell ring would wait for each other.
        """
        # Also before the wait: a piece in hand that an exception kept from being released is not
        # news that would end it.
        self._set_aside()
        if not self._channel.wait(_SPACE | _DATA, deadline):
            raise ring_full()
        self._set_aside()

    def _set_aside(self) -> None:
        with contextlib.suppress(RingEmpty):
            while True:
                self._receive(_NOW)
        if self._ready:
            lib.rb_in_hand(self._handle, True)  # to an event loop they have still to arrive

    def _answer_to(
        self,
        token: int,
        arrived: dict[int, Completion],
        deadline: float | None,
        polled: bool = False,
    ) -> bytes:
        arrivals = self.interrupt
        if (
            deadline is None
            and not polled
            and not (arrivals.whole or arrivals.lent)
            and not arrived
        ):
            # The short way, for the short answer that is expected.
            length = _recv_answer(self._handle, arrivals.taken, -1, token)
            if length >= 0:
                answer: bytes = arrivals.scratch[:length]
                del self._in_flight[token]
                arrivals.taken += 1
                return answer
            polled = True
        while token not in arrived:
            self._receive(deadline, polled)
            polled = False
        return arrived.pop(token).result()

    def _first_answer(
        self, tokens: deque[int], arrived: dict[int, Completion], timeout: float | None
    ) -> bytes:
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            deadline = None if timeout is None else deadline_after(timeout)
            answer = self._answer_to(tokens[0], arrived, deadline)
            tokens.popleft()
            return answer
        finally:
            requests.inside = arrivals.inside = False

    def _send_for_map(
        self,
        payload: ReadableBuffer,
        tokens: deque[int],
        arrived: dict[int, Completion],
        timeout: float | None,
    ) -> None:
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            deadline = None if timeout is None else deadline_after(timeout)
            tokens.append(self._send(payload, deadline, arrived))
        finally:
            requests.inside = arrivals.inside = False

    def _receive(self, deadline: float | None, polled: bool = False) -> None:
        """Wait for one completion and put it where the one who waits for it will look.

        One that nobody asked for is dropped.
        """
        arrivals = self.interrupt
        if arrivals.lent:
            arrivals.give_back()
        if not arrivals.whole:
            patience = -1 if deadline is None and not polled else 0
            length = _recv(self._handle, arrivals.taken, patience)
            if length < 0:
                self._get_ready(length, deadline, polled or patience == -1)
        if arrivals.whole:
            _, token, kind = arrivals.whole
            payload = arrivals.pieces
        else:
            frame = arrivals.frame
            token, kind = frame.token, frame.kind
            payload = arrivals.scratch[: frame.stop]
        completion = Completion(token, payload, kind == _MESSAGE)
        # No call from here on: no signal handler comes between filing and taking.
        in_flight = self._in_flight
        if token in in_flight:
            place = in_flight[token]
            del in_flight[token]
            self._for_reap -= place is self._ready
            place[token] = completion
        if arrivals.whole:
            arrivals.whole = None
            arrivals.pieces = b""
        else:
            arrivals.taken += 1

    def _get_ready(self, status: int, deadline: float | None, polled: bool) -> None:
        try:
            self.interrupt.get_ready(status, deadline, polled)
        except (EndOfStream, PeerLost) as error:
            if self._in_flight:
                error.add_note(f"requests in flight that were not answered: {len(self._in_flight)}")
            raise

    def _raise_if_unusable(self) -> None:
        status = lib.rb_wait_poll(self._handle, _DATA, 0)
        if status < 0:
            self._channel.fail(status)
