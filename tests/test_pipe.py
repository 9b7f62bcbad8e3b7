# SPDX-License-Identifier: MIT
"""Pipe: the interface of multiprocessing's connections, in one process. Both ends are here."""

import array
import errno
import gc
import inspect
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from multiprocessing import resource_sharer
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

import ringbell

RING = 4096


@pytest.fixture
def both(pipe):
    """Make a pipe of each library."""
    with ExitStack() as guard:

        def make(duplex=True):
            theirs = multiprocessing.Pipe(duplex)
            return pipe(duplex), tuple(guard.enter_context(one) for one in theirs)

        yield make


def test_it_has_the_methods_of_multiprocessing_with_their_parameters():
    for name in dir(Connection):
        if name.startswith("_"):
            continue
        theirs, ours = getattr(Connection, name), getattr(ringbell.Connection, name)
        if callable(theirs):
            assert [p.replace(annotation=inspect.Parameter.empty) for p in parameters(ours)] == [
                p.replace(annotation=inspect.Parameter.empty) for p in parameters(theirs)
            ]
        assert ours.__doc__


def test_it_is_a_connection_of_multiprocessing(pipe):
    """For programs that ask. Nothing of the other's own work is left in it."""
    assert isinstance(pipe()[0], Connection)
    own = set(vars(ringbell.Connection))
    replaced = {n for n in dir(Connection) if callable(getattr(Connection, n)) and n[0] != "_"}
    assert replaced | {"closed", "readable", "writable", "__init__", "__del__"} <= own


def parameters(function):
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("size", [0, 1, 64, RING // 2, RING, 5 * RING + 1, 3_000_000])
def test_messages_of_any_size_go_both_ways(pipe, size):
    one, other = pipe(ring_size=RING)
    message = bytes(i % 251 for i in range(size))
    for here, there in ((one, other), (other, one)):
        thread = threading.Thread(target=here.send_bytes, args=(message,))
        thread.start()
        assert there.recv_bytes() == message
        thread.join()


def test_objects_go_as_pickles_in_order(pipe):
    one, other = pipe()
    objects = [None, 1, 2.5, "text", b"bytes", {"a": [1, (2, 3)]}, {4}, int, np.arange(3)]
    for obj in objects:
        one.send(obj)
    got = [other.recv() for _ in objects]
    assert got[:-1] == objects[:-1]
    assert got[-1].tolist() == [0, 1, 2]


def test_what_multiprocessing_can_pickle_can_be_sent(pipe):
    class Odd:
        pass

    class Later:
        pass

    one, other = pipe()
    one.send("x".upper)  # a bound method needs ForkingPickler
    assert other.recv()() == "X"
    try:
        ForkingPickler.register(Odd, lambda odd: (str, ("odd",)))
        one.send([Odd()])
        assert other.recv() == ["odd"]
        ForkingPickler.register(Later, lambda later: (str, ("later",)))
        one.send([Later(), Odd()])
        assert other.recv() == ["later", "odd"]
    finally:
        for kind in (Odd, Later):
            ForkingPickler._extra_reducers.pop(kind, None)


def test_what_cannot_be_pickled_is_not_sent(pipe):
    one, other = pipe()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        one.send(lambda: None)
    with pytest.raises(TypeError):
        one.send(threading.Lock())
    one.send("next")
    assert other.recv() == "next"
    assert not other.poll()


def explode(text):
    raise ZeroDivisionError(text)


class Explosive:
    def __reduce__(self):
        return explode, ("while unpickling",)


def test_an_object_that_raises_when_it_is_unpickled_is_taken(pipe):
    one, other = pipe()
    one.send(Explosive())
    one.send_bytes(b"no pickle")
    one.send("next")
    with pytest.raises(ZeroDivisionError, match="while unpickling"):
        other.recv()
    with pytest.raises(pickle.UnpicklingError):
        other.recv()
    assert other.recv() == "next"


# ---- misuse, as the standard one says it ----

MISUSE = {
    "offset below 0": lambda a, b: a.send_bytes(b"abc", -1),
    "offset too large": lambda a, b: a.send_bytes(b"abc", 4),
    "size below 0": lambda a, b: a.send_bytes(b"abc", 1, -1),
    "size too large": lambda a, b: a.send_bytes(b"abc", 1, 3),
    "maxlength below 0": lambda a, b: b.recv_bytes(-1),
    "into: offset below 0": lambda a, b: b.recv_bytes_into(bytearray(3), -1),
    "into: offset too large": lambda a, b: b.recv_bytes_into(bytearray(3), 4),
    "closed, send": lambda a, b: (a.close(), a.send(1)),
    "closed, send_bytes": lambda a, b: (a.close(), a.send_bytes(b"")),
    "closed, recv": lambda a, b: (a.close(), a.recv()),
    "closed, recv_bytes": lambda a, b: (a.close(), a.recv_bytes()),
    "closed, recv_bytes_into": lambda a, b: (a.close(), a.recv_bytes_into(bytearray(1))),
    "closed, poll": lambda a, b: (a.close(), a.poll()),
    "closed, fileno": lambda a, b: (a.close(), a.fileno()),
    "used and closed, recv": lambda a, b: (a.send(1), a.close(), a.recv()),
    "used and closed, fileno": lambda a, b: (a.send(1), a.close(), a.fileno()),
    "the other end is closed, send": lambda a, b: (b.close(), a.send(1)),
    "the other end is closed, recv": lambda a, b: (b.close(), a.recv()),
    "the other end was used and is closed": lambda a, b: (b.send(1), b.close(), a.recv(), a.recv()),
    "too long": lambda a, b: (a.send_bytes(b"12345"), b.recv_bytes(4)),
    "after one that was too long": lambda a, b: (too_long(a, b), b.recv_bytes()),
    "too long for the buffer": lambda a, b: (a.send_bytes(b"123"), b.recv_bytes_into(bytearray(2))),
}
ONE_WAY = {
    "the reader sends": lambda r, w: r.send(1),
    "the reader sends bytes": lambda r, w: r.send_bytes(b""),
    "the writer receives": lambda r, w: w.recv(),
    "the writer receives bytes": lambda r, w: w.recv_bytes(),
    "the writer receives into": lambda r, w: w.recv_bytes_into(bytearray(1)),
    "the writer polls": lambda r, w: w.poll(),
    "after one that was too long": lambda r, w: (too_long(w, r), r.recv_bytes()),
}


def too_long(writer, reader):
    writer.send_bytes(b"12345")
    with pytest.raises(OSError):
        reader.recv_bytes(4)


def raised_by(step, ends):
    with pytest.raises(Exception) as raised:
        step(*ends)
    return type(raised.value), raised.value.args


@pytest.mark.parametrize(
    ("duplex", "step"),
    [*((True, step) for step in MISUSE.values()), *((False, step) for step in ONE_WAY.values())],
    ids=[*MISUSE, *ONE_WAY],
)
def test_misuse_raises_what_the_standard_one_raises(both, duplex, step):
    ours, theirs = both(duplex)
    expected = raised_by(step, theirs)
    assert raised_by(step, ours) == expected
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.closed == other.closed
        assert (mine.readable, mine.writable) == (other.readable, other.writable)


def test_a_message_that_is_too_long_ends_receiving_and_not_sending(pipe):
    one, other = pipe(ring_size=RING)

    def send():
        with pytest.raises(BrokenPipeError):  # it never arrives as a whole
            other.send_bytes(b"x" * 3 * RING)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(OSError, match="bad message length"):
        one.recv_bytes(2 * RING)
    one.send_bytes(b"still there")
    assert other.recv_bytes(100) == b"still there"
    one.close()
    thread.join()


def test_maxlength_counts_for_one_call(pipe):
    one, other = pipe()
    for length in (3, 5, 7):
        one.send_bytes(b"x" * length)
    one.send([1] * 100)
    assert other.recv_bytes(3) == b"xxx"
    assert other.recv_bytes() == b"xxxxx"
    assert other.recv_bytes(7) == b"xxxxxxx"
    assert other.recv() == [1] * 100


def test_any_buffer_is_sent_and_received_into(pipe):
    one, other = pipe()
    numbers = array.array("i", range(4))
    for buffer in (numbers, memoryview(numbers), np.arange(4, dtype="i4"), numbers.tobytes()):
        one.send_bytes(buffer)
        one.send_bytes(buffer, 4, 8)
        into = array.array("i", [9] * 6)
        assert other.recv_bytes_into(into, 8) == 16
        assert list(into) == [9, 9, 0, 1, 2, 3]
        assert array.array("i", other.recv_bytes()).tolist() == [1, 2]
    one.send_bytes(b"abc")
    with pytest.raises(TypeError, match="not writable"):
        other.recv_bytes_into(b"abc")
    with pytest.raises(TypeError, match="not str"):
        one.send_bytes("text")
    assert other.recv_bytes() == b"abc"
    grid = np.zeros((2, 3), "u1")
    one.send_bytes(b"123456")
    assert other.recv_bytes_into(grid) == 6
    assert bytes(grid) == b"123456"


def test_a_copy_in_the_same_process_is_refused(pipe):
    one, other = pipe()
    try:
        copy = pickle.loads(pickle.dumps(other))
    finally:
        resource_sharer.stop(timeout=30)
    with copy:
        one.send(1)
        assert copy.recv() == 1
        with pytest.raises(OSError, match="as another object") as raised:
            other.recv()
        assert raised.value.errno == errno.EBUSY


# ---- descriptors and memory ----


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_pipe_takes_five_descriptors_and_gives_them_back():
    before = descriptors()
    one, other = ringbell.Pipe()
    assert descriptors() == before + 5
    one.send(1)
    other.recv()
    assert descriptors() == before + 4  # the memory is mapped
    one.close()
    del other
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("used", [False, True])
def test_an_end_that_is_dropped_is_closed(used):
    one, other = ringbell.Pipe()
    if used:
        one.send("last")
    del one
    if used:
        assert other.recv() == "last"
    with pytest.raises(EOFError):
        other.recv()
    other.close()
    other.close()
    assert other.closed


@pytest.mark.parametrize("room", range(5))
def test_too_few_descriptors_are_told_and_none_is_lost(room):
    before, (soft, hard) = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filling = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 6, hard))
    try:
        with suppress(OSError):
            while True:
                filling.append(os.dup(0))
        for _ in range(room):
            os.close(filling.pop())
        with pytest.raises(OSError, match="no file descriptor left") as raised:
            ringbell.Pipe()
        assert raised.value.errno == errno.EMFILE
        del raised  # its traceback has what was made
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)
    assert descriptors() == before


@pytest.mark.parametrize("wrong", [0, 1000, 2**40, "1"])
def test_a_bad_ring_size_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="ring_size"):
        ringbell.Pipe(ring_size=wrong)


def test_importing_ringbell_does_not_load_multiprocessing():
    code = "import sys, ringbell; sys.exit('multiprocessing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("used", ["", "a.send(1); "])
def test_a_process_that_ends_with_open_pipes_says_nothing(used):
    code = f"import ringbell; a, b = ringbell.Pipe(); {used}keep = [a, b]; keep.append(keep)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_shows_what_it_is(pipe):
    reader, writer = pipe(duplex=False)
    assert repr(reader) == "<ringbell.Connection, read-only, not used yet>"
    writer.send(1)
    assert repr(writer) == "<ringbell.Connection, write-only, in use>"
    writer.close()
    assert repr(writer) == "<ringbell.Connection, write-only, closed>"
