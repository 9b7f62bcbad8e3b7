# SPDX-License-Identifier: MIT
"""tachyon-ipc: a `Bus` each way, an `RpcBus` for calls.

Its receivers spin where speed is measured, which is its fastest way. Elsewhere they sleep when
nothing comes. A full bus raises, and the sender tries again. A list is sent as messages that are
flushed together, and received by `drain_batch`.
"""

from __future__ import annotations

from typing import Any

import tachyon

from peers.adaptor import Adaptor, Far, Near, Place, Receiver, Sender, handler, when_there

_CAPACITY = 1 << 20
_ENDPOINT = tachyon.tachyon_rpc(msg_type=1)(handler)


class _Sender(Sender):
    def __init__(self, bus: tachyon.Bus) -> None:
        self._bus = bus
        self.send = bus.send

    def send_all(self, payloads: list[bytes]) -> None:
        send, full = self._bus.send, tachyon.TachyonError
        for payload in payloads:
            while True:
                try:
                    send(payload)
                    break
                except full:
                    pass

    def send_lists(self, lists: list[list[bytes]]) -> None:
        bus = self._bus._bus  # the exported TachyonBus, which `Bus` wraps
        for some in lists:
            for payload in some:
                _commit(bus, payload)
            bus.flush()

    def close(self) -> None:
        self._bus.__exit__(None, None, None)


def _commit(bus: tachyon.TachyonBus, payload: bytes) -> None:
    while True:
        try:
            guard = bus.acquire_tx(len(payload))
            break
        except tachyon.TachyonError:
            bus.flush()
    with guard as room:
        with memoryview(room) as view:
            view[:] = payload
        room.actual_size = len(payload)


class _Receiver(Receiver):
    def __init__(self, bus: tachyon.Bus) -> None:
        self._bus = bus
        self._messages = iter(bus)

    def recv(self) -> bytes:
        with self._bus.recv_zero_copy() as message, memoryview(message) as view:
            return view.tobytes()

    def take(self, count: int) -> bytes:
        for _, message in zip(range(count), self._messages, strict=False):  # noqa: B007
            pass
        return message.data

    def take_views(self, count: int) -> bytes:
        recv = self._bus.recv_zero_copy
        for _ in range(count - 1):
            with recv() as message, memoryview(message):
                pass
        return self.recv()

    def take_lists(self, count: int, most: int) -> bytes:
        drain = self._bus.drain_batch
        while count > 0:
            with drain(min(most, count)) as batch:
                some = [memoryview(message).tobytes() for message in batch]
            count -= len(some)
        return some[-1]

    def close(self) -> None:
        self._bus.__exit__(None, None, None)


class _Rpc(Near, Far):
    def __init__(self, bus: tachyon.RpcBus) -> None:
        self._bus = bus

    def call(self, payload: bytes) -> bytes:
        return _ENDPOINT.call(self._bus, payload)

    def serve(self, count: int) -> None:
        dispatcher = tachyon.RpcDispatcher().register(_ENDPOINT)
        for _ in range(count):
            dispatcher.serve_once(self._bus)

    def close(self) -> None:
        self._bus.__exit__(None, None, None)


def _polling(bus: Any, place: Place) -> Any:
    if not place.sleeping:
        bus.set_polling_mode(1)
    return bus


class Peer(Adaptor):
    def receiver(self, place: Place) -> _Receiver:
        return _Receiver(_polling(tachyon.Bus.listen(place.path, _CAPACITY), place))

    def sender(self, place: Place) -> _Sender:
        bus = when_there(lambda: tachyon.Bus.connect(place.path), OSError, tachyon.TachyonError)
        return _Sender(_polling(bus, place))

    def near(self, place: Place) -> Near:
        if place.what != "call":
            return super().near(place)
        connect = tachyon.RpcBus.rpc_connect
        bus = when_there(lambda: connect(place.path), OSError, tachyon.TachyonError)
        return _Rpc(_polling(bus, place))

    def far(self, place: Place) -> Far:
        if place.what != "call":
            return super().far(place)
        bus = tachyon.RpcBus.rpc_listen(place.path, _CAPACITY, _CAPACITY)
        return _Rpc(_polling(bus, place))
