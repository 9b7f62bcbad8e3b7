# SPDX-License-Identifier: MIT
"""When a side that sleeps is woken: kicks that a `coalesce` block holds back."""

import os
import signal
import threading

import pytest
from doorbells import finish, kicks
from kinds import SMALL_RING, SMALL_RING_MESSAGES
from processes import wait_until

import ringbell


def test_a_deferred_burst_of_1000_is_one_kick(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce():
        for _ in range(1000):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_that_an_exception_leaves_sends_its_kick(asleep):
    driver, device = asleep()
    with pytest.raises(ZeroDivisionError), driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        raise ZeroDivisionError
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_sends_no_kick_to_a_device_that_is_awake(pair):
    driver, _ = pair()
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 0)


def test_a_block_that_nobody_could_leave_sends_its_kick_when_it_is_dropped(asleep):
    # A signal handler may raise before __exit__ begins. Then nobody leaves the block.
    driver, device = asleep()
    block = driver.doorbell.coalesce()
    block.__enter__()
    driver.doorbell.send(b"x")
    del block
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_kicks_are_held_back_for_so_many_entries_at_most(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_entries=10):
        for _ in range(9):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
        driver.doorbell.send(b"x")
        assert kicks(driver) == (1, 0)
        for _ in range(20):
            driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 0), "it has been kicked and not slept since"
    finish(driver, device)


def test_entries_are_counted_anew_after_each_kick(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_entries=3):
        for i in range(1, 4):
            for _ in range(3):
                driver.doorbell.send(b"x")
            assert kicks(driver) == (i, 0)
            device.signal(signal.SIGCONT)
            wait_until(lambda i=i: driver.stats().device.consumer.sleeps > i)
    finish(driver, device)


def test_kicks_are_held_back_for_a_bounded_time(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_delay=0.001):
        for i in range(1, 4):
            # The device sleeps each time. Without the timer it would sleep for ever.
            driver.doorbell.send(b"x")
            assert driver.stats().driver.producer.kicks_late == i
            device.signal(signal.SIGCONT)
            wait_until(lambda i=i: driver.stats().device.consumer.sleeps > i)
        assert driver.stats().device.consumer.entries == 3
        assert kicks(driver) == (0, 3)
    finish(driver, device)


def test_a_full_ring_is_told_before_the_end_of_the_block(asleep):
    driver, device = asleep(ring_size=SMALL_RING)
    with driver.doorbell.coalesce():
        for _ in range(SMALL_RING_MESSAGES):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
        with pytest.raises(ringbell.RingFull):
            driver.doorbell.send(b"x", timeout=0)
        assert kicks(driver) == (1, 0)
        device.signal(signal.SIGCONT)
        for _ in range(10 * SMALL_RING_MESSAGES):
            driver.doorbell.send(b"x")
    finish(driver, device)


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_who_waits_inside_the_block_sends_the_kick_before(start, connect, polling):
    start("serve", handler="upper", polling="never")
    driver = connect(polling=polling)
    wait_until(lambda: driver.stats().device.consumer.sleeps >= 1)
    with driver.doorbell.coalesce():
        assert driver.call(b"x") == b"X"
        driver.submit(b"y")
        assert driver.reap().payload == b"Y"


def test_the_other_end_may_sleep_in_its_own_thread_while_kicks_are_held_back(start, connect):
    # Both threads may send the same kick twice. The test is that no kick is missing.
    device = start("device", polling="never")
    driver = connect(polling="never")
    device.begin("""
while message := device.doorbell.recv():
    device.interrupt.send(message)
""")
    count = 3000
    arrived = []
    thread = threading.Thread(
        target=lambda: arrived.extend(driver.interrupt.recv() for _ in range(count))
    )
    thread.start()
    for first in range(0, count, 3):
        with driver.doorbell.coalesce():
            for i in range(first, first + 3):
                driver.doorbell.send(b"%d" % i)
    thread.join()
    assert arrived == [b"%d" % i for i in range(count)]
    driver.doorbell.send(b"")
    device.reply()


def test_one_block_at_a_time_and_none_after_close(pair):
    driver, _ = pair()
    with (
        driver.doorbell.coalesce(),
        pytest.raises(RuntimeError, match="already"),
        driver.doorbell.coalesce(),
    ):
        pass
    with driver.doorbell.coalesce():
        driver.close()
    with pytest.raises(ringbell.ChannelClosed), driver.doorbell.coalesce():
        pass


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_entries": 0},
        {"max_entries": -1},
        {"max_delay": 0},
        {"max_delay": -1.0},
        {"max_delay": float("nan")},
        {"max_delay": float("inf")},
    ],
)
def test_nonsense_bounds_are_refused(pair, bounds):
    driver, _ = pair()
    with pytest.raises(ValueError, match=r"is above 0|is at least 1"):
        driver.doorbell.coalesce(**bounds)


def test_a_block_that_outlives_a_channel_that_nobody_closed_kicks_nobody_else(asleep):
    driver, _ = asleep()
    block = driver.doorbell.coalesce()
    block.__enter__()
    driver.doorbell.send(b"x")
    data = driver._channel._descriptors[1]
    with pytest.warns(ResourceWarning):
        driver._channel.__del__()
    made = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        os.dup2(made, data)
        del block
        with pytest.raises(BlockingIOError):
            os.eventfd_read(data)
    finally:
        os.close(made)
        if made != data:
            os.close(data)


def test_entering_a_block_again_inside_itself_is_an_error_and_holds_nothing_back_for_ever(asleep):
    driver, device = asleep()
    block = driver.doorbell.coalesce()
    with block:
        driver.doorbell.send(b"x")
        with pytest.raises(RuntimeError, match="inside a coalesce.. block already"), block:
            pass
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_that_could_not_begin_ends_no_other(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce():
        other = driver.doorbell.coalesce()
        with pytest.raises(RuntimeError, match="inside a coalesce.. block already"):
            other.__enter__()
        other.__exit__(None, None, None)
        del other
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)
