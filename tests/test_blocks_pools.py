# SPDX-License-Identifier: MIT
"""A pool of blocks that is all lent, or too small: copies, waits, and what ends a wait."""

import random
import signal
import threading
import time

import pytest
from by_reference import LEAST, POOL, WAITS, blocks, payload, take_all_blocks
from processes import PeerError, sleeps_without_end, switches, wait_until

import ringbell


def test_a_payload_larger_than_the_pool_goes_in_pieces(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=WAITS)
    consumer.begin("message = consumer.hold()")
    producer.send(payload(1, 5 * LEAST))
    consumer.reply()
    assert consumer.run("type(message), message == b'00000001' * 40960") == repr((bytes, True))
    assert blocks(producer) == ringbell.BlockCounters(sent=0, copied=1, lent=0)


def test_a_pool_all_lent_copies_through_the_ring(stream):
    producer, consumer = stream(blocks=ringbell.Blocks(4 * LEAST, LEAST))
    held = take_all_blocks(producer, consumer)
    producer.send(payload(4))
    assert consumer.hold() == payload(4)
    assert blocks(producer) == ringbell.BlockCounters(sent=4, copied=1, lent=4)
    held.pop(2)
    producer.send(payload(5))
    assert isinstance(consumer.hold(), memoryview)
    assert len(held) == 3


def test_a_pool_all_lent_times_out_and_nothing_was_sent(stream):
    producer, consumer = stream(blocks=WAITS)
    held = take_all_blocks(producer, consumer)
    for timeout in (0, 0.01):
        with pytest.raises(ringbell.RingFull, match=r"no block was free .*\(when_lent='copy'\)"):
            producer.send(payload(4), timeout=timeout)
    assert producer.send_many([b"a", b"b", payload(4)], timeout=0.01) == 2
    producer.send(b"small ones pass", timeout=0)
    assert [consumer.recv() for _ in range(3)] == [b"a", b"b", b"small ones pass"]
    held.clear()
    producer.send(payload(4), timeout=0)
    assert consumer.recv() == payload(4)


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_a_waiting_sender_is_woken_when_a_block_comes_back(start, consume, polling):
    producer = start("producer", blocks=POOL | {"when_lent": "wait"}, polling=polling)
    consumer = consume()
    producer.run("[producer.send(b'%08d' % i * 8192) for i in range(4)]")
    held = [consumer.hold() for _ in range(4)]
    for number in range(4, 300):
        sleeps = consumer.stats().driver.producer.sleeps
        producer.begin(f"producer.send(b'%08d' % {number} * 8192)")
        if polling != "always" and number % 3:
            wait_until(lambda before=sleeps: consumer.stats().driver.producer.sleeps > before)
        held.pop(0)
        held.append(consumer.hold(timeout=30))
        producer.reply()
        assert bytes(held[-1]) == payload(number)


def test_a_sender_that_waits_for_a_block_takes_no_cpu_and_is_not_woken_in_vain(start, consume):
    producer = start("producer", blocks=POOL | {"when_lent": "wait"}, polling="never")
    consumer = consume()
    producer.run("[producer.send(b'%08d' % i * 8192) for i in range(4)]")
    held = [consumer.hold() for _ in range(4)]
    producer.begin("producer.send(bytes(65536))")
    wait_until(lambda: consumer.stats().driver.producer.sleeps)
    wait_until(lambda: sleeps_without_end(producer.pid))
    before = switches(producer.pid)
    time.sleep(0.3)
    assert switches(producer.pid) == before
    held.clear()
    assert consumer.recv() == bytes(LEAST)
    producer.reply()


def test_a_sender_is_woken_as_often_as_it_needs_for_a_large_block(start, consume):
    """Four blocks come back one by one, and only all of them have room for the next."""
    producer = start("producer", blocks=POOL | {"when_lent": "wait"}, polling="never")
    consumer = consume()
    for _ in range(20):
        producer.run("[producer.send(b'%08d' % i * 8192) for i in range(4)]")
        held = [consumer.hold() for _ in range(4)]
        producer.begin("producer.send(bytes(4 * 65536))")
        for count in range(4, 0, -1):
            # It has seen the last one come back. A sleep that goes on watched is not counted anew.
            wait_until(lambda count=count: consumer.stats().driver.blocks.lent == count)
            wait_until(lambda: sleeps_without_end(producer.pid))
            held.pop(random.randrange(count))
        assert consumer.recv(timeout=30) == bytes(4 * LEAST)
        producer.reply()


def test_close_in_another_thread_ends_a_wait_for_a_block(stream):
    producer, consumer = stream(blocks=WAITS, polling="never")
    held = take_all_blocks(producer, consumer)
    raised = []

    def send():
        try:
            producer.send(payload(4))
        except ringbell.ChannelClosed as error:
            raised.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: consumer.stats().driver.producer.sleeps)
    producer.close()
    thread.join()
    assert len(raised) == 1
    assert bytes(held[0]) == payload(0)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_the_end_of_the_other_side_ends_a_wait_for_a_block(start, produce, end):
    consumer = start("consumer")
    producer = produce(blocks=WAITS, polling="never")
    for number in range(4):
        producer.send(payload(number))
    consumer.run("held = [consumer.hold() for _ in range(4)]")
    expected = ringbell.EndOfStream if end == "close" else ringbell.PeerLost

    def finish():
        wait_until(lambda: producer.stats().driver.producer.sleeps)
        consumer.kill() if end == "kill" else consumer.begin("consumer.close()")

    thread = threading.Thread(target=finish)
    thread.start()
    with pytest.raises(expected):
        producer.send(payload(4))
    thread.join()
    if end == "close":
        assert consumer.reply() == "None"
        assert consumer.run("[bytes(one[:8]) for one in held]") == repr(
            [b"%08d" % number for number in range(4)]
        )


def test_a_signal_ends_a_wait_for_a_block(start, consume):
    producer = start("producer", blocks=POOL | {"when_lent": "wait"})
    consumer = consume()
    producer.run("[producer.send(b'%08d' % i * 8192) for i in range(4)]")
    held = [consumer.hold() for _ in range(4)]
    producer.begin("producer.send(bytes(65536))")
    wait_until(lambda: consumer.stats().driver.producer.sleeps)
    producer.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        producer.reply()
    held.clear()
    producer.run("producer.send(b'%08d' % 4 * 8192)")
    assert consumer.recv() == payload(4)


@pytest.mark.parametrize("order", ["timer first", "pool first"])
def test_a_timer_and_a_pool_are_both_passed(start, consume, order):
    producer = start("producer", blocks=POOL)
    consumer = consume(polling="never", moderation=ringbell.Moderation(entries=5, delay=0.01))
    steps = ["producer.send(b'small')", "producer.send(b'%08d' % 1 * 8192)"]
    for step in steps if order == "timer first" else reversed(steps):
        producer.begin(f"time.sleep(0.02); {step}")
        assert consumer.hold() is not None
        producer.reply()
    assert consumer.stats().driver.producer.kicks_late
    producer.run("producer.send(b'%08d' % 2 * 8192)")
    assert bytes(consumer.hold()) == payload(2)
