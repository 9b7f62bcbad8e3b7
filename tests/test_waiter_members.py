# SPDX-License-Identifier: MIT
"""Members of a waiter that close, lose their peer, or are removed; and the waiter's own end."""

import os
import threading

import pytest
from processes import wait_until
from waiting import NEVER, Listener, interrupting

import ringbell


def test_members_whose_peer_has_gone_are_ready_until_they_are_removed(start, path):
    with ringbell.listen(path, **NEVER) as listener:
        peers, devices = [], []
        for _ in range(2):
            peers.append(start("driver", wait=False, **NEVER))
            devices.append(listener.accept())
            peers[-1].reply()
    with devices[0], devices[1], ringbell.Waiter(devices, **NEVER) as waiter:
        threading.Thread(target=peers[0].kill).start()
        for _ in range(3):
            assert waiter.wait() == [devices[0]]
        with pytest.raises(ringbell.PeerLost):
            devices[0].take()
        waiter.remove(devices[0])
        wait_until(lambda: threading.active_count() == 1)
        peers[1].run("driver.submit(b'last')")
        peers[1].run("driver.close()")
        assert waiter.wait() == [devices[1]]
        devices[1].take().complete(b"")
        assert waiter.wait() == [devices[1]]
        with pytest.raises(ringbell.EndOfStream):
            devices[1].take()


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_a_member_that_another_thread_closes_is_ready(pairs, polling):
    _, devices = pairs(2)
    with ringbell.Waiter(devices, polling=polling) as waiter:
        closer = threading.Timer(0.02, devices[1].close)
        closer.start()
        assert waiter.wait() == [devices[1]]
        closer.join()
        assert waiter.wait() == [devices[1]]
        with pytest.raises(ringbell.ChannelClosed):
            devices[1].take()
        waiter.remove(devices[1])
        assert waiter.wait(0.001) == []


def test_a_member_that_a_signal_handler_closes_is_ready(pairs):
    _, devices = pairs(2)
    with (
        ringbell.Waiter(devices) as waiter,
        interrupting(lambda *_: devices[0].close()),
    ):
        assert waiter.wait() == [devices[0]]


def test_the_peer_of_a_closed_and_removed_member_may_kick_on(pairs):
    """The peer has the same open file, so the kernel would go on to tell of its kicks."""
    (driver,), devices = pairs(1, **NEVER)
    with ringbell.Waiter(devices, **NEVER) as waiter:
        assert waiter.wait(0.001) == []
        devices[0].close()
        assert waiter.wait() == devices
        waiter.remove(devices[0])
        woken = waiter._counts()[2]
        for _ in range(10):
            os.eventfd_write(driver._channel._owned.wake_fds[1].fileno(), 1)
            assert waiter.wait(0.001) == []
        assert waiter._counts()[2] == woken


def test_a_removed_member_is_not_given_and_may_be_added_again(pairs):
    drivers, devices = pairs(2)
    with ringbell.Waiter(devices) as waiter:
        drivers[0].submit(b"x")
        assert waiter.wait() == [devices[0]]
        waiter.remove(devices[0])
        assert waiter.wait(0.001) == []
        assert len(waiter) == 1
        with pytest.raises(KeyError, match="does not wait"):
            waiter.remove(devices[0])
        assert devices[0].take().payload.tobytes() == b"x"
        drivers[0].submit(b"y")
        waiter.add(devices[0])
        assert waiter.wait() == [devices[0]]
    assert devices[0].take().payload.tobytes() == b"y"
    drivers[0].submit(b"z")
    assert ringbell.wait(devices) == [devices[0]]


def test_a_forked_child_has_no_part_in_the_waiter(pairs):
    (driver,), (device,) = pairs(1, **NEVER)
    with ringbell.Waiter([device], **NEVER) as waiter:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for use in (waiter.wait, lambda: waiter.add(device), lambda: waiter.remove(device)):
                    with pytest.raises(ringbell.ChannelClosed, match="in this process"):
                        use()
                waiter.close()
                with pytest.raises(ringbell.ChannelClosed):
                    ringbell.Waiter([device])
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert waiter.wait(0.001) == []
        driver.submit(b"x")
        assert waiter.wait() == [device]


def test_a_cycle_with_a_waiter_is_collected():
    import gc
    import weakref

    member = Listener(os.eventfd(0, os.EFD_CLOEXEC))
    fd = member.fd
    member.waiter = ringbell.Waiter([member])
    gone = weakref.ref(member)
    del member
    gc.collect()
    assert gone() is None
    os.close(fd)


def test_a_thousand_opens_and_closes_leave_no_descriptor(pairs):
    drivers, devices = pairs(2)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        with ringbell.Waiter(devices) as waiter:
            if number % 10 == 0:
                drivers[0].submit(b"x")
                assert waiter.wait() == [devices[0]]
                devices[0].take().complete(b"")
    assert len(os.listdir("/proc/self/fd")) == before
