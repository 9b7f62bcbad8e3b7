# SPDX-License-Identifier: MIT
"""A signal that interrupts a step of a stream's consumer loses and repeats nothing."""

import numpy as np
import pytest
from processes import RAISES_INSIDE_RINGBELL, Storm, interruption
from published import NUMBERED, put

import ringbell

SMALL_RING = 4096


RECORD_STEPS = {
    "read": lambda c: c.read(3).tolist(),
    "borrow": lambda c: c.borrow(3).tolist(),
    "both": lambda c: c.borrow(2).tolist() + c.read(2).tolist(),
}
MESSAGE_STEPS = {
    "recv": lambda c: [int(c.recv())],
    "recv_many": lambda c: [int(message) for message in c.recv_many(3)],
    "borrow": lambda c: [int(bytes(c.borrow()))],
    "hold": lambda c: [int(bytes(c.hold()))],
}

ONE = {"messages": (), "records": (1,)}  # what makes `borrow` lend one entry


def first_number(entries):
    return int(np.frombuffer(bytes(entries), "u8", 1)[0])


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


@pytest.mark.parametrize("kind", ["messages", "records"])
def test_an_interrupt_at_any_place_of_a_subscribers_block_loses_nothing(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], min_readers=0)
    subscriber = subscribe()
    sent, taken = 0, []
    for place in range(1, 100):
        for _ in range(2):
            put(publisher, kind, sent)
            sent += 1
        with interruption(place) as step, subscriber.borrow(*ONE[kind], timeout=0) as entries:
            taken.append(first_number(entries))
        if not step.happened:
            break
    assert place > 2  # where `borrow` begins, and the end of the block
    with pytest.raises(ringbell.RingEmpty):
        while True:
            with subscriber.borrow(*ONE[kind], timeout=0) as entries:
                taken.append(first_number(entries))
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
