# SPDX-License-Identifier: MIT
"""Requests that wait: full rings, timeouts, two threads."""

import threading
import time

import pytest
from processes import PeerError, wait_until

import ringbell


def test_submit_sets_completions_aside_while_a_device_waits_for_room(start, connect):
    # One ring holds 64 requests, the other one 4 answers. So soon each side waits for room.
    start("serve", handler="long_answer")
    driver = connect(ring_size=4096)
    tokens = [driver.submit(b"%d" % i) for i in range(1000)]
    assert driver.in_flight == 1000
    answers = {c.token: c.payload for c in (driver.reap() for _ in tokens)}
    assert answers == {t: (b"%d" % i).ljust(1000) for i, t in enumerate(tokens)}
    assert driver.stats().device.producer.times_full > 0


def test_reap_with_nothing_in_flight_does_not_wait(pair):
    driver, _ = pair()
    with pytest.raises(ringbell.RingEmpty, match="no request is in flight"):
        driver.reap()


def test_waiting_ends_after_the_timeout(pair):
    driver, device = pair(ring_size=4096)
    with pytest.raises(ringbell.RingEmpty, match="nothing arrived"):
        device.take(timeout=0.01)
    with pytest.raises(TimeoutError):
        driver.call(b"x", timeout=0.01)
    while True:
        try:
            driver.submit(b"x" * 100, timeout=0)
        except ringbell.RingFull:
            break
    with pytest.raises(ringbell.RingFull, match="stayed full"):
        driver.submit(b"x" * 100, timeout=0.01)
    with pytest.raises(ringbell.RingFull):
        driver.reserve(100, timeout=0.01)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0.01)


@pytest.mark.parametrize("timeout", [float("inf"), 1e300])
def test_an_endless_timeout_is_no_error(pair, timeout):
    driver, device = pair()
    driver.submit(b"x", timeout=timeout)
    device.take(timeout=timeout).complete(timeout=timeout)
    assert driver.reap(timeout=timeout).ok


def test_a_timeout_that_is_not_a_number_is_refused(pair):
    driver, device = pair()
    with pytest.raises(ValueError, match="not nan"):
        device.take(timeout=float("nan"))


def test_an_answer_that_comes_too_late_is_dropped(pair):
    driver, device = pair()
    with pytest.raises(ringbell.RingEmpty):
        driver.call(b"late", timeout=0)
    token = driver.submit(b"in time")
    device.take().complete(b"late answer")
    device.take().complete(b"answer")
    assert driver.reap().token == token
    assert driver.in_flight == 0


def test_a_device_that_holds_the_whole_ring_is_told_to_complete_something(pair):
    driver, device = pair(ring_size=4096)
    for _ in range(64):
        driver.submit(b"x")
    held = [device.take() for _ in range(64)]
    with pytest.raises(RuntimeError, match="every slot of the doorbell ring is held"):
        device.take()
    for request in held:
        request.complete()


def test_a_full_interrupt_ring_is_an_error_after_the_timeout_and_the_answer_is_not_lost(pair):
    driver, device = pair(ring_size=4096)
    for _ in range(3):
        driver.submit(b"x")
    device.take().complete(b"a" * 3000)
    request = device.take()
    with pytest.raises(ringbell.RingFull):
        request.complete(b"b" * 3000, timeout=0)
    assert request.payload == b"x"
    assert driver.reap().payload == b"a" * 3000
    request.complete(b"c" * 3000)
    assert driver.reap().payload == b"c" * 3000


def test_a_second_thread_in_the_same_end_gets_an_error(start, connect):
    device = start("device")
    driver = connect()
    device.run("import threading; thread = threading.Thread(target=device.take); thread.start()")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    for call in ("device.take()", "device.doorbell.recv()"):
        with pytest.raises(PeerError, match="RuntimeError: .*one thread at a time"):
            device.run(call)
    driver.submit(b"for the thread")
    device.run("thread.join()")
    with pytest.raises(PeerError, match="RingEmpty"):
        device.run("device.take(timeout=0)")


def test_the_two_ends_of_a_side_may_be_used_by_two_threads(start, connect):
    # The wait of one thread must not disturb that of the other.
    device = start("device", polling="never")
    driver = connect(ring_size=4096)
    device.run("device.interrupt.send(b'x' * 3900)")
    device.run("""
import threading
def send():
    try:
        device.interrupt.send(b"y" * 3900, timeout=0)
    except ringbell.RingFull:
        device.interrupt.send(b"z" * 150)
        device.interrupt.send(b"z" * 150)
receiver = threading.Thread(target=device.doorbell.recv)
sender = threading.Thread(target=send)
receiver.start()
sender.start()
""")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    wait_until(lambda: driver.stats().device.producer.sleeps >= 1)
    driver.doorbell.send(b"wakes the receiver")
    device.run("receiver.join()")
    assert driver.interrupt.recv() == b"x" * 3900
    assert [driver.interrupt.recv() for _ in range(2)] == [b"z" * 150] * 2
    device.run("sender.join()")


def test_a_call_polls_once_before_it_sleeps(start, connect):
    device = start("device")
    driver = connect(max_poll=0.05)  # the first poll takes at most half of that
    begun = time.thread_time()
    killing = threading.Thread(target=kill_when_asleep, args=(device, driver))
    with pytest.raises(ringbell.PeerLost):
        killing.start()
        driver.call(b"x")
    # A poll ends by the clock, so on a busy machine it takes less CPU time, not more.
    assert time.thread_time() - begun < 0.04
    killing.join()


def kill_when_asleep(device, driver):
    wait_until(lambda: driver.stats().driver.consumer.sleeps == 1)
    device.kill()
