# SPDX-License-Identifier: MIT
"""Eight producers and one consumer: `gather` against other libraries, in one run.

    python bench/gather.py [--rounds 5] [--messages 200000] [--json]

Each of the eight is a Python process. They share one CPU; the consumer has another one. A message
has 64 bytes: whose it is, its number, and bytes that follow from the two. All producers send one by
one, as fast as they can; the consumer takes as each library does it best. A round measures all
libraries, one after the other. The time is that from the start signal to the last message.

Before the rounds, each library has a run in which the consumer checks each byte, and the order of
each producer. In the rounds it counts, and checks the last message that it took.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from machine import describe
from peers import registry
from peers.pair import die_with_parent
from table import Row, compare, show

import ringbell
from ringbell.pinning import choose_pair

PRODUCERS = 8
SIZE = 64
KINDS = 1000  # of a producer's payloads; they come again and again
LEAST_OVER_QUEUE = 10.0
PATIENCE = 20.0  # seconds

Send = Callable[[bytes], object]


def payload_of(producer: int, number: int) -> bytes:
    number %= KINDS
    head = producer.to_bytes(4, "little") + number.to_bytes(4, "little")
    return head + bytes((producer + number + i) % 251 for i in range(SIZE - len(head)))


class Library:
    """How one library is used; made here, and sent to the producers."""

    name: str
    share = 1.0
    """Of the messages of ringbell: slower ones need fewer for the same time."""

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.count = folder, count
        self.end: Any = None
        """The consuming end, if the library makes it apart from the producing ends."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"end": None}

    def sender(self) -> tuple[Send, Callable[[], object]]:
        """Open a producing end: what sends, and what closes."""
        raise NotImplementedError

    def open(self) -> None:
        """Open the consuming end, before the producers start."""

    def take(self, count: int) -> Iterator[Any]:
        """Give the messages."""
        raise NotImplementedError

    def drain(self, count: int) -> bytes:
        """Take the messages; give the last one."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the consuming end."""


class Ours(Library):
    name = "ringbell"

    def sender(self) -> tuple[Send, Callable[[], object]]:
        stream = ringbell.produce(f"{self.folder}/gather")
        return stream.send, stream.close

    def open(self) -> None:
        self.end = ringbell.gather(f"{self.folder}/gather")

    def take(self, count: int) -> Iterator[Any]:
        return (payload for _, payload in islice(self.end, count))

    def drain(self, count: int) -> bytes:
        for _producer, payload in islice(self.end, count):  # noqa: B007
            pass
        return bytes(payload)

    def close(self) -> None:
        self.end.close()


class Queue(Library):
    name = "Queue"
    share = 0.05

    def __init__(self, folder: str, count: int) -> None:
        super().__init__(folder, count)
        self._queue = multiprocessing.get_context("spawn").Queue()

    def sender(self) -> tuple[Send, Callable[[], object]]:
        def close() -> None:
            self._queue.close()
            self._queue.join_thread()

        return self._queue.put, close

    def take(self, count: int) -> Iterator[Any]:
        return (self._queue.get() for _ in range(count))

    def drain(self, count: int) -> bytes:
        get = self._queue.get
        for _ in range(count - 1):
            get()
        return get()

    def close(self) -> None:
        self._queue.close()


class FasterFifo(Library):
    """With `get_many`, and without pickles: both are quicker than what its `get` does."""

    name = "faster-fifo"
    share = 0.25

    def __init__(self, folder: str, count: int) -> None:
        super().__init__(folder, count)
        registry.add_to_path("faster-fifo")
        import faster_fifo

        self._queue = faster_fifo.Queue(PRODUCERS << 20, loads=bytes, dumps=bytes)

    def sender(self) -> tuple[Send, Callable[[], object]]:
        put = self._queue.put
        return lambda payload: put(payload, timeout=PATIENCE), lambda: None

    def take(self, count: int) -> Iterator[Any]:
        while count > 0:
            some = self._queue.get_many(timeout=PATIENCE, max_messages_to_get=min(count, 1000))
            count -= len(some)
            yield from some

    def drain(self, count: int) -> bytes:
        get_many = self._queue.get_many
        while count > 0:
            some = get_many(timeout=PATIENCE, max_messages_to_get=min(count, 1000))
            count -= len(some)
        return some[-1]

    def close(self) -> None:
        self._queue.close()


class Kickmsg(Library):
    """A topic with eight publishers. A full ring drops, so there is room for all messages."""

    name = "kickmsg"
    share = 0.25

    def _open(self, who: str) -> tuple[Any, Any]:
        registry.add_to_path("kickmsg")
        import kickmsg

        config = kickmsg.Config()
        config.max_subscribers = 1
        config.sub_ring_capacity = config.pool_size = 1 << (self.count + 4096).bit_length()
        config.max_payload_size = SIZE
        return kickmsg.Node(who, Path(self.folder).name), config

    def sender(self) -> tuple[Send, Callable[[], object]]:
        self._node, config = self._open(f"sender{os.getpid()}")
        self._publisher = self._node.advertise_or_join("t", config)
        return self._publisher.send, lambda: None

    def open(self) -> None:
        node, config = self._open("receiver")
        self.end = node.subscribe_or_create("t", config), node

    def take(self, count: int) -> Iterator[Any]:
        return (self.end[0].receive(PATIENCE) for _ in range(count))

    def drain(self, count: int) -> bytes:
        receive = self.end[0].receive
        for _ in range(count - 1):
            receive(PATIENCE)
        last = receive(PATIENCE)
        if self.end[0].lost:
            raise SystemExit(f"kickmsg lost {self.end[0].lost} messages")
        return last

    def close(self) -> None:
        import kickmsg

        self.end[1].unlink_topic("t")
        kickmsg.Registry.unlink(Path(self.folder).name)


LIBRARIES: list[type[Library]] = [Ours, Queue, FasterFifo, Kickmsg]


def is_there(library: type[Library]) -> bool:
    return library in (Ours, Queue) or (registry.installed_in() / library.name).is_dir()


# ---- the producers ----


def produce(library: Library, producer: int, count: int, cpu: int, parent: Connection) -> None:
    die_with_parent()
    os.sched_setaffinity(0, {cpu})
    payloads = [payload_of(producer, number) for number in range(KINDS)]
    send, close = library.sender()
    parent.send("ready")
    parent.recv()
    while count > 0:
        for payload in payloads[:count]:
            send(payload)
        count -= KINDS
    close()
    parent.recv()  # until the consumer has taken everything


@contextmanager
def producers(library: Library, count: int, cpu: int) -> Iterator[list[Connection]]:
    """Start the producers of `count` messages each; they wait for a word each."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[SpawnProcess, Connection]] = []
    try:
        for producer in range(PRODUCERS):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=produce, args=(library, producer, count, cpu, theirs), daemon=True
            )
            process.start()
            theirs.close()
            started.append((process, ours))
        yield [connection for _, connection in started]
        for process, connection in started:
            connection.send("over")
            process.join()
    finally:
        for process, connection in started:
            process.kill()
            process.join()
            connection.close()


# ---- the consumer, here ----


def await_ready(connections: list[Connection], library: Library) -> None:
    """Wait until all are ready. Our producers are let in by the gather's wait."""
    if isinstance(library, Ours):
        while len(library.end.producers) < PRODUCERS:
            try:
                library.end.take(timeout=0.1)
            except ringbell.RingEmpty:
                continue
    for connection in connections:
        connection.recv()


def run(kind: type[Library], messages: int, cpus: tuple[int, int], checked: bool) -> float:
    """Run one library; give the messages a second."""
    each = max(int(messages * kind.share), 1)
    count = each * PRODUCERS
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        library = kind(folder, count)
        library.open()
        try:
            with producers(library, each, cpus[0]) as connections:
                await_ready(connections, library)
                began = time.monotonic()
                for connection in connections:
                    connection.send("go")
                if checked:
                    check(library, each)
                else:
                    check_last(library.drain(count), each)
                return count / (time.monotonic() - began)
        finally:
            library.close()


def check(library: Library, each: int) -> None:
    """Check each payload, and the order of each producer's."""
    taken = [0] * PRODUCERS
    for message in library.take(each * PRODUCERS):
        payload = bytes(message)
        producer = int.from_bytes(payload[:4], "little")
        if payload != payload_of(producer, taken[producer]):
            raise SystemExit(f"{library.name}: producer {producer}, message {taken[producer]}")
        taken[producer] += 1
    if taken != [each] * PRODUCERS:
        raise SystemExit(f"{library.name}: {taken} came, not {each} of each")


def check_last(payload: bytes, each: int) -> None:
    producer = int.from_bytes(payload[:4], "little")
    if payload != payload_of(producer, each - 1):
        raise SystemExit(f"the last message was {payload!r}")


def measure(rounds: int, messages: int, cpus: tuple[int, int]) -> list[Row]:
    there = [library for library in LIBRARIES if is_there(library)]
    for library in LIBRARIES:
        if library not in there:
            print(f"{library.name} is left out: it is not installed", file=sys.stderr)
    for library in there:
        run(library, messages // 10, cpus, checked=True)
    rates: dict[str, list[float]] = {library.name: [] for library in there}
    for _ in range(rounds):
        for library in there:
            rates[library.name].append(run(library, messages, cpus, checked=False))
    ours = rates.pop(Ours.name)
    fastest = max(rates, key=lambda name: statistics.median(rates[name]))
    rows = []
    for name, theirs in rates.items():
        target = LEAST_OVER_QUEUE if name == Queue.name else 1.0 if name == fastest else 0.0
        row = compare(
            "messages of 64 bytes, /s", name, list(zip(ours, theirs, strict=True)), target
        )
        rows.append(row if target else row._replace(target=None, reached=None))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 make a median")
    parser.add_argument("--messages", type=int, default=200_000, help="of each producer of ours")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[1]})
    try:
        rows = measure(options.rounds, options.messages, cpus)
    finally:
        os.sched_setaffinity(0, affinity)
    machine = f"{describe(cpus)}, {PRODUCERS} producers on the first, {options.rounds} rounds"
    return show(rows, machine, options.json)


if __name__ == "__main__":
    sys.exit(main())
