# SPDX-License-Identifier: MIT
"""The ring ends under driver and device: one-way messages, counters, indices that wrap."""

import copy
import ctypes
import hashlib
import pickle
import random
import signal

import pytest
from indices import indices_from
from processes import wait_until

import ringbell

SMALL_RING = 4096


@pytest.mark.parametrize("boundary", [2**16, 2**32, 2**63, 2**64])
def test_messages_arrive_whole_and_in_order_when_indices_wrap(start, connect, boundary):
    first_index = boundary - 3
    device = start("device")
    with indices_from(first_index):
        driver = connect(ring_size=SMALL_RING)
    device.begin("""
import hashlib
digest, count = hashlib.sha256(), 0
while message := device.doorbell.recv():
    digest.update(message)
    count += 1
    if count % 10 == 0:
        device.interrupt.send(message)
""")

    rng = random.Random(first_index)
    digest = hashlib.sha256()
    for i in range(1, 2001):
        message = rng.randbytes(rng.choice((1, 48, 49, 64, 1000, 4080, 5000)))
        digest.update(message)
        driver.doorbell.send(message)
        if i % 10 == 0:
            assert driver.interrupt.recv() == message
    driver.doorbell.send(b"")
    device.reply()
    assert device.run("digest.hexdigest()") == repr(digest.hexdigest())
    stats = driver.stats()
    assert stats.dwi == stats.dri
    assert stats.iwi == stats.iri
    assert (stats.dwi - first_index) % 2**64 > 3, "the test has to cross the boundary"


def test_stats_count_what_each_end_did(pair):
    driver, device = pair()
    driver.doorbell.send(b"x" * 100)
    driver.doorbell.send(b"y" * 28)
    assert device.doorbell.recv() == b"x" * 100
    stats = driver.stats()
    assert stats == device.stats()
    assert (stats.dwi, stats.dri, stats.iwi, stats.iri) == (3, 2, 0, 0)
    assert (stats.driver.producer.entries, stats.driver.producer.bytes) == (2, 128)
    assert (stats.device.consumer.entries, stats.device.consumer.bytes) == (1, 100)
    assert stats.driver.producer.kicks_sent == 0
    assert stats.driver.producer.kicks_saved == 2
    with pytest.raises(ringbell.RingEmpty):
        driver.interrupt.recv(timeout=0)
    assert driver.stats().driver.consumer.times_empty > 0
    with pytest.raises(ringbell.RingFull):
        for _ in range(10):
            driver.doorbell.send(b"z" * 200_000, timeout=0)
    assert driver.stats().driver.producer.times_full > 0


@pytest.mark.parametrize("polling", ["never", "adaptive"])
def test_a_sleeping_device_is_kicked_once_for_a_burst(start, connect, polling):
    device = start("device", polling=polling)
    driver = connect()
    device.begin("[device.take().complete() for _ in range(100)] and None")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    device.signal(signal.SIGSTOP)  # or it could fall asleep again in between
    for _ in range(100):
        driver.submit(b"x")
    stats = driver.stats().driver.producer
    assert (stats.kicks_sent, stats.kicks_saved) == (1, 99)
    device.signal(signal.SIGCONT)
    device.reply()
    assert all(driver.reap().ok for _ in range(100))


def test_a_device_that_is_awake_is_not_kicked(pair):
    driver, device = pair()
    for _ in range(100):
        driver.submit(b"x")
        device.take().complete()
        driver.reap()
    stats = driver.stats()
    assert stats.driver.producer.kicks_sent == stats.device.producer.kicks_sent == 0


def test_kick_always_writes_to_the_eventfd_for_every_entry(pair):
    driver, device = pair(kick="always")
    for _ in range(100):
        driver.submit(b"x")
    stats = driver.stats().driver.producer
    assert (stats.kicks_sent, stats.kicks_saved) == (100, 0)
    with pytest.raises(ringbell.RingEmpty):
        [device.take(timeout=0.01) for _ in range(101)]
    # A hundred kicks that come before the sleeper looks are one wake-up.
    assert driver.stats().device.consumer.spurious_wakeups == 1


def test_a_sleeping_producer_is_woken_when_there_is_room(start, connect):
    device = start("device", polling="never")
    driver = connect(ring_size=SMALL_RING)
    device.begin("[device.interrupt.send(b'x' * 100) for _ in range(100)] and None")
    wait_until(lambda: driver.stats().device.producer.sleeps >= 1)
    assert [driver.interrupt.recv() for _ in range(100)] == [b"x" * 100] * 100
    device.reply()
    assert driver.stats().driver.consumer.kicks_sent >= 1


def test_a_producer_sleeps_no_longer_than_until_its_own_message_fits(start, connect):
    # There is room for one message, and there will be no more. So the producer must not wait for a
    # good part of the ring.
    device = start("device", polling="never")
    driver = connect(ring_size=SMALL_RING)
    device.begin("[device.interrupt.send(b'x' * 100) for _ in range(33)] and None")
    wait_until(lambda: driver.stats().device.producer.sleeps >= 1)
    driver.interrupt.recv()
    device.reply()


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_every_polling_policy_carries_calls(start, connect, polling):
    start("serve", handler="upper", polling=polling)
    driver = connect(polling=polling)
    assert all(driver.call(b"x%d" % i) == b"X%d" % i for i in range(2000))
    consumer = driver.stats().driver.consumer
    if polling == "never":
        assert consumer.polling.found == 0
    if polling == "always":
        assert consumer.sleeps == 0


def test_a_message_for_a_peer_that_closed_is_an_error(pair):
    driver, device = pair()
    device.close()
    with pytest.raises(ringbell.EndOfStream):
        driver.doorbell.send(b"to nobody")
    with pytest.raises(ringbell.EndOfStream):
        driver.submit(b"to nobody")
    assert driver.in_flight == 0
    with pytest.raises(ringbell.EndOfStream):
        driver.reserve(10)


def masked(np):
    return np.ma.masked_array([1, 2], [0, 1])


class Pair(ctypes.Structure):
    _fields_ = (("length", ctypes.c_int), ("start", ctypes.c_wchar_p))


class Derived(Pair):
    _fields_ = (("number", ctypes.c_int),)


class Either(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("start", ctypes.c_void_p))


class Packed(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("kind", ctypes.c_char), ("which", Either * 2))


class Numbers(ctypes.Union):
    _fields_ = (("whole", ctypes.c_int * 2), ("real", ctypes.c_double))


class PackedNumbers(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("kind", ctypes.c_char), ("numbers", Numbers))


NO_PAYLOADS = {
    "objects": lambda np: np.array(["a", None], dtype=object),
    "a field of objects": lambda np: np.zeros(2, [("a", "O"), ("b", "i4")]),
    "a view of objects": lambda np: memoryview(np.array([1, "x"], dtype=object)),
    "strings of any length": lambda np: np.array(["a", "b"], np.dtypes.StringDType()),
    "a masked array": masked,
    "objects of ctypes": lambda _: (ctypes.py_object * 2)(1, 2),
    "pointers": lambda _: (ctypes.c_void_p * 2)(1, 2),
    "pointers in a structure": lambda _: Pair(1, "a"),
    "pointers in the base of a structure": lambda _: Derived(1, "a"),
    "pointers in a union": lambda _: Either(1),
    "pointers in a packed structure": lambda _: (Packed * 2)(),
    "a pickle's view of a union with pointers": lambda _: pickle.PickleBuffer(Either(1)).raw(),
    "a view of pointers": lambda _: memoryview((ctypes.c_char_p * 2)(b"a", b"b")),
    "bytes seen as pointers": lambda _: memoryview(bytes(16)).cast("P"),
    "an array seen as pointers": lambda np: memoryview(np.zeros(16, "u1")).cast("P"),
    "a pickle's view of a masked array": lambda np: pickle.PickleBuffer(masked(np)),
}


@pytest.mark.parametrize("kind", NO_PAYLOADS)
def test_what_would_not_arrive_as_it_is_is_refused_and_nothing_is_sent(pair, kind):
    import numpy as np

    if kind == "strings of any length" and not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this NumPy has none")
    driver, device = pair()
    payload = NO_PAYLOADS[kind](np)
    request = driver.submit(b"x") and device.take()
    for send in (
        driver.doorbell.send,
        lambda payload: driver.doorbell.send_many([b"first", payload]),
        driver.submit,
        driver.call,
        request.complete,
    ):
        with pytest.raises(TypeError, match="filled|references to objects|pointers"):
            send(payload)
    assert driver.stats().driver.producer.entries == 1
    names = np.zeros(2, [("Open", "i4"), ("P", "c8"), ("Z", "f8")])
    driver.doorbell.send(memoryview(names))  # P and Z are names here, not formats of pointers
    device.doorbell.recv()
    request.complete(
        np.array(["2026-11-25"], "M8[D]")
    )  # NumPy gives dates no buffer; their bytes go
    assert len(driver.reap().payload) == 8


@pytest.mark.parametrize("payload", [Numbers(real=1.5), PackedNumbers(b"k"), (ctypes.c_int * 3)(1)])
def test_values_of_ctypes_without_pointers_go_out(pair, payload):
    driver, device = pair()
    driver.doorbell.send(payload)
    assert device.doorbell.recv() == bytes(payload)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, pickle.dumps, lambda one: pickle.dumps(one, 0)]
)
def test_what_belongs_to_a_channel_is_not_copied(pair, copied):
    driver, device = pair()
    driver.submit(b"x")
    frame = driver.reserve(1)
    for one in (
        *(driver, device, driver.doorbell, driver.interrupt, device.take(), frame),
        *(driver.map([]), iter(device.doorbell), device.interrupt.coalesce()),
    ):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(one)


@pytest.mark.parametrize("ok", [True, False])
def test_a_completion_is_data_and_can_be_copied_and_pickled(pair, ok):
    driver, device = pair()
    token = driver.submit(b"x")
    request = device.take()
    request.complete(b"y") if ok else request.fail("y")
    completion = driver.reap()
    for made in (copy.copy(completion), pickle.loads(pickle.dumps(completion))):
        assert (made.token, made.payload, made.ok) == (token, b"y", ok)
