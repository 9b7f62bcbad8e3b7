# SPDX-License-Identifier: MIT
"""Memory that a ring lends: read-only, unchanged while it is lent, and out of reach afterwards."""

import gc
import itertools
import subprocess
import sys
import threading

import numpy as np
import pytest
from memory import READ_INDEX, control_words

import ringbell

# The ways to keep a part of lent memory.
KEEPS = {
    "a slice": lambda view: view[1:3],
    "an array": lambda view: np.frombuffer(view, "u1"),
    "another view": memoryview,
    "a cast": lambda view: view.cast("b"),
    "an array of a slice": lambda view: np.asarray(view[1:]),
    "what it is a view of": lambda view: memoryview(view.obj),
    "a view of a slice of an array": lambda view: memoryview(np.frombuffer(view, "u1")[1:]),
}
kept = pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)


def borrowed(pair):
    driver, device = pair(ring_size=4096)
    for i in range(5):
        driver.doorbell.send(b"message %d" % i)
    return driver, device.doorbell


@pytest.mark.parametrize("size", [9, 3000])  # in one piece, and in several
def test_what_is_lent_is_read_only(pair, size):
    driver, device = pair(ring_size=4096)
    sender = threading.Thread(target=driver.submit, args=(b"x" * size,))
    sender.start()
    request = device.take()
    sender.join()
    views = [request.payload]
    sender = threading.Thread(target=driver.doorbell.send, args=(b"x" * size,))
    sender.start()
    views.append(device.doorbell.borrow())
    sender.join()
    for view in views:
        assert view.readonly
        assert view.nbytes == size
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
        array = np.frombuffer(view, "u1")
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        del array
    request.complete()


def test_lent_records_are_read_only_whatever_one_tries(stream):
    producer, consumer = stream("u8")
    producer.write([1, 2, 3])
    rows = consumer.borrow()
    for array in (rows, rows[1:], rows.view("u1"), np.asarray(rows), rows.base, rows.base.base):
        if isinstance(array, np.ndarray):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 5
    assert memoryview(rows).readonly


STEPS = {
    "recv": lambda consumer: consumer.recv(),
    "recv_many": lambda consumer: consumer.recv_many(1)[0],
    "borrow": lambda consumer: bytes(consumer.borrow()),
    "hold": lambda consumer: consumer.hold(),
    "iteration": lambda consumer: bytes(next(iter(consumer))),
}


@kept
@pytest.mark.parametrize("goes_on", STEPS.values(), ids=STEPS)
def test_what_is_kept_of_a_borrowed_message_stops_the_next_step_and_nothing_is_lost(
    pair, keep, goes_on
):
    driver, doorbell = borrowed(pair)
    view = doorbell.borrow()
    part = keep(view)
    seen = bytes(part)
    for step in STEPS.values():
        with pytest.raises(BufferError, match="borrowed is still in use"):
            step(doorbell)
        assert bytes(part) == seen
    del part
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert goes_on(doorbell) == b"message 1"
    assert doorbell.recv_many() == [b"message %d" % number for number in (2, 3, 4)]
    assert driver.stats().dri == 5


@kept
def test_what_is_kept_of_an_iteration_stops_it_and_it_goes_on_afterwards(stream, keep):
    producer, consumer = stream()
    producer.send_many([b"message %d" % i for i in range(5)])
    loop = iter(consumer)
    got = []
    for _ in range(5):
        part = keep(next(loop))
        with pytest.raises(BufferError, match="still in use"):
            next(loop)
        got.append(bytes(part)[-1:])
        del part
    assert len(got) == 5
    producer.close()
    assert list(loop) == []


@kept
@pytest.mark.parametrize("end", ["complete", "fail"])
def test_what_is_kept_of_a_request_stops_its_completion_and_it_goes_on_afterwards(pair, keep, end):
    driver, device = pair(ring_size=4096)
    driver.submit(b"request")
    request = device.take()
    part = keep(request.payload)
    for _ in range(3):
        with pytest.raises(BufferError, match="request 1 is still in use"):
            getattr(request, end)("text" if end == "fail" else b"answer")
        assert request.payload == b"request"
    assert driver.stats().iwi == 0
    del part
    getattr(request, end)("text" if end == "fail" else b"answer")
    assert driver.reap().ok == (end == "complete")
    with pytest.raises(ValueError, match="released"):
        bytes(request.payload)


@kept
def test_what_is_kept_of_a_frame_abandons_it(pair, keep):
    driver, device = pair(ring_size=4096)
    for end in (driver, driver.doorbell):
        with (
            pytest.raises(BufferError, match="this frame is still in use"),
            end.reserve(8) as frame,
        ):
            part = keep(frame.payload)
        with pytest.raises(ValueError, match="released"):
            frame.payload[0]
        del part
        with end.reserve(8) as frame:
            frame.payload[:] = b"in place"
    assert device.doorbell.recv_many() == [b"in place"] * 2
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv(timeout=0)
    assert driver.in_flight == 1


def test_a_frame_and_its_slices_are_written_where_they_will_be_read(pair):
    driver, device = pair(ring_size=4096)
    with driver.doorbell.reserve(8) as frame:
        assert not frame.payload.readonly
        np.frombuffer(frame.payload, "u1")[:] = 65
        frame.payload[2:4] = b"bb"
    assert device.doorbell.recv() == b"AAbbAAAA"


def test_a_request_is_answered_with_any_piece_of_its_own_payload(pair):
    driver, device = pair(ring_size=4096)
    pieces = [
        lambda view: view,
        lambda view: view[2:],
        lambda view: view[:0],
        lambda view: view[::2],
        lambda view: view[::-1],
        lambda view: view.cast("B", (2, 4)),
        lambda view: view.cast("H")[1:],
        memoryview,
    ]
    for piece in pieces:
        driver.submit(b"01234567")
        request = device.take()
        part = piece(request.payload)
        wanted = part.tobytes()
        request.complete(part)
        assert driver.reap().payload == wanted
        with pytest.raises(ValueError, match="released"):
            part.tobytes()
    assert driver.stats().dri == len(pieces)


def test_a_request_can_be_answered_with_the_payload_of_another(pair):
    driver, device = pair(ring_size=4096)
    driver.submit(b"one")
    driver.submit(b"other")
    one, other = device.take(), device.take()
    one.complete(other.payload)
    other.complete(b"done")
    assert [driver.reap().payload, driver.reap().payload] == [b"other", b"done"]


OUTLIVES = """
import gc, sys, threading, numpy as np, ringbell
path, what, keep = sys.argv[1:]
def both(listen, connect):
    got = []
    thread = threading.Thread(target=lambda: got.append(listen()))
    thread.start()
    mine = connect()
    thread.join()
    return mine, got.pop()
def accept():
    with ringbell.listen(path) as listener:
        return listener.accept()
def connect():
    while True:
        try:
            return ringbell.connect(path, ring_size=1 << 16)
        except ConnectionRefusedError:
            pass
if what in ("rows", "block"):
    other, mine = both(lambda: ringbell.consume(path), lambda: ringbell.produce(path, "u1"))
    other.write(np.full(3000, 65, "u1"))
    if what == "rows":
        view = mine.borrow()
    else:
        other.write(np.full(3000, 65, "u1"))
        block = other.reserve(2000)
        view = block.rows
        view[:] = 65
        del block
else:
    other, mine = both(accept, connect)
    if what == "request":
        other.submit(b"A" * 3000)
        view = mine.take().payload
    elif what == "frame":
        block = other.reserve(3000)
        view = block.payload
        view[:] = b"A" * 3000
        if keep != "nothing":
            view = eval(keep)(view)
        del block
    else:
        other.doorbell.send(b"A" * 3000)
        view = mine.doorbell.borrow() if what == "borrowed" else next(iter(mine.doorbell))
if keep != "nothing" and what != "frame":
    view = eval(keep)(view)
mine.close()
try:
    other.close()
except ringbell.EndOfStream:  # of what was written beside the block nobody took anything
    assert what == "block"
del mine, other
gc.collect()
if what == "frame" and keep == "nothing":
    try:
        view[0]
    except ValueError:
        sys.exit()
    sys.exit(3)
assert bytes(view) == b"A" * len(view)
assert len(view) >= 1000
assert any("/memfd:ringbell" in line for line in open("/proc/self/maps"))
del view
gc.collect()
assert not any("/memfd:ringbell" in line for line in open("/proc/self/maps"))
"""


@pytest.mark.parametrize(
    "keep", ["nothing", "lambda view: view[1000:]", "lambda view: np.frombuffer(view, 'u1')"]
)
@pytest.mark.parametrize("what", ["request", "borrowed", "iterated", "frame", "rows", "block"])
def test_what_was_lent_outlives_the_channel_and_then_the_memory_goes(path, what, keep):
    done = subprocess.run(
        [sys.executable, "-c", OUTLIVES, str(path), what, keep],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lent_view_works_after_close_and_ends_with_the_next_step(pair):
    driver, doorbell = borrowed(pair)
    view = doorbell.borrow()
    driver.close()
    assert bytes(view) == b"message 0"
    assert bytes(doorbell.borrow()) == b"message 1"
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_the_same_memory_is_never_lent_to_two(pair):
    driver, device = pair(ring_size=4096)
    lives = []
    rng = np.random.default_rng(1)
    borrowed = None
    number = 0
    for _ in range(5000):
        while True:
            try:
                driver.submit(number.to_bytes(4, "little") * int(rng.integers(1, 40)), timeout=0)
                number += 1
            except ringbell.RingFull:
                break
        what = rng.integers(4)
        if what < 2:
            try:
                request = device.take(timeout=0)
                lives.append((request, bytes(request.payload)))
            except (ringbell.RingEmpty, RuntimeError):
                pass
            borrowed = None
        elif what == 2:
            try:
                borrowed = device.doorbell.borrow(timeout=0)
                copy = bytes(borrowed)
            except ringbell.RingEmpty:
                borrowed = None
        elif lives:
            request, payload = lives.pop(int(rng.integers(len(lives))))
            assert request.payload == payload
            request.complete(b"")
            driver.reap()
        spans = sorted(
            (np.frombuffer(view, "u1").ctypes.data, view.nbytes)
            for view in [one.payload for one, _ in lives] + ([borrowed] if borrowed else [])
        )
        for (start, size), (other, _) in itertools.pairwise(spans):
            assert start + size <= other
        if borrowed:
            assert borrowed == copy
    assert number > 1000


def test_what_two_loops_over_one_end_lend_is_lent_to_one_of_them_only(stream):
    producer, consumer = stream()
    producer.send_many([b"%d" % i for i in range(4)])
    one, other = iter(consumer), iter(consumer)
    first = next(one)
    second = next(other)
    with pytest.raises(ValueError, match="released"):
        first[0]
    assert bytes(second) == b"1"


def test_a_view_that_its_user_released_is_taken_back_all_the_same(pair):
    driver, doorbell = borrowed(pair)
    with doorbell.borrow() as view:
        assert bytes(view) == b"message 0"
    assert doorbell.recv() == b"message 1"
    assert control_words(doorbell)[READ_INDEX] == 2


def test_nothing_new_is_seen_of_memory_that_was_taken_back(pair):
    driver, doorbell = borrowed(pair)
    loan = doorbell.borrow().obj
    assert doorbell.recv() == b"message 1"
    with pytest.raises(ValueError, match="given back to the ring"):
        memoryview(loan)
    assert bytes(doorbell.borrow()) == b"message 2"
    with pytest.raises(ValueError, match="given back to the ring"):
        memoryview(loan)
    gc.collect()
