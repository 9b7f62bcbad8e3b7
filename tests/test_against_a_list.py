# SPDX-License-Identifier: MIT
"""A producer and a consumer do what a plain list does, whatever is asked of them in any order."""

import tempfile
import threading
from collections import deque
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import ringbell

RING = 4096
LARGEST = RING - 16
STARTS = [0, 2**16 - 2, 2**32 - 2, 2**63 - 2, 2**64 - 2]
SIZES = st.one_of(
    st.integers(0, 200), st.sampled_from([47, 48, 49, 1000, LARGEST - 1, LARGEST]), st.just(3000)
)


class ProducerAndConsumer(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="rb-")
        self.sent = deque()
        self.count = 0
        self.driver = self.device = None
        self.closed = False

    @initialize(start=st.sampled_from(STARTS), swap=st.booleans())
    def open(self, start, swap):
        path = Path(self.folder.name) / "s"
        with ringbell.listen(path) as listener:
            accepted = []
            thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
            thread.start()
            self.driver = ringbell.connect(path, ring_size=RING, first_index=start)
            thread.join()
        self.device = accepted[0]
        self.start = start
        # Either ring of the channel.
        sides = (self.driver, self.device)
        self.producing = sides[swap]
        self.producer = self.device.interrupt if swap else self.driver.doorbell
        self.consumer = self.driver.interrupt if swap else self.device.doorbell

    def message(self, size):
        self.count += 1
        return (self.count.to_bytes(4, "little") * (size // 4 + 1))[:size]

    def slots(self, message):
        return (16 + len(message) + 63) // 64

    def used(self):
        return sum(self.slots(message) for message in self.sent)

    @precondition(lambda self: self.driver and not self.closed)
    @rule(size=SIZES, timeout=st.sampled_from([0, 0.0001]))
    def send(self, size, timeout):
        message = self.message(size)
        fits = self.used() + self.slots(message) <= RING // 64
        try:
            self.producer.send(message, timeout=timeout)
        except ringbell.RingFull:
            assert not fits
        else:
            assert fits
            self.sent.append(message)

    @precondition(lambda self: self.driver and not self.closed)
    @rule(extra=st.integers(1, 20_000))
    def send_more_than_can_fit(self, extra):
        # What is given up half-way never arrives, and its pieces make room when they are passed by.
        if self.sent:
            return
        try:
            self.producer.send(self.message(LARGEST + extra), timeout=0)
        except ringbell.RingFull:
            pass
        else:
            raise AssertionError("four pieces of a quarter fill the ring")
        try:
            self.consumer.recv(timeout=0)
        except ringbell.RingEmpty:
            return
        raise AssertionError("a part of a message arrived")

    @precondition(lambda self: self.driver and not self.closed)
    @rule(size=SIZES, shorter=st.integers(0, 100), abandon=st.booleans())
    def reserve(self, size, shorter, abandon):
        message = self.message(size)
        fits = self.used() + self.slots(message) <= RING // 64
        try:
            with self.producer.reserve(size, timeout=0) as frame:
                frame.payload[:] = message
                frame.length = max(size - shorter, 0)
                if abandon:
                    raise KeyError
        except ringbell.RingFull:
            assert not fits
        except KeyError:
            assert abandon
            assert fits
        else:
            assert fits
            self.sent.append(message[: max(size - shorter, 0)])

    @precondition(lambda self: self.driver)
    @rule(timeout=st.sampled_from([0, 0.0001]))
    def recv(self, timeout):
        try:
            message = self.consumer.recv(timeout=timeout)
        except ringbell.RingEmpty:
            assert not self.sent
            assert not self.closed
        except ringbell.EndOfStream:
            assert not self.sent
            assert self.closed
        else:
            assert message == self.sent.popleft()

    @precondition(lambda self: self.driver and not self.closed)
    @rule()
    def close(self):
        self.producing.close()
        self.closed = True

    @precondition(lambda self: self.closed)
    @rule()
    def send_after_close(self):
        try:
            self.producer.send(b"x")
        except ringbell.ChannelClosed:
            return
        raise AssertionError("sent after close")

    @invariant()
    def the_indices_say_what_is_in_the_ring(self):
        if self.driver is None:
            return
        stats = self.driver.stats()
        doorbell = self.producer is self.driver.doorbell
        write, read = (stats.dwi, stats.dri) if doorbell else (stats.iwi, stats.iri)
        assert (write - read) % 2**64 == self.used()
        assert (read - self.start) % 2**64 < 2**40

    def teardown(self):
        for side in (self.driver, self.device):
            if side is not None:
                side.close()
        self.folder.cleanup()


ProducerAndConsumer.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
test_a_producer_and_a_consumer_behave_like_a_list = ProducerAndConsumer.TestCase
