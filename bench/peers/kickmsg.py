# SPDX-License-Identifier: MIT
"""kickmsg: a topic each way, of one publisher and one subscriber.

A slot is free again when the subscriber's ring comes round to its entry, and a full ring drops. So
for no loss there must be slots and entries for the whole run, and a run is shorter than others'.
"""

from __future__ import annotations

from contextlib import suppress

import kickmsg

from peers.adaptor import PATIENCE, Adaptor, Lost, Place, Receiver, Sender, spin

_TOPIC = "t"


def _config(place: Place) -> kickmsg.Config:
    config = kickmsg.Config()
    config.max_subscribers = 1
    # A power of two. Beside the messages of the run there is room for the warm-up.
    config.sub_ring_capacity = config.pool_size = 1 << (place.count + 2048).bit_length()
    config.max_payload_size = place.size
    return config


class _Sender(Sender):
    def __init__(self, place: Place) -> None:
        self._node = kickmsg.Node("sender", place.token)
        self._publisher = self._node.advertise_or_join(_TOPIC, _config(place))
        self.send = self._publisher.send


class _Receiver(Receiver):
    def __init__(self, place: Place) -> None:
        self._node = kickmsg.Node("receiver", place.token)
        self._subscriber = self._node.subscribe_or_create(_TOPIC, _config(place))
        self._token = place.token
        self.recv = spin(self._subscriber.try_receive) if place.spinning else self._receive

    def _receive(self) -> bytes:
        # The library has no wait without a timeout.
        while (payload := self._subscriber.receive(PATIENCE)) is None:
            pass
        return payload

    def take(self, count: int) -> bytes:
        receive, patience = self._subscriber.receive, PATIENCE
        for got in range(count):
            if (payload := receive(patience)) is None:
                raise Lost(got)
        return payload

    def take_views(self, count: int) -> bytes:
        receive, patience = self._subscriber.receive_view, PATIENCE
        for got in range(count):
            if (sample := receive(patience)) is None:
                raise Lost(got)
            view = memoryview(sample)
        return bytes(view)

    def close(self) -> None:
        self._node.unlink_topic(_TOPIC)
        with suppress(OSError, RuntimeError):
            kickmsg.Registry.unlink(self._token)


class Peer(Adaptor):
    def sender(self, place: Place) -> _Sender:
        return _Sender(place)

    def receiver(self, place: Place) -> _Receiver:
        return _Receiver(place)
