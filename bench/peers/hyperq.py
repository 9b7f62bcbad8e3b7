# SPDX-License-Identifier: MIT
"""hyperq: a `BytesHyperQ` each way, of the size that its documentation takes."""

from __future__ import annotations

from hyperq import BytesHyperQ

from peers.adaptor import Adaptor, Place, Receiver, Sender

_CAPACITY = 1024 * 1024


class _End(Sender, Receiver):
    def __init__(self, queue: BytesHyperQ) -> None:
        self.send, self.recv = queue.put, queue.get

    def close(self) -> None:
        # hyperq has no close. The last object that is freed removes the files.
        del self.send, self.recv


class Peer(Adaptor):
    def receiver(self, place: Place) -> _End:
        end = _End(BytesHyperQ(_CAPACITY, place.token))
        place.announce()
        return end

    def sender(self, place: Place) -> _End:
        place.await_announcement()
        return _End(BytesHyperQ(place.token))
