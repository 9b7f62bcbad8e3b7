# SPDX-License-Identifier: MIT
"""Payloads by reference in tests: pools of blocks, and payloads that fill them."""

import re
from pathlib import Path

import ringbell

LEAST = 1 << 16
BLOCKS = ringbell.Blocks(pool=16 * LEAST, least=LEAST)
WAITS = ringbell.Blocks(pool=4 * LEAST, least=LEAST, when_lent="wait")
POOL = {"pool": 4 * LEAST, "least": LEAST}


def payload(number, size=LEAST):
    return (b"%08d" % number) * (size // 8)


def blocks(producer):
    return producer.stats().driver.blocks


def take_all_blocks(producer, consumer, count=4):
    """Fill the pool; give what holds it."""
    held = []
    for number in range(count):
        producer.send(payload(number))
        held.append(consumer.hold())
        assert isinstance(held[-1], memoryview)
    return held


def pools(size):
    """Count the pools of that size that this process has mapped; no ring has such a size."""
    maps = Path("/proc/self/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) .*memfd:ringbell", maps, re.MULTILINE)
    return sum(int(stop, 16) - int(start, 16) == size for start, stop in found)
