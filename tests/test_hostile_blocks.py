# SPDX-License-Identifier: MIT
"""Pools and blocks as a bad peer would have them: each is refused, or hurts that peer only."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from memory import WRITE_INDEX, control_words

import ringbell
from ringbell._ffi import ffi, lib

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
LEAST = 1 << 16
SIZE = 24 * LEAST  # no ring has that
BLOCKS = ringbell.Blocks(pool=SIZE, least=LEAST)
MORE, CONTINUED, BLOCK = 1, 2, 4
RETURNED = 1152
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def frame(offset=0, length=LEAST, block=0, lending=1, flags=BLOCK, kind=1, size=24):
    return struct.pack("<IHHQQQII", size, kind, flags, 0, offset, length, block, lending)


def publish(producer, content):
    """Write one slot into the ring of a producer that has sent nothing, behind its back."""
    producer._channel.my_slots()[: len(content)] = content
    control_words(producer)[WRITE_INDEX] = 1


def say(producer, text, *descriptors):
    control = producer._channel._owned.control.fileno()
    passed = ffi.new("int[]", list(descriptors))
    assert not lib.rb_socket_send(control, text, len(text), passed, len(descriptors))


def memory(size=SIZE, seals=SEALS):
    descriptor = os.memfd_create("ringbell-test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    if seals:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


@pytest.mark.parametrize(
    "bad",
    [
        frame(offset=SIZE),
        frame(offset=SIZE - LEAST + 1),
        frame(offset=2**64 - LEAST),
        frame(offset=1, length=2**64 - 1),
        frame(length=SIZE + 1),
        frame(offset=SIZE + 1, length=0),
        frame(block=2048),
        frame(block=2**32 - 1),
        frame(lending=0),
        frame(lending=256),
        frame(size=23),
        frame(size=40),
        frame(flags=BLOCK | MORE),
        frame(flags=BLOCK | CONTINUED),
        frame(flags=8),
        frame(kind=3),
    ],
)
@pytest.mark.parametrize("take", ["recv", "recv_many", "hold", "borrow"])
def test_a_nonsense_place_is_a_corrupt_ring(stream, bad, take):
    producer, consumer = stream()
    descriptor = memory()
    say(producer, b"p", descriptor)
    os.close(descriptor)
    publish(producer, bad)
    for _ in range(2):
        with pytest.raises(ringbell.CorruptRing, match="broke the format"):
            getattr(consumer, take)()


def test_a_place_at_the_very_end_of_the_pool_is_right(stream):
    producer, consumer = stream()
    descriptor = memory()
    say(producer, b"p", descriptor)
    os.pwrite(descriptor, b"end", SIZE - 3)
    os.close(descriptor)
    publish(producer, frame(offset=SIZE - 3, length=3, block=2047, lending=255))
    assert bytes(consumer.hold()) == b"end"


def file_of(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(SIZE))
    return os.open(file, os.O_RDWR | os.O_CLOEXEC)


@pytest.mark.parametrize(
    "passed",
    [
        lambda _: [],
        lambda _: [memory(), memory()],
        lambda _: [memory(seals=0)],
        lambda _: [memory(seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)],
        lambda _: [memory(seals=fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)],
        lambda _: [memory(size=0)],
        lambda _: [memory(size=SIZE + 1)],
        lambda folder: [file_of(folder)],
        lambda _: [os.eventfd(0)],
    ],
    ids=[
        "none",
        "two",
        "unsealed",
        "unsealed seals",
        "may shrink",
        "0",
        "no pages",
        "file",
        "eventfd",
    ],
)
def test_what_is_no_sealed_pool_is_refused(stream, tmp_path, passed):
    producer, consumer = stream()
    descriptors = passed(tmp_path)
    say(producer, b"p", *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    publish(producer, frame())
    with pytest.raises(ringbell.CorruptRing):
        consumer.hold()


@pytest.mark.parametrize("text", [b"x", b"pp", b"", b"tp"])
def test_another_text_than_those_that_pass_something_is_refused(stream, text):
    producer, consumer = stream()
    descriptor = memory()
    if text:
        say(producer, text, descriptor)
    os.close(descriptor)
    publish(producer, frame())
    with pytest.raises(ringbell.CorruptRing):
        consumer.hold()


def test_a_second_pool_is_refused(stream):
    producer, consumer = stream(blocks=BLOCKS)
    producer.send(bytes(LEAST))
    assert consumer.recv() == bytes(LEAST)
    descriptor = memory()
    say(producer, b"p", descriptor)
    os.close(descriptor)
    with pytest.raises(ringbell.CorruptRing):
        consumer.recv(timeout=10)


def pool_of(pid):
    """Open the pool of a process, as its peer might."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        descriptor = -1
        try:
            if "memfd:ringbell" in os.readlink(link):
                descriptor = os.open(link, os.O_RDWR)
                if os.fstat(descriptor).st_size == SIZE:
                    return descriptor
                os.close(descriptor)
        except OSError:
            continue
    raise AssertionError("there is a pool")


def test_the_receiver_cannot_write_to_a_block_or_shorten_the_pool(start, consume):
    producer = start("producer", blocks={"pool": SIZE, "least": LEAST})
    consumer = consume()
    producer.run("producer.send(b'%08d' % 1 * 8192)")
    view = consumer.hold()
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    maps = Path("/proc/self/maps").read_text()
    lines = re.findall(r"^(\w+)-(\w+) (\S+) .*memfd:ringbell", maps, re.MULTILINE)
    (line,) = [line for line in lines if int(line[1], 16) - int(line[0], 16) == SIZE]
    assert line[2] == "r--s"
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(int(line[0], 16))
    assert libc.mprotect(address, ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE) == -1
    assert ctypes.get_errno() == errno.EACCES
    descriptor = pool_of(producer.pid)
    for attempt in (
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 0),
        lambda: os.ftruncate(descriptor, 2 * SIZE),
        lambda: mmap.mmap(descriptor, SIZE),
    ):
        with pytest.raises(PermissionError):
            attempt()
    os.close(descriptor)
    assert bytes(view) == b"00000001" * 8192


def test_a_receiver_that_returns_what_it_does_not_hold_spoils_what_it_reads_only(start, produce):
    """It returns all blocks all the time, each twice and most too early."""
    consumer = start("consumer")
    producer = produce(blocks=BLOCKS)
    consumer.run(f"""
import os, threading
from ringbell._ffi import ffi, lib
page = os.sysconf("SC_PAGESIZE")
mine = lib.rb_channel_mine(consumer._channel.handle)
returned = ffi.buffer(mine - page + {RETURNED}, 2048)
stop = threading.Event()
def spoil():
    number = 0
    while not stop.is_set():
        number += 1
        returned[:] = bytes([number % 256]) * 2048
thread = threading.Thread(target=spoil)
thread.start()
""")
    consumer.begin("""
taken = 0
while (message := consumer.hold()) != b"end":
    taken += len(message)
stop.set()
thread.join()
""")
    chance = random.Random(1)
    sent = 0
    for _ in range(3000):
        message = bytes(chance.choice((10, LEAST, 3 * LEAST)))
        producer.send(message)
        sent += len(message)
    producer.send(b"end")
    consumer.reply()
    assert consumer.run("taken") == str(sent)


def test_random_places_never_do_worse_than_an_error(stream):
    chance = random.Random(2)
    for _ in range(200):
        producer, consumer = stream(ring_size=4096)
        descriptor = memory()
        say(producer, b"p", descriptor)
        os.close(descriptor)
        edges = (0, 1, LEAST, SIZE - 1, SIZE, SIZE + 1, 2**32, 2**63, 2**64 - 1)
        content = frame(
            offset=chance.choice(edges),
            length=chance.choice(edges),
            block=chance.choice((0, 2047, 2048, 2**32 - 1)),
            lending=chance.choice((0, 1, 255, 256)),
            flags=chance.randrange(8),
            kind=chance.randrange(4),
            size=chance.choice((0, 23, 24, 25, 48)),
        )
        publish(producer, content)
        with contextlib.suppress(ringbell.CorruptRing, ringbell.RingEmpty):
            bytes(consumer.hold(timeout=0))
        consumer.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    program = tmp_path_factory.mktemp("blocks") / "blocks"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-pthread"]
    sources = [TESTS / "c/blocks.c", *sorted(CSRC.glob("*.c"))]
    subprocess.run([*command, f"-I{CSRC}", "-o", program, *sources], check=True, timeout=60)
    return program


def test_a_block_that_is_returned_twice_is_not_lent_to_two(program):
    subprocess.run([program, "twice"], check=True, timeout=60)


def test_threads_that_return_blocks_in_any_order_leave_nobody_asleep(program):
    done = subprocess.run(
        [program, "threads", "20000"], check=True, timeout=60, capture_output=True, text=True
    )
    messages, sleeps = map(int, re.findall(r"\d+", done.stdout))
    assert messages == 20002
    assert sleeps > 0
