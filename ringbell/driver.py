# SPDX-License-Identifier: MIT
"""The side that asks."""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ringbell._ffi import lib
from ringbell.buffers import as_buffer
from ringbell.channel import Channel, deadline_after
from ringbell.completion import Completion
from ringbell.consumer import Consumer
from ringbell.errors import EndOfStream, PeerLost, RingEmpty
from ringbell.frame import Frame
from ringbell.in_use import in_use
from ringbell.producer import Producer, ring_full
from ringbell.stats import Stats

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_send = lib.rb_send
_recv = lib.rb_recv
_recv_answer = lib.rb_recv_answer
_MESSAGE = lib.RB_MESSAGE
_DATA = lib.RB_DATA
_SPACE = lib.RB_SPACE
_NOW = 0.0  # a deadline that has passed

# Who waits for the completion of a token in flight.
_REAP = 0
_CALL = 1
_NOBODY = 2


class Driver:
    """Submits requests to a device and takes its completions; made by `connect`.

    For one thread at a time: a second one gets RuntimeError. A context manager; leaving it closes
    the channel.

    If a signal handler raises in the middle of a call (Ctrl-C), the channel stays usable: what was
    asked for by `call` or `map` and not yet answered is dropped when its answer arrives, and what
    `submit` sent without being able to return its token comes out of `reap`.
    """

    __slots__ = (
        "_arrived",
        "_channel",
        "_for_reap",
        "_handle",
        "_in_flight",
        "_next_token",
        "_ready",
        "doorbell",
        "interrupt",
    )

    def __init__(self, channel: Channel) -> None:
        """Drive a channel that has been opened; users call `connect`."""
        self._channel = channel
        self._handle = channel.handle
        self.doorbell = Producer(channel)
        """The producing end of the doorbell ring, for messages that want no completion."""
        self.interrupt = Consumer(channel)
        """The consuming end of the interrupt ring."""
        self._next_token = 1  # 0 is for messages that want no completion
        self._in_flight: dict[int, int] = {}
        self._for_reap = 0  # how many of those are submit's
        self._ready: OrderedDict[int, Completion] = OrderedDict()  # arrived, for reap
        self._arrived: dict[int, Completion] = {}  # arrived, for call and map

    @property
    def in_flight(self) -> int:
        """How many requests were submitted whose completions have not been handed over."""
        return len(self._in_flight) + len(self._ready) + len(self._arrived)

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
            return self._send(payload, None if timeout is None else deadline_after(timeout), _REAP)
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
            if timeout is None and not arrivals.whole and not self._ready:
                # The short way, for a short answer of our own. What it does not take in hand is
                # given again to the long way.
                length = _recv(self._handle, arrivals.taken, -1)
                if length >= 0:
                    token = arrivals.frame.token
                    if self._in_flight.get(token) == _REAP:
                        completion = Completion(
                            token, arrivals.scratch[:length], arrivals.frame.kind == _MESSAGE
                        )
                        del self._in_flight[token]
                        self._for_reap -= 1
                        arrivals.taken += 1
                        return completion
            deadline = deadline_after(timeout)
            while not self._ready:
                if not self._for_reap:
                    self._raise_if_unusable()
                    raise RingEmpty("no request is in flight, so no completion can arrive")
                self._receive(deadline)
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
        token = self._next_token
        try:
            if timeout is None and not arrivals.whole:
                # The short way, for a short answer that comes next. If an exception ends it, the
                # answer belongs to no token in flight, and is dropped.
                self._next_token = token + 1
                data = payload if type(payload) is bytes else as_buffer(payload)
                if _send(self._handle, data, len(data), token, 0) == 0:
                    length = _recv_answer(self._handle, arrivals.taken, -1, token)
                    if length >= 0:
                        answer: bytes = arrivals.scratch[:length]
                        arrivals.taken += 1
                        return answer
                    self._in_flight[token] = _CALL
                    return self._answer_to(token, None)
                token = self._next_token
            deadline = None if timeout is None else deadline_after(timeout)
            self._send(payload, deadline, _CALL)
            return self._answer_to(token, deadline)
        except BaseException:
            self._forget(token)
            raise
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
        if depth < 1:
            raise ValueError(f"depth is how many requests may be in flight, not {depth}")
        return self._map(payloads, depth, timeout)

    def _map(
        self, payloads: Iterable[ReadableBuffer], depth: int, timeout: float | None
    ) -> Iterator[bytes]:
        tokens: deque[int] = deque()
        try:
            for payload in payloads:
                if len(tokens) == depth:
                    yield self._first_answer(tokens, timeout)
                self._send_for_map(payload, tokens, timeout)
            while tokens:
                yield self._first_answer(tokens, timeout)
        finally:
            for token in tokens:
                self._forget(token)

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

    def stats(self) -> Stats:
        """Read the four indices and the counters of both sides; also possible after close."""
        return self._channel.stats()

    def close(self) -> None:
        """Say goodbye. The device takes what was submitted; its answers are dropped.

        Never blocks. Closing twice does nothing. Raises RuntimeError when another thread is
        inside.
        """
        if self.doorbell.inside or self.interrupt.inside:
            raise in_use(self)
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else f"{self.in_flight} in flight"
        return f"<ringbell.Driver of process {self._channel.peer_pid}, {state}>"

    def _send(self, payload: ReadableBuffer, deadline: float | None, waits: int) -> int:
        data = payload if type(payload) is bytes else as_buffer(payload)
        size = len(data)
        token = self._next_token
        try:
            # In flight before it is sent: whatever happens after that, its answer is known.
            self._in_flight[token] = waits
            self._for_reap += waits == _REAP
            self._next_token = token + 1
            status = _send(self._handle, data, size, token, 0)
            if status:
                self.doorbell.send_slowly(status, data, token, deadline, self._wait_for_room)
            return token
        except BaseException:
            self._withdraw(token)
            raise

    def _publish(self, length: int, token: int) -> None:
        try:
            self._in_flight[token] = _REAP
            self._for_reap += 1
            self.doorbell.publish(length, token)
        except BaseException:
            self._withdraw(token)
            raise

    def _withdraw(self, token: int) -> None:
        """After an exception: no answer will come to a request that was not sent whole."""
        if lib.rb_last_token(self._handle) != token:
            self._for_reap -= self._in_flight.pop(token, _NOBODY) == _REAP

    def _wait_for_room(self, deadline: float | None) -> None:
        """Wait until the doorbell ring has room, and set aside what arrives meanwhile.

        Without that a device that waits for room in the interrupt ring and a driver that waits
        for room in the doorbell ring would wait for each other.
        """
        if not self._channel.wait(_SPACE | _DATA, deadline):
            raise ring_full()
        with contextlib.suppress(RingEmpty):
            while True:
                self._receive(_NOW)

    def _answer_to(self, token: int, deadline: float | None) -> bytes:
        arrivals = self.interrupt
        if deadline is None and not arrivals.whole and not self._arrived:
            # The short way, for the short answer that is expected.
            length = _recv_answer(self._handle, arrivals.taken, -1, token)
            if length >= 0:
                answer: bytes = arrivals.scratch[:length]
                del self._in_flight[token]
                arrivals.taken += 1
                return answer
        while token not in self._arrived:
            self._receive(deadline)
        return self._arrived.pop(token).result()

    def _first_answer(self, tokens: deque[int], timeout: float | None) -> bytes:
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            deadline = None if timeout is None else deadline_after(timeout)
            answer = self._answer_to(tokens[0], deadline)
            tokens.popleft()
            return answer
        finally:
            requests.inside = arrivals.inside = False

    def _send_for_map(
        self, payload: ReadableBuffer, tokens: deque[int], timeout: float | None
    ) -> None:
        requests, arrivals = self.doorbell, self.interrupt
        if requests.inside or arrivals.inside:
            raise in_use(self)
        requests.inside = arrivals.inside = True
        try:
            tokens.append(self._next_token)
            deadline = None if timeout is None else deadline_after(timeout)
            self._send(payload, deadline, _CALL)
        finally:
            requests.inside = arrivals.inside = False

    def _receive(self, deadline: float | None) -> None:
        """Wait for one completion and put it where the one who waits for it will look.

        One that nobody asked for, or asks for any longer, is dropped.
        """
        arrivals = self.interrupt
        length = 0
        if not arrivals.whole:
            length = _recv(self._handle, arrivals.taken, -1 if deadline is None else 0)
        if length < 0:
            self._get_ready(length, deadline)
        whole = arrivals.whole
        payload = bytes(arrivals.pieces) if whole else arrivals.scratch[: arrivals.frame.stop]
        token = arrivals.frame.token
        completion = Completion(token, payload, arrivals.frame.kind == _MESSAGE)
        # No call from here on: no signal handler comes between filing and taking.
        in_flight = self._in_flight
        if token in in_flight:
            waits = in_flight[token]
            del in_flight[token]
            if waits == _REAP:
                self._ready[token] = completion
                self._for_reap -= 1
            elif waits == _CALL:
                self._arrived[token] = completion
        if whole:
            arrivals.whole = False
            arrivals.pieces = b""
        else:
            arrivals.taken += 1

    def _get_ready(self, status: int, deadline: float | None) -> None:
        try:
            while status < 0:
                status = self.interrupt.get_ready(status, deadline)
        except (EndOfStream, PeerLost) as error:
            if self._in_flight:
                error.add_note(f"requests in flight that were not answered: {len(self._in_flight)}")
            raise

    def _forget(self, token: int) -> None:
        """Drop the completion of a token, now or when it arrives."""
        self._arrived.pop(token, None)
        if self._in_flight.get(token) == _CALL:
            self._in_flight[token] = _NOBODY

    def _raise_if_unusable(self) -> None:
        status = lib.rb_wait_poll(self._handle, _DATA, 0)
        if status < 0:
            self._channel.fail(status)
