# SPDX-License-Identifier: MIT
"""A producer and a consumer of records do what a plain list does, asked in any order."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from indices import indices_from
from plain_list import LONG, SETTINGS, STARTS, STEPS, TIMEOUTS, Expired, InThread, expiry

import ringbell

pytestmark = pytest.mark.variant

# The keys say how many records a ring of one page holds.
DTYPES = {
    1024: np.dtype([("n", "u4")]),
    512: np.dtype([("n", "u4"), ("rest", "V20")]),  # in a ring of 6 pages
    4: np.dtype([("n", "u4"), ("rest", "V1020")]),
    1: np.dtype([("n", "u4"), ("rest", "V4092")]),
}
# Counts as a part of what the ring holds. Some are more than it holds.
PARTS = st.one_of(st.just(0), st.floats(0, 1.2), st.sampled_from([1, 0.25, 3.0]))
MOST = st.one_of(st.none(), st.integers(1, 5), st.integers(1, 2000))


class RecordsAndList(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="rb-")
        self.written = 0  # numbers so far
        self.ring = []  # the numbers in the ring; the lent ones come first
        self.lent = None  # what was borrowed last
        self.producer = self.consumer = self.block = None
        self.producer_closed = self.consumer_closed = False
        self.told = False  # whether the producer has been told that the consumer closed
        self.steps = 0

    @initialize(
        start=st.sampled_from(STARTS),
        capacity=st.sampled_from(list(DTYPES)),
        polling=st.sampled_from(["never", "adaptive"]),
        # No end closes before this step. Else most steps would find a closed end.
        closed_from=st.sampled_from(range(STEPS)),
    )
    def open(self, start, capacity, polling, closed_from):
        path = Path(self.folder.name) / "s"
        with (
            InThread(
                lambda: ringbell.consume(path, polling=polling, timeout=LONG),
                failed=lambda: None,
                abandoned=lambda: None,
            ) as consuming,
            indices_from(start),
        ):
            self.producer = ringbell.produce(
                path,
                DTYPES[capacity],
                ring_size=4096,
                polling=polling,
                timeout=LONG,
            )
        self.consumer = consuming.outcome
        assert self.producer.capacity == capacity
        self.start, self.closed_from, self.capacity = start, closed_from, capacity

    def numbers(self, part):
        return list(range(self.written, self.written + round(part * self.capacity)))

    def rows(self, numbers):
        rows = np.zeros(len(numbers), self.producer.dtype)
        rows["n"] = numbers
        return rows

    def room(self):
        return self.capacity - len(self.ring)

    def put(self, numbers):
        self.ring += numbers
        self.written += len(numbers)

    def release(self):
        """Do what every step of an open consumer does first."""
        if self.lent is not None and not self.consumer_closed:
            del self.ring[: len(self.lent)]
            self.lent = None

    def what_producing_raises(self):
        if self.producer_closed:
            return ringbell.ChannelClosed
        if self.consumer_closed:
            return ringbell.EndOfStream
        return RuntimeError if self.block else None

    def meanwhile(self, call, side):
        other = self.consumer if side is self.producer else self.producer
        return InThread(call, failed=side.close, abandoned=other.close)

    # ---- producing ----

    @precondition(lambda self: self.producer)
    @rule(part=PARTS, timeout=TIMEOUTS)
    def write(self, part, timeout):
        numbers = self.numbers(part)
        wrong = self.what_producing_raises()
        if not numbers and not self.producer_closed:
            wrong = None  # of no records only this side's close is an error
        try:
            with expiry(timeout):
                count = self.producer.write(self.rows(numbers), timeout=timeout)
        except Expired:
            assert not wrong
            assert numbers
            assert not self.room()
        except (ringbell.RingbellError, RuntimeError) as error:
            assert type(error) is wrong
            self.told |= wrong is ringbell.EndOfStream
        else:
            assert not wrong
            assert count == min(len(numbers), self.room())
            self.put(numbers[:count])

    @precondition(lambda self: self.producer and not self.what_producing_raises())
    @rule(part=PARTS, borrow=st.booleans())
    def write_while_the_other_side_takes(self, part, borrow):
        numbers = self.numbers(part)
        if not numbers:
            return
        self.release()
        expected = self.ring + numbers
        with self.meanwhile(
            lambda: self.producer.write(self.rows(numbers), timeout=LONG), self.producer
        ) as writing:
            taken = []
            while len(taken) < len(expected):
                take = self.consumer.borrow if borrow else self.consumer.read
                taken += take(timeout=LONG)["n"].tolist()
        assert writing.outcome == len(numbers)
        assert taken == expected
        self.put(numbers)
        self.take_the_rest(taken)

    @precondition(lambda self: self.producer)
    @rule(part=PARTS, timeout=TIMEOUTS)
    def reserve(self, part, timeout):
        numbers, wrong = self.numbers(part), self.what_producing_raises()
        if not 1 <= len(numbers) <= self.capacity:
            with pytest.raises(ValueError, match="reserve gives from 1"):
                self.producer.reserve(len(numbers), timeout)
            return
        try:
            with expiry(timeout):
                block = self.producer.reserve(len(numbers), timeout=timeout)
        except Expired:
            assert not wrong
            assert len(numbers) > self.room()
        except (ringbell.RingbellError, RuntimeError) as error:
            assert type(error) is wrong
            self.told |= wrong is ringbell.EndOfStream
        else:
            assert not wrong
            assert len(numbers) <= self.room()
            rows = block.__enter__()
            rows["n"] = numbers
            self.block, self.reserved = block, numbers

    @precondition(lambda self: self.block)
    @rule(part=st.sampled_from([0, 0.3, 1, 1, 1]))
    def publish(self, part):
        block, self.block = self.block, None
        wrong = self.what_producing_raises()
        block.count = round(part * len(self.reserved))
        try:
            block.__exit__(None, None, None)
        except ringbell.RingbellError as error:
            assert type(error) is wrong
            self.told |= wrong is ringbell.EndOfStream
        else:
            assert not wrong
            self.put(self.reserved[: block.count])
        assert not block.rows.flags.writeable

    @precondition(lambda self: self.block)
    @rule()
    def abandon(self):
        block, self.block = self.block, None
        block.__exit__(KeyError, KeyError(), None)
        assert not block.rows.flags.writeable

    # ---- consuming ----

    @precondition(lambda self: self.producer)
    @rule(borrow=st.booleans(), most=MOST, timeout=TIMEOUTS)
    def take(self, borrow, most, timeout):
        self.release()
        try:
            with expiry(timeout):
                rows = (self.consumer.borrow if borrow else self.consumer.read)(most, timeout)
        except Expired:
            assert not self.producer_closed
            assert not self.consumer_closed
            assert not self.ring
        except ringbell.ChannelClosed:
            assert self.consumer_closed
        except ringbell.EndOfStream:
            assert self.producer_closed
            assert not self.consumer_closed
            assert not self.ring
        else:
            assert not self.consumer_closed
            expected = self.ring[:most]
            assert rows["n"].tolist() == expected
            if borrow:
                self.lent = rows
            else:
                del self.ring[: len(expected)]

    @precondition(lambda self: self.producer and not self.what_producing_raises())
    @rule(part=PARTS, most=MOST)
    def read_while_the_other_side_writes(self, part, most):
        numbers = self.numbers(part)[: self.room()]
        if not numbers:
            return
        self.release()
        with self.meanwhile(
            lambda: self.consumer.read(most, timeout=LONG), self.consumer
        ) as reading:
            assert self.producer.write(self.rows(numbers), timeout=LONG) == len(numbers)
            self.put(numbers)
        taken = reading.outcome["n"].tolist()
        # A large write is published in parts, and the first may be read before the second.
        assert taken == self.ring[: len(taken)]
        assert 0 < len(taken) <= (most or self.capacity)
        self.take_the_rest(taken)

    def take_the_rest(self, taken):
        """Empty the ring: the next steps must not depend on how far the two threads came."""
        with pytest.raises(ringbell.RingEmpty):
            while True:
                taken += self.consumer.read(timeout=0)["n"].tolist()
        assert taken == self.ring
        self.ring, self.lent = [], None

    # ---- closing ----

    def may_close(self):
        return self.producer and self.steps >= self.closed_from

    @precondition(lambda self: self.may_close() and not self.producer_closed)
    @rule()
    def close_the_producer(self):
        # What was lent when the consumer closed counts as taken.
        lost = len(self.ring) - (0 if self.lent is None else len(self.lent))
        if self.consumer_closed and lost and not self.told:
            with pytest.raises(ringbell.EndOfStream):
                self.producer.close()
        else:
            self.producer.close()
        self.producer_closed = True

    @precondition(lambda self: self.may_close() and not self.consumer_closed)
    @rule()
    def close_the_consumer(self):
        self.consumer.close()
        self.consumer_closed = True

    # ---- always ----

    @invariant()
    def the_indices_say_what_is_in_the_ring(self):
        if self.producer is None:
            return
        self.steps += 1
        stats = self.producer.stats()
        assert (stats.dwi - stats.dri) % 2**64 == len(self.ring)
        assert (stats.dwi - self.start) % 2**64 == self.written
        assert stats.driver.producer.entries == self.written

    @invariant()
    def what_is_lent_stays_as_it_is(self):
        if self.lent is not None:
            assert self.lent["n"].tolist() == self.ring[: len(self.lent)]

    def teardown(self):
        if self.block:
            self.abandon()
        if self.consumer is not None:
            self.consumer.close()
        if self.producer is not None:
            with suppress(ringbell.EndOfStream):
                self.producer.close()
        self.folder.cleanup()


RecordsAndList.TestCase.settings = SETTINGS
test_records_behave_like_a_list = pytest.mark.filterwarnings("ignore:the ring has room for one")(
    RecordsAndList.TestCase
)
