# SPDX-License-Identifier: MIT
"""Streams of records: NumPy arrays go in and come out, and nothing is copied that need not be."""

import array
import contextlib
import gc
import random

import numpy as np
import pytest
from indices import indices_from
from memory import READ_INDEX, WRITE_INDEX, address_of_slots, control_words

import ringbell

SMALL_RING = 4096
SMALL_RING_RECORDS = 1024  # of 4 bytes
TICK = np.dtype([("time", "M8[ns]"), ("price", "f8"), ("size", "u4")])


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
    # For NumPy, float64 and None are the same dtype.
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
    with pytest.raises(RuntimeError, match="reserve again"), block:
        pass
    assert consumer.read().tolist() == [5, 6]
    producer.reserve(1)  # its block never begins, so it is given up
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
    with pytest.raises(ringbell.EndOfStream):
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


# ---- a peer that breaks the format ----


@pytest.mark.parametrize("nonsense", [SMALL_RING_RECORDS + 1, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("take", ["borrow", "read"])
def test_a_nonsense_write_index_is_a_corrupt_ring(stream, nonsense, take):
    producer, consumer = stream("i4", ring_size=SMALL_RING)
    control_words(producer)[WRITE_INDEX] = nonsense
    for _ in range(2):
        with pytest.raises(ringbell.CorruptRing, match="open a new one"):
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
        with pytest.raises(ringbell.CorruptRing, match="broke the format"):
            use()
