# SPDX-License-Identifier: MIT
"""Codecs, objects and handlers that the tests of codecs use in both processes."""

import array
import json
import signal
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    x: int
    y: int


def to_json(value):
    return json.dumps(value).encode()


def from_json(octets):
    return json.loads(bytes(octets))


def returns_text(value):
    return str(value)


_buffer = bytearray()


def to_json_in_place(value):
    """Use the same buffer again and again."""
    _buffer[:] = to_json(value)
    return _buffer


CODECS = {
    "json": (to_json, from_json),
    "named": (lambda value: to_json(value), lambda octets: from_json(octets), "a name"),
    "reused": (to_json_in_place, from_json),
    "no buffer": (returns_text, from_json, "no buffer"),
}


structured = np.zeros(1000, [("x", "f8"), ("y", "i2", (3,))])
structured["x"] = np.arange(1000)
large = np.arange(20_000.0)

OBJECTS = {
    "none": None,
    "text": "é" * 3,
    "nested": {"a": [1, 2.5, None, {"b": (True, b"c")}]},
    "named tuple": Point(1, 2),
    "long bytes": [b"x" * 300_000, "y" * 300_000, bytearray(b"z" * 300_000)],
    "array": large,
    "arrays": {"a": large, "b": [large + 1, {"c": large[:5] + 2}], "d": large.astype("u1")},
    "the same twice": [large] * 2,
    "fortran": np.asfortranarray(large.reshape(100, 200)),
    "scattered": large.reshape(100, 200)[::2, ::-3],
    "empty": [np.zeros(0), np.zeros((3, 0, 2), "i4"), large],
    "no dimension": np.array(5.0),
    "structured": structured,
    "objects": np.array([1, "two", None, large], dtype=object),
    "strings": np.array(["one", "two"] * 5000),
    "times": np.arange(20_000).astype("M8[ns]"),
    "booleans": large > 5,
    "scalars": [np.float64(1.5), np.int8(3)],
    "many": [large[:600] + i for i in range(50)],
    "array of the standard library": array.array("d", range(20_000)),
}


def consumer(start, produce, codec="pickle", **options):
    """Start a consumer of objects in another process; give it, and the producer here."""
    peer = start("consumer", codec=codec, **options)
    return peer, produce(codec=CODECS.get(codec, codec))


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


def explode(what):
    raise ArithmeticError(what)


class Explosive:
    """Can be pickled, and raises when that is undone."""

    def __reduce__(self):
        return explode, ("boom",)


def stop():
    raise StopIteration


class Stopping:
    def __reduce__(self):
        return stop, ()


interrupts = 0


def interrupt_twice():
    """Be interrupted, as by Ctrl-C, by the first two who unpickle this."""
    global interrupts
    interrupts += 1
    if interrupts <= 2:
        signal.raise_signal(signal.SIGINT)
    return "whole"


class Interrupting:
    def __reduce__(self):
        return interrupt_twice, ()


def interrupt(*_):
    raise KeyboardInterrupt


def raise_it(kind):
    raise kind("by the object")


class Raising:
    """Unpickling raises that."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return raise_it, (self.kind,)


def same(one, other):
    """Whether two objects are equal, with all that arrays have."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.flags.f_contiguous == other.flags.f_contiguous
            and (
                same(one.tolist(), other.tolist()) if one.dtype.hasobject else (one == other).all()
            )
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "equals"):  # of pandas, Arrow and polars
        return bool(one.equals(other))
    return bool(one == other)


# ---- handlers ----


def back(value):
    return value


def plus_one(value):
    """Change an array in place, and give it back."""
    value += 1
    return value


kept = []


def keep(value):
    """Keep all that has come, and answer with the sum of that."""
    kept.append(value)
    return sum(int(one.sum()) for one in kept)


counting = np.zeros(1000, "i8")


def count(value):
    """Answer with an array that every request changes."""
    counting.fill(value)
    return counting


def odd(value):
    special = {"unpicklable": Unpicklable, "explosive": Explosive}
    return special[value]() if isinstance(value, str) and value in special else value


async def odd_later(value):
    return odd(value)


# ---- both ends of a pipeline ----


def sends_some(stream):
    for number in range(300):
        stream.send({"n": number})


def takes_all(stream):
    return list(stream)


def sends_arrays(stream):
    for number in range(5):
        stream.send(np.full(1 << 16, number, "u1"))


def holds_arrays(stream):
    held = [stream.hold() for _ in range(5)]
    return held[0].flags.writeable, [int(one.mean()) for one in held]
