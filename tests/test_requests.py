# SPDX-License-Identifier: MIT
"""Requests and completions between two real processes, and in one where nothing waits."""

import os

import numpy as np
import pytest

import ringbell


def test_a_call_returns_what_the_handler_returned(start, connect):
    start("serve", handler="upper")
    driver = connect()
    assert driver.call(b"hello") == b"HELLO"
    assert driver.call(b"") == b""


@pytest.mark.parametrize(
    "payload",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        np.frombuffer(b"array", dtype="u1"),
        np.arange(6, dtype="<u2").reshape(2, 3) + 0x6161,
    ],
)
def test_any_contiguous_buffer_is_a_payload(start, connect, payload):
    start("serve", handler="upper")
    assert connect().call(payload) == bytes(payload).upper()


def test_map_yields_answers_in_the_order_of_the_payloads(start, connect):
    start("serve", handler="upper")
    payloads = [f"payload {i}".encode() * (i % 7) for i in range(3000)]
    driver = connect(ring_size=4096)
    assert list(driver.map(payloads, depth=50)) == [p.upper() for p in payloads]
    assert driver.in_flight == 0


def test_map_draws_payloads_only_as_room_is_there(pair):
    driver, device = pair()
    drawn = []

    def payloads():
        for i in range(100):
            drawn.append(i)
            yield b"x"

    answers = driver.map(payloads(), depth=3)
    with pytest.raises(ringbell.RingEmpty):
        next(driver.map(payloads(), depth=3, timeout=0))
    assert len(drawn) == 4  # the fourth waits for room in the window
    del answers


def test_an_iterator_that_is_dropped_leaves_nothing_in_flight(pair):
    driver, device = pair()
    with pytest.raises(ringbell.RingEmpty):
        next(driver.map([b"a", b"b", b"c"], depth=2, timeout=0))
    token = driver.submit(b"mine")
    for _ in range(3):
        device.take().complete(b"answer")
    assert driver.reap().token == token
    assert driver.in_flight == 0


def test_calls_in_the_middle_of_a_map_get_their_own_answers(start, connect):
    start("serve", handler="upper")
    driver = connect()
    token = driver.submit(b"submitted")
    for i, answer in enumerate(driver.map((b"m%d" % i for i in range(100)), depth=10)):
        assert answer == b"M%d" % i
        assert driver.call(b"c%d" % i) == b"C%d" % i
    completion = driver.reap()
    assert (completion.token, completion.payload, completion.ok) == (token, b"SUBMITTED", True)


def test_requests_may_be_completed_in_any_order(pair):
    driver, device = pair()
    tokens = [driver.submit(b"%d" % i) for i in range(5)]
    requests = [device.take() for _ in tokens]
    for i in (3, 0, 4, 1, 2):
        requests[i].complete(b"answer %d" % i)
    for i in (3, 0, 4, 1, 2):
        completion = driver.reap(timeout=0)
        assert (completion.token, completion.payload) == (tokens[i], b"answer %d" % i)


def test_a_slot_is_free_only_when_all_before_it_are(pair):
    driver, device = pair()
    for _ in range(3):
        driver.submit(b"x")  # one slot each
    first, second, third = (device.take() for _ in range(3))
    third.complete()
    second.complete()
    assert driver.stats().dri == 0
    first.complete()
    assert driver.stats().dri == 3


def test_a_token_completed_twice_is_an_error_and_the_driver_sees_one_completion(pair):
    driver, device = pair()
    driver.submit(b"once")
    request = device.take()
    request.complete(b"first")
    with pytest.raises(RuntimeError, match="request 1 has been answered before"):
        request.complete(b"second")
    with pytest.raises(RuntimeError, match="answered before"):
        request.fail("third")
    assert driver.reap().payload == b"first"
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)


def test_a_completion_that_nobody_asked_for_is_dropped(pair):
    driver, device = pair()
    token = driver.submit(b"mine")
    device.interrupt.send(b"forged", token=12345)
    device.take().complete(b"real")
    device.interrupt.send(b"second", token=token)
    assert driver.reap().payload == b"real"
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)


def test_a_handler_that_raises_fails_that_request_and_the_device_goes_on(start, connect):
    start("serve", handler="raises_on_bad")
    driver = connect()
    with pytest.raises(ringbell.RequestFailed, match="ValueError: bad is not good"):
        driver.call(b"bad")
    with pytest.raises(ringbell.RequestFailed, match="the handler returned int; return bytes"):
        driver.call(b"junk")
    assert driver.call(b"good") == b"ok"
    assert driver.call(b"echo") == b"echo"
    assert driver.call(b"part") == b"ar"
    assert driver.call(b"cast") == b"cast"
    assert driver.call(b"array") == b"rray"
    with pytest.raises(ringbell.RequestFailed, match="ValueError: .*released"):
        driver.call(b"released")
    with pytest.raises(ringbell.RequestFailed, match="UnspeakableError, which has no text"):
        driver.call(b"unspeakable")
    with pytest.raises(ringbell.RequestFailed, match="bad is not good"):
        list(driver.map([b"good", b"bad", b"good"]))
    assert driver.call(b"good") == b"ok"


def test_an_answer_of_a_handler_is_what_a_payload_may_be(start, connect):
    start("serve", handler="arrays")
    driver = connect()
    for answer, why in (
        (b"np.array(['a', None], dtype=object)", "references to objects"),
        (b"np.zeros(2, [('a', 'i4'), ('b', 'O')])[::2]", "references to objects"),
        (b"np.ma.array([1, 2], mask=[0, 1])", "use filled"),
    ):
        with pytest.raises(ringbell.RequestFailed, match=f"TypeError: .*{why}"):
            driver.call(answer)
    assert driver.call(b"np.array(['2026'], 'M8[Y]')") == (56).to_bytes(8, "little")
    assert driver.call(b"np.arange(4, dtype='u1')[::-1]") == b"\3\2\1\0"


def test_a_failed_request_is_a_completion_that_is_not_ok(pair):
    driver, device = pair()
    token = driver.submit(b"x")
    device.take().fail("no paper \N{PRINTER}")
    completion = driver.reap()
    assert (completion.token, completion.ok) == (token, False)
    assert completion.payload.decode() == "no paper \N{PRINTER}"
    with pytest.raises(ringbell.RequestFailed, match="no paper"):
        completion.result()


@pytest.mark.parametrize("size", [4096 - 16, 4096, 10_000, 1_000_000])
def test_a_message_larger_than_the_ring_passes_in_fragments_both_ways(start, connect, size):
    start("serve", handler="upper")
    driver = connect(ring_size=4096)
    payload = os.urandom(size // 2) + b"a" * (size - size // 2)
    assert driver.call(payload) == payload.upper()
    assert driver.call(b"small") == b"SMALL"


def test_a_message_given_up_half_way_does_not_reach_the_other_side(pair):
    driver, device = pair(ring_size=4096)
    with pytest.raises(ringbell.RingFull):
        driver.submit(b"x" * 10_000, timeout=0.01)
    assert driver.in_flight == 0
    with pytest.raises(ringbell.RingEmpty):
        device.take(timeout=0)
    token = driver.submit(b"whole")
    request = device.take(timeout=0)
    assert (request.token, bytes(request.payload)) == (token, b"whole")


def test_a_fragmented_request_has_a_view_too(pair):
    driver, device = pair(ring_size=4096)
    with pytest.raises(ringbell.RingFull):
        driver.doorbell.send(b"y" * 5000, timeout=0)
    # Three pieces of it are in the ring; they are dropped when the next message starts.
    with pytest.raises(ringbell.RingEmpty):
        device.take(timeout=0)


def test_messages_without_a_token_get_no_answer_from_a_server(start, connect):
    start("serve", handler="upper")
    driver = connect(ring_size=4096)
    for _ in range(1000):  # more than both rings hold
        driver.doorbell.send(b"note")
    assert driver.call(b"question") == b"QUESTION"
    assert driver.stats().device.producer.entries == 1


def test_map_yields_what_was_answered_before_the_device_left(pair):
    driver, device = pair()

    def payloads():
        yield from (b"a", b"b", b"c")
        for i in range(3):
            device.take().complete(b"%d" % i)
        device.close()
        yield b"d"

    answers = []
    with pytest.raises(ringbell.EndOfStream):
        answers.extend(driver.map(payloads(), depth=10))
    assert answers == [b"0", b"1", b"2"]
