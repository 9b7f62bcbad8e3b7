# SPDX-License-Identifier: MIT
"""A device that serves one driver and nobody else, as a launched one does."""

import signal
import threading

import launched
import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell.calls.service import serve_driver

RING = 4096


@pytest.mark.parametrize("polling", ["adaptive", "never", "always"])
def test_answers_wait_for_room_and_come_in_order(names, polling):
    with ringbell.launch(launched.upper, ring_size=RING, polling=polling) as driver:
        payloads = [b"%d" % number * (number % 50) for number in range(1000)]
        tokens = [driver.submit(payload) for payload in payloads]
        for token, payload in zip(tokens, payloads, strict=True):
            completion = driver.reap()
            assert (completion.token, completion.payload) == (token, payload)


def test_an_answer_that_is_longer_than_the_ring_comes_in_pieces(names):
    with ringbell.launch(launched.upper, ring_size=RING) as driver:
        assert driver.call(b"x" * 100_000) == b"X" * 100_000


def test_what_a_driver_sent_before_it_closed_is_handled_though_there_is_no_room(pair):
    driver, device = pair(ring_size=RING, polling="never")
    handled = []
    thread = threading.Thread(
        target=serve_driver, args=(device, lambda _: handled.append(1) or b"")
    )
    for _ in range(RING // 64):
        device.interrupt.send(b"full")
    for _ in range(3):
        driver.submit(b"x")
    thread.start()
    wait_until(lambda: driver.stats().device.producer.sleeps)
    driver.close()
    thread.join()
    assert len(handled) == 3
    assert device._channel.closed


def test_a_refusal_that_finds_no_room_is_sent_when_there_is_some(pair):
    driver, device = pair(ring_size=RING, listen={"max_message": 10}, polling="never")
    thread = threading.Thread(target=serve_driver, args=(device, launched.upper))
    for _ in range(RING // 64):
        device.interrupt.send(b"full")
    token = driver.submit(b"x" * 11)
    thread.start()
    try:
        wait_until(lambda: driver.stats().device.producer.sleeps)
        completion = driver.reap()
        assert (completion.token, completion.ok) == (token, False)
        assert driver.call(b"y") == b"Y"
    finally:
        driver.close()
        thread.join()


def test_an_exception_while_an_answer_waits_for_room_tells_the_driver(start, connect):
    device = start("device")
    driver = connect(ring_size=RING)
    device.run("from ringbell.calls.service import serve_driver")
    device.run(f"[device.interrupt.send(b'full') for _ in range({RING // 64})]")
    driver.submit(b"x")
    device.begin("serve_driver(device, bytes)")
    wait_until(lambda: driver.stats().device.producer.sleeps)
    device.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        device.reply()
    with pytest.raises(ringbell.PeerLost):
        driver.reap()
