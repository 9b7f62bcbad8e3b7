# SPDX-License-Identifier: MIT
"""Streams of messages: what is carried, and what is borrowed."""

import hashlib
import random

import numpy as np
import pytest
from kinds import SMALL_RING, SMALL_RING_MESSAGES

import ringbell

# ---- what is carried ----

PRODUCE_AT_RANDOM = """
import random
import re
rng = random.Random({seed})
SIZES = (0, 1, 48, 49, 64, 500, 4080, 4081, 9000)
left = [rng.randbytes(rng.choice(SIZES)) for _ in range(1500)]
while left:
    way = rng.randrange(4)
    if way == 0:
        producer.send(left.pop(0))
    elif way == 1:
        count = rng.choice((1, 2, 10, 50))
        assert producer.send_many(left[:count]) == len(left[:count])
        del left[:count]
    elif way == 2:
        with producer.coalesce(max_entries=3):
            for _ in range(min(5, len(left))):
                producer.send(left.pop(0))
    elif len(left[0]) <= producer.max_payload:
        with producer.reserve(producer.max_payload) as frame:
            frame.length = len(left[0])
            frame.payload[: frame.length] = left.pop(0)
producer.close()
"""


@pytest.mark.parametrize("boundary", [2**16, 2**32, 2**64])
def test_messages_arrive_whole_and_in_order_whatever_they_go_through(start, consume, boundary):
    producer = start("producer", ring_size=SMALL_RING, indices_from=boundary - 20)
    producer.begin(PRODUCE_AT_RANDOM.format(seed=boundary))
    consumer = consume()
    rng = random.Random(boundary)
    expected = [
        rng.randbytes(rng.choice((0, 1, 48, 49, 64, 500, 4080, 4081, 9000))) for _ in range(1500)
    ]
    messages = []
    rng = random.Random(1)
    with pytest.raises(ringbell.EndOfStream):
        while True:
            way = rng.randrange(4)
            if way == 0:
                messages.append(consumer.recv())
            elif way == 1:
                messages.extend(consumer.recv_many(rng.choice((None, 1, 5))))
            elif way == 2:
                messages.append(bytes(consumer.borrow()))
            else:
                taken = [bytes(message) for _, message in zip(range(5), consumer, strict=False)]
                messages.extend(taken)
                if len(taken) < 5:
                    consumer.recv()
    producer.reply()
    digests = [hashlib.sha256(b"".join(some)).hexdigest() for some in (messages, expected)]
    assert len(messages) == len(expected)
    assert digests[0] == digests[1]
    stats = consumer.stats()
    assert stats.dwi == stats.dri
    assert (stats.dwi - boundary + 20) % 2**64 > 20, "the test has to cross the boundary"


def test_tokens_are_not_needed_and_any_buffer_is_a_payload(stream):
    producer, consumer = stream()
    for payload in (bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", "u1")):
        producer.send(payload)
        assert consumer.borrow(timeout=0) == b"abc"


# ---- borrowing messages ----


def test_a_borrowed_view_is_read_only_and_ends_with_the_next_step(stream):
    producer, consumer = stream()
    for step in (consumer.recv, consumer.recv_many, consumer.borrow, lambda: next(iter(consumer))):
        producer.send_many([b"lent", b"next"])
        view = consumer.borrow()
        assert view == b"lent"
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 0
        assert step() in (b"next", [b"next"])
        with pytest.raises(ValueError, match="released"):
            bytes(view)
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)


def test_a_borrowed_message_keeps_its_slots_until_the_next_step(stream):
    producer, consumer = stream(ring_size=SMALL_RING)
    producer.send_many([b"x"] * SMALL_RING_MESSAGES)
    view = consumer.borrow()
    with pytest.raises(ringbell.RingFull):
        producer.send(b"y", timeout=0)
    assert view == b"x"
    assert consumer.stats().device.consumer.entries == 0
    consumer.borrow()
    producer.send(b"y", timeout=0)
    with pytest.raises(ringbell.RingFull):
        producer.send(b"y", timeout=0)


@pytest.mark.parametrize("keep", [lambda view: view[1:3], lambda view: np.frombuffer(view, "u1")])
def test_a_view_that_is_still_in_use_cannot_be_released_and_nothing_is_lost(stream, keep):
    producer, consumer = stream()
    producer.send_many([b"first", b"second", b"third"])
    kept = keep(consumer.borrow())
    for step in (consumer.borrow, consumer.recv, consumer.recv_many, lambda: next(iter(consumer))):
        with pytest.raises(BufferError, match="the message that was borrowed is still in use"):
            step()
    assert bytes(kept) in (b"ir", b"first")
    assert consumer.stats().device.consumer.entries == 0
    del kept
    assert consumer.borrow() == b"second"
    assert consumer.recv() == b"third"


def test_messages_larger_than_the_ring_are_borrowed_whole(start, consume):
    producer = start("producer", ring_size=SMALL_RING)
    producer.begin("""
for i in range(6):
    producer.send(bytes([i]) * 20_000 if i % 2 == 0 else b"small")
""")
    consumer = consume()
    view = consumer.borrow()
    assert view == bytes([0]) * 20_000
    kept = np.frombuffer(view, "u1")
    assert not kept.flags.writeable
    assert consumer.borrow() == b"small"
    assert kept.tobytes() == bytes([0]) * 20_000, "it was never in the ring"
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert consumer.recv() == bytes([2]) * 20_000
    assert [bytes(view) for _, view in zip(range(3), consumer, strict=False)] == [
        b"small",
        bytes([4]) * 20_000,
        b"small",
    ]
    producer.reply()


def test_a_borrowed_view_outlives_the_channel(stream):
    producer, consumer = stream()
    producer.send(b"kept")
    view = consumer.borrow()
    consumer.close()
    producer.close()
    assert view == b"kept"
    with pytest.raises(ringbell.ChannelClosed):
        consumer.borrow()
    producer, consumer = stream()
    producer.send(b"kept")
    view = consumer.borrow()
    producer.close()
    consumer.close()
    del producer, consumer
    assert view == b"kept"


def test_a_device_borrows_messages_beside_requests_that_it_holds(pair):
    driver, device = pair(ring_size=SMALL_RING)
    driver.submit(b"request")
    driver.doorbell.send(b"message")
    driver.submit(b"another")
    request = device.take()
    view = device.doorbell.borrow()
    assert (request.payload, view) == (b"request", b"message")
    request.complete(b"answer")
    assert driver.reap().payload == b"answer"
    assert view == b"message"
    another = device.take()
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert another.payload == b"another"
    another.complete()


def test_a_device_that_only_takes_after_a_borrow_does_not_hold_up_the_ring(pair):
    driver, device = pair(ring_size=SMALL_RING)
    driver.doorbell.send(b"message")
    assert device.doorbell.borrow() == b"message"
    for _ in range(3 * SMALL_RING_MESSAGES):
        driver.submit(b"x", timeout=0)
        device.take(timeout=0).complete(timeout=0)
        driver.reap(timeout=0)


def test_a_device_takes_nothing_while_what_it_borrowed_is_in_use(pair):
    driver, device = pair()
    driver.doorbell.send(b"message")
    part = device.doorbell.borrow()[1:]
    driver.submit(b"request")
    with pytest.raises(BufferError):
        device.take()
    del part
    assert device.take().payload == b"request"


def test_a_driver_that_calls_after_a_borrow_does_not_hold_up_the_ring(pair):
    driver, device = pair(ring_size=SMALL_RING)
    device.interrupt.send(b"message")
    assert driver.interrupt.borrow() == b"message"
    for timeout in (None, 0):
        device.interrupt.send(b"message")
        assert driver.interrupt.borrow() == b"message"
        for _ in range(SMALL_RING_MESSAGES):
            driver.submit(b"x", timeout=0)
            device.take(timeout=0).complete(timeout=0)
            driver.reap(timeout=timeout)
