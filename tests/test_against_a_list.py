# SPDX-License-Identifier: MIT
"""A producer and a consumer do what a plain list does, whatever is asked of them in any order."""

import tempfile
from collections import deque
from pathlib import Path

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

RING = 4096
SLOTS = RING // 64
LARGEST = RING - 16
HALF = RING // 2 - 16
PIECE = RING // 4 - 16  # the size of the pieces of a message that is larger than half the ring
SIZES = st.one_of(
    st.integers(0, 200),
    st.sampled_from([47, 48, 49, 1000, HALF, HALF + 1, 3000, LARGEST - 1, LARGEST]),
)
TOO_LARGE = st.one_of(
    st.integers(LARGEST + 1, 20_000), st.sampled_from([LARGEST + 1, PIECE * 5, PIECE * 5 + 1])
)


def slots_of(size):
    return (16 + size + 63) // 64


def pieces_of(size):
    """Give the sizes of the frames that carry a message of this size."""
    if size <= HALF:
        return [size]
    return [PIECE] * (size // PIECE) + ([size % PIECE] if size % PIECE else [])


class ProducerAndConsumer(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="rb-")
        # What the ring holds: messages, and None for the pieces of one that was given up.
        self.ring = deque()
        self.count = 0
        self.driver = self.device = self.frame = None
        self.lent = None  # a message that was borrowed, and the view of it
        self.lent_slots = 0  # 0 if it came in pieces: they are put together outside of the ring
        self.producer_closed = self.consumer_closed = False
        self.steps = 0

    @initialize(
        start=st.sampled_from(STARTS),
        swap=st.booleans(),
        polling=st.sampled_from(["never", "adaptive"]),
        # No end closes before this step. Else most steps would find a closed end.
        closed_from=st.sampled_from(range(STEPS)),
    )
    def open(self, start, swap, polling, closed_from):
        path = Path(self.folder.name) / "s"
        with ringbell.listen(path, polling=polling) as listener:
            with (
                InThread(
                    listener.accept, failed=listener.close, abandoned=listener.close
                ) as accepting,
                indices_from(start),
            ):
                self.driver = ringbell.connect(path, ring_size=RING, polling=polling)
            self.device = accepting.outcome
        self.start, self.closed_from = start, closed_from
        # Which of the two rings of the channel is tried.
        self.doorbell = not swap
        self.producing, self.consuming = (
            (self.device, self.driver) if swap else (self.driver, self.device)
        )
        self.producer = self.device.interrupt if swap else self.driver.doorbell
        self.consumer = self.driver.interrupt if swap else self.device.doorbell

    def message(self, size):
        self.count += 1
        return (self.count.to_bytes(4, "little") * (size // 4 + 1))[:size]

    def used(self):
        return self.lent_slots + sum(sum(slots) for slots, _ in self.ring)

    def fits(self, *pieces):
        return self.used() + sum(map(slots_of, pieces)) <= SLOTS

    def put(self, message, *pieces):
        self.ring.append(([slots_of(piece) for piece in pieces], message))

    def take(self, borrow=False):
        """Take what the next recv has to return; None if nothing is there for it."""
        self.lent, self.lent_slots = None, 0
        while self.ring:
            slots, message = self.ring.popleft()
            if message is not None:
                if borrow and len(slots) == 1:
                    self.lent_slots = slots[0]
                return message
        return None

    def what_sending_raises(self):
        if self.producer_closed:
            return ringbell.ChannelClosed
        if self.consumer_closed:
            return ringbell.EndOfStream
        return RuntimeError if self.frame else None

    def meanwhile(self, call, side):
        other = self.consuming if side is self.producing else self.producing
        return InThread(call, failed=side.close, abandoned=other.close)

    # ---- sending ----

    @precondition(lambda self: self.driver)
    @rule(size=st.one_of(SIZES, TOO_LARGE), timeout=TIMEOUTS)
    def send(self, size, timeout):
        """If the message does not fit, its pieces take room until the consumer has passed them."""
        message, wrong, pieces = self.message(size), self.what_sending_raises(), pieces_of(size)
        try:
            with expiry(timeout):
                self.producer.send(message, timeout=timeout)
        except Expired:
            assert not wrong
            assert not self.fits(*pieces)
            while self.fits(pieces[0]):
                self.put(None, pieces.pop(0))
        except (ringbell.RingbellError, RuntimeError) as error:
            assert type(error) is wrong
        else:
            assert not wrong
            assert self.fits(*pieces)
            self.put(message, *pieces)

    @precondition(lambda self: self.driver and not self.what_sending_raises())
    @rule(size=st.one_of(SIZES, TOO_LARGE))
    def send_while_the_other_side_receives(self, size):
        message = self.message(size)
        with self.meanwhile(lambda: self.producer.send(message, timeout=LONG), self.producing):
            while (expected := self.take()) is not None:
                assert self.consumer.recv(timeout=LONG) == expected
            assert self.consumer.recv(timeout=LONG) == message

    # ---- in place ----

    @precondition(lambda self: self.driver)
    @rule(size=SIZES, timeout=TIMEOUTS)
    def reserve(self, size, timeout):
        message, wrong = self.message(size), self.what_sending_raises()
        try:
            with expiry(timeout):
                frame = self.producer.reserve(size, timeout=timeout)
        except Expired:
            assert not wrong
            assert not self.fits(size)
        except (ringbell.RingbellError, RuntimeError) as error:
            assert type(error) is wrong
        else:
            assert not wrong
            assert self.fits(size)
            frame.__enter__().payload[:] = message
            self.frame, self.reserved = frame, message

    @precondition(lambda self: self.frame)
    @rule(shorter=st.integers(0, 100))
    def publish(self, shorter):
        frame, self.frame = self.frame, None
        wrong, message = self.what_sending_raises(), self.reserved
        message = message[: max(len(message) - shorter, 0)]
        frame.length = len(message)
        try:
            frame.__exit__(None, None, None)
        except ringbell.RingbellError as error:
            assert type(error) is wrong
        else:
            assert not wrong
            self.put(message, len(message))

    @precondition(lambda self: self.frame)
    @rule()
    def abandon(self):
        frame, self.frame = self.frame, None
        frame.__exit__(KeyError, KeyError(), None)

    # ---- receiving ----

    @precondition(lambda self: self.driver)
    @rule(borrow=st.booleans(), timeout=TIMEOUTS)
    def receive(self, borrow, timeout):
        expected = None if self.consumer_closed else self.take(borrow)
        if self.lent:
            self.lent = self.lent[0], None  # drops the view; then nobody may give its slots back
        try:
            with expiry(timeout):
                take = self.consumer.borrow if borrow else self.consumer.recv
                message = take(timeout=timeout)
        except Expired:
            assert not self.producer_closed
            assert not self.consumer_closed
            assert expected is None
        except ringbell.ChannelClosed:
            assert self.consumer_closed
        except ringbell.EndOfStream:
            assert self.producer_closed
            assert not self.consumer_closed
            assert expected is None
        else:
            assert message == expected
            if borrow:
                self.lent = expected, message

    @precondition(lambda self: self.driver and not self.what_sending_raises())
    @rule(size=SIZES)
    def recv_while_the_other_side_sends(self, size):
        if not self.fits(*pieces_of(size)):
            return
        message = self.message(size)
        self.lent, self.lent_slots = None, 0
        with self.meanwhile(lambda: self.consumer.recv(timeout=LONG), self.consuming) as receiving:
            self.producer.send(message, timeout=LONG)
            self.put(message, *pieces_of(size))
        assert receiving.outcome == self.take()

    # ---- closing ----

    def may_close(self):
        return self.driver and self.steps >= self.closed_from

    @precondition(lambda self: self.may_close() and not self.producer_closed)
    @rule()
    def close_the_producing_side(self):
        self.producing.close()
        self.producer_closed = True

    @precondition(lambda self: self.may_close() and not self.consumer_closed)
    @rule()
    def close_the_consuming_side(self):
        self.consuming.close()
        self.consumer_closed = True

    # ---- always ----

    @invariant()
    def the_indices_say_what_is_in_the_ring(self):
        if self.driver is None:
            return
        self.steps += 1
        if self.lent:
            message, view = self.lent
            assert view is None or view == message
        stats = self.driver.stats()
        write, read = (stats.dwi, stats.dri) if self.doorbell else (stats.iwi, stats.iri)
        assert (write - read) % 2**64 == self.used()
        assert (read - self.start) % 2**64 < 2**40

    def teardown(self):
        if self.frame:
            self.abandon()
        for side in (self.driver, self.device):
            if side is not None:
                side.close()
        self.folder.cleanup()


ProducerAndConsumer.TestCase.settings = SETTINGS
test_a_producer_and_a_consumer_behave_like_a_list = ProducerAndConsumer.TestCase
