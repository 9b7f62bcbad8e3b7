# SPDX-License-Identifier: MIT
"""No block is lost, whoever is killed and wherever a signal comes."""

import gc
import hashlib
import os
import random
import threading
from collections import deque

import pytest
from by_reference import BLOCKS, LEAST, POOL, blocks, payload, pools
from processes import RAISES_INSIDE_RINGBELL, PeerError, Storm, interruption

import ringbell

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant


def test_holders_that_are_killed_at_random_leave_nothing(start, path):
    descriptors = len(os.listdir("/proc/self/fd"))
    chance = random.Random(5)
    message = bytes(LEAST)
    for when_lent in ("wait", "copy") * 6:
        consumer = start("consumer")
        pool = ringbell.Blocks(64 * LEAST, LEAST, when_lent=when_lent)
        producer = ringbell.produce(path, blocks=pool)
        consumer.begin("""
import random
held = [None] * 40
while True:
    held[random.randrange(40)] = consumer.hold()
""")
        killer = threading.Timer(chance.uniform(0.01, 0.06), consumer.process.kill)
        killer.start()
        with pytest.raises(ringbell.PeerLost):
            while True:
                producer.send(message)
        killer.join()
        producer.close()
        consumer.end()
        del producer
        gc.collect()
        assert pools(pool.pool) == 0
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 12 * 2  # the pipes of the peers


def test_an_interrupt_at_any_place_loses_and_repeats_no_held_block(stream):
    producer, consumer = stream(blocks=BLOCKS)
    numbers, taken, place = 0, [], 0
    happened = True
    while happened:
        place += 1
        producer.send(payload(numbers, LEAST if place % 2 else 80), timeout=0)
        numbers += 1
        with interruption(place) as interrupted:
            taken.append(consumer.hold())
        happened = interrupted.happened
    assert place > 1
    while len(taken) < numbers:
        taken.append(consumer.hold(timeout=0))
    assert [bytes(view[:8]) for view in taken] == [b"%08d" % number for number in range(numbers)]
    taken.clear()
    producer.send(payload(1, 16 * LEAST), timeout=0)  # all blocks came back
    assert isinstance(consumer.hold(), memoryview)


def test_a_storm_of_signals_loses_no_block(start, consume):
    producer = start("producer", blocks=POOL | {"when_lent": "wait"})
    consumer = consume()
    producer.run(RAISES_INSIDE_RINGBELL)
    producer.begin("""
sent = 0
while sent < 1500:
    try:
        producer.send(b"%08d" % sent * 8192)
        sent += 1
    except KeyboardInterrupt:
        pass
try:
    producer.send(b"end")
except KeyboardInterrupt:
    producer.send(b"end")
""")
    held, taken = deque(maxlen=3), []
    with Storm(producer.pid):
        while (message := consumer.hold()) != b"end":
            number = int(bytes(message[:8]))
            assert message == payload(number)
            taken.append(number)
            held.append(message)
            del message
    producer.reply()
    # What a signal ended was not sent, or was sent and then once more by the loop above.
    assert sorted(set(taken)) == list(range(1500))
    assert taken == sorted(taken)


@pytest.mark.parametrize("call", ["producer.send(large)", "producer.reserve(len(large))"])
def test_a_signal_ends_the_copy_of_a_long_payload_and_nothing_of_it_is_sent(start, consume, call):
    producer = start("producer", blocks={"pool": 1 << 29, "least": LEAST})
    consumer = consume()
    producer.run("import signal, threading, os, resource; large = bytes(1 << 29)")
    producer.run("signal.signal(signal.SIGALRM, signal.default_int_handler)")
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        producer.run(f"signal.setitimer(signal.ITIMER_REAL, 0.005); {call}")
    producer.run("producer.send(b'%08d' % 1 * 8192, timeout=0)")
    assert bytes(consumer.hold()) == payload(1)
    assert consumer.stats().driver.blocks.sent == 1
    producer.run("producer.send(large[: 1 << 25], timeout=0)")
    assert len(consumer.recv()) == 1 << 25
    producer.run("frame = producer.reserve(1 << 25, timeout=0); frame.abandon()")


def test_a_long_payload_is_copied_whole_through_parts(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=ringbell.Blocks(pool=128 << 20, when_lent="wait"))
    large = random.Random(6).randbytes(40 << 20) + b"the end"
    for take in ("recv", "hold", "borrow"):
        producer.send(large, timeout=0)
        consumer.run(f"import hashlib; d = hashlib.sha256(consumer.{take}()).hexdigest()")
        assert consumer.run("d") == repr(hashlib.sha256(large).hexdigest())
    assert producer.send_many([b"a", large, large, b"b"], timeout=0) == 4
    assert consumer.run("[len(consumer.recv()) for _ in range(4)]") == repr(
        [1, len(large), len(large), 1]
    )
    assert blocks(producer).sent == 5
