# SPDX-License-Identifier: MIT
"""Small objects by `codec="pickle"`, against their pickle and a message of ringbell's, by hand.

    python bench/small_objects.py [--rounds 25] [--json]

What one object takes on both sides: `send(value)` and `recv()` of a stream with the codec, against
`send(pickle.dumps(value, 5))` and `pickle.loads(recv())` of a stream without. Both ends are in one
process on one CPU, so that nothing hides behind the other side's work. The two take turns, and
ratios are medians of the rounds' ratios; 3 % is a draw. The codec also looks for large arrays,
which `dumps` would copy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pickle import dumps, loads
from typing import Any, Literal

from machine import describe
from table import Row, compare, show

import ringbell
from ringbell.pinning import choose_pair, pin

COUNT = 5000


@dataclass
class Sample:
    step: int
    reward: float


OBJECTS: dict[str, Any] = {
    "a number": 5,
    "a tuple": ("step", 12, 0.5, True),
    "a dict": {"step": 17, "reward": 0.25, "done": False, "name": "worker-3"},
    "a dataclass": Sample(17, 0.25),
    "a list of ten dicts": [{"id": number, "name": f"worker-{number}"} for number in range(10)],
}


def stream(codec: Literal["bytes", "pickle"]) -> tuple[Any, Any]:
    """Both ends of a stream."""
    name = f"bench-{os.getpid()}-{codec}"
    with ThreadPoolExecutor(1) as other:
        producer = other.submit(ringbell.produce, name, codec=codec)
        consumer = ringbell.consume(name, codec=codec)
        return producer.result(), consumer


def nanoseconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(COUNT):
        step()
    return (time.perf_counter() - began) / COUNT * 1e9


def measure(rounds: int) -> list[Row]:
    rows = []
    producer, consumer = stream("pickle")
    sender, taker = stream("bytes")
    with producer, consumer, sender, taker:
        for what, value in OBJECTS.items():

            def by_codec(value: Any = value) -> Any:
                producer.send(value)
                return consumer.recv()

            def by_hand(value: Any = value) -> Any:
                sender.send(dumps(value, 5))
                return loads(taker.recv())

            if by_codec() != value or by_hand() != value:
                raise SystemExit(f"{what} arrives as something else")
            pairs = [(nanoseconds(by_codec), nanoseconds(by_hand)) for _ in range(rounds)]
            rows.append(compare(f"{what}, ns", "by hand", pairs, 0.97, less_is_better=True))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    pin(cpus[0])
    return show(measure(options.rounds), describe(cpus), options.json)


if __name__ == "__main__":
    sys.exit(main())
