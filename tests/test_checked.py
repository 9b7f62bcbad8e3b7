# SPDX-License-Identifier: MIT
"""A checked consumer: borrowed records say so when they are used after their step."""

import copy
import pickle

import numpy as np
import pytest
from processes import interruption

import ringbell

RECORD = np.dtype([("x", "f4"), ("n", "i4"), ("t", "M8[s]"), ("grid", "f8", (2,))])
SMALL_RING_RECORDS = 1024  # of 4 bytes


@pytest.fixture
def checked(stream):
    return lambda dtype, **options: stream(
        dtype, consume={"checked": True}, ring_size=4096, **options
    )


def next_step(consumer):
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)


USES = {
    "an element": lambda rows: rows[0],
    "a part": lambda rows: rows[1:],
    "a loop": list,
    "a sum": lambda rows: rows.sum(),
    "a function": np.sum,
    "arithmetic": lambda rows: rows + 1,
    "arithmetic from the right": lambda rows: 1 + rows,
    "a comparison": lambda rows: rows == 1,
    "a function of several": lambda rows: np.concatenate([np.zeros(1, "f4"), rows]),
    "a copy": lambda rows: rows.copy(),
    "the module copy": copy.copy,
    "a pickle": pickle.dumps,
    "text": str,
    "more text": lambda rows: f"{rows!r}",
    "bytes": lambda rows: rows.tobytes(),
    "a list": lambda rows: rows.tolist(),
    "another view": lambda rows: rows.view("u4"),
    "another dtype": lambda rows: rows.astype("f8"),
    "membership": lambda rows: 1.0 in rows,
    "a number": lambda rows: float(rows[0:1][0]),
}
KEEPS = {
    "what was lent": lambda rows: rows,
    "a slice": lambda rows: rows[::2],
    "a field": lambda rows: rows["x"],
    "a reshaped view": lambda rows: rows.reshape(-1, 2),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_records_that_are_used_after_their_step_are_an_error(checked, use):
    producer, consumer = checked("f4")
    producer.write([1, 2, 3, 4])
    rows = consumer.borrow()
    use(rows)
    next_step(consumer)
    with pytest.raises(RuntimeError, match=r"the step that lent them is over.*rows\.copy\(\)"):
        use(rows)


@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
def test_what_is_made_of_them_without_a_copy_is_an_error_too(checked, keep):
    producer, consumer = checked(RECORD)
    producer.write(np.ones(4, RECORD))
    kept = keep(consumer.borrow())
    assert len(kept[:1]) == 1
    next_step(consumer)
    with pytest.raises(RuntimeError, match="is over"):
        kept[:1]


def test_rows_kept_over_a_loop_are_found(checked):
    producer, consumer = checked("i4")
    producer.write([1, 2])
    kept = []
    for rows in consumer:
        kept.append(rows)
        if len(kept) == 1:
            producer.write([3, 4])
        else:
            producer.close()
    assert len(kept) == 2
    for rows in kept:
        with pytest.raises(RuntimeError, match="keep a copy"):
            np.concatenate([rows, rows])


def test_copies_outlive_their_step(checked):
    producer, consumer = checked(RECORD)
    rows = np.ones(4, RECORD)
    rows["n"] = range(4)
    producer.write(rows)
    lent = consumer.borrow()
    kept = [lent.copy(), lent[[0, 1, 2, 3]], lent[lent["n"] >= 0], np.array(lent)]
    numbers = [lent["n"] * 1, lent["n"].astype("i8"), lent["n"].copy()[:4]]
    total = lent["n"].sum()
    next_step(consumer)
    assert all(np.array_equal(array, rows) for array in kept)
    assert [array.tolist() for array in numbers] == [[0, 1, 2, 3]] * 3
    assert total == 6


def test_what_does_not_ask_finds_a_pattern(checked):
    producer, consumer = checked(RECORD)
    producer.write(np.ones(2, RECORD))
    lent = consumer.borrow()
    plain, one, octets = np.asarray(lent), lent[0], memoryview(lent["n"][:1])
    next_step(consumer)
    for rows in (plain[0], one):
        assert np.isnan(rows["x"])
        assert np.isnat(rows["t"])
        assert np.isnan(rows["grid"]).all()
    assert bytes(octets) == b"\xdb" * 4


@pytest.mark.parametrize("dtype", ["f8", RECORD, np.dtype(("i2", (3,))), "U3", "?", "V5"])
def test_within_its_step_it_is_as_any_other(stream, checked, dtype):
    producer, consumer = checked(dtype)
    other_producer, other = stream(dtype)
    rows = np.zeros((5, *producer.dtype.shape), producer.dtype.base)
    for end in (producer, other_producer):
        end.write(rows)
    lent, plain = consumer.borrow(3), other.borrow(3)
    assert isinstance(lent, np.ndarray)
    assert (lent.dtype, lent.shape, lent.strides) == (plain.dtype, plain.shape, plain.strides)
    assert lent.tobytes() == plain.tobytes()
    for array in (lent, lent[1:], np.asarray(lent)):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    assert consumer.stats().dri == 0, "its slots are released by the next step"
    assert len(consumer.read()) == 2
    assert consumer.stats().dri == 5
    assert type(consumer) is type(other) is ringbell.RecordConsumer


def test_a_closed_consumer_ends_no_step(checked):
    producer, consumer = checked("i4")
    producer.write([5])
    rows = consumer.borrow()
    consumer.close()
    assert rows.tolist() == [5]


def test_a_checked_consumer_loses_nothing_to_an_interrupt(checked):
    producer, consumer = checked("i4")
    sent, taken, place = 0, [], 1
    while True:
        producer.write([sent, sent + 1])
        sent += 2
        with interruption(place) as cut:
            taken += np.asarray(consumer.borrow(1)).tolist()
        taken += np.asarray(consumer.borrow(1)).tolist()
        if not cut.happened:
            break
        place += 1
    assert place > 3
    producer.close()
    for rows in consumer:
        taken += rows.tolist()
    assert taken == list(range(sent))


def test_messages_need_no_check(stream):
    producer, consumer = stream(consume={"checked": True})
    producer.send(b"x")
    view = consumer.borrow()
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_records_kept_too_long_are_not_sent_on(stream):
    producer, consumer = stream("f8", consume={"checked": True})
    messages, _ = stream()
    producer.write([1.0])
    kept = consumer.borrow()
    assert producer.write(kept) == 1
    messages.send(kept)
    consumer.borrow()
    for send in (producer.write, messages.send, lambda rows: messages.send_many([rows])):
        with pytest.raises(RuntimeError, match="the step that lent them is over"):
            send(kept)
