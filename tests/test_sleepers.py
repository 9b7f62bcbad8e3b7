# SPDX-License-Identifier: MIT
"""Two threads of one side asleep at once, the timer that a producer passes, and descriptors."""

import os
import resource
import select
import signal
import socket
import threading

import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell import Moderation

LACK = """
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
try:
    while True: held.append(os.dup(0))
except OSError: pass
"""
HAVE = """
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
while held: os.close(held.pop())
"""


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def control_socket(side):
    return socket.socket(fileno=os.dup(side._channel._owned.control.fileno()))


# ---- two threads ----


def test_two_threads_of_a_side_are_each_woken_for_their_own(start, path):
    """One waits for data, the other for room; the driver serves the two in turn, each asleep."""
    with ringbell.listen(path, polling="never") as listener:
        driver = start("driver", wait=False, ring_size=4096, polling="never")
        device = listener.accept()
    driver.reply()
    received = []
    with device:
        while True:  # until the interrupt ring is full
            try:
                device.interrupt.send(b"x" * 40, timeout=0)
            except ringbell.RingFull:
                break
        full = device.stats().iwi - device.stats().iri

        def send():
            for _ in range(200):
                device.interrupt.send(b"y" * 1000)

        def receive():
            received.extend(bytes(device.doorbell.recv()) for _ in range(200))

        threads = [threading.Thread(target=send), threading.Thread(target=receive)]
        for thread in threads:
            thread.start()
        wait_until(lambda: device.stats().device.producer.sleeps)
        wait_until(lambda: device.stats().device.consumer.sleeps)
        driver.run("for i in range(100): driver.doorbell.send(b'%d' % i)")
        wait_until(lambda: len(received) == 100)
        driver.run(f"for _ in range({full} + 100): driver.interrupt.recv()")
        driver.run("for i in range(100, 200): driver.doorbell.send(b'%d' % i)")
        driver.run("for _ in range(100): driver.interrupt.recv()")
        for thread in threads:
            thread.join()
    assert received == [b"%d" % i for i in range(200)]


@pytest.mark.parametrize("first", ["data", "room"])
def test_the_second_is_woken_when_the_first_has_gone(start, path, first):
    """Whoever sleeps on the side's eventfd leaves it, and the other takes it over."""
    with ringbell.listen(path, polling="never") as listener:
        driver = start("driver", wait=False, ring_size=4096, polling="never")
        device = listener.accept()
    driver.reply()
    with device:
        for _ in range(4):
            device.interrupt.send(b"x" * 1000)
        room = threading.Thread(target=device.interrupt.send, args=(b"y" * 1000,))
        data = threading.Thread(target=device.doorbell.recv)
        counters = {"data": lambda: device.stats().device.consumer.sleeps}
        counters["room"] = lambda: device.stats().device.producer.sleeps
        threads = {"data": data, "room": room}
        second = "room" if first == "data" else "data"
        for name in (first, second):
            threads[name].start()
            wait_until(counters[name])
        wake = {"data": "driver.doorbell.send(b'x')", "room": "driver.interrupt.recv()"}
        driver.run(wake[first])
        threads[first].join()
        driver.run(wake[second])
        threads[second].join()


def test_an_event_loop_is_told_what_a_thread_that_waits_for_room_has_drained(start, path):
    with ringbell.listen(path, polling="never") as listener:
        driver = start("driver", wait=False, ring_size=4096, polling="never")
        device = listener.accept()
    driver.reply()
    with device:
        watched = device.doorbell.fileno()
        for _ in range(4):
            device.interrupt.send(b"x" * 1000)
        thread = threading.Thread(target=device.interrupt.send, args=(b"y" * 1000,))
        thread.start()
        wait_until(lambda: device.stats().device.producer.sleeps)
        before = device.stats().device.producer.spurious_wakeups
        driver.run("driver.doorbell.send(b'x')")
        # The kick was for the event loop, and the thread has drained it.
        wait_until(lambda: device.stats().device.producer.spurious_wakeups > before)
        assert select.select([watched], [], [], 60)[0]
        assert device.doorbell.recv(timeout=0) == b"x"
        driver.run("driver.interrupt.recv()")
        thread.join()


# ---- the timer ----


def test_a_channel_takes_three_descriptors_and_a_timer_only_for_moderation(start, path):
    peer = start("device")
    mine = descriptors()
    with ringbell.connect(path) as driver:
        assert descriptors() == mine + 3
        peer.run("device.doorbell.moderation = ringbell.Moderation(2, 0.01)")
        theirs = len(os.listdir(f"/proc/{peer.pid}/fd"))
        peer.begin("device.doorbell.recv()")
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        driver.doorbell.send(b"x")
        assert peer.reply() == "b'x'"
        assert driver.stats().driver.producer.kicks_late == 1
        assert descriptors() == mine + 4
        assert len(os.listdir(f"/proc/{peer.pid}/fd")) == theirs + 1
    assert descriptors() == mine


def test_a_producer_without_a_descriptor_for_a_timer_kicks_at_once(start, path):
    with ringbell.listen(path) as listener:
        driver = start("driver", wait=False)
        device = listener.accept()
    driver.reply()
    with device:
        device.doorbell.moderation = Moderation(1000, 1.0)
        received = []
        thread = threading.Thread(target=lambda: received.append(device.doorbell.recv()))
        thread.start()
        wait_until(lambda: device.stats().device.consumer.sleeps)
        driver.run(LACK)
        driver.run("driver.doorbell.send(b'x')")
        thread.join()
        assert received == [b"x"]
        sent = device.stats().driver.producer
        assert (sent.kicks_sent, sent.kicks_late) == (1, 0)
        driver.run(HAVE)


def test_a_consumer_without_a_descriptor_for_the_timer_says_so_and_goes_on(start, path):
    device = start("device")
    with ringbell.connect(path) as driver:
        device.run("device.doorbell.moderation = ringbell.Moderation(1000, 0.01)")
        device.begin("device.doorbell.recv()")
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        device.stop()
        soft, hard = resource.prlimit(device.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(device.pid, resource.RLIMIT_NOFILE, (8, hard))  # it has more already
        driver.doorbell.send(b"x")
        device.signal(signal.SIGCONT)
        with pytest.raises(PeerError, match="no file descriptor left"):
            device.reply()
        resource.prlimit(device.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert device.run("device.doorbell.recv()") == "b'x'"
        device.begin("device.doorbell.recv()")
        wait_until(lambda: driver.stats().device.consumer.sleeps > 1)
        driver.doorbell.send(b"y")  # its timer tells nobody; the sleep is short instead
        assert device.reply() == "b'y'"


@pytest.mark.parametrize("odd", [b"", b"x", b"tt", b"t", b"l"])
def test_a_peer_that_says_anything_but_a_timer_broke_the_format(start, path, odd):
    """Also one that says what only a publisher says, to a subscriber that it lets go."""
    device = start("device")
    with ringbell.connect(path) as driver:
        device.begin("device.doorbell.recv()")
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        with control_socket(driver) as control:
            if odd:
                control.send(odd)
            else:
                socket.send_fds(control, [b"t"], [0])  # no timer
        with pytest.raises(PeerError, match="CorruptRing"):
            device.reply()


def test_a_second_timer_is_refused(start, path):
    device = start("device")
    with ringbell.connect(path) as driver:
        device.run("device.doorbell.moderation = ringbell.Moderation(2, 0.001)")
        for payload in (b"x", b"y"):
            sleeps = driver.stats().device.consumer.sleeps
            device.begin("device.doorbell.recv()")
            wait_until(lambda sleeps=sleeps: driver.stats().device.consumer.sleeps > sleeps)
            driver.doorbell.send(payload)
            assert device.reply() == repr(payload)
        sleeps = driver.stats().device.consumer.sleeps
        device.begin("device.doorbell.recv()")
        wait_until(lambda: driver.stats().device.consumer.sleeps > sleeps)
        with control_socket(driver) as control:
            socket.send_fds(control, [b"t"], [0])
        with pytest.raises(PeerError, match="CorruptRing"):
            device.reply()
