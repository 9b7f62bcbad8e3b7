# SPDX-License-Identifier: MIT
"""Objects with arrays between two processes, against `multiprocessing` in the same run.

    python bench/objects.py [--rounds 5] [--json]

One process sends, another one takes, pinned to a CPU each. A rate counts from before the first
message to the answer that says that all have arrived; the receiver looks at an element of each
array. Ours are `ringbell.Pipe`, which copies into the ring and out of it, and the same with
`blocks=`, by reference: one copy, into a block. The peers are `multiprocessing.Pipe` and, for
orientation, `multiprocessing.Queue` and the queue of `torch.multiprocessing` if PyTorch is
installed, which sends the place of a tensor in shared memory. They are measured in turn, and ratios
are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
from machine import describe
from table import Row, compare, show

import ringbell
from ringbell.pinning import choose_pair, pin

MIB = 1 << 20
BLOCKS = ringbell.Blocks(pool=640 * MIB, when_lent="wait")
Send = Callable[[Any], object]
Take = Callable[[], Any]


def array(size: int) -> Any:
    return np.arange(size // 8, dtype="i8")


def table() -> dict[str, Any]:
    """Six arrays of 64 KiB."""
    return {f"column {i}": array(64 << 10) + i for i in range(6)}


KINDS: dict[str, tuple[Callable[[], Any], int, float]] = {
    "array of 1 MiB": (lambda: array(MIB), 200, 8),
    "array of 16 MiB": (lambda: array(16 * MIB), 12, 8),
    "array of 256 MiB": (lambda: array(256 * MIB), 2, 8),
    "dict of six arrays of 64 KiB": (table, 400, 5),
}
"""What is sent, how often, and the least ratio to multiprocessing.Pipe."""


def receive(way: Any, cpu: int, control: Connection) -> None:
    pin(cpu)
    take: Take = way.get if hasattr(way, "get") else way.recv
    with suppress(EOFError):
        while True:
            count = control.recv()
            for _ in range(count):
                value = take()
                arrays = value.values() if isinstance(value, dict) else [value]
                last = [int(one[-1]) for one in arrays]
                del value, arrays
            control.send(last)


PIPES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "ringbell.Pipe": lambda: ringbell.Pipe(duplex=False),
    "by reference": lambda: ringbell.Pipe(duplex=False, blocks=BLOCKS),
    "Pipe": lambda: multiprocessing.Pipe(duplex=False),
}


class Way:
    """A way to another process; a context manager."""

    def __init__(self, what: str, cpu: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.control, theirs = context.Pipe()
        self.ends: list[Any] = []
        way: Any
        if what in PIPES:
            way, mine = PIPES[what]()
            self.ends, self.send = [mine], mine.send
        else:
            way = queue_of(what)
            self.send = way.put
        self.process = context.Process(target=receive, args=(way, cpu, theirs), daemon=True)
        self.process.start()
        theirs.close()
        if self.ends:
            way.close()

    def rate(self, value: Any, count: int) -> float:
        """Messages a second."""
        self.control.send(count)
        began = time.perf_counter()
        for _ in range(count):
            self.send(value)
        last = self.control.recv()
        seconds = time.perf_counter() - began
        arrays = value.values() if isinstance(value, dict) else [value]
        if last != [int(one[-1]) for one in arrays]:
            raise SystemExit("what arrived is not what was sent")
        return count / seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        for end in self.ends:
            end.close()
        self.process.kill()
        self.process.join()


def queue_of(what: str) -> Any:
    if what == "Queue":
        return multiprocessing.get_context("spawn").Queue()
    import torch.multiprocessing

    return torch.multiprocessing.get_context("spawn").Queue()


def as_sent_by(what: str, value: Any) -> Any:
    if what != "torch queue":
        return value
    import torch

    if isinstance(value, dict):
        return {name: torch.from_numpy(one) for name, one in value.items()}
    return torch.from_numpy(value)


def measure(rounds: int, cpus: tuple[int, int]) -> list[Row]:
    ways = [*PIPES, "Queue"]
    with suppress(ImportError):
        import torch  # noqa: F401

        ways.append("torch queue")
    rows = []
    for kind, (make, count, least) in KINDS.items():
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for name in ways:
                value = as_sent_by(name, make())
                with Way(name, cpus[1]) as way:
                    way.rate(value, max(count // 10, 1))
                    rates[name].append(way.rate(value, count))
        pipe = rates["ringbell.Pipe"]
        rows.append(compare(f"{kind}, /s", "Pipe", pairs(pipe, rates["Pipe"]), least))
        by_reference = pairs(rates["by reference"], rates["Pipe"])
        rows.append(compare("    by reference", "Pipe", by_reference, least))
        for name in ways[3:]:
            row = compare(f"    {name}", name, pairs(pipe, rates[name]), 0)
            rows.append(row._replace(target=None, reached=None))
        seconds = 1 / statistics.median(rates["by reference"])
        rows.append(Row("    by reference, ms for one", 1e3 * seconds))
    return rows


def pairs(ours: list[float], theirs: list[float]) -> list[tuple[float, float]]:
    return list(zip(ours, theirs, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("this needs two CPUs", file=sys.stderr)
        return 2
    affinity = os.sched_getaffinity(0)
    pin(cpus[0])
    rows = measure(options.rounds, cpus)
    os.sched_setaffinity(0, affinity)
    return show(rows, describe(cpus), options.json)


if __name__ == "__main__":
    sys.exit(main())
