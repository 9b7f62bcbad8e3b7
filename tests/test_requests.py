# SPDX-License-Identifier: MIT
"""Requests and completions between two real processes, and in one where nothing waits."""

import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell._ffi import lib


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


def test_a_payload_is_lent_without_a_copy(pair):
    driver, device = pair()
    driver.submit(b"before")
    request = device.take()
    assert request.payload.readonly
    slots = driver._channel.my_slots()
    start = bytes(slots[: len(slots) // 2]).index(b"before")
    slots[start : start + 6] = b"beyond"
    assert request.payload == b"beyond"
    request.complete()


def test_using_a_payload_after_its_completion_raises(pair):
    driver, device = pair()
    driver.submit(b"gone")
    request = device.take()
    payload = request.payload
    request.complete()
    with pytest.raises(ValueError, match="released"):
        payload[0]
    with pytest.raises(ValueError, match="released"):
        bytes(request.payload)


def test_a_payload_that_has_no_memory_any_longer_is_not_called_scattered(pair):
    driver, device = pair()
    view = memoryview(b"released")
    view.release()
    with pytest.raises(ValueError, match="released"):
        driver.submit(view)
    with pytest.raises(ValueError, match="memoryview is not contiguous"):
        driver.submit(memoryview(b"every other one")[::2])


@pytest.mark.parametrize("use", [lambda p: p[1:3], lambda p: np.frombuffer(p, "u1"), np.asarray])
def test_completing_while_the_payload_is_in_use_says_so_and_can_be_repeated(pair, use):
    driver, device = pair()
    driver.submit(b"in use")
    request = device.take()
    used = use(request.payload)
    with pytest.raises(BufferError, match="payload of request 1 is still in use"):
        request.complete(b"too early")
    assert bytes(used)
    assert request.payload == b"in use"
    assert driver.in_flight == 1
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    del used
    request.complete(b"now")
    assert driver.reap().payload == b"now"


def test_the_payload_itself_or_a_part_of_it_may_be_the_answer(pair):
    driver, device = pair()
    driver.submit(b"echo")
    driver.submit(b"echo")
    request = device.take()
    request.complete(request.payload)
    request = device.take()
    part = request.payload[1:3]
    request.complete(part)
    assert [driver.reap().payload, driver.reap().payload] == [b"echo", b"ch"]
    with pytest.raises(ValueError, match="released"):
        part[0]


def test_an_array_made_from_a_payload_outlives_the_channel(path):
    code = """
import gc, sys, threading, numpy, ringbell
with ringbell.listen(sys.argv[1]) as listener:
    devices = []
    thread = threading.Thread(target=lambda: devices.append(listener.accept()))
    thread.start()
    driver = ringbell.connect(sys.argv[1])
    thread.join()
device = devices.pop()
driver.submit(b"x" * 5000)
array = numpy.frombuffer(device.take().payload, "u1")
device.close()
driver.close()
del device, driver
gc.collect()
assert array.sum() == 5000 * ord("x")
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)


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


def test_reserve_writes_in_place_and_submits_at_the_end_of_the_block(pair):
    driver, device = pair()
    with driver.reserve(4096) as frame:
        frame.payload[:5] = b"hello"
        frame.length = 5
        with pytest.raises(ringbell.RingEmpty):
            device.take(timeout=0)
    request = device.take(timeout=0)
    assert (request.token, bytes(request.payload)) == (frame.token, b"hello")
    request.complete(b"seen")
    assert driver.reap().token == frame.token
    with pytest.raises(ValueError, match="released"):
        frame.payload[0] = 0


def test_a_block_left_by_an_exception_submits_nothing(pair):
    driver, device = pair()
    with pytest.raises(ZeroDivisionError), driver.reserve(100) as frame:
        frame.payload[0] = 1 // 0
    assert driver.in_flight == 0
    with pytest.raises(ValueError, match="released"):
        frame.payload[0] = 1
    with pytest.raises(RuntimeError, match="published or abandoned before"), frame:
        pass
    with pytest.raises(ringbell.RingEmpty):
        device.take(timeout=0)
    token = driver.submit(b"next")
    assert device.take().token == token


def test_a_frame_whose_block_is_never_entered_gives_its_room_back(pair):
    driver, device = pair()
    driver.reserve(100)
    gc.collect()
    driver.submit(b"next")
    assert bytes(device.take().payload) == b"next"


def test_an_array_on_a_frame_must_be_gone_at_the_end_of_the_block(pair):
    driver, device = pair()
    with (
        pytest.raises(BufferError, match="payload of this frame is still in use"),
        driver.reserve(100) as frame,
    ):
        array = np.frombuffer(frame.payload, "u1")
    del array
    assert driver.in_flight == 0
    driver.submit(b"next")
    assert bytes(device.take().payload) == b"next"


def test_a_frame_larger_than_the_ring_is_refused_with_the_bound(pair):
    driver, _ = pair(ring_size=4096)
    assert driver.max_payload == 4096 - 16
    with pytest.raises(ValueError, match="from 0 to 4080 bytes, what the ring can hold, not 4081"):
        driver.reserve(4081)
    with pytest.raises(ValueError, match="not -1"):
        driver.reserve(-1)
    with driver.reserve(4080) as frame:
        frame.payload[:] = b"z" * 4080
        with pytest.raises(ValueError, match="from 0 to 4080 bytes, not 4081"):
            frame.length = 4081


def test_one_frame_at_a_time(pair):
    driver, device = pair()
    with driver.reserve(10) as frame:
        frame.payload[:] = b"0123456789"
        with pytest.raises(RuntimeError, match="leave the with block of reserve"):
            driver.reserve(10)
        with pytest.raises(RuntimeError, match="leave the with block of reserve"):
            driver.submit(b"x")
    assert bytes(device.take().payload) == b"0123456789"
    assert driver.in_flight == 1


@pytest.mark.parametrize("payload", ["text", 5, None, [b"a"]])
def test_a_payload_that_is_no_buffer_is_a_type_error(pair, payload):
    driver, device = pair()
    match = f"not {type(payload).__name__}; encode it first"
    with pytest.raises(TypeError, match=match):
        driver.submit(payload)
    with pytest.raises(TypeError, match=match):
        driver.call(payload)
    driver.submit(b"x")
    request = device.take()
    with pytest.raises(TypeError, match=match):
        request.complete(payload)
    request.complete(b"still possible")
    assert driver.reap().payload == b"still possible"
    assert driver.in_flight == 0


def test_a_payload_that_is_not_contiguous_is_refused(pair):
    driver, _ = pair()
    with pytest.raises(ValueError, match="not contiguous; send a contiguous copy"):
        driver.submit(np.zeros((4, 4))[:, ::2])
    with pytest.raises(ValueError, match="not contiguous"):
        driver.submit(memoryview(b"abcdef")[::2])
    assert driver.in_flight == 0


def test_submit_sets_completions_aside_while_a_device_waits_for_room(start, connect):
    # One ring holds 64 requests, the other one 4 answers. So soon each side waits for room.
    start("serve", handler="long_answer")
    driver = connect(ring_size=4096)
    tokens = [driver.submit(b"%d" % i) for i in range(1000)]
    assert driver.in_flight == 1000
    answers = {c.token: c.payload for c in (driver.reap() for _ in tokens)}
    assert answers == {t: (b"%d" % i).ljust(1000) for i, t in enumerate(tokens)}
    assert driver.stats().device.producer.times_full > 0


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


def test_the_stub_names_what_the_extension_has():
    stub = (ringbell.__file__).replace("__init__.py", "_ffi.pyi")
    with open(stub) as file:
        words = set(file.read().replace("(", " ").replace(":", " ").split())
    assert {name for name in words if name.lower().startswith("rb_")} == set(dir(lib))
