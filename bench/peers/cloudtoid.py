# SPDX-License-Identifier: MIT
"""cloudtoid-interprocess: a queue each way; a full one says so, and the sender tries again.

It sends lists; it has no call that receives more than one message.
"""

from __future__ import annotations

from cloudtoid_interprocess import Publisher, Subscriber

from peers.adaptor import Adaptor, Place, Receiver, Sender, spin

_CAPACITY = 1 << 20


class _Sender(Sender):
    def __init__(self, place: Place) -> None:
        self._publisher = Publisher(place.token, _CAPACITY, place.folder)
        # In a conversation there is always room, so try_send always succeeds.
        self.send = self._publisher.try_send

    def send_all(self, payloads: list[bytes]) -> None:
        try_send = self._publisher.try_send
        for payload in payloads:
            while not try_send(payload):
                pass

    def send_lists(self, lists: list[list[bytes]]) -> None:
        try_send_batch = self._publisher.try_send_batch
        for some in lists:
            sent = try_send_batch(some)
            while sent < len(some):
                sent += try_send_batch(some[sent:])

    def close(self) -> None:
        self._publisher.close()


class _Receiver(Receiver):
    def __init__(self, place: Place) -> None:
        self._subscriber = Subscriber(place.token, _CAPACITY, place.folder)
        try_receive = self._subscriber.try_receive
        self.recv = spin(try_receive) if place.spinning else self._subscriber.receive

    def take_lists(self, count: int, most: int) -> bytes:
        return self.take(count)

    def close(self) -> None:
        self._subscriber.close()


class Peer(Adaptor):
    def sender(self, place: Place) -> _Sender:
        return _Sender(place)

    def receiver(self, place: Place) -> _Receiver:
        return _Receiver(place)
