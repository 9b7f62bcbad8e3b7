# SPDX-License-Identifier: MIT
"""What the shared memory of a channel is, where it can be had, and what is left of it."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys

import pytest
from processes import interruption

import ringbell
from ringbell import available
from ringbell._ffi import lib
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import handshake, segment

MEMORIES = ("memfd", "posix")


# ---- which memory ----


@pytest.mark.parametrize("memory", [None, *MEMORIES])
def test_both_sides_say_what_the_memory_is(pair, memory):
    driver, device = pair(memory=memory)
    assert driver.stats().memory == device.stats().memory == (memory or "memfd")
    driver.submit(b"x")
    device.take().complete(b"X")
    assert driver.reap().result() == b"X"


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("dtype", [None, "f8"])
def test_a_stream_says_what_its_memory_is(stream, memory, dtype):
    producer, consumer = stream(dtype, memory=memory)
    assert producer.stats().memory == consumer.stats().memory == memory


@pytest.mark.parametrize(
    ("memory", "error"), [("shm", ValueError), ("", ValueError), (5, TypeError)]
)
def test_another_kind_of_memory_is_an_error(path, memory, error):
    for use in (ringbell.connect, ringbell.produce):
        with pytest.raises(error, match="memory is 'memfd', 'posix' or None"):
            use(path, memory=memory)


def test_nobody_can_shorten_or_lengthen_a_memfd():
    with segment.create(4096) as made:
        size = os.fstat(made.descriptor).st_size
        for wrong in (0, size - 1, size + 4096):
            with pytest.raises(PermissionError):
                os.truncate(made.descriptor, wrong)
        assert lib.rb_memory_kind(made.descriptor) == lib.RB_MEMORY_MEMFD


@pytest.mark.parametrize("flags", [os.MFD_CLOEXEC, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING])
def test_a_memfd_that_could_be_shortened_is_refused(start, connect, path, flags):
    start("serve", handler="upper")
    with (
        segment.create(4096) as honest,
        Descriptors(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as owned,
        contextlib.ExitStack() as guard,
    ):
        memory = os.memfd_create("unsealed", flags)
        guard.callback(os.close, memory)
        os.sendfile(memory, honest.descriptor, 0, os.fstat(honest.descriptor).st_size)
        owned.control.connect(os.fspath(path))
        handshake.say_hello(owned.control, "driver", [memory, *handshake.make_wake_fds(owned)])
        with pytest.raises(ringbell.LayoutMismatch, match="memfd that is not sealed"):
            handshake.receive_welcome(owned.control, "device")
    assert connect().call(b"x") == b"X"


# ---- where there is little of it ----

# Replaces /dev/shm, or removes it, in a namespace of its own.
NAMESPACE = """
import ctypes, errno, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REC, MS_PRIVATE = 1, 0x4000, 1 << 18
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
place, flags, options = %s
if libc.mount(b"tmpfs", place, b"tmpfs", flags, options):
    sys.exit(77)
import ringbell
path = sys.argv[1]
"""
SMALL = 'b"/dev/shm", 0, b"size=64k"'
READ_ONLY = 'b"/dev/shm", MS_RDONLY, b""'
MISSING = 'b"/dev", 0, b""'

CONNECTS = """
with ringbell.listen(path) as listener:
    thread = threading.Thread(target=lambda: listener.accept(timeout=30).close())
    thread.start()
    with ringbell.connect(path) as driver:
        assert driver.stats().memory == "memfd", driver.stats().memory
    thread.join()
    before = len(os.listdir("/proc/self/fd"))
    try:
        ringbell.connect(path, memory="posix")
    except OSError as error:
        assert error.errno == %s, error
        assert "/dev/shm" in str(error) and "memory='memfd'" in str(error), error
    else:
        sys.exit("no error")
    assert len(os.listdir("/proc/self/fd")) == before
    assert not os.path.exists("/dev/shm") or os.listdir("/dev/shm") == []
"""


def run_elsewhere(path, code):
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        timeout=30,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("no permission for a namespace")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("shm", "error"),
    [(SMALL, "errno.ENOSPC"), (READ_ONLY, "errno.EROFS"), (MISSING, "errno.ENOENT")],
    ids=["small", "read-only", "missing"],
)
def test_a_memfd_serves_where_dev_shm_does_not_and_posix_says_why(path, shm, error):
    run_elsewhere(path, NAMESPACE % f"({shm})" + CONNECTS % error)


# A filter of system calls, as containers have: memfd_create fails with ENOSYS.
NO_MEMFD = """
import ctypes, os, struct, sys, threading
numbers = {"x86_64": 319, "aarch64": 279}
if os.uname().machine not in numbers:
    sys.exit(77)
number = numbers[os.uname().machine]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
filters = struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(program))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filters, 0, 0):
    sys.exit(77)
import ringbell
path = sys.argv[1]
with ringbell.listen(path) as listener:
    thread = threading.Thread(target=lambda: listener.accept(timeout=30).close())
    thread.start()
    with ringbell.connect(path) as driver:
        assert driver.stats().memory == "posix", driver.stats().memory
    thread.join()
    try:
        ringbell.connect(path, memory="memfd")
    except OSError as error:
        assert error.errno == 38 and "cannot make a memfd" in str(error), error
    else:
        sys.exit("no error")
"""


def test_dev_shm_serves_where_there_is_no_memfd(path):
    run_elsewhere(path, NO_MEMFD)


def test_more_than_the_machine_has_is_enospc_and_not_the_end_of_it(monkeypatch, path):
    monkeypatch.setattr(segment, "available_memory", lambda: 2**25)
    with ringbell.listen(path), pytest.raises(OSError, match="has 33554432 available") as caught:
        ringbell.connect(path, ring_size=2**30)
    assert caught.value.errno == errno.ENOSPC


def test_the_available_memory_is_what_the_machine_has():
    with open("/proc/meminfo") as file:
        total = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemTotal"))
    assert 0 < available.available_memory() <= total


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000000", "memory.current": "400000"}, 600_000),
        ({"memory.max": "max", "memory.current": "400000"}, None),
        ({"memory.max": "1000", "memory.current": "4000"}, 0),
        (
            {
                "memory.limit_in_bytes": "1000000",
                "memory.usage_in_bytes": "900000",
                "memory.stat": "cache 7\ntotal_inactive_file 50000\n",
            },
            150_000,
        ),
    ],
)
def test_a_control_group_bounds_the_available_memory(monkeypatch, tmp_path, files, expected):
    group = tmp_path / "outer" / "inner"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group.parent / name).write_text(text + "\n")  # the limits of the outer group
    read = available._text
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    monkeypatch.setattr(
        available,
        "_text",
        lambda file: "0::/outer/inner\n" if file.name == "cgroup" else read(file),
    )
    found = available.available_memory()
    assert found == expected if expected is not None else found > 2**20


# ---- what is left ----

MAKES = """
import os, sys
from ringbell.meeting import segment
os.write(1, b"x")
while True:
    segment.create(4096, memory=sys.argv[1]).close()
"""


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_kill_while_memory_is_made_leaves_no_name(memory):
    before = set(os.listdir("/dev/shm"))
    maker = subprocess.Popen([sys.executable, "-c", MAKES, memory], stdout=subprocess.PIPE)
    with maker:
        maker.stdout.read(1)
        for _ in range(200):
            assert set(os.listdir("/dev/shm")) == before, "not even while it is being made"
        maker.send_signal(signal.SIGKILL)
    assert set(os.listdir("/dev/shm")) == before


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_signal_handler_that_raises_while_memory_is_made_leaves_no_descriptor(memory):
    segment.create(4096, memory=memory).close()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 1000):
        with interruption(number) as place, segment.create(4096, memory=memory):
            pass
        assert len(os.listdir("/proc/self/fd")) == before
        if not place.happened:
            break
    assert 20 < number < 1000
