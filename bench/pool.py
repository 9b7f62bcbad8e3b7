# SPDX-License-Identifier: MIT
"""How many requests a second a pool answers, against the pools of the standard library.

    python bench/pool.py [--workers 2] [--rounds 5] [--json]

Payloads of 4 KiB, all different, and a handler that returns at once. The others take one payload
at a time, and then chunks of 64. The rounds alternate (ours, theirs, ours, theirs, ...), and a
ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from machine import cpu_model
from table import compare, show

import ringbell

PAYLOADS = [number.to_bytes(4, "little") * 1024 for number in range(1024)]
OURS = 100_000
SINGLY = 4_000
IN_CHUNKS = 40_000


def handler(_payload: object) -> bytes:
    return b""


def payloads(count: int) -> Iterator[bytes]:
    # All different within a chunk, because pickle sends an object only once.
    return itertools.islice(itertools.cycle(PAYLOADS), count)


def rate(answers: Iterable[bytes], count: int) -> float:
    begin = time.perf_counter()
    assert sum(1 for _ in answers) == count
    return count / (time.perf_counter() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    workers = options.workers
    rows = []
    with (
        ringbell.Pool(handler, workers) as ours,
        spawn.Pool(workers) as pool,
        ProcessPoolExecutor(workers, spawn) as executor,
    ):
        # All workers are there, and warm.
        rate(ours.map(payloads(OURS)), OURS)
        rate(pool.imap(handler, payloads(SINGLY)), SINGLY)
        rate(executor.map(handler, payloads(SINGLY)), SINGLY)
        for chunk, count, target in ((1, SINGLY, 10.0), (64, IN_CHUNKS, 2.0)):
            for peer, answers in (
                ("Pool.imap", lambda c, n: pool.imap(handler, payloads(n), c)),
                ("Executor", lambda c, n: executor.map(handler, payloads(n), chunksize=c)),
            ):
                pairs = [
                    (rate(ours.map(payloads(OURS)), OURS), rate(answers(chunk, count), count))
                    for _ in range(options.rounds)
                ]
                rows.append(
                    compare(f"requests of 4 KiB, /s; chunks of {chunk}", peer, pairs, target)
                )
    machine = f"{cpu_model()}, {len(os.sched_getaffinity(0))} CPUs, {workers} workers, not pinned"
    return show(rows, machine, options.json)


if __name__ == "__main__":
    sys.exit(main())
