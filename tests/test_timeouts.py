# SPDX-License-Identifier: MIT
"""Timeouts hold whatever the other side does. Nonsense is refused, also where no wait is needed."""

import contextlib
import decimal
import itertools
import signal
import struct
import time

import pytest
from memory import READ_INDEX, WRITE_INDEX, control_words
from processes import wait_until
from storms import handles_alarms

import ringbell

TIMEOUTS = [0, 0.05, 0.3]
FLOOD = """
try:
    while True:
        device.interrupt.send_many([b"x"] * 1024)
except ringbell.EndOfStream:
    pass
"""


def piece(length, flags, token):
    return struct.pack("<IHHQ", length, 1, flags, token)


# Each waits for what never comes.
DRIVERS = {
    "call": lambda driver, timeout: driver.call(b"a", timeout=timeout),
    "reap": lambda driver, timeout: (driver.submit(b"a"), driver.reap(timeout=timeout)),
    "map": lambda driver, timeout: next(driver.map([b"a"] * 3, timeout=timeout)),
    "map, many in flight": lambda driver, timeout: list(
        driver.map(itertools.repeat(b"a" * 200), depth=1000, timeout=timeout)
    ),
    "submit into a full ring": lambda driver, timeout: [
        driver.submit(b"a" * 500, timeout=timeout) for _ in range(1000)
    ],
    "submit in pieces": lambda driver, timeout: driver.submit(b"a" * 100_000, timeout=timeout),
    "reserve in a full ring": lambda driver, timeout: [
        driver.reserve(500, timeout=timeout).__exit__(None, None, None) for _ in range(1000)
    ],
}


@pytest.mark.parametrize("polling", ["adaptive", "never", "always"])
def test_a_driver_comes_back_while_the_device_floods_it(start, connect, polling):
    device = start("device")
    driver = connect(ring_size=1 << 14, polling=polling)
    device.begin(FLOOD)
    for wait in DRIVERS.values():
        for timeout in TIMEOUTS[:2] if polling != "adaptive" else TIMEOUTS:
            with pytest.raises((ringbell.RingEmpty, ringbell.RingFull)):
                wait(driver, timeout)
    driver.close()
    device.reply()


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_timeout_is_not_over_early(pair, timeout):
    driver, device = pair()
    for wait in (
        lambda: driver.call(b"a", timeout=timeout),
        lambda: driver.reap(timeout=timeout),
        lambda: driver.interrupt.borrow(timeout=timeout),
        lambda: device.doorbell.recv_many(timeout=timeout),
        lambda: device.interrupt.send(b"x" * 2_000_000, timeout=timeout),
    ):
        driver.submit(b"for reap to wait")
        while device.stats().dwi != device.stats().dri:
            device.doorbell.recv()
        began = time.monotonic()
        with pytest.raises((ringbell.RingEmpty, ringbell.RingFull)):
            wait()
        assert time.monotonic() - began >= timeout


# ---- pieces that never become a message ----

# The other side writes first pieces by hand, as fast as it can. Each first piece gives up the
# message before it. Once every slot has one, the other side only moves its index on.
FIRST_PIECES = """
import os, struct
from memory import GOODBYE, READ_INDEX, WRITE_INDEX, control_words
from ringbell._ffi import ffi, lib
end = globals().get("device") or globals().get("driver") or globals().get("producer")
slots = end._channel.my_slots()
length = 1024 - 16
for offset in range(0, len(slots) // 2, 1024):
    slots[offset:offset + 16] = struct.pack("<IHHQ", length, 1, 1, 1_000_000)
mine = control_words(end)
page = os.sysconf("SC_PAGESIZE")
theirs = ffi.cast("uint64_t *", lib.rb_channel_theirs(end._channel.handle) - page)
count = len(slots) // 2 // 64
print('{"value": "floods"}', flush=True)
while not theirs[GOODBYE]:
    mine[WRITE_INDEX] = theirs[READ_INDEX] + count
"""

TAKES = {
    "recv": lambda consumer, timeout: consumer.recv(timeout=timeout),
    "recv_many": lambda consumer, timeout: consumer.recv_many(timeout=timeout),
    "borrow": lambda consumer, timeout: consumer.borrow(timeout=timeout),
    "hold": lambda consumer, timeout: consumer.hold(timeout=timeout),
}


def flood(peer):
    peer.begin(FIRST_PIECES)
    assert peer.reply() == "floods"


@pytest.mark.parametrize("polling", ["adaptive", "never"])
def test_a_consumer_comes_back_while_first_pieces_flood_it(start, consume, polling):
    peer = start("producer", ring_size=1 << 16)
    consumer = consume(polling=polling)
    flood(peer)
    for take in TAKES.values():
        for timeout in TIMEOUTS[:2]:
            with pytest.raises(ringbell.RingEmpty):
                take(consumer, timeout)
    consumer.close()
    peer.reply()


def test_a_device_comes_back_while_first_pieces_flood_it(start, path):
    with ringbell.listen(path) as listener:
        peer = start("driver", wait=False, ring_size=1 << 16)
        device = listener.accept()
    peer.reply()
    with device:
        flood(peer)
        for timeout in TIMEOUTS[:2]:
            with pytest.raises(ringbell.RingEmpty):
                device.take(timeout=timeout)
    peer.reply()


def test_a_driver_comes_back_while_first_pieces_flood_it(start, connect):
    peer = start("device")
    driver = connect(ring_size=1 << 16)
    flood(peer)
    for name in ("call", "reap", "map", "submit into a full ring", "submit in pieces"):
        for timeout in TIMEOUTS[:2]:
            with pytest.raises((ringbell.RingEmpty, ringbell.RingFull)):
                DRIVERS[name](driver, timeout)
    driver.close()
    peer.reply()


@pytest.fixture
def endless_pieces(pair):
    """Keep a ring full of first pieces, also while the other side takes them."""
    driver, device = pair(ring_size=1 << 20)
    slots = driver._channel.my_slots()
    for offset in range(0, 1 << 20, 1024):
        slots[offset : offset + 16] = piece(1024 - 16, 1, 5000)
    mine, theirs = control_words(driver), control_words(device)

    def refill(*_):
        mine[WRITE_INDEX] = theirs[READ_INDEX] + (1 << 20) // 64

    refill()
    with handles_alarms(refill):
        signal.setitimer(
            signal.ITIMER_REAL, 50e-6, 50e-6
        )  # far less time than emptying the ring takes
        yield device


@pytest.mark.parametrize("timeout", TIMEOUTS[:2])
@pytest.mark.parametrize("take", [*TAKES, "take"])
def test_what_takes_comes_back_though_the_ring_is_never_empty(endless_pieces, take, timeout):
    with pytest.raises(ringbell.RingEmpty, match="no whole message arrived within the timeout"):
        if take == "take":
            endless_pieces.take(timeout=timeout)
        else:
            TAKES[take](endless_pieces.doorbell, timeout)


def test_what_has_come_of_a_message_is_kept_when_the_time_is_over(start, consume):
    peer = start("producer", ring_size=4096)
    consumer = consume()
    message = bytes(range(256)) * 30
    peer.begin(f"producer.send({message!r})")
    # The ring holds a part of the message. A call takes it, and so makes room for the rest.
    wait_until(lambda: consumer.stats().dwi >= 48)
    received = None
    while received is None:
        with contextlib.suppress(ringbell.RingEmpty):
            received = consumer.recv(timeout=0)
    assert received == message
    peer.reply()


# ---- what lies there is taken without waiting ----


@pytest.mark.parametrize("before", ["nothing", "unasked messages", "a message given up half-way"])
def test_what_has_arrived_is_taken_without_waiting(pair, before):
    driver, device = pair(ring_size=1 << 16)

    def disturb(producer):
        if before == "unasked messages":
            for i in range(100):
                producer.send(b"x" * i)
        elif before == "a message given up half-way":
            with pytest.raises(ringbell.RingFull):
                producer.send(b"x" * 200_000, timeout=0)

    for timeout in (0, False, 0.0, -0.0):
        tokens = [driver.submit(b"%d" % i) for i in range(3)]
        requests = [device.take(timeout=timeout) for _ in tokens]
        disturb(device.interrupt)
        if before == "a message given up half-way":
            # It fills the ring. There is room again after the driver has looked.
            with pytest.raises(ringbell.RingEmpty):
                driver.reap(timeout=timeout)
        for request in requests:
            request.complete(b"answer")
        assert [driver.reap(timeout=timeout).token for _ in tokens] == tokens
    if before == "unasked messages":
        return
    for take in TAKES.values():
        disturb(driver.doorbell)
        if before == "a message given up half-way":
            with pytest.raises(ringbell.RingEmpty):
                take(device.doorbell, 0)
        driver.doorbell.send(b"message")
        taken = take(device.doorbell, 0)
        assert (taken[0] if isinstance(taken, list) else bytes(taken)) == b"message"


# ---- nonsense ----

NONSENSE = [
    (float("nan"), ValueError),
    (decimal.Decimal("nan"), ValueError),
    (-1, ValueError),
    (-1e-9, ValueError),
    (-float("inf"), ValueError),
    (10**400, ValueError),
    (-(10**400), ValueError),
    ("1", TypeError),
    (b"1", TypeError),
    (1j, TypeError),
    (object(), TypeError),
    ([1], TypeError),
]


@pytest.mark.parametrize("ready", [True, False], ids=["need not wait", "would wait"])
@pytest.mark.parametrize(("nonsense", "error"), NONSENSE, ids=lambda value: repr(value)[:12])
def test_a_nonsense_timeout_is_refused_and_nothing_is_sent_or_taken(pair, nonsense, error, ready):
    driver, device = pair(ring_size=4096)
    token = driver.submit(b"request")
    request = device.take()
    for _ in range(3):
        (device.interrupt.send(b"to take"), driver.doorbell.send(b"to take")) if ready else None
    if not ready:
        while True:
            try:
                driver.doorbell.send(b"x" * 40, timeout=0)
                device.interrupt.send(b"x" * 40, timeout=0)
            except ringbell.RingFull:
                break
    before = driver.stats()
    for use in (
        lambda: driver.submit(b"x", timeout=nonsense),
        lambda: driver.submit(b"x", nonsense),
        lambda: driver.call(b"x", timeout=nonsense),
        lambda: driver.map([b"x"], timeout=nonsense),
        lambda: driver.reserve(1, timeout=nonsense),
        lambda: driver.reap(timeout=nonsense),
        lambda: driver.reap(nonsense),
        lambda: driver.doorbell.send(b"x", timeout=nonsense),
        lambda: driver.doorbell.send_many([b"x"], timeout=nonsense),
        lambda: driver.doorbell.reserve(1, timeout=nonsense),
        lambda: driver.interrupt.recv(timeout=nonsense),
        lambda: driver.interrupt.recv(nonsense),
        lambda: driver.interrupt.recv_many(timeout=nonsense),
        lambda: driver.interrupt.borrow(timeout=nonsense),
        lambda: device.take(timeout=nonsense),
        lambda: request.complete(b"x", timeout=nonsense),
        lambda: request.complete(b"x", nonsense),
        lambda: request.fail("x", timeout=nonsense),
    ):
        with pytest.raises(error, match="timeout is a number of seconds or None, not"):
            use()
    after = driver.stats()
    assert (after.dwi, after.dri, after.iwi, after.iri) == (
        before.dwi,
        before.dri,
        before.iwi,
        before.iri,
    )
    assert driver.in_flight == 1
    assert request.payload == b"request"
    while True:
        try:
            driver.interrupt.recv(timeout=0)
        except ringbell.RingEmpty:
            break
    request.complete(b"answer")
    assert driver.reap().token == token


@pytest.mark.parametrize(("nonsense", "error"), NONSENSE, ids=lambda value: repr(value)[:12])
def test_a_nonsense_timeout_is_refused_by_records(stream, nonsense, error):
    producer, consumer = stream("u8")
    producer.write([1, 2])
    for use in (
        lambda: producer.write([3], timeout=nonsense),
        lambda: producer.write([3], nonsense),
        lambda: producer.reserve(1, timeout=nonsense),
        lambda: consumer.read(timeout=nonsense),
        lambda: consumer.read(None, nonsense),
        lambda: consumer.borrow(timeout=nonsense),
    ):
        with pytest.raises(error, match="timeout is a number of seconds or None, not"):
            use()
    assert consumer.read().tolist() == [1, 2]


@pytest.mark.parametrize(("nonsense", "error"), NONSENSE, ids=lambda value: repr(value)[:12])
def test_a_nonsense_timeout_of_meeting_is_refused(path, nonsense, error):
    with ringbell.listen(path.with_name("other")) as listener:
        for use in (
            lambda: ringbell.connect(path, timeout=nonsense),
            lambda: ringbell.connect(path, timeout=nonsense, wait=True),
            lambda: ringbell.produce(path, timeout=nonsense),
            lambda: ringbell.consume(path, timeout=nonsense),
            lambda: listener.accept(timeout=nonsense),
            lambda: listener.accept(nonsense),
        ):
            with pytest.raises(error, match="timeout is a number of seconds or None, not"):
                use()


# ---- a peer that changes what was looked at ----


def test_a_borrowed_frame_that_the_peer_changes_is_skipped_as_it_was_lent(pair):
    driver, device = pair(ring_size=4096)
    slots = device._channel.my_slots()
    slots[0:16] = piece(8, 0, 0)
    slots[64:80] = piece(92, 2, 0)
    control_words(device)[WRITE_INDEX] = 3
    assert driver.interrupt.borrow().nbytes == 8
    slots[0:16] = piece(8, 1, 100)  # now the header says that more pieces come
    with pytest.raises(ringbell.RingEmpty):
        driver.reap()
    with pytest.raises(ringbell.CorruptRing):  # a later piece without a first one
        driver.interrupt.recv(timeout=0)
    assert control_words(driver)[READ_INDEX] == 1
