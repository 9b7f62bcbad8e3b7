# SPDX-License-Identifier: MIT
"""pyzmq over ipc: PUSH and PULL one way, REQ and REP for calls, DEALER for many in flight.

A list goes as a message of many parts, which arrives whole.
"""

from __future__ import annotations

import zmq

from peers.adaptor import Adaptor, Far, Near, Place, Receiver, Sender


class _Side(Sender, Receiver, Near, Far):
    def __init__(self, kind: int, place: Place, *, bind: bool) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        address = f"ipc://{place.path}"
        # A side may connect before the other one has bound.
        (self._socket.bind if bind else self._socket.connect)(address)
        self.send, self.recv = self._socket.send, self._socket.recv

    def send_lists(self, lists: list[list[bytes]]) -> None:
        send = self._socket.send_multipart
        for some in lists:
            send(some)

    def take_lists(self, count: int, most: int) -> bytes:
        recv, taken = self._socket.recv_multipart, 0
        while taken < count:
            some = recv()
            taken += len(some)
        return some[-1]

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class Peer(Adaptor):
    def sender(self, place: Place) -> _Side:
        return _Side(zmq.PUSH, place, bind=False)

    def receiver(self, place: Place) -> _Side:
        return _Side(zmq.PULL, place, bind=True)

    def near(self, place: Place) -> _Side:
        return _Side(zmq.DEALER if place.what == "in flight" else zmq.REQ, place, bind=False)

    def far(self, place: Place) -> _Side:
        return _Side(zmq.DEALER if place.what == "in flight" else zmq.REP, place, bind=True)
