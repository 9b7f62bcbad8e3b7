# SPDX-License-Identifier: MIT
"""What a waiter refuses: members, timeouts, other threads; and what it does without descriptors."""

import errno
import math
import os
import resource
import threading

import pytest
from waiting import NEVER, interrupting, wait_until_asleep

import ringbell
from ringbell import Moderation


def test_a_closed_waiter_says_so(pairs):
    _, devices = pairs(1)
    waiter = ringbell.Waiter(devices)
    waiter.close()
    waiter.close()
    for use in (waiter.wait, lambda: waiter.add(devices[0]), lambda: waiter.remove(devices[0])):
        with pytest.raises(ringbell.ChannelClosed, match="make another one"):
            use()
    assert len(waiter) == 0


def test_nothing_would_end_a_wait_for_nobody():
    with pytest.raises(RuntimeError, match="add some, or give a timeout"):
        ringbell.wait([])
    assert ringbell.wait([], 0) == []
    assert ringbell.wait([], 0.001) == []


@pytest.mark.parametrize("bad", [math.nan, -1, "1"])
def test_a_timeout_is_a_number_of_seconds(pairs, bad):
    _, devices = pairs(1)
    with pytest.raises((TypeError, ValueError)):
        ringbell.wait(devices, bad)
    assert ringbell.wait(devices, 0) == []


def test_an_end_is_in_one_waiter_once(pairs):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device]) as waiter:
        for same in (device, device.doorbell):
            with pytest.raises(ValueError, match="already"):
                waiter.add(same)
            with pytest.raises(ValueError, match="already"):
                ringbell.Waiter([same])
        driver.submit(b"x")
        assert waiter.wait() == [device]
    assert ringbell.wait([device.doorbell]) == [device.doorbell]


def test_a_producer_has_nothing_to_take(pairs, stream):
    (driver,), _ = pairs(1)
    with ringbell.Waiter() as waiter:
        with pytest.raises(TypeError, match="a producer has nothing to take"):
            waiter.add(driver.doorbell)
        for bad in (None, "x", object()):
            with pytest.raises(TypeError):
                waiter.add(bad)
        with pytest.raises((OSError, ValueError)):
            waiter.add(-1)
        with open(__file__) as file, pytest.raises(OSError, match="plain file"):
            waiter.add(file)
        assert len(waiter) == 0


def test_a_closed_end_is_refused_and_harms_no_other(pairs):
    """The numbers of its descriptors may be those of others by now."""
    _, closed = pairs(1)
    closed[0].close()
    drivers, devices = pairs(4, **NEVER)
    with ringbell.Waiter(devices, **NEVER) as waiter:
        with pytest.raises(ringbell.ChannelClosed):
            waiter.add(closed[0])
        for driver, device in zip(drivers, devices, strict=True):
            assert waiter.wait(0.001) == []
            driver.submit(b"x")
            assert waiter.wait() == [device]
            device.take().complete(b"")


def test_a_descriptor_that_was_closed_too_early_harms_nobody(sockets):
    (one, other), (third, _) = sockets(), sockets()
    with ringbell.Waiter([one]) as waiter:
        number, copy = one.fileno(), os.dup(one.fileno())
        one.close()
        os.dup2(third.fileno(), number)
        try:
            with pytest.raises(ValueError, match="before its descriptor is closed"):
                waiter.add(number)
            waiter.remove(one)
            waiter.add(number)
            other.send(b"the kernel tells of this, because of the copy")
            assert waiter.wait(0.001) == []
            waiter.remove(number)
        finally:
            os.close(number)
            os.close(copy)


def test_a_waiter_is_for_one_thread_at_a_time(pairs):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device], **NEVER) as waiter:
        given = []
        thread = threading.Thread(target=lambda: given.append(waiter.wait()))
        thread.start()
        wait_until_asleep(waiter)
        for use in (
            lambda: waiter.wait(0),
            lambda: waiter.add(driver),
            lambda: waiter.remove(device),
            waiter.close,
        ):
            with pytest.raises(RuntimeError, match="one thread at a time"):
                use()
        driver.submit(b"x")
        thread.join()
        assert given == [[device]]


def test_a_signal_handler_cannot_use_the_waiter_that_it_interrupted(pairs):
    _, (device,) = pairs(1)
    with ringbell.Waiter([device]) as waiter:
        for use in (lambda: waiter.remove(device), waiter.close, lambda: waiter.wait(0)):
            with (
                interrupting(lambda *_, use=use: use()),
                pytest.raises(RuntimeError, match="one thread at a time"),
            ):
                waiter.wait()
        assert len(waiter) == 1


def test_without_a_descriptor_left_a_waiter_is_refused_and_nothing_is_lost(pairs):
    drivers, devices = pairs(2, **NEVER)
    with ringbell.Waiter(devices[:1], **NEVER) as waiter:
        assert waiter.wait(0.001) == []  # it has the pipe for signals now
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        top = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        try:
            with pytest.raises(OSError) as raised:
                while True:
                    held.append(os.dup(0))
            assert raised.value.errno == errno.EMFILE
            with pytest.raises(OSError) as raised:
                ringbell.Waiter()
            assert raised.value.errno == errno.EMFILE
            waiter.add(devices[1])  # which takes none
            drivers[0].submit(b"x")
            assert waiter.wait() == [devices[0]]
            drivers[1].submit(b"x")
            assert set(waiter.wait() + waiter.wait()) == set(devices)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)


def test_entries_come_in_time_though_there_was_no_descriptor_for_the_timer(start, path):
    with ringbell.listen(path, moderation=Moderation(100, 0.001), **NEVER) as listener:
        peer = start("driver", wait=False, **NEVER)
        device = listener.accept()
        peer.reply()
    with device, ringbell.Waiter([device], **NEVER) as waiter:
        assert waiter.wait(0.001) == []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        top = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        try:
            try:
                while True:
                    held.append(os.dup(0))
            except OSError:
                pass
            for _ in range(3):
                peer.begin("driver.submit(b'x')")
                assert waiter.wait() == [device]
                device.take().complete(b"")
                peer.reply()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
