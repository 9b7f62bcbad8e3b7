# SPDX-License-Identifier: MIT
"""One writer and a crowd of readers, for soaks: numbered entries, each of them counted.

`write` publishes until it is told to end, and `read` subscribes again and again, each in a process
of its own. Both tell in shared memory how far they are. A number says which bytes and how many
belong to it, so an entry that is lost, repeated, out of order, torn or changed raises `Wrong`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numbered import Wrong

import ringbell

WORDS = 16  # of 8 bytes in a record, and in the shortest message; all are the number
RECORD = [("number", "u8"), ("rest", "u8", WORDS - 1)]
RING = 8192  # bytes
TERM = 1 << 40  # a writer that is started again begins at the next multiple
BURST = 500  # entries between two looks around


class Told(ctypes.Structure):
    """What a writer tells all."""

    _fields_ = (
        ("published", ctypes.c_uint64),  # the number of the next entry
        ("readers", ctypes.c_uint64),
        ("ends", ctypes.c_uint64),  # set by who watches: close, and end
    )


class Taken(ctypes.Structure):
    """What a reader tells who watches."""

    _fields_ = (
        ("steps", ctypes.c_uint64),
        ("got", ctypes.c_uint64),
        ("missed", ctypes.c_uint64),
        ("overwritten", ctypes.c_uint64),  # loans that were
        ("subscribed", ctypes.c_uint64),  # times
        ("lost_writers", ctypes.c_uint64),
        ("let_go", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Crowd:
    """A publication, as its writers and its readers know it."""

    path: Path
    kind: str
    """messages or records"""
    keep: str
    stall: float | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.keep}{', stall' if self.stall else ''}"

    def words(self, number: int) -> int:
        """Give the length of a message in words: most are short, some longer than the ring."""
        if self.kind == "records":
            return WORDS
        if number % 97 == 0:
            return 400
        if number % 997 == 0 and self.keep == "all":
            return 1500
        return WORDS * (1 + number % 5)

    def message(self, number: int) -> bytes:
        return number.to_bytes(8, "little") * self.words(number)

    def records(self, number: int, count: int) -> Any:
        return np.repeat(np.arange(number, number + count, dtype="u8"), WORDS).view(RECORD)

    def number(self, message: object) -> int:
        words = np.frombuffer(message, "u8")
        number = int(words[0])
        if len(words) != self.words(number) or not (words == number).all():
            raise Wrong(f"not what belongs to {number}: {len(words)} words, {words}")
        return number

    def numbers(self, rows: Any) -> list[int]:
        table = np.frombuffer(rows, "u8").reshape(-1, WORDS)
        if not (table == table[:, :1]).all():
            raise Wrong(f"torn: {table}")
        return table[:, 0].tolist()


# ---- the writer ----


def write(crowd: Crowd, told: Told, seed: int) -> None:
    """Publish until told to end, now and then with a pause so short that readers fall asleep."""
    draw = random.Random(seed)
    dtype = None if crowd.kind == "messages" else RECORD
    options = {"keep": crowd.keep, "stall": crowd.stall, "min_readers": 0, "ring_size": RING}
    number = -(-told.published // TERM) * TERM
    told.published = number
    with ringbell.publish(crowd.path, dtype, **options) as publisher:
        put = _put_records if dtype else _put_messages
        while not told.ends:
            for _ in range(BURST):
                number += put(crowd, publisher, number, draw)
                told.published = number
            told.readers = len(publisher.readers)
            if draw.random() < 0.5:
                time.sleep(draw.random() * 1e-3)
    told.readers = 0


def _put_messages(crowd: Crowd, publisher: Any, number: int, draw: random.Random) -> int:
    way = draw.random()
    if way < 0.02:
        publisher.send_many([crowd.message(number + i) for i in range(10)])
        return 10
    if way < 0.1:
        message = crowd.message(number)
        if len(message) <= publisher.max_payload:
            with publisher.reserve(len(message)) as frame:
                frame.payload[:] = message
            return 1
    publisher.send(crowd.message(number))
    return 1


def _put_records(crowd: Crowd, publisher: Any, number: int, draw: random.Random) -> int:
    count = draw.randrange(1, 8)
    rows = crowd.records(number, count)
    if draw.random() < 0.2:
        with publisher.reserve(count) as room:
            count = min(count, len(room))
            room[:count] = rows[:count]
            if count < len(room):
                raise Wrong(f"{len(room)} records reserved, not {len(rows)}")
    else:
        publisher.write(rows)
    return count


# ---- the readers ----


class Account:
    """Counts what one subscription gave, from its first entry on."""

    def __init__(self, lossless: bool) -> None:
        self._lossless = lossless
        self.last: int | None = None
        self._offset = 0

    def note(self, numbers: Iterable[int], got: int, missed: int) -> None:
        """Note the next entries, and how many came and were missed, these included."""
        for number in numbers:
            last = self.last
            if last is not None and (number <= last or (self._lossless and number != last + 1)):
                raise Wrong(f"{number} after {last}")
            self.last = number
        assert self.last is not None
        offset = self.last - got - missed
        self._offset = self._offset or offset
        if offset != self._offset:
            raise Wrong(
                f"{got} came and {missed} were missed, up to {self.last}: {offset - self._offset} "
                "more or fewer than before"
            )

    def end(self, published: int) -> None:
        """The writer is gone, which had told that it published all before this number."""
        last = self.last
        if last is not None and last // TERM == published // TERM and last < published - 1:
            raise Wrong(f"{last} was the last, and {published - 1} was published")


def read(crowd: Crowd, told: Told, taken: Taken, seed: int) -> None:
    """Subscribe and take, until a SIGTERM or the end of the publication.

    A subscriber closes as a program does on SIGTERM: from the signal handler.
    """
    open_now: list[Any] = []

    def close(*_: object) -> None:
        told_to_end.append(True)
        for subscriber in open_now:
            subscriber.close()

    told_to_end: list[bool] = []
    signal.signal(signal.SIGTERM, close)
    draw = random.Random(seed)
    while not told_to_end:
        try:
            subscriber = ringbell.subscribe(crowd.path, timeout=0.2)
        except TimeoutError:
            if told.ends:
                return
            continue
        open_now.append(subscriber)
        taken.subscribed += 1
        try:
            with subscriber, suppress(ringbell.ChannelClosed):
                if told_to_end or not _take_all(crowd, subscriber, told, taken, draw):
                    return
        except Wrong:
            if not told_to_end:
                raise
            # It has closed in the block of a loan, so the writer waits for it no longer.
        open_now.clear()


def _take_all(crowd: Crowd, subscriber: Any, told: Told, taken: Taken, draw: random.Random) -> bool:
    """Take until the end; false when there will be no other publication."""
    # What a loop lends is checked at its next step only. A reader that is let go meanwhile looks at
    # what is overwritten, and is told then, when its entries have been noted here.
    ways = [way for way in WAYS[crowd.kind] if not (crowd.stall and way is _iterate)]
    # Some take in one way only. Some are slow, so that the ring runs full, or over them.
    chosen = ways if draw.random() < 0.5 else [draw.choice(ways)]
    pause = draw.choice([0, 0, 0, 2e-3, 50e-3])
    limit = draw.choice([100, 10_000, 1 << 60, 1 << 60])
    lossless = crowd.keep == "all" and _latest not in chosen
    account, got, before = Account(lossless), 0, (taken.got, taken.missed)
    while got < limit:
        taken.steps += 1
        try:
            way = draw.choice(chosen)
            numbers = way(crowd, subscriber, draw)
        except ringbell.Overwritten:
            taken.overwritten += 1
            continue
        except (ringbell.EndOfStream, StopIteration):
            account.end(told.published)
            return False
        except ringbell.PeerLost:
            taken.lost_writers += 1
            account.end(told.published)
            return True
        except ringbell.LetGo:
            if crowd.stall is None:
                raise
            taken.let_go += 1
            return True
        got += len(numbers)
        missed = subscriber.missed
        before_that = account.last
        try:
            account.note(numbers, got, missed)
        except Wrong as error:
            error.add_note(f"{crowd.name}, by {way.__name__}, after {before_that}: {numbers}")
            raise
        taken.got, taken.missed = before[0] + got, before[1] + missed
        if pause and draw.random() < 0.05:
            time.sleep(draw.random() * pause)
    return True


Way = Callable[[Crowd, Any, random.Random], list[int]]


def _recv(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    return [crowd.number(subscriber.recv())]


def _recv_many(crowd: Crowd, subscriber: Any, draw: random.Random) -> list[int]:
    return [crowd.number(one) for one in subscriber.recv_many(draw.randrange(1, 20))]


def _when_readable(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    while True:
        try:  # first, so that nothing is lent while it sleeps
            if crowd.kind == "messages":
                return [crowd.number(subscriber.recv(timeout=0))]
            return crowd.numbers(subscriber.read(timeout=0))
        except ringbell.RingEmpty:
            pass
        try:
            select.select([subscriber.fileno()], [], [])
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # The signal handler has closed it; the next call says so.


def _borrow_message(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    with subscriber.borrow() as view:
        return [crowd.number(view)]


def _latest(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    return [crowd.number(subscriber.latest())]


def _iterate(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    entries = next(iter(subscriber))
    return [crowd.number(entries)] if crowd.kind == "messages" else crowd.numbers(entries)


def _read(crowd: Crowd, subscriber: Any, _: random.Random) -> list[int]:
    return crowd.numbers(subscriber.read())


def _read_some(crowd: Crowd, subscriber: Any, draw: random.Random) -> list[int]:
    return crowd.numbers(subscriber.read(draw.randrange(1, 10)))


def _borrow_records(crowd: Crowd, subscriber: Any, draw: random.Random) -> list[int]:
    with subscriber.borrow(draw.randrange(1, 100)) as rows:
        return crowd.numbers(rows)


WAYS: dict[str, list[Way]] = {
    "messages": [_recv, _recv_many, _borrow_message, _latest, _iterate, _when_readable],
    "records": [_read, _read_some, _borrow_records, _latest, _iterate, _when_readable],
}


# ---- what a process holds ----


def holdings(pid: int) -> dict[str, int]:
    """Give the descriptors and mappings of a process, and the kB of memory that only it has."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "shared mappings": sum(" rw-s " in line or " r--s " in line for line in maps),
        "private kB": next(int(s.split()[1]) for s in status if s.startswith("RssAnon")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }
