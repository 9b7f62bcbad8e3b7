# SPDX-License-Identifier: MIT
"""Streams of records: NumPy arrays go in and come out, and nothing is copied that need not be."""

import array
import contextlib
import gc
import hashlib
import os
import random
import select
import signal
import socket
import threading
import warnings

import numpy as np
import pytest
from indices import indices_from
from memory import READ_INDEX, WRITE_INDEX, address_of_slots, control_words
from processes import RAISES_INSIDE_RINGBELL, Storm, interruption, wait_until, wait_until_listening

import ringbell
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import handshake, segment
from ringbell.streams import dtypes

SMALL_RING = 4096
SMALL_RING_RECORDS = 1024  # of 4 bytes
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
    """Make an array of records of their bytes, those between the fields too."""
    dtype = np.dtype(dtype)
    return np.ndarray((len(data) // dtype.itemsize,), dtype, buffer=data)


def raw(rows):
    """Give the bytes of an array, those between the fields too."""
    return bytes(np.ndarray((rows.nbytes,), "u1", buffer=rows))


# ---- dtypes ----


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
        (None, "f8"),  # which NumPy takes for equal to None
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
        b"'<i8'",  # a dtype, but not of the size of the slots
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
            kick_fds = handshake.make_kick_fds(owned)
            handshake.say_hello(control, "producer", [made.descriptor, *kick_fds])
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
        kick_fds = handshake.make_kick_fds(owned)
        handshake.say_hello(control, "driver", [made.descriptor, *kick_fds])
        with pytest.raises(TimeoutError):
            listener.accept(timeout=0)
        with pytest.raises(ringbell.LayoutMismatch, match="ring of records"):
            handshake.receive_welcome(control, "device")


@pytest.mark.parametrize(
    ("dtype", "ring_size", "capacity"),
    [
        ("u1", 4096, 4096),
        ("i4", 1 << 20, 1 << 18),
        ("V3", 4096, 4096),  # whole pages
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


# ---- write ----


def test_what_numpy_makes_an_array_of_may_be_written(stream):
    producer, consumer = stream(TICK)
    rows = np.zeros(5, TICK)
    rows["price"] = range(5)
    read_only = rows.copy()
    read_only.flags.writeable = False
    tuples = [row.tolist() for row in rows]
    for written in (
        rows,
        read_only,
        np.repeat(rows, 2)[::2],
        rows[::-1][::-1],
        rows.view(np.recarray),
        tuples,
    ):
        assert producer.write(written) == 5
        assert consumer.read().tolist() == rows.tolist()
    for one in (rows[3], rows[3:4], rows[3:4].reshape(()), rows[3].tolist(), [rows[3]]):
        assert producer.write(one) == 1
        assert consumer.read().tolist() == [rows[3].tolist()]
    for none in (rows[:0], []):
        assert producer.write(none) == 0
    with pytest.raises(ringbell.RingEmpty):
        consumer.read(timeout=0)


def test_numbers_may_be_written(stream):
    producer, consumer = stream("i4")
    for written in (5, [5], (5,), np.int32(5), range(5, 6), array.array("h", [5])):
        assert producer.write(written) == 1
        assert consumer.read().tolist() == [5]


def test_records_that_are_arrays_may_be_written(stream):
    producer, consumer = stream(np.dtype(("i4", (2,))))
    for written in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], "i4"), ((1, 2), (3, 4))):
        assert producer.write(written) == 2
        assert consumer.read().tolist() == [[1, 2], [3, 4]]
    for one in ([1, 2], np.array([1, 2], "i4")):
        assert producer.write(one) == 1
        assert consumer.borrow().tolist() == [[1, 2]]
    for wrong in ([1, 2, 3], [[1, 2, 3]], 5, np.zeros((2, 3), "i4"), np.zeros((1, 1, 2), "i4")):
        with pytest.raises(ValueError, match="has the shape"):
            producer.write(wrong)


def test_one_record_that_is_an_array_of_floats_is_one(stream):
    # NumPy takes float64 and None for the same dtype.
    producer, consumer = stream(np.dtype(("f8", (3,))))
    assert producer.write(np.arange(3.0)) == 1
    assert consumer.read().tolist() == [[0, 1, 2]]


def test_fractions_are_not_cut_off_without_a_word(stream):
    producer, consumer = stream("i2")
    for wrong in ([1.9, 2.7], 2.5, [1j]):
        with pytest.raises(TypeError, match="are fractions"):
            producer.write(wrong)
    with pytest.raises(TypeError, match="masked array"):
        producer.write(np.ma.masked_array([1, 2], [True, False], "i2"))
    assert producer.write([]) == 0
    assert producer.stats().driver.producer.entries == 0


def test_nothing_is_written_of_a_list_of_nothing(stream):
    producer, _ = stream(np.dtype(("i4", (2,))))
    assert producer.write([]) == producer.write(np.zeros((0, 2), "i4")) == 0


def test_what_is_of_another_dtype_or_shape_is_refused(stream):
    producer, consumer = stream("i4")
    for wrong in (
        np.zeros(3),
        np.zeros(3, ">i4"),
        np.float64(1),
        np.zeros(3, "i8"),
        np.zeros(3, "u4"),
    ):
        with pytest.raises(TypeError, match=r"convert them, rows\.astype"):
            producer.write(wrong)
    for wrong in (np.zeros((2, 3), "i4"), np.zeros((1, 1), "i4"), [[1, 2]]):
        with pytest.raises(ValueError, match="one-dimensional array of records of int32"):
            producer.write(wrong)
    for wrong in ("text", [1, "x"], [1, [2]]):
        with pytest.raises(ValueError, match=r"invalid literal|inhomogeneous|array element"):
            producer.write(wrong)
    for wrong in (None, object(), [None]):
        with pytest.raises(TypeError):
            producer.write(wrong)
    with pytest.raises(ringbell.RingEmpty):
        consumer.read(timeout=0)
    assert producer.write([1]) == 1


def test_more_than_the_ring_holds_is_written_as_room_comes(start, produce):
    consumer = start("consumer")
    producer = produce("i4", ring_size=SMALL_RING)
    consumer.begin("""
got = []
for rows in consumer:
    got.extend(rows.tolist())
""")
    rows = np.arange(50_000, dtype="i4")
    assert producer.write(rows) == len(rows)
    producer.close()
    consumer.reply()
    assert consumer.run("got == list(range(50_000))") == "True"


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_what_fits_within_the_timeout_is_written(stream, timeout):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    rows = np.arange(2000, dtype="i4")
    assert producer.write(rows, timeout=timeout) == SMALL_RING_RECORDS
    with pytest.raises(ringbell.RingFull, match="nothing was sent"):
        producer.write(rows, timeout=timeout)
    consumer.read(100)
    assert producer.write(rows[SMALL_RING_RECORDS:], timeout=timeout) == 100
    taken = np.concatenate([consumer.read(), rows[:0]])
    assert taken.tolist() == rows[100 : SMALL_RING_RECORDS + 100].tolist()


# ---- reserve ----


def test_reserved_records_are_published_when_the_block_ends(stream):
    producer, consumer = stream(TICK)
    with producer.reserve(3) as rows:
        assert (rows.dtype, rows.shape) == (TICK, (3,))
        rows["size"] = [1, 2, 3]
        with pytest.raises(ringbell.RingEmpty):
            consumer.read(timeout=0)
    assert consumer.read()["size"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        rows["size"] = 9
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = rows[1]


def test_a_block_that_an_exception_leaves_publishes_nothing(stream):
    producer, consumer = stream("i4")
    with pytest.raises(ZeroDivisionError), producer.reserve(3) as rows:
        rows[:] = 1
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="read-only"):
        rows[:] = 2
    with pytest.raises(ringbell.RingEmpty):
        consumer.read(timeout=0)
    assert producer.stats().dwi == 0
    producer.write([7])
    assert consumer.read().tolist() == [7]


def test_a_part_of_what_was_reserved_may_be_published(stream):
    producer, consumer = stream("i4")
    block = producer.reserve(10)
    with block as rows:
        assert block.count == 10
        rows[:4] = range(4)
        block.count = 4
        for wrong in (-1, 11):
            with pytest.raises(ValueError, match="from 0 to 10 records"):
                block.count = wrong
    assert consumer.read().tolist() == [0, 1, 2, 3]
    none = producer.reserve(10)
    with none:
        none.count = 0
    with pytest.raises(ringbell.RingEmpty):
        consumer.read(timeout=0)
    assert (producer.stats().dwi, producer.stats().driver.producer.entries) == (4, 4)


@pytest.mark.parametrize("count", [0, -1, SMALL_RING_RECORDS + 1, 2**63, 2**70])
def test_a_count_that_cannot_be_reserved_is_a_value_error(stream, count):
    producer, _ = stream("i4", ring_size=SMALL_RING)
    with pytest.raises(ValueError, match=f"from 1 to {SMALL_RING_RECORDS} records"):
        producer.reserve(count)
    with pytest.raises(TypeError):
        producer.reserve(1.5)


def test_one_block_at_a_time_and_no_write_inside(stream):
    producer, consumer = stream("i4")
    block = producer.reserve(2)
    with block as rows:
        for use in (lambda: producer.reserve(1), lambda: producer.write([1])):
            with pytest.raises(RuntimeError, match="leave the with block"):
                use()
        rows[:] = 5, 6
    with pytest.raises(RuntimeError, match="reserve once more"), block:
        pass
    assert consumer.read().tolist() == [5, 6]
    producer.reserve(1)  # never entered, so it is given up
    with producer.reserve(1) as rows:
        rows[:] = 7
    assert consumer.read().tolist() == [7]


def test_all_of_the_ring_is_reserved_in_one_piece_wherever_it_begins(stream):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    for first in range(0, 5 * SMALL_RING_RECORDS, SMALL_RING_RECORDS):
        producer.write([1] * 300)
        consumer.read()
        with producer.reserve(SMALL_RING_RECORDS) as rows:
            rows[:] = range(first, first + SMALL_RING_RECORDS)
        with pytest.raises(ringbell.RingFull):
            producer.reserve(1, timeout=0)
        taken = consumer.borrow()
        assert taken.tolist() == list(range(first, first + SMALL_RING_RECORDS))
        with pytest.raises(ringbell.RingEmpty):
            consumer.borrow(timeout=0)


def test_reserve_waits_until_there_is_room_for_all(start, produce):
    consumer = start("consumer")
    producer = produce("i4", ring_size=SMALL_RING, polling="never")
    producer.write(range(SMALL_RING_RECORDS))
    consumer.run("consumer.read(1000)")
    with pytest.raises(ringbell.RingFull):
        producer.reserve(1001, timeout=0.001)
    consumer.begin("""
while consumer.stats().driver.producer.sleeps < 2: time.sleep(0.001)
consumer.read(1)
""")
    with producer.reserve(1001) as rows:
        rows[:] = 7
    consumer.reply()
    assert producer.stats().dwi == SMALL_RING_RECORDS + 1001


# ---- borrow and read ----


def test_what_is_borrowed_is_read_only_and_lies_in_the_ring(stream):
    producer, consumer = stream(TICK)
    producer.write(np.zeros(3, TICK))
    rows = consumer.borrow()
    assert (rows.dtype, rows.shape) == (TICK, (3,))
    assert rows.__array_interface__["data"] == (address_of_slots(consumer), True)
    for write in (lambda: rows.__setitem__(0, rows[1]), lambda: rows["size"].fill(1)):
        with pytest.raises(ValueError, match="read-only"):
            write()
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        rows.flags.writeable = True


def test_what_is_borrowed_is_one_piece_across_the_end_of_the_ring(stream):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(1000))
    assert len(consumer.borrow()) == 1000
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)
    producer.write(range(SMALL_RING_RECORDS))
    rows = consumer.borrow()
    assert rows.flags.c_contiguous
    assert rows.tolist() == list(range(SMALL_RING_RECORDS))
    assert rows.__array_interface__["data"][0] == address_of_slots(consumer) + 4 * 1000


@pytest.mark.parametrize("step", ["borrow", "read", "iteration", "nothing arrived"])
def test_borrowed_records_are_released_by_the_next_step_and_not_before(stream, step):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(SMALL_RING_RECORDS))
    lent = 1000 if step != "nothing arrived" else SMALL_RING_RECORDS
    rows = consumer.borrow(lent)
    with pytest.raises(ringbell.RingFull):
        producer.write([0], timeout=0)
    assert rows.tolist() == list(range(lent))
    assert consumer.stats().dri == 0
    if step == "nothing arrived":
        with pytest.raises(ringbell.RingEmpty):
            consumer.borrow(timeout=0)
        assert producer.write([0] * 2000, timeout=0) == SMALL_RING_RECORDS
        return
    if step == "read":
        assert consumer.read().tolist() == list(range(lent, SMALL_RING_RECORDS))
        assert producer.write([0] * 2000, timeout=0) == SMALL_RING_RECORDS
        return
    rest = consumer.borrow() if step == "borrow" else next(iter(consumer))
    assert rest.tolist() == list(range(lent, SMALL_RING_RECORDS))
    assert producer.write([0] * 2000, timeout=0) == lent
    assert rest.tolist() == list(range(lent, SMALL_RING_RECORDS))


def test_a_producer_that_sleeps_is_woken_by_the_step_that_releases(start, consume):
    producer = start("producer", dtype=repr("i4"), ring_size=SMALL_RING, polling="never")
    consumer = consume()
    producer.begin("producer.write(range(3000))")
    taken, lent = [], consumer.borrow()
    while len(taken) + len(lent) < 3000:
        taken += lent.tolist()
        lent = consumer.borrow()
    assert taken + lent.tolist() == list(range(3000))
    assert producer.reply() == "3000"


def test_a_borrowed_array_may_be_looked_at_for_ever(stream):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(1000))
    rows = consumer.borrow()
    part = rows[10:20]
    assert len(part) == 10
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)
    producer.write([6] * SMALL_RING_RECORDS, timeout=0)
    assert set(rows.tolist()) == {6}, "the content changes once it has been released"
    consumer.close()
    producer.close()
    del producer, consumer, rows
    gc.collect()
    assert part.tolist() == [6] * 10
    assert not part.flags.writeable


def test_a_copy_is_the_readers_own(stream):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(SMALL_RING_RECORDS))
    rows = consumer.read()
    producer.write([0] * SMALL_RING_RECORDS, timeout=0)
    assert rows.tolist() == list(range(SMALL_RING_RECORDS))
    rows[:] = 1
    assert consumer.read().tolist() == [0] * SMALL_RING_RECORDS


def test_as_many_are_taken_as_asked_for(stream):
    producer, consumer = stream("i4")
    producer.write(range(100))
    assert consumer.borrow(max=1).tolist() == [0]
    assert consumer.read(max=9).tolist() == list(range(1, 10))
    assert consumer.borrow(np.int64(10)).tolist() == list(range(10, 20))
    assert consumer.read(10**12).tolist() == list(range(20, 100))
    for take in (consumer.borrow, consumer.read):
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="at least 1"):
                take(wrong)
        with pytest.raises(TypeError):
            take(1.5)
        with pytest.raises(ringbell.RingEmpty):
            take(timeout=0.001)


@pytest.mark.parametrize("boundary", [2**16, 2**32, 2**63, 2**64])
def test_records_arrive_in_order_when_indices_wrap(stream, boundary):
    with indices_from(boundary - 700):
        producer, consumer = stream("u4", ring_size=SMALL_RING)
    assert producer.stats().dwi == boundary - 700
    rng = random.Random(boundary)
    sent, taken = 0, []
    while sent < 20_000:
        count = rng.choice((1, 10, 300, SMALL_RING_RECORDS))
        with contextlib.suppress(ringbell.RingFull):
            sent += producer.write(np.arange(sent, sent + count, dtype="u4"), timeout=0)
        for _ in range(rng.randrange(3)):
            with contextlib.suppress(ringbell.RingEmpty):
                take = rng.choice((consumer.borrow, consumer.read))
                taken += take(rng.choice((1, 100, None)), timeout=0).tolist()
    producer.close()
    for rows in consumer:
        taken += rows.tolist()
    assert taken == list(range(sent))
    stats = consumer.stats()
    assert stats.dwi == stats.dri == (boundary - 700 + sent) % 2**64


def test_stats_count_records_and_bytes(stream):
    producer, consumer = stream(TICK)
    producer.write(np.zeros(7, TICK))
    with producer.reserve(3):
        pass
    consumer.read(4)
    consumer.borrow()
    stats = consumer.stats()
    assert stats == producer.stats()
    assert (stats.dwi, stats.dri, stats.iwi, stats.iri) == (10, 4, 0, 0)
    sent, taken = stats.driver.producer, stats.device.consumer
    assert (sent.entries, sent.bytes) == (10, 10 * TICK.itemsize)
    assert (taken.entries, taken.bytes) == (4, 4 * TICK.itemsize)
    assert (sent.kicks_sent, sent.kicks_saved) == (0, 2)
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)
    assert consumer.stats().device.consumer.entries == 10
    assert consumer.stats().device.consumer.times_empty == 1


# ---- interrupts ----


RECORD_STEPS = {
    "read": lambda c: c.read(3).tolist(),
    "borrow": lambda c: c.borrow(3).tolist(),
    "both": lambda c: c.borrow(2).tolist() + c.read(2).tolist(),
}
MESSAGE_STEPS = {
    "recv": lambda c: [int(c.recv())],
    "recv_many": lambda c: [int(message) for message in c.recv_many(3)],
    "borrow": lambda c: [int(bytes(c.borrow()))],
}


def interrupted_at_each_place(consumer, put, step):
    """Interrupt steps at all pairs of places; return all that was taken, and from how many."""
    put(1)
    put(2)
    taken, first = [], 1
    while True:
        second = 1
        while True:
            put(3)
            with interruption(first) as outer:
                taken += step(consumer)
            with interruption(second) as inner:
                taken += step(consumer)
            if not inner.happened:
                break
            second += 1
        if not outer.happened:
            return taken, first
        first += 1


@pytest.mark.parametrize("step", ["read", "borrow"])
def test_an_interrupt_at_any_place_loses_and_repeats_no_record(stream, step):
    producer, consumer = stream("i4")
    sent = 0

    def put(count):
        nonlocal sent
        sent += producer.write(range(sent, sent + count), timeout=0)

    taken, places = interrupted_at_each_place(consumer, put, RECORD_STEPS[step])
    assert places >= 1  # where the method of Python begins
    producer.close()
    for rows in consumer:
        taken += rows.tolist()
    assert taken == list(range(sent))


@pytest.mark.parametrize("step", MESSAGE_STEPS)
def test_an_interrupt_at_any_place_loses_and_repeats_no_message(stream, step):
    producer, consumer = stream()
    sent = 0

    def put(count):
        nonlocal sent
        for _ in range(count):
            producer.send(b"%d" % sent, timeout=0)
            sent += 1

    taken, places = interrupted_at_each_place(consumer, put, MESSAGE_STEPS[step])
    assert places >= 1
    producer.close()
    taken += [int(bytes(message)) for message in consumer]
    assert taken == list(range(sent))


@pytest.mark.parametrize("polling", ["adaptive", "never"])
def test_no_record_is_lost_or_repeated_by_signals(start, produce, polling):
    consumer = start("consumer", polling=polling)
    producer = produce("i8", ring_size=SMALL_RING, polling=polling)
    consumer.run(RAISES_INSIDE_RINGBELL)
    consumer.begin("""
import random
rng, got = random.Random(1), []
while not got or got[-1] != -1:
    take = consumer.read if rng.random() < 0.7 else consumer.borrow
    try:
        rows = take(rng.choice((None, 1, 7)))
        got += rows.tolist()
    except KeyboardInterrupt:
        pass
""")
    count = 0
    with Storm(consumer.pid) as storm:
        while storm.sent < 400:
            count += producer.write(np.arange(count, count + 1 + count % 20))
    producer.write([-1])
    consumer.reply()
    assert consumer.run(f"got[:-1] == list(range({count}))") == "True"
    assert int(consumer.run("raised")) > 10


# ---- kicks ----


@pytest.fixture
def asleep(start, produce):
    """A consumer that has gone to sleep over an empty ring of records, and is stopped there."""

    def make(moderation=None, **options):
        consumer = start("consumer", polling="never")
        producer = produce("i4", **options)
        if moderation:
            consumer.run(f"consumer.moderation = ringbell.{moderation!r}")
        consumer.begin("""
while consumer.borrow()[-1] >= 0:
    pass
""")
        wait_until(lambda: producer.stats().device.consumer.sleeps >= 1)
        consumer.stop()
        return producer, consumer

    return make


def finish(producer, consumer):
    """Everything written is taken, up to the negative number that ends the loop."""
    consumer.signal(signal.SIGCONT)
    # As many as any moderation waits for.
    producer.write([0] * 100 + [-1])
    consumer.reply()


def kicks(producer):
    counters = producer.stats().driver.producer
    return counters.kicks_sent, counters.kicks_late


def test_a_deferred_burst_of_1000_writes_is_one_kick(asleep):
    producer, consumer = asleep()
    with producer.coalesce():
        for i in range(1000):
            producer.write(i)
        assert kicks(producer) == (0, 0)
    assert kicks(producer) == (1, 0)
    finish(producer, consumer)


def test_a_write_of_any_size_is_one_kick(asleep):
    producer, consumer = asleep(ring_size=SMALL_RING)
    producer.write(range(SMALL_RING_RECORDS))
    assert kicks(producer) == (1, 0)
    assert producer.stats().driver.producer.entries == SMALL_RING_RECORDS
    finish(producer, consumer)


def test_kicks_are_held_back_for_so_many_records_at_most(asleep):
    producer, consumer = asleep()
    with producer.coalesce(max_entries=10):
        producer.write(range(9))
        assert kicks(producer) == (0, 0)
        with producer.reserve(1) as rows:
            rows[:] = 1
        assert kicks(producer) == (1, 0)
    finish(producer, consumer)


def test_moderation_counts_records(asleep):
    producer, consumer = asleep(moderation=ringbell.Moderation(32, 1.0))
    producer.write(range(30))
    assert kicks(producer) == (0, 1)
    producer.write([1])
    assert kicks(producer) == (0, 1)
    producer.write([1])
    assert kicks(producer) == (1, 1)
    finish(producer, consumer)


def test_enough_records_at_once_are_told_at_once(asleep):
    producer, consumer = asleep(moderation=ringbell.Moderation(32, 1.0))
    producer.write(range(32))
    assert kicks(producer) == (1, 0)
    finish(producer, consumer)


def is_readable(end):
    return bool(select.select([end], [], [], 0)[0])


@pytest.mark.parametrize("take", ["borrow", "read"])
def test_the_descriptor_is_readable_while_there_is_something_to_take(stream, take):
    producer, consumer = stream("i4")
    take = getattr(consumer, take)
    assert not is_readable(consumer)
    producer.write(range(5))
    for i in range(5):
        assert is_readable(consumer)
        assert take(1, timeout=0).tolist() == [i]
    with pytest.raises(ringbell.RingEmpty):
        take(timeout=0)
    assert not is_readable(consumer)
    producer.close()
    assert is_readable(consumer)
    with pytest.raises(ringbell.EndOfStream):
        take(timeout=0)


@pytest.mark.parametrize("most", [1, 3, None])
def test_an_event_loop_misses_no_record(start, produce, most):
    consumer = start("consumer")
    producer = produce("i4", ring_size=SMALL_RING)
    consumer.begin(f"""
import select
got, poll = [], select.epoll()
poll.register(consumer, select.EPOLLIN)
while not got or got[-1] != -1:
    poll.poll()
    try:
        got += consumer.borrow({most}, timeout=0).tolist()
    except ringbell.RingEmpty:
        pass
poll.close()
""")
    rng = random.Random(1)
    sent = 0
    while sent < 2000:
        count = rng.choice((1, 1, 1, 2, 5, 40))
        producer.write(range(sent, sent + count))
        sent += count
        if rng.random() < 0.3:
            # Until it has released all: the next record finds it asleep in the kernel, or nearly.
            wait_until(lambda n=sent: producer.stats().device.consumer.entries == n)
    producer.write([-1])
    consumer.reply()
    assert consumer.run(f"got[:-1] == list(range({sent}))") == "True"


# ---- a peer that breaks the format ----


@pytest.mark.parametrize("nonsense", [SMALL_RING_RECORDS + 1, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("take", ["borrow", "read"])
def test_a_nonsense_write_index_is_a_corrupt_ring(stream, nonsense, take):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    control_words(producer)[WRITE_INDEX] = nonsense
    for _ in range(2):
        with pytest.raises(ringbell.CorruptRing, match="connect again"):
            getattr(consumer, take)()
    with pytest.raises(ringbell.CorruptRing):
        consumer.borrow(timeout=0)


def test_a_write_index_that_goes_back_is_a_corrupt_ring(stream):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(10))
    consumer.borrow(6)
    control_words(producer)[WRITE_INDEX] = 3
    with pytest.raises(ringbell.CorruptRing):
        [consumer.borrow() for _ in range(2)]


@pytest.mark.parametrize("nonsense", [1, SMALL_RING_RECORDS + 1, 2**31, 2**63])
def test_a_nonsense_read_index_is_a_corrupt_ring(stream, nonsense):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    producer.write(range(SMALL_RING_RECORDS - 1))
    producer.write(0)
    control_words(consumer)[READ_INDEX] = (nonsense + SMALL_RING_RECORDS) % 2**64
    for use in (lambda: producer.write([1], timeout=0), lambda: producer.reserve(1, timeout=0)):
        with pytest.raises(ringbell.CorruptRing, match="wrote what no ringbell writes"):
            use()


# ---- other libraries' buffers ----


def numpy_buffer():
    return np.arange(16, dtype="u1"), lambda view: np.frombuffer(view, "u1").ctypes.data


def torch_buffer():
    torch = pytest.importorskip("torch")

    def address(view):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is read-only
            return torch.frombuffer(view, dtype=torch.uint8).data_ptr()

    return torch.arange(16, dtype=torch.uint8).numpy(), address


def pyarrow_buffer():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.py_buffer(bytes(range(16))), lambda view: pyarrow.py_buffer(view).address


@pytest.mark.parametrize("library", [numpy_buffer, torch_buffer, pyarrow_buffer])
def test_buffers_of_other_libraries_go_in_and_views_of_them_are_no_copies(stream, library):
    payload, address = library()
    producer, consumer = stream()
    producer.send(b"first")
    producer.send(payload)
    assert consumer.recv() == b"first"
    view = consumer.borrow()
    assert bytes(view) == bytes(range(16))
    assert address(view) == address_of_slots(consumer) + 64 + 16  # a slot, and a frame's header


@pytest.mark.parametrize("library", [numpy_buffer, torch_buffer, pyarrow_buffer])
def test_borrowed_records_are_no_copies_to_other_libraries(stream, library):
    payload, address = library()
    producer, consumer = stream("u1")
    assert producer.write(np.frombuffer(payload, "u1")) == 16
    rows = consumer.borrow()
    assert rows.tolist() == list(range(16))
    assert address(rows) == address_of_slots(consumer)


@pytest.mark.parametrize(
    "payload", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("B", b"abcd")]
)
def test_buffers_of_the_standard_library_go_in(stream, payload):
    producer, consumer = stream()
    producer.send(payload)
    producer.send_many([payload, payload])
    with producer.reserve(4) as frame:
        frame.payload[:] = payload
    assert [bytes(message) for _, message in zip(range(4), consumer, strict=False)] == [b"abcd"] * 4


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
