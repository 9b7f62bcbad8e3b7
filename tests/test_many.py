# SPDX-License-Identifier: MIT
"""Many messages in one step: send_many and recv_many."""

import array
import hashlib
import random
import signal

import numpy as np
import pytest
from indices import indices_from
from processes import interruption, wait_until

import ringbell

SMALL_RING = 4096
SMALL_RING_MESSAGES = 64
AT_ONCE = 1024


def test_many_messages_are_one_publish_and_one_kick(start, connect):
    device = start("device", polling="never")
    driver = connect()
    device.begin("device.doorbell.recv_many()")
    wait_until(lambda: driver.stats().device.consumer.sleeps >= 1)
    messages = [b"%d" % i for i in range(500)]
    assert driver.doorbell.send_many(messages) == 500
    assert device.reply() == repr(messages)
    producer = driver.stats().driver.producer
    assert (producer.entries, producer.kicks_sent, producer.kicks_saved) == (500, 1, 0)
    assert producer.bytes == sum(map(len, messages))


def test_as_many_are_taken_as_asked_for(pair):
    driver, device = pair()
    messages = [b"%d" % i for i in range(3 * AT_ONCE)]
    driver.doorbell.send_many(messages)
    assert device.doorbell.recv_many(max=1) == messages[:1]
    assert device.doorbell.recv_many(max=10) == messages[1:11]
    assert device.doorbell.recv() == messages[11]
    assert device.doorbell.recv_many() == messages[12 : 12 + AT_ONCE]
    assert device.doorbell.recv_many(max=10**9) == messages[12 + AT_ONCE : 12 + 2 * AT_ONCE]
    assert device.doorbell.recv_many() == messages[12 + 2 * AT_ONCE :]
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv_many(timeout=0)
    stats = driver.stats()
    assert stats.dwi == stats.dri
    assert stats.device.consumer.entries == 3 * AT_ONCE
    assert stats.device.consumer.bytes == sum(map(len, messages))


@pytest.mark.parametrize("boundary", [2**16, 2**32, 2**63, 2**64])
def test_batches_of_all_sizes_arrive_whole_and_in_order(start, connect, boundary):
    device = start("device")
    with indices_from(boundary - 20):
        driver = connect(ring_size=SMALL_RING)
    device.begin("""
import hashlib
digest, count = hashlib.sha256(), 0
while count < 3000:
    for message in device.doorbell.recv_many():
        digest.update(message)
        count += 1
""")
    rng = random.Random(boundary)
    messages = [
        rng.randbytes(rng.choice((0, 1, 48, 49, 64, 500, 4080, 4081, 9000))) for _ in range(3000)
    ]
    rest = messages
    while rest:
        count = rng.choice((1, 2, 10, 100))
        assert driver.doorbell.send_many(rest[:count]) == len(rest[:count])
        rest = rest[count:]
    device.reply()
    digest = hashlib.sha256(b"".join(messages)).hexdigest()
    assert device.run("digest.hexdigest()") == repr(digest)


def test_any_buffer_is_a_payload(pair):
    driver, device = pair()
    payloads = [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"view"),
        array.array("H", [1, 2, 3]),
        np.arange(4, dtype="f8"),
        np.array(7, dtype="u4"),
        memoryview(np.zeros((2, 3), "u2")),
        b"",
    ]
    for some in (payloads, payloads[:4], payloads[3:5], payloads[5:6], payloads[6:]):
        assert driver.doorbell.send_many(iter(some)) == len(some)
        assert device.doorbell.recv_many() == [memoryview(p).tobytes() for p in some]
    assert driver.doorbell.send_many([]) == 0


@pytest.mark.parametrize("bad", ["text", 5, None, [1]])
def test_what_is_no_buffer_is_refused_and_nothing_of_its_batch_is_sent(pair, bad):
    driver, device = pair()
    with pytest.raises(TypeError, match="a payload is bytes or another buffer"):
        driver.doorbell.send_many([b"good", bad])
    with pytest.raises(ValueError, match="not contiguous"):
        driver.doorbell.send_many([b"good", np.zeros(10)[::2]])
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv_many(timeout=0)


def test_a_full_ring_takes_a_part(pair):
    driver, device = pair(ring_size=SMALL_RING)
    messages = [b"%d" % i for i in range(100)]
    assert driver.doorbell.send_many(messages, timeout=0) == SMALL_RING_MESSAGES
    with pytest.raises(ringbell.RingFull):
        driver.doorbell.send_many(messages, timeout=0.001)
    assert device.doorbell.recv_many() == messages[:SMALL_RING_MESSAGES]


def test_nobody_takes_many_messages_any_longer(pair):
    driver, device = pair()
    driver.doorbell.send_many([b"1", b"2"])
    driver.close()
    with pytest.raises(ringbell.ChannelClosed):
        driver.doorbell.send_many([b"3"])
    assert device.doorbell.recv_many() == [b"1", b"2"]
    with pytest.raises(ringbell.EndOfStream):
        device.doorbell.recv_many()
    with pytest.raises(ringbell.EndOfStream):
        device.interrupt.send_many([b"1", b"2"])


@pytest.mark.parametrize("most", [0, -1])
def test_no_messages_cannot_be_asked_for(pair, most):
    _, device = pair()
    with pytest.raises(ValueError, match="at least 1"):
        device.doorbell.recv_many(max=most)


class Interruption(Exception):  # noqa: N818
    pass


def take_until_interrupted(got, consumer, rng):
    """Take until the handler raises, which it does once; say whether that ended a call."""
    empty = False
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 40e-6))
        while True:
            try:
                # No other call is between the call and the list, so no handler runs there.
                if rng.random() < 0.5:
                    got += consumer.recv_many(timeout=0)
                else:
                    got += (consumer.recv(timeout=0),)
            except ringbell.RingEmpty:
                empty = True
    except Interruption:
        return not empty


def test_signals_lose_no_message_of_a_batch(pair):
    driver, device = pair()

    def interrupt(_number, _frame):
        raise Interruption

    messages = [b"%d" % i for i in range(20000)]
    got = []
    rng = random.Random(1)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        sent = 0
        while len(got) < len(messages):
            if sent < len(messages) and sent - len(got) < 1000:
                sent += driver.doorbell.send_many(messages[sent : sent + 50])
            interrupted += take_until_interrupted(got, device.doorbell, rng)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert got == messages
    assert interrupted > 10


def test_payloads_whose_lengths_are_not_their_sizes_are_not_cut_wrongly(pair):
    driver, device = pair()
    driver.doorbell.send_many([array.array("H", [1] * 5), np.zeros((5, 0)), np.zeros(3, "u2")])
    assert list(map(len, device.doorbell.recv_many())) == [10, 0, 6]


def test_no_more_is_given_again_after_an_interrupt_than_is_asked_for(pair):
    driver, device = pair()
    for place in range(1, 10):
        messages = [b"%d %d" % (place, i) for i in range(5)]
        driver.doorbell.send_many(messages)
        with interruption(place) as interrupted:
            expected = device.doorbell.recv_many()
        if interrupted.happened:
            taken = [device.doorbell.recv_many(max=2, timeout=0) for _ in range(3)]
            assert list(map(len, taken)) == [2, 2, 1]
            expected = [message for some in taken for message in some]
        assert expected == messages


def test_a_completion_given_again_after_an_interrupt_is_still_that_of_its_request(pair):
    driver, device = pair()
    for place in range(1, 10):
        token = driver.submit(b"x")
        device.interrupt.send(b"of nobody")
        device.take().complete(b"answer")
        with interruption(place) as interrupted:
            assert driver.interrupt.recv_many() == [b"of nobody", b"answer"]
        if not interrupted.happened:
            return
        completion = driver.reap(timeout=0)
        assert (completion.token, completion.payload) == (token, b"answer")
    raise AssertionError("it has fewer places than that")


def test_many_behind_a_held_request_are_taken_and_given_back_after_it(pair):
    driver, device = pair(ring_size=SMALL_RING)
    driver.submit(b"held")
    request = device.take()
    messages = [b"%d" % number for number in range(SMALL_RING_MESSAGES - 1)]
    assert driver.doorbell.send_many(messages) == len(messages)
    assert device.doorbell.recv_many() == messages
    with pytest.raises(ringbell.RingFull):
        driver.doorbell.send(b"behind the held one", timeout=0)
    request.complete(b"done")
    assert driver.doorbell.send_many(messages) == len(messages)
    assert device.doorbell.recv_many() == messages


def test_a_failure_among_many_comes_in_its_turn(pair):
    driver, device = pair()
    for number in range(3):
        driver.submit(b"%d" % number)
    device.take().complete(b"first")
    device.take().fail("second")
    device.take().complete(b"third")
    lists = [driver.interrupt.recv_many() for _ in range(3)]
    assert lists == [[b"first"], [b"second"], [b"third"]]
