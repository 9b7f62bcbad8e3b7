# SPDX-License-Identifier: MIT
"""ringbell, with the defaults of its functions."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import FrameType

import ringbell
from peers.adaptor import Adaptor, Far, Near, Place, Receiver, Sender, handler, when_there


class _Sender(Sender):
    def __init__(self, stream: ringbell.MessageProducer) -> None:
        self.send, self._stream = stream.send, stream

    def send_lists(self, lists: list[list[bytes]]) -> None:
        send_many = self._stream.send_many
        for some in lists:
            send_many(some)

    def close(self) -> None:
        self._stream.close()


class _Receiver(Receiver):
    def __init__(self, stream: ringbell.MessageConsumer) -> None:
        self.recv, self._stream = stream.recv, stream
        self._views = iter(stream)

    def take_views(self, count: int) -> bytes:
        for _ in islice(self._views, count - 1):
            pass
        return bytes(next(self._views))

    def take_lists(self, count: int, most: int) -> bytes:
        recv_many = self._stream.recv_many
        while count > 0:
            some = recv_many(min(most, count))
            count -= len(some)
        return some[-1]

    def close(self) -> None:
        self._stream.close()


class _Near(Near):
    def __init__(self, driver: ringbell.Driver) -> None:
        self._driver = driver
        self.send, self.recv = driver.doorbell.send, driver.interrupt.recv

    def close(self) -> None:
        self._driver.close()


class _Far(Far):
    """Sends and receives with the ends of a channel."""

    def __init__(self, path: str) -> None:
        with ringbell.listen(path) as listener:
            self._device = listener.accept()
        self.send, self.recv = self._device.interrupt.send, self._device.doorbell.recv

    def close(self) -> None:
        self._device.close()


class _Caller(Near):
    """Connects with the first call: nobody listens before the other side is in `serve`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._driver: ringbell.Driver | None = None

    def call(self, payload: bytes) -> bytes:
        self.call = self._connect().call
        return self.call(payload)

    def in_flight(self, payloads: list[bytes], depth: int) -> bytes:
        for answer in self._connect().map(payloads, depth=depth):  # noqa: B007
            pass
        return answer

    def _connect(self) -> ringbell.Driver:
        self._driver = self._driver or _connect(self._path)
        return self._driver

    def close(self) -> None:
        self._connect().close()
        os.kill(int(Path(f"{self._path}.pid").read_text()), signal.SIGUSR1)


class _Server(Far):
    """Runs `serve`, which goes on for ever; the caller ends it by a signal."""

    def __init__(self, path: str) -> None:
        self._path = path

    def serve(self, count: int) -> None:
        with suppress(_OverError):
            ringbell.serve(self._path, handler)

    echo = serve


class _OverError(BaseException):
    pass


def _end_serving(_number: int, _frame: FrameType | None) -> None:
    raise _OverError


_SERVED = ("call", "in flight")


class Peer(Adaptor):
    def sender(self, place: Place) -> _Sender:
        return _Sender(ringbell.produce(place.path))

    def receiver(self, place: Place) -> _Receiver:
        return _Receiver(ringbell.consume(place.path))

    def near(self, place: Place) -> _Near:
        if place.what not in _SERVED:
            return _Near(_connect(place.path))
        return _Caller(place.path)

    def far(self, place: Place) -> Far:
        if place.what not in _SERVED:
            return _Far(place.path)
        signal.signal(signal.SIGUSR1, _end_serving)
        Path(f"{place.path}.pid").write_text(str(os.getpid()))
        return _Server(place.path)


def _connect(path: str) -> ringbell.Driver:
    return when_there(lambda: ringbell.connect(path), ConnectionRefusedError, FileNotFoundError)
