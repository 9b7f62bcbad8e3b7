# SPDX-License-Identifier: MIT
"""No call hangs when the peer fills the eventfds that it shares with us, or makes them block."""

import contextlib
import os
import signal
import sys
import threading

import pytest
from processes import wait_until

import ringbell
from ringbell._ffi import lib

FULL = 2**64 - 2
OF_DRIVER, OF_DEVICE = 0, 1  # whom the eventfd wakes


def fill_and_block(side, number):
    """Do what a peer could do: it has the same eventfd, and O_NONBLOCK belongs to both sides."""
    descriptor = side._channel._descriptors[number]
    os.eventfd_write(descriptor, FULL)
    os.set_blocking(descriptor, True)


def test_a_kick_of_a_full_counter_that_blocks_returns(start, connect):
    device = start("device", polling="never")
    driver = connect()
    device.begin("device.doorbell.recv()")
    wait_until(lambda: driver.stats().device.consumer.sleeps)
    device.stop()  # or it would empty the counter
    fill_and_block(driver, OF_DEVICE)
    before = driver.stats().driver.producer.kicks_sent
    driver.doorbell.send(b"x", timeout=1)
    assert driver.stats().driver.producer.kicks_sent == before + 1
    device.signal(signal.SIGCONT)
    assert device.reply() == "b'x'"


def test_a_kick_for_room_of_a_full_counter_that_blocks_returns(start, path):
    with ringbell.listen(path) as listener:
        driver = start("driver", wait=False, ring_size=4096, polling="never")
        device = listener.accept()
    driver.reply()
    with device:
        driver.begin("[driver.doorbell.send(b'x' * 1000) for _ in range(6)]")
        wait_until(lambda: device.stats().driver.producer.sleeps)
        driver.stop()
        fill_and_block(device, OF_DRIVER)
        for _ in range(3):
            device.doorbell.recv()
        assert device.stats().device.consumer.kicks_sent > 0
        driver.signal(signal.SIGCONT)
        for _ in range(3):
            device.doorbell.recv()
        driver.reply()


def test_a_kick_that_is_taken_away_before_it_is_drained_keeps_nobody(pair):
    driver, _ = pair()
    descriptor = driver._channel._descriptors[OF_DRIVER]
    os.set_blocking(descriptor, True)
    over = threading.Event()
    looks = 0

    def flip():
        """Kick, and take the kick away before the other thread looks again, many times."""
        count = bytearray(8)
        for _ in range(150):
            os.eventfd_write(descriptor, 1)
            with contextlib.suppress(BlockingIOError):
                os.preadv(descriptor, [count], -1, os.RWF_NOWAIT)
            seen = looks
            while looks <= seen + 1:
                os.sched_yield()
        over.set()

    thread = threading.Thread(target=flip)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        while not over.is_set():
            lib.rb_pollable(driver._channel.handle)  # drains what is readable
            looks += 1
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    with pytest.raises(ringbell.RingEmpty):
        driver.interrupt.recv(timeout=0)
