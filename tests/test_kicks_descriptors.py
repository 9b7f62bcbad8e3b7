# SPDX-License-Identifier: MIT
"""When a side that sleeps is woken: descriptors that an event loop sleeps on."""

import os
import random
import select
import signal
import time

import pytest
from doorbells import begin_to_receive, finish, kicks
from kinds import SMALL_RING, SMALL_RING_MESSAGES
from processes import PeerError, wait_until

import ringbell
from ringbell import Moderation


def is_readable(end):
    return bool(select.select([end], [], [], 0)[0])


def test_the_descriptor_is_readable_while_there_is_something_to_take(pair):
    driver, device = pair()
    driver.doorbell.send(b"before")
    assert is_readable(device.doorbell)
    for i in range(3):
        driver.doorbell.send(b"%d" % i)
    for message in (b"before", b"0", b"1", b"2"):
        assert is_readable(device.doorbell)
        assert device.doorbell.recv() == message
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv(timeout=0)
    assert not is_readable(device.doorbell)
    driver.submit(b"request")
    assert is_readable(device.doorbell)
    device.take().complete(b"answer")
    assert is_readable(driver.interrupt)


def test_a_timer_makes_the_descriptor_readable_once(pair):
    driver, device = pair()
    device.doorbell.moderation = Moderation(1000, 0.001)
    assert not is_readable(device.doorbell)
    for i in range(1, 4):
        driver.doorbell.send(b"x")
        select.select([device.doorbell], [], [])
        assert kicks(driver) == (0, i)
        device.doorbell.recv()
        with pytest.raises(ringbell.RingEmpty):
            device.doorbell.recv(timeout=0)
        assert not is_readable(device.doorbell)


def test_a_kick_takes_the_timer_back(pair):
    driver, device = pair()
    assert not is_readable(device.doorbell)
    delay = 0.01
    with driver.doorbell.coalesce(max_delay=delay):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    device.doorbell.recv()
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv(timeout=0)
    # If the timer were still set, it would expire in this time.
    assert not select.select([device.doorbell], [], [], 5 * delay)[0]


@pytest.mark.parametrize("polling", ["never", "adaptive"])
def test_a_wait_that_was_woken_leaves_the_descriptor_readable(both, polling):
    # One kick tells of both messages. The wait drains the kick and takes one message.
    driver, device = both(polling=polling)
    device.run("device.doorbell.fileno()")
    begin_to_receive(driver, device)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"1")
        driver.doorbell.send(b"2")
    assert device.reply() == "b'1'"
    device.run("import select")
    assert device.run("bool(select.select([device.doorbell], [], [], 0)[0])") == "True"
    assert device.run("device.doorbell.recv()") == "b'2'"


def test_a_wait_that_a_signal_ended_leaves_the_descriptor_readable(both):
    driver, device = both()
    device.run("device.doorbell.fileno()")
    begin_to_receive(driver, device)
    device.stop()
    driver.doorbell.send(b"1")
    device.signal(signal.SIGINT)
    device.signal(signal.SIGCONT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        device.reply()
    device.run("import select")
    assert device.run("bool(select.select([device.doorbell], [], [], 0)[0])") == "True"
    assert device.run("device.doorbell.recv()") == "b'1'"


def test_a_block_and_an_event_loop_on_the_same_side(asleep):
    driver, device = asleep()
    assert not is_readable(driver.interrupt)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        with pytest.raises(ringbell.RingEmpty):
            driver.interrupt.recv(timeout=0)
        assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_completions_set_aside_are_still_to_be_taken(pair):
    driver, device = pair(ring_size=SMALL_RING)
    assert not is_readable(driver.interrupt)
    for _ in range(SMALL_RING_MESSAGES):
        driver.submit(b"")
    device.take().complete(b"1")
    driver.submit(b"", timeout=10)
    device.take().complete(b"2")
    with pytest.raises(ringbell.RingFull):
        [driver.submit(b"", timeout=0) for _ in range(2)]
    for answer in (b"1", b"2"):
        assert is_readable(driver.interrupt)
        assert driver.reap(timeout=0).payload == answer
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not is_readable(driver.interrupt)


def test_an_answer_that_nobody_waits_for_does_not_keep_it_readable(pair):
    driver, device = pair()
    assert not is_readable(driver.interrupt)
    with pytest.raises(ringbell.RingEmpty):
        driver.call(b"x", timeout=0)
    device.take().complete(b"late")
    assert is_readable(driver.interrupt)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not is_readable(driver.interrupt)


POLL_LOOP = """
import select
poll = select.epoll()
poll.register(device.doorbell, select.EPOLLIN)
seen = 0
while seen is not None:
    poll.poll()
    for _ in range(take):
        try:
            message = device.doorbell.recv(timeout=0)
        except ringbell.RingEmpty:
            break
        if not message:
            seen = None
            break
        assert message == b'%d' % seen, (message, seen)
        seen += 1
poll.close()
"""


@pytest.mark.parametrize("moderation", [None, Moderation(3, 0.0005)])
@pytest.mark.parametrize("take", [1, 3, 10**9])
def test_an_event_loop_misses_nothing_however_much_it_takes_at_a_time(both, take, moderation):
    driver, device = both(moderation, polling="adaptive", ring_size=SMALL_RING)
    device.run(f"take = {take}")
    device.begin(POLL_LOOP)
    rng = random.Random(take)
    sent = 0
    while sent < 1000:
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            driver.doorbell.send(b"%d" % sent)
            sent += 1
        if rng.random() < 0.3:
            # Once it has taken all, the next message finds it asleep, or about to sleep.
            wait_until(lambda n=sent: driver.stats().device.consumer.entries == n)
        elif rng.random() < 0.3:
            begin = time.perf_counter_ns()
            while time.perf_counter_ns() - begin < rng.randrange(20000):
                pass
    driver.doorbell.send(b"")
    device.reply()


@pytest.mark.parametrize(
    ("ending", "error"), [("device.close()", ringbell.EndOfStream), (None, ringbell.PeerLost)]
)
def test_the_descriptor_is_readable_when_the_other_side_has_gone(start, connect, ending, error):
    device = start("device")
    driver = connect()
    poll = select.epoll()
    with poll:
        poll.register(driver.interrupt)
        with pytest.raises(ringbell.RingEmpty):
            driver.interrupt.recv(timeout=0)
        if ending:
            device.run(ending)
        else:
            device.kill()
        assert poll.poll()
        with pytest.raises(error):
            driver.interrupt.recv(timeout=0)


def test_a_closed_channel_has_no_descriptor(pair):
    driver, _ = pair()
    fd = driver.interrupt.fileno()
    assert driver.interrupt.fileno() == fd
    driver.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(ringbell.ChannelClosed):
        driver.interrupt.fileno()
