# SPDX-License-Identifier: MIT
"""multiprocessing.Pipe: send_bytes and recv_bytes, over a socket pair as Pipe() makes it.

Both ends of a pipe come from one process, so they are handed over through a listener here.
"""

from __future__ import annotations

from multiprocessing.connection import Client, Connection, Listener

from peers.adaptor import Adaptor, Far, Near, Place, Receiver, Sender, when_there


class _Side(Sender, Receiver, Near, Far):
    def __init__(self, connection: Connection) -> None:
        self.send, self.recv = connection.send_bytes, connection.recv_bytes
        self._connection = connection

    def send_lists(self, lists: list[list[bytes]]) -> None:
        send = self._connection.send
        for some in lists:
            send(some)

    def take_lists(self, count: int, most: int) -> bytes:
        recv, taken = self._connection.recv, 0
        while taken < count:
            some = recv()
            taken += len(some)
        return some[-1]

    def close(self) -> None:
        self._connection.close()


class Peer(Adaptor):
    def receiver(self, place: Place) -> _Side:
        with Listener(place.path, "AF_UNIX") as listener:
            return _Side(listener.accept())

    def sender(self, place: Place) -> _Side:
        return _Side(when_there(lambda: Client(place.path), OSError))

    # Duplex, as Pipe() is.

    def near(self, place: Place) -> _Side:
        return self.sender(place)

    def far(self, place: Place) -> _Side:
        return self.receiver(place)
