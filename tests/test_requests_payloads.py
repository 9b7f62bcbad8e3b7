# SPDX-License-Identifier: MIT
"""Payloads of requests: lent without a copy, written in place, and those that are refused."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import ringbell


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
