# SPDX-License-Identifier: MIT
"""Streams of messages and of records, where a test says the same of both."""

import pytest

import ringbell

SMALL_RING = 4096
SMALL_RING_MESSAGES = 64
KINDS = {"messages": {}, "records": {"dtype": "i4"}}

PUT = {"messages": "producer.send(b'%d')", "records": "producer.write(%d)"}
TAKE = {"messages": lambda c: int(c.recv(timeout=0)), "records": lambda c: int(c.read(1, 0)[0])}


def put(producer, kind, number):
    eval(PUT[kind] % number, {"producer": producer})


def peer_options(kind, **options):
    return {**options, **{name: repr(value) for name, value in KINDS[kind].items()}}


def take_all(consumer, kind):
    taken = []
    with pytest.raises(ringbell.RingEmpty):
        while True:
            taken.append(TAKE[kind](consumer))
    return taken
