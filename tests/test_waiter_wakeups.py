# SPDX-License-Identifier: MIT
"""What wakes a waiter: kicks that come later or that others take; and its own descriptor."""

import selectors
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from processes import wait_until
from waiting import NEVER

import ringbell
from ringbell import Moderation


def test_moderation_and_coalesce_wake_a_waiter_in_time(start, path):
    moderation = Moderation(3, 0.002)
    with ringbell.listen(path, moderation=moderation, **NEVER) as listener:
        peer = start("driver", wait=False, **NEVER)
        device = listener.accept()
        peer.reply()
    with device, ringbell.Waiter([device], **NEVER) as waiter:
        for count in (1, 2, 3, 5) * 3:
            assert waiter.wait(0.001) == []
            peer.begin(f"for _ in range({count}): driver.submit(b'x')")
            left = count
            while left:
                assert waiter.wait() == [device]
                device.take().complete(b"")
                left -= 1
            peer.reply()
        assert waiter.wait(0.001) == []
        peer.run("for _ in range(33): driver.reap()")
        peer.begin("""
with driver.doorbell.coalesce(max_delay=0.001):
    driver.submit(b"x")
    while True:
        try:
            driver.reap(timeout=0)
            break
        except ringbell.RingEmpty:
            pass
""")
        assert waiter.wait() == [device]
        device.take().complete(b"")
        peer.reply()


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
@pytest.mark.parametrize("before", [True, False])
def test_who_waits_owes_no_kick(start, path, polling, before):
    peer = start("device", **NEVER)
    with ringbell.connect(path) as driver:
        peer.begin("device.take().complete(b'')")
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        if before:
            with driver.doorbell.coalesce(), ringbell.Waiter([driver], polling=polling) as waiter:
                driver.submit(b"x")
                assert waiter.wait() == [driver]
        else:
            with ringbell.Waiter([driver], polling=polling) as waiter:
                assert waiter.wait(0.001) == []
                with driver.doorbell.coalesce():
                    driver.submit(b"x")
                    assert waiter.wait() == [driver]
        peer.reply()


@pytest.mark.parametrize("polling", ["never", "adaptive"])
def test_blocking_calls_on_members_between_waits_lose_nothing(start, path, polling):
    with ringbell.listen(path, polling=polling) as listener:
        peers, devices = [], []
        for _ in range(2):
            peers.append(start("driver", wait=False, polling=polling))
            devices.append(listener.accept())
            peers[-1].reply()
    with devices[0], devices[1], ringbell.Waiter(devices, polling=polling) as waiter:
        for round_ in range(200):
            for peer in peers:
                peer.begin("for i in range(4): driver.submit(b'%d' % i)")
            left = dict.fromkeys(devices, 4)
            if round_ % 3 == 0:  # asleep, and less than there is
                devices[0].take(timeout=10).complete(b"")
                left[devices[0]] -= 1
            elif round_ % 3 == 1:  # its time is over
                try:
                    devices[1].take(timeout=0.0001).complete(b"")
                    left[devices[1]] -= 1
                except ringbell.RingEmpty:
                    pass
            while any(left.values()):
                for device in waiter.wait():
                    device.take(timeout=0).complete(b"")
                    left[device] -= 1
            for peer in peers:
                peer.reply()
                peer.run("for i in range(4): driver.reap()")


def test_a_thread_that_waits_for_room_takes_no_kick_from_the_waiter(start, path):
    """Also when it was asleep before the channel was added."""
    with ringbell.listen(path, **NEVER) as listener:
        peer = start("driver", wait=False, ring_size=4096, **NEVER)
        device = listener.accept()
        peer.reply()
    with device:
        with pytest.raises(ringbell.RingFull):
            while True:
                device.interrupt.send(b"x" * 40, timeout=0)
        sent = []

        def send():
            for _ in range(300):
                device.interrupt.send(b"y" * 40)
                sent.append(1)

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: device.stats().device.producer.sleeps)
        for _ in range(300):  # one kick may be for both
            with ringbell.Waiter([device], **NEVER) as waiter:
                peer.begin("driver.doorbell.send(b'x'); driver.interrupt.recv()")
                assert waiter.wait() == [device]
                assert device.doorbell.recv(timeout=0) == b"x"
                peer.reply()
        thread.join()


def test_a_soak_of_sleeps_with_several_producers(start, path):
    with ringbell.listen(path, **NEVER) as listener:
        peers, devices = [], []
        for _ in range(4):
            peers.append(start("driver", wait=False, **NEVER))
            devices.append(listener.accept())
            peers[-1].reply()
    with ExitStack() as guard:
        for device in devices:
            guard.enter_context(device)
        waiter = guard.enter_context(ringbell.Waiter(devices, **NEVER))
        for peer in peers:
            peer.begin("sum(int(driver.call(b'%d' % i)) for i in range(3000)); driver.close()")
        counts, open_ = dict.fromkeys(devices, 0), set(devices)
        while open_:
            for device in waiter.wait():
                try:
                    while True:
                        request = device.take(timeout=0)
                        assert bytes(request.payload) == b"%d" % counts[device]
                        request.complete(request.payload)
                        counts[device] += 1
                except ringbell.RingEmpty:
                    pass
                except ringbell.EndOfStream:
                    waiter.remove(device)
                    open_.remove(device)
        for peer in peers:
            peer.reply()
        assert list(counts.values()) == [3000] * 4


def test_a_waiter_in_a_selector(start, path):
    """Its descriptor is readable when a member may be ready, and no kick is lost."""
    with ringbell.listen(path) as listener:
        peers, devices = [], []
        for _ in range(3):
            peers.append(start("driver", wait=False))
            devices.append(listener.accept())
            peers[-1].reply()
    with ExitStack() as guard:
        for device in devices:
            guard.enter_context(device)
        waiter = guard.enter_context(ringbell.Waiter(devices))
        selector = guard.enter_context(selectors.DefaultSelector())
        selector.register(waiter, selectors.EVENT_READ)
        assert waiter.wait(0) == []
        assert selector.select(0) == []
        for number, peer in enumerate(peers):
            peer.begin(
                f"for i in range(2000):\n time.sleep(0.001 * (i % 97 == {number}))\n"
                " driver.submit(b'%d' % i)"
            )
        counts = dict.fromkeys(devices, 0)
        while sum(counts.values()) < 6000:
            selector.select()
            while ready := waiter.wait(0):
                for device in ready:
                    with suppress(ringbell.RingEmpty):
                        request = device.take(timeout=0)
                        assert bytes(request.payload) == b"%d" % counts[device]
                        request.complete()
                        counts[device] += 1
        assert list(counts.values()) == [2000] * 3
        for peer in peers:
            peer.reply()
    with pytest.raises(ringbell.ChannelClosed):
        waiter.fileno()


def test_a_new_member_makes_the_descriptor_readable(pairs):
    """It has not armed yet, so nobody kicks for what has come already."""
    (driver, other), (device, another) = pairs(2, **NEVER)
    with ringbell.Waiter([device]) as waiter, selectors.DefaultSelector() as selector:
        driver.submit(b"1")
        selector.register(waiter, selectors.EVENT_READ)
        assert selector.select(30)
        assert waiter.wait(0) == [device]
        device.take(timeout=0).complete()
        assert waiter.wait(0) == []
        assert selector.select(0) == []
        other.submit(b"2")
        waiter.add(another)
        assert selector.select(30)
        assert waiter.wait(0) == [another]


def test_max_share_bounds_the_polling_of_a_waiter(pair):
    """With no share at all each wait sleeps at once."""
    driver, device = pair()
    with ringbell.Waiter([device], max_share=0) as waiter:
        waiter.wait(timeout=0.001)
        begun = time.thread_time()
        for _ in range(20):
            waiter.wait(timeout=0.005)
        assert time.thread_time() - begun < 0.05
    with pytest.raises(ValueError, match="max_share is from 0 to 1"):
        ringbell.Waiter(max_share=2)
