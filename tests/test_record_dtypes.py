# SPDX-License-Identifier: MIT
"""Records of any dtype arrive as they were; both sides have to agree on it."""

import contextlib
import hashlib
import os
import random
import socket
import threading
import warnings

import numpy as np
import pytest
from processes import wait_until_listening

import ringbell
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import handshake, segment
from ringbell.streams import dtypes

SMALL_RING = 4096
TICK = np.dtype([("time", "M8[ns]"), ("price", "f8"), ("size", "u4")])

DTYPES = {
    "byte": "u1",
    "bool": "?",
    "half": "f2",
    "long double": "g",
    "complex": "c16",
    "big-endian": ">i8",
    "datetime": "M8[us]",
    "timedelta": "m8[D]",
    "bytes": "S3",
    "text": "U5",
    "void": "V12",
    "of 4096 bytes": "V4096",
    "of 5000 bytes": "S5000",
    "structure": TICK,
    "mixed byte orders": [("a", ">u2"), ("b", "<f4"), ("c", "S1")],
    "nested": [("head", [("id", "u8"), ("where", [("x", "f4"), ("y", "f4")])]), ("tail", "i2")],
    "with sub-arrays": [("grid", "f4", (2, 3)), ("points", [("x", "i2"), ("y", "i2")], (4,))],
    "sub-array": np.dtype(("f8", (2, 2))),
    "sub-array of structures": np.dtype(([("a", "u1"), ("b", ">u4")], (3,))),
    "aligned": np.dtype([("a", "u1"), ("b", "f8"), ("c", "u1")], align=True),
    "padded": np.dtype({"names": ["a", "b"], "formats": ["i4", "S2"], "offsets": [5, 17]}),
    "padded at the end": np.dtype({"names": ["a"], "formats": ["i4"], "itemsize": 12}),
    "of a record array": np.dtype((np.record, [("a", "i4"), ("b", "f4")])),
    "with titles": np.dtype([(("The first", "a"), "i4"), ("b", "f4")]),
    "odd names": [("a b", "i4"), ("größe", "f4"), ("'", "u1")],
}


def rows_of(dtype, data):
    """Make an array of records from bytes, which include those between the fields."""
    dtype = np.dtype(dtype)
    return np.ndarray((len(data) // dtype.itemsize,), dtype, buffer=data)


def raw(rows):
    """Give the bytes of an array, including those between the fields."""
    return bytes(np.ndarray((rows.nbytes,), "u1", buffer=rows))


@pytest.mark.filterwarnings("ignore:the ring has room for one record")
def test_records_of_any_dtype_arrive_as_they_were(start, path):
    peer = start("nothing")
    peer.run("""
import hashlib
import numpy as np

def take_all():
    digest, count = hashlib.sha256(), 0
    for rows in consumer:
        assert rows.dtype == consumer.dtype.base
        assert rows.shape[1:] == consumer.dtype.shape
        assert rows.flags.c_contiguous
        digest.update(np.ndarray((rows.nbytes,), "u1", buffer=rows))
        count += len(rows)
    return count, ringbell.streams.dtypes.describe(consumer.dtype), digest.hexdigest()
""")
    rng = random.Random(1)
    for dtype in map(np.dtype, DTYPES.values()):
        peer.begin("consumer = ringbell.consume(path)")
        with ringbell.produce(path, dtype, ring_size=SMALL_RING) as producer:
            peer.reply()
            assert producer.dtype == dtype
            data = rng.randbytes((2 * producer.capacity + 3) * dtype.itemsize)
            rows = rows_of(dtype, data)
            peer.begin("take_all()")
            assert producer.write(rows[:-1]) == len(rows) - 1
            assert producer.write(rows[-1:]) == 1
        count, description, digest = eval(peer.reply())
        assert (count, description) == (len(rows), dtypes.describe(dtype))
        assert digest == hashlib.sha256(data).hexdigest()
        peer.run("consumer.close()")


def both_outcomes(path, produced, consumed):
    """Meet with these options; return what each side returned or raised."""
    outcomes = []

    def consume():
        try:
            outcomes.append(ringbell.consume(path, **consumed))
        except Exception as error:
            outcomes.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        mine = ringbell.produce(path, **produced)
    except ringbell.LayoutMismatch as error:
        mine = error
    thread.join()
    for side in (mine, *outcomes):
        if not isinstance(side, Exception):
            side.close()
    return mine, *outcomes


@pytest.mark.parametrize(
    ("produced", "consumed"),
    [
        ("f8", "f4"),
        ("<i4", ">i4"),
        ("i4", "u4"),
        ("M8[ns]", "M8[us]"),
        ([("a", "i4")], [("b", "i4")]),
        ([("a", "u1"), ("b", "i4")], np.dtype([("a", "u1"), ("b", "i4")], align=True)),
        ("i4", np.dtype(("i4", (3,)))),
        (None, "f8"),  # for NumPy, f8 is equal to None
        (None, "u1"),
    ],
)
@pytest.mark.parametrize("first", ["consumer", "producer"])
def test_another_dtype_is_a_mismatch_on_both_sides(path, produced, consumed, first):
    if first == "producer":
        with pytest.raises(ringbell.LayoutMismatch), contextlib.ExitStack() as guard:
            thread = threading.Thread(target=expect_refusal, args=(path, produced))
            guard.callback(thread.join)
            thread.start()
            wait_until_listening(path)
            ringbell.consume(path, consumed)
        return
    mine, theirs = both_outcomes(path, {"dtype": produced}, {"dtype": consumed})
    assert isinstance(mine, ringbell.LayoutMismatch)
    assert isinstance(theirs, ringbell.LayoutMismatch)
    carried = "messages" if produced is None else f"records of {np.dtype(produced)}"
    why = f"the stream carries {carried}, not records of {np.dtype(consumed)}"
    assert str(theirs) == why
    assert str(mine) == f"the consumer refused the channel: {why}"


def expect_refusal(path, dtype):
    with pytest.raises(ringbell.LayoutMismatch, match="the consumer refused the channel"):
        ringbell.produce(path, dtype)


@pytest.mark.parametrize("dtype", ["structure", "sub-array", "padded", "of a record array"])
def test_the_same_dtype_may_be_asked_for(path, dtype):
    options = {"dtype": DTYPES[dtype]}
    mine, theirs = both_outcomes(path, options, options)
    assert (type(mine), type(theirs)) == (ringbell.RecordProducer, ringbell.RecordConsumer)
    assert mine.dtype == theirs.dtype == DTYPES[dtype]


@pytest.mark.parametrize(
    ("dtype", "why"),
    [
        ("O", "hold Python objects"),
        ([("a", "i4"), ("b", "O")], "hold Python objects"),
        ("S0", "have no bytes"),
        ("U", "have no bytes"),
        ([], "have no bytes"),
        (np.dtype(("i4", (0,))), "have no bytes"),
        (
            np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
            "must not overlap",
        ),
        (
            np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
            "order of their offsets",
        ),
        ("V1073741825", "cannot fill"),
        ([(f"{i:01000}", "u1") for i in range(1100)], "too long to describe"),
    ],
)
def test_a_dtype_that_cannot_lie_in_shared_memory_is_a_value_error(path, dtype, why):
    with pytest.raises(ValueError, match=why):
        ringbell.produce(path, dtype)


def test_a_consumer_cannot_ask_for_what_no_stream_carries(path):
    for dtype in ("O", "S0"):
        with pytest.raises(ValueError, match="hold Python objects|have no bytes"):
            ringbell.consume(path, dtype)
    for side in (ringbell.produce, ringbell.consume):
        with pytest.raises(TypeError):
            side(path, "no dtype")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b"()",
        b"('i4',)",
        b"('i4', 'x')",
        b"[('a',)]",
        b"[('a', 'i4'), ('a', 'i4')]",
        b"'|O'",
        b"'|S0'",
        b"'<M8[soon]'",
        b"__import__('os')",
        b"\xff",
        b"\0",
        b"(" * 10_000,
        b"'<i8'",  # a dtype, but its size is not that of the slots
        b"'|u1'",
    ],
)
def test_a_dtype_that_is_nonsense_is_refused_and_the_consumer_waits_on(path, caplog, text):
    consumed = []
    thread = threading.Thread(target=lambda: consumed.append(ringbell.consume(path)))
    thread.start()
    try:
        wait_until_listening(path)
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with segment.create_stream(SMALL_RING, 4, text) as made, Descriptors(control) as owned:
            control.connect(os.fspath(path))
            wake_fds = handshake.make_wake_fds(owned)
            handshake.say_hello(control, "producer", [made.descriptor, *wake_fds])
            with pytest.raises(ringbell.LayoutMismatch, match="is no dtype of 4 bytes"):
                handshake.receive_welcome(control, "consumer")
    finally:
        ringbell.produce(path, "i4").close()
        thread.join()
    assert "is no dtype of 4 bytes" in caplog.text
    consumed[0].close()


def test_what_describes_a_dtype_makes_it_again():
    for dtype in map(np.dtype, DTYPES.values()):
        assert dtypes.restore(dtypes.describe(dtype), dtype.itemsize) == dtype


def test_a_driver_does_not_bring_records_to_a_device(path):
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        ringbell.listen(path) as listener,
        segment.create_stream(SMALL_RING, 4, b"'<i4'") as made,
        Descriptors(control) as owned,
    ):
        control.connect(os.fspath(path))
        wake_fds = handshake.make_wake_fds(owned)
        handshake.say_hello(control, "driver", [made.descriptor, *wake_fds])
        with pytest.raises(TimeoutError):
            listener.accept(timeout=0)
        with pytest.raises(ringbell.LayoutMismatch, match="ring of records"):
            handshake.receive_welcome(control, "device")


@pytest.mark.parametrize(
    ("dtype", "ring_size", "capacity"),
    [
        ("u1", 4096, 4096),
        ("i4", 1 << 20, 1 << 18),
        ("V3", 4096, 4096),  # a ring of whole pages
        ("V12", 1 << 20, 1 << 16),
        ("V4096", 4096, 1),
        ("V5000", 4096, 512),
        ("V5000", 1 << 23, 1024),
    ],
)
@pytest.mark.filterwarnings("ignore:the ring has room for one record")
def test_a_ring_holds_a_power_of_two_of_records_in_whole_pages(stream, dtype, ring_size, capacity):
    producer, consumer = stream(dtype, ring_size=ring_size)
    assert producer.capacity == consumer.capacity == capacity
    rows = rows_of(dtype, random.Random(1).randbytes(capacity * producer.dtype.itemsize))
    for _ in range(2):
        assert producer.write(rows, timeout=0) == capacity
        with pytest.raises(ringbell.RingFull):
            producer.write(rows[0], timeout=0)
        assert raw(consumer.read()) == raw(rows)


def test_a_ring_with_room_for_one_record_is_warned_of_with_a_better_size(path):
    frame = np.dtype(("u1", (2160, 3840, 3)))
    with (
        pytest.warns(UserWarning, match=r"one record of 24883200 .* ring_size=134217728 .* 4$"),
        pytest.raises(TimeoutError),
    ):
        ringbell.produce(path, frame, timeout=0)
    for enough in ({"ring_size": 1 << 27}, {"dtype": "f8"}):
        options = {"dtype": frame, "timeout": 0} | enough
        with warnings.catch_warnings(), pytest.raises(TimeoutError):
            warnings.simplefilter("error")
            ringbell.produce(path, **options)


@pytest.mark.parametrize("renamed", ["the caller's", "the producer's", "a field's"])
def test_fields_that_are_renamed_meanwhile_do_not_change_places(stream, renamed):
    wanted = np.dtype([("price", "f8"), ("size", "f8")])
    swapped = np.dtype([("size", "f8"), ("price", "f8")])
    if renamed == "a field's":
        wanted, swapped = np.dtype([("tick", wanted)]), np.dtype([("tick", swapped)])
    producer, consumer = stream(wanted)
    assert producer.write(np.ones(1, wanted)) == 1
    described = {
        "the caller's": wanted,
        "the producer's": producer.dtype,
        "a field's": wanted[0],
    }[renamed]
    described.names = ("size", "price")
    for rows in (np.zeros(1, swapped), np.zeros(1, wanted)):
        with pytest.raises(TypeError, match="the stream's records of "):
            producer.write(rows)
    with producer.reserve(1) as rows:
        (rows["tick"] if "tick" in rows.dtype.names else rows)["price"] = 5
    taken = consumer.read()
    assert (taken["tick"] if "tick" in taken.dtype.names else taken)["price"].tolist() == [1, 5]
