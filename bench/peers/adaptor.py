# SPDX-License-Identifier: MIT
"""The interface that ringbell and each peer are measured through.

An adaptor opens ends. A `Sender` and a `Receiver` are the two ends of one direction; a `Near` and a
`Far` are the two sides of a conversation, which by default are made of two directions. The loops
are methods of the ends, so that each library gets the tightest loop that its interface allows: the
defaults call `send` and `recv` and nothing else.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds that a receiver waits for a message before it says that the rest is lost."""


class Lost(Exception):  # noqa: N818
    """The library has lost messages: only `got` of those that were asked for came."""

    def __init__(self, got: int) -> None:
        super().__init__(f"{got} came, and no more")
        self.got = got


@dataclass(frozen=True)
class Place:
    """Where two sides meet, and what they measure."""

    folder: str
    """For sockets and files; removed afterwards."""
    token: str
    """In every name that a library gives to something outside of `folder`."""
    size: int = 64
    """Bytes of each message."""
    count: int = 1
    """Messages at most in one direction."""
    what: str = "one way"
    """The job, for a library that has different ends for different ones."""

    @property
    def spinning(self) -> bool:
        """Whether a receiver must spin, even where the library has a better way to wait."""
        return self.what == "spinning"

    @property
    def sleeping(self) -> bool:
        """Whether a receiver must sleep, where the library has two ways to wait."""
        return self.what == "idle"

    def way(self, name: str) -> Place:
        """Give the same place for another direction."""
        return replace(self, token=f"{self.token}{name}")

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.token}"

    def announce(self) -> None:
        """Tell the other side that what has this token is ready."""
        Path(f"{self.path}.made").touch()

    def await_announcement(self) -> None:
        when_there(Path(f"{self.path}.made").stat, FileNotFoundError)


class Sender:
    """Sends messages, and waits while there is no room."""

    send: Callable[[bytes], object]

    def send_all(self, payloads: list[bytes]) -> None:
        send = self.send
        for payload in payloads:
            send(payload)

    def send_lists(self, lists: list[list[bytes]]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close, once the other side has taken everything."""


class Receiver:
    """Receives messages, and waits while there is none.

    A method that takes many returns the last one as bytes, so that the job can check it. It raises
    `Lost` if the library loses messages.
    """

    recv: Callable[[], bytes]

    def take(self, count: int) -> bytes:
        recv = self.recv
        for _ in range(count - 1):
            recv()
        return recv()

    def take_views(self, count: int) -> bytes:
        """Take messages as memoryviews of the library's memory, in its own loop if it has one."""
        raise NotImplementedError

    def take_lists(self, count: int, most: int) -> bytes:
        """Take messages in lists of at most `most`, or one by one if the library has no lists."""
        raise NotImplementedError

    def close(self) -> None:
        """Close."""


class Near:
    """The side of a conversation that asks."""

    send: Callable[[bytes], object]
    recv: Callable[[], bytes]

    def call(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.recv()

    def in_flight(self, payloads: list[bytes], depth: int) -> bytes:
        """Have all payloads answered, `depth` of them at a time; give the last answer."""
        send, recv = self.send, self.recv
        for payload in payloads[:depth]:
            send(payload)
        for payload in payloads[depth:]:
            recv()
            send(payload)
        for _ in range(depth - 1):
            recv()
        return recv()

    def close(self) -> None:
        """Close."""


class Far:
    """The side of a conversation that sends each message back."""

    send: Callable[[bytes], object]
    recv: Callable[[], bytes]

    def echo(self, count: int) -> None:
        send, recv = self.send, self.recv
        for _ in range(count):
            send(recv())

    def serve(self, count: int) -> None:
        """Answer with a Python function, which the library calls for each request."""
        send, recv = self.send, self.recv
        for _ in range(count):
            send(handler(recv()))

    def close(self) -> None:
        """Close."""


class _TwoWays(Near, Far):
    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self._ends = sender, receiver
        self.send, self.recv = sender.send, receiver.recv

    def close(self) -> None:
        for end in self._ends:
            end.close()


class Adaptor(ABC):
    """How one library is used. registry.py has what the tables need to know of it."""

    @abstractmethod
    def sender(self, place: Place) -> Sender: ...

    @abstractmethod
    def receiver(self, place: Place) -> Receiver: ...

    # Both sides open the same direction at the same time, as some libraries wait for each other.

    def near(self, place: Place) -> Near:
        return _TwoWays(self.sender(place.way("a")), self.receiver(place.way("b")))

    def far(self, place: Place) -> Far:
        receiver = self.receiver(place.way("a"))
        return _TwoWays(self.sender(place.way("b")), receiver)


def spin(look: Callable[[], Any], *empty: type[Exception]) -> Callable[[], Any]:
    """Make a call that waits from one that returns None or raises when there is nothing."""

    def recv() -> Any:
        while (payload := look()) is None:
            pass
        return payload

    def recv_or_raise() -> Any:
        while True:
            try:
                return look()
            except empty:
                pass

    return recv_or_raise if empty else recv


def handler(payload: Any) -> bytes:
    """Answer a request with itself. It is in Python, because a user's function would be."""
    return bytes(payload)


def when_there(open_end: Callable[[], Any], *errors: type[Exception]) -> Any:
    """Open what the other side makes; try again while it is not there yet."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return open_end()
        except errors:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.001)
