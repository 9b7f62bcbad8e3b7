# SPDX-License-Identifier: MIT
"""Gathers in tests: producers let in, and what they sent taken."""

import pytest

import ringbell

SEND = {"messages": "producer.send(b'%d')", "records": "producer.write([%d])"}


def meet(logs, count):
    """Let producers in until so many are connected; they have sent nothing yet."""
    while len(logs.producers) < count:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)


def take_some(logs, count):
    """Take so many entries; give pairs of the sender and the number that it sent."""
    taken = []
    while len(taken) < count:
        producer, entries = logs.take()
        numbers = [int(bytes(entries))] if isinstance(entries, memoryview) else entries.tolist()
        taken += [(producer.pid, number) for number in numbers]
    return taken


def take_nothing(logs):
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=0)


def part(logs, count):
    """Go on until only so many producers are connected."""
    while len(logs.producers) > count:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)


def numbers_of(taken, pid):
    return [number for sender, number in taken if sender == pid]
