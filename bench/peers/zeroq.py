# SPDX-License-Identifier: MIT
"""zeroq: a queue each way. All its elements have one size, which is that of the messages."""

from __future__ import annotations

import zeroq

from peers.adaptor import Adaptor, Place, Receiver, Sender, spin

_CAPACITY = 4096


class _End(Sender, Receiver):
    def __init__(self, queue: zeroq.Queue, place: Place) -> None:
        self._queue = queue
        self.send = queue.put
        self.recv = spin(queue.get_nowait, zeroq.Empty) if place.spinning else queue.get

    def close(self) -> None:
        self._queue.close()


class Peer(Adaptor):
    def receiver(self, place: Place) -> _End:
        end = _End(zeroq.Queue(place.token, place.size, _CAPACITY, create=True), place)
        place.announce()
        return end

    def sender(self, place: Place) -> _End:
        place.await_announcement()
        return _End(zeroq.Queue(place.token, create=False), place)
