# SPDX-License-Identifier: MIT
"""Pickles with the buffers of arrays beside them: what is copied, and what is held by reference."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import coded
import numpy as np
import pytest
from coded import OBJECTS, large

import ringbell
from ringbell import codecs


@pytest.mark.parametrize("pickler", [pickle.Pickler, ForkingPickler])
def test_packed_objects_are_unpacked(stream, pickler):
    producer, consumer = stream(ring_size=1 << 23)
    pickles = codecs.pickles(pickler)
    for name, value in OBJECTS.items():
        producer.send(pickles.pack(value))
        octets = consumer.recv()
        assert coded.same(pickles.unpack(memoryview(octets)), value), name
        assert coded.same(pickles.unpack(octets), value), name


def test_packing_copies_no_array():
    packed = codecs.pack({"x": large, "y": [large]})
    assert len(packed) > large.nbytes
    assert isinstance(codecs.pack(large[:100]), bytes)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(packed)
    growing = bytearray(10_000)
    packed = codecs.pack(pickle.PickleBuffer(growing))
    with pytest.raises(BufferError):
        growing.append(1)
    del packed
    growing.append(1)


def test_packing_inside_of_packing_makes_two_pickles():
    inner = []

    class Nested:
        def __reduce__(self):
            inner.append(codecs.pack([1, 2]))
            return list, ()

    assert codecs.unpack(codecs.pack([Nested(), 3])) == [[], 3]
    assert codecs.unpack(inner[0]) == [1, 2]


def test_threads_pack_at_once():
    met = threading.Barrier(2)

    class Meeting:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            met.wait(timeout=20)
            return list, ([self.value, large],)

    with ThreadPoolExecutor(2) as pool:
        for packed, value in zip(pool.map(codecs.pack, map(Meeting, (1, 2))), (1, 2), strict=True):
            number, array = codecs.unpack(ringbell._ends.octets_of(packed))
            assert (number, array.tolist()) == (value, large.tolist())
    assert codecs.unpack(codecs.pack("next")) == "next"


def test_after_an_object_that_cannot_be_pickled_the_next_one_is_whole():
    with pytest.raises((AttributeError, pickle.PicklingError)):
        codecs.pack([1, bytes(100_000), large, lambda: None])
    assert codecs.unpack(codecs.pack("next")) == "next"
    assert codecs.unpack(codecs.pack([1])) == [1]


def test_what_is_held_by_reference_is_not_copied(stream):
    blocks = ringbell.Blocks(pool=1 << 20, least=1 << 16)
    producer, consumer = stream(consume={"codec": "pickle"}, codec="pickle", blocks=blocks)
    with producer, consumer:
        for number in range(3):
            producer.send({"number": number, "one": np.full(1 << 14, number), "two": np.arange(9)})
        held = [consumer.hold() for _ in range(3)]
        assert producer.stats().driver.blocks.sent == 3
        assert not any(one["one"].flags.writeable for one in held)
        producer.send("small")
        assert consumer.hold() == "small"
    assert [int(one["one"].sum()) for one in held] == [0, 1 << 14, 2 << 14]
    assert held[1]["two"].tolist() == list(range(9))


def test_a_block_of_an_object_goes_back_with_its_last_array(stream):
    blocks = ringbell.Blocks(pool=1 << 19, least=1 << 16, when_lent="wait")
    producer, consumer = stream(consume={"codec": "pickle"}, codec="pickle", blocks=blocks)
    with producer, consumer:
        for number in range(100):
            producer.send([np.full(1 << 14, number), np.full(1 << 13, number)], timeout=10)
            _, kept = consumer.hold()
            assert (kept == number).all()
        assert producer.stats().driver.blocks.sent == 100
        del kept
        producer.send(np.zeros(1 << 14), timeout=10)
        assert not consumer.recv().any()


def test_what_cannot_be_unpickled_by_reference_is_consumed(stream):
    blocks = ringbell.Blocks(pool=1 << 17, least=1 << 16, when_lent="wait")
    decoding = (bytes, lambda view: 1 // bytes(view)[0], "odd")
    producer, consumer = stream(consume={"codec": decoding}, codec=decoding, blocks=blocks)
    with producer, consumer:
        for _ in range(5):
            producer.send(bytes(1 << 16), timeout=10)
            with pytest.raises(ZeroDivisionError):
                consumer.hold()
        producer.send(b"\1" * (1 << 16), timeout=10)
        assert consumer.hold() == 1
