# SPDX-License-Identifier: MIT
"""Publications in tests: numbered entries of messages or of records, written and taken."""

from __future__ import annotations

import numpy as np
import pytest
from processes import wait_until

import ringbell

KINDS = ["messages", "records"]
RING = 8192  # bytes: 42 messages of three slots, or 64 records
ROOM = {"messages": 42, "records": 64}
NUMBERED = {"messages": None, "records": [("number", "u8"), ("rest", "u8", 15)]}
WORDS = 16  # of 8 bytes in an entry; all are its number

every_kind = pytest.mark.parametrize("kind", KINDS)
every_keep = pytest.mark.parametrize("keep", ["all", "newest"])

# In another process: takes until the end, and checks that each entry is whole and later than the
# one before. Its value says how many came, how many were missed, and which was the last.
TAKE_ALL = """
import numpy as np
def whole(entries):
    table = np.frombuffer(entries, "u8").reshape(-1, 16)
    assert (table == table[:, :1]).all(), table
    return table[:, 0].tolist()
def iterate(subscriber):
    def step():
        for entries in steps:
            return entries
        raise EOFError
    steps = iter(subscriber)
    return step
def take_all(subscriber, take):
    got, last, pause = 0, -1, 0
    try:
        while True:
            for number in whole(take()):
                assert number > last, (number, last)
                got, last = got + 1, number
    except EOFError:
        return got, subscriber.missed, last
"""


def entry(kind, number):
    """Make one entry of a kind."""
    words = np.full(WORDS, number, "u8")
    return words.tobytes() if kind == "messages" else words.view(NUMBERED["records"])


def put(publisher, kind, number, **options):
    if kind == "messages":
        publisher.send(entry(kind, number), **options)
    else:
        publisher.write(entry(kind, number), **options)


def numbers(count):
    return np.arange(count, dtype="u8")


def fill(publisher, kind, first=0):
    """Put until the ring is full; give the number that found no room."""
    number = first
    while True:
        try:
            put(publisher, kind, number, timeout=0)
        except ringbell.RingFull:
            return number
        number += 1


def take(subscriber, kind, timeout=0):
    """Take the next entry; give its number."""
    taken = subscriber.recv(timeout) if kind == "messages" else subscriber.read(1, timeout)
    return check(taken)


def latest(subscriber, timeout=0):
    return check(subscriber.latest(timeout))


def check(taken):
    words = np.frombuffer(taken, "u8")
    assert (words == words[0]).all(), words
    return int(words[0])


def take_what_is_there(subscriber, kind):
    numbers = []
    while True:
        try:
            numbers.append(take(subscriber, kind))
        except ringbell.RingEmpty:
            return numbers


def wait_for_readers(publisher, count):
    wait_until(lambda: len(publisher.readers) == count)


def wait_until_asleep(publisher, count=0, times=1):
    """Wait until readers sleep in ringbell, each for so many times: the first `count`, or all."""
    readers = publisher.readers[: count or None]
    wait_until(lambda: all(reader.counters().sleeps >= times for reader in readers))
