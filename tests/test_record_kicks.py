# SPDX-License-Identifier: MIT
"""Kicks, moderation and readiness of streams of records."""

import random
import select
import signal

import pytest
from processes import wait_until

import ringbell

SMALL_RING = 4096
SMALL_RING_RECORDS = 1024  # of 4 bytes


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
    # The most entries that a moderation may wait for.
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
            # Once it has released all, the next record finds it asleep, or about to sleep.
            wait_until(lambda n=sent: producer.stats().device.consumer.entries == n)
    producer.write([-1])
    consumer.reply()
    assert consumer.run(f"got[:-1] == list(range({sent}))") == "True"
