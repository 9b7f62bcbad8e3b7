# SPDX-License-Identifier: MIT
"""How a driver and a device find each other, and what they refuse."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell._ffi import ffi, lib
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import handshake, segment

HEADER = struct.Struct("<Q I I Q Q Q")  # magic, version, ready, features, segment_size, first_index


def test_a_name_nobody_listens_on_is_refused_at_once(path):
    with pytest.raises(ConnectionRefusedError, match="nobody listens on .*start the device first"):
        ringbell.connect(path)


def test_a_name_in_use_is_an_error_and_the_listener_goes_on(start, path, connect):
    start("serve", handler="upper")
    with pytest.raises(OSError, match="somebody listens on .*use another name") as caught:
        ringbell.listen(path)
    assert caught.value.errno == errno.EADDRINUSE
    assert connect().call(b"x") == b"X"


def test_the_socket_of_a_killed_device_is_taken_over(start, path, connect):
    start("serve", handler="upper").kill()
    assert path.exists()
    with pytest.raises(ConnectionRefusedError):
        connect()
    start("serve", handler="upper")
    assert connect().call(b"x") == b"X"


def test_a_name_that_is_just_being_taken_over_is_in_use(start, path):
    start("device").kill()
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="somebody listens on"):
            ringbell.listen(path)
    ringbell.listen(path).close()


def test_many_who_take_over_at_once_get_one_winner(start, path):
    start("device").kill()
    peers = [start("nothing") for _ in range(4)]
    for peer in peers:
        peer.begin("listener = ringbell.listen(path)")
    won = 0
    for peer in peers:
        with contextlib.suppress(PeerError):
            peer.reply()
            won += 1
    assert won == 1


def test_what_is_no_socket_is_not_replaced(path):
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is there and is no socket"):
        ringbell.listen(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_living_socket_of_another_program_is_not_replaced(path, kind):
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(os.fspath(path))
        other.listen()
        with pytest.raises(OSError, match="somebody listens on"):
            ringbell.listen(path)
    assert path.is_socket()


def test_a_name_is_free_when_its_process_is_killed_though_a_forked_child_lives_on(start, path):
    peer = start("nothing")
    peer.run("listener = ringbell.listen(path)")
    child = int(peer.run("__import__('os').fork() or __import__('signal').pause()"))
    try:
        wait_until(lambda: not opens(child, path.with_name(path.name + ".lock")))
        peer.kill()
        ringbell.listen(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def opens(pid, path):
    """Whether the process has the file open; a forked child starts with its parent's files."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the process has closed it meanwhile
            if os.readlink(link) == os.fspath(path):
                return True
    return False


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, None])
def test_an_endless_timeout_of_meeting_is_no_error(start, path, timeout):
    with ringbell.listen(path) as listener:
        thread = threading.Thread(target=lambda: listener.accept(timeout=timeout).close())
        thread.start()
        ringbell.connect(path, timeout=timeout).close()
        thread.join()


def test_closing_a_listener_ends_accept_in_another_thread(path):
    listener, errors = ringbell.listen(path), []

    def accept():
        with pytest.raises(ringbell.ChannelClosed) as caught:
            listener.accept()
        errors.append(caught.value)

    thread = threading.Thread(target=accept)
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}/stat")
    wait_until(lambda: task.read_text().split()[2] == "S")
    listener.close()
    thread.join()
    assert errors


def test_plain_names_live_in_the_runtime_folder(monkeypatch, path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    with ringbell.listen("sha256") as listener:
        assert listener.path == path.parent / "ringbell" / "sha256.sock"
        assert listener.path.parent.stat().st_mode & 0o777 == 0o700
        assert listener.path.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(ringbell.meeting.address.socket_path("a")) == f"/tmp/ringbell-{os.geteuid()}/a.sock"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_socket_folder_that_others_may_enter_is_refused(monkeypatch, path, mode):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    folder = path.parent / "ringbell"
    folder.mkdir()
    folder.chmod(mode)
    for use in (ringbell.listen, ringbell.connect):
        with pytest.raises(PermissionError, match=f"not safe: others may enter it .mode {mode:o}"):
            use("name")


def test_a_socket_folder_of_somebody_else_is_refused(monkeypatch, path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    (path.parent / "ringbell").mkdir(mode=0o700)
    os.chown(path.parent / "ringbell", 65534, 65534)
    for use in (ringbell.listen, ringbell.connect):
        with pytest.raises(PermissionError, match="belongs to user 65534, and you are 0"):
            use("name")


def test_a_socket_folder_that_is_a_link_is_refused(monkeypatch, path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    (path.parent / "elsewhere").mkdir(mode=0o700)
    (path.parent / "ringbell").symlink_to(path.parent / "elsewhere")
    with pytest.raises(PermissionError, match="it is not a folder"):
        ringbell.listen("name")


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "x" * 200, "/tmp/" + "x" * 200])
def test_a_name_that_cannot_be_one_is_a_value_error(name):
    for use in (ringbell.listen, ringbell.connect):
        with pytest.raises(ValueError, match="cannot be the name|too long for a Unix socket"):
            use(name)


@pytest.mark.parametrize("name", [5, None, b"bytes"])
def test_a_name_that_is_no_text_is_a_type_error(name):
    with pytest.raises(TypeError):
        ringbell.connect(name)


def test_another_user_is_refused(path):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path.parent.chmod(0o777)
    code = f"""
import os, ringbell
os.setuid(65534)
try:
    ringbell.connect({str(path)!r}, timeout=10)
except PermissionError as error:
    print(error)
"""
    with ringbell.listen(path) as listener:
        path.chmod(0o666)
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
        )
        assert "belongs to user 0, and you are 65534" in other.stdout
        # A driver that does not check whose the device is gets a refusal from the device.
        code = f"""
import os, socket
os.setuid(65534)
control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.connect({str(path)!r})
print(control.recv(1000))
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
            while other.poll() is None:
                with pytest.raises(TimeoutError):
                    listener.accept(timeout=0.05)
            told = other.stdout.read()
            assert b"ringbell failed 1 process" in told
            assert b"belongs to user 65534" in told


def test_a_device_that_dies_while_a_driver_waits_is_peer_lost(start, path):
    peer = start("nothing")
    peer.run("listener = ringbell.listen(path)")
    killing = threading.Thread(target=wait_then_kill, args=(peer, path))
    killing.start()
    with pytest.raises(ringbell.PeerLost, match="went away before it took the channel"):
        ringbell.connect(path, timeout=None)
    killing.join()


def wait_then_kill(peer, path):
    # Two sockets have the path: the one that listens, and the one that has connected.
    wait_until(lambda: Path("/proc/net/unix").read_text().count(f"{path}\n") >= 2)
    peer.kill()


def test_a_busy_device_is_a_timeout_that_says_so(start, connect, path):
    device = start("serve", handler="upper")
    device.stop()  # as if its handler took long
    with pytest.raises(TimeoutError, match="its handler may be busy"):
        ringbell.connect(path, timeout=0.05)
    with pytest.raises(TimeoutError):
        ringbell.connect(path, timeout=0)
    device.signal(signal.SIGCONT)
    assert connect().call(b"x") == b"X"


def test_a_driver_that_goes_away_while_it_introduces_itself_is_passed_over(start, connect, path):
    start("serve", handler="upper")
    for hello in (False, True):
        with raw_socket(path) as control:
            if hello:
                with segment.create(4096) as memory, Descriptors(control) as owned:
                    wake_fds = handshake.make_wake_fds(owned)
                    handshake.say_hello(control, "driver", [memory.descriptor, *wake_fds])
    assert connect().call(b"x") == b"X"


HELLO = b"ringbell driver 4"


@contextlib.contextmanager
def raw_socket(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.connect(os.fspath(path))
        yield control


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def refusal(path, caplog):
    """Say hello by hand; give the refusal, which the device must also have logged."""

    def refused(text, descriptors):
        before = open_descriptors()
        with ringbell.listen(path) as listener, raw_socket(path) as control:
            socket.send_fds(control, [text], descriptors)
            with pytest.raises(TimeoutError, match="nobody connected"):
                listener.accept(timeout=0)
            with pytest.raises(ringbell.LayoutMismatch) as told:
                handshake.receive_welcome(control, "device")
        assert open_descriptors() == before, "whatever was received has been closed"
        why = str(told.value).removeprefix("the device refused the channel: ")
        assert why in caplog.text
        return why

    return refused


@pytest.fixture
def made():
    """Make a segment and the eventfds for kicks, as a driver does."""
    with segment.create(4096) as memory, Descriptors(socket.socket(socket.AF_UNIX)) as owned:
        yield [memory.descriptor, *handshake.make_wake_fds(owned)]


def test_a_driver_that_speaks_otherwise_is_refused(refusal, made):
    assert "this ringbell knows ringbell driver 4" in refusal(b"hello?", made)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_descriptors_is_refused(refusal, made, count):
    sent = (made + [made[1]])[:count]
    assert "descriptors, not 3" in refusal(HELLO, sent)


def test_descriptors_of_another_kind_are_refused(refusal, made):
    reader, writer = os.pipe()
    try:
        assert "where an eventfd belongs" in refusal(HELLO, [made[0], reader, made[2]])
        assert "where an eventfd belongs" in refusal(HELLO, [*made[:2], made[0]])
        assert "no shared memory" in refusal(HELLO, [reader, *made[1:]])
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 0x1234, "does not start with ringbell's magic number"),
        (1, 99, "layout version 99, which this ringbell does not know"),
        (2, 0, "not marked as ready"),
        (1, 2, "layout version 2, which this ringbell"),
        (4, 4096, "geometry does not fit its size"),
    ],
)
def test_a_wrong_header_is_refused(refusal, made, field, value, message):
    header = list(HEADER.unpack(os.pread(made[0], HEADER.size, 0)))
    header[field] = value
    os.pwrite(made[0], HEADER.pack(*header), 0)
    assert message in refusal(HELLO, made)


@pytest.mark.parametrize("offset", range(40, 112, 4))
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1])
def test_no_word_of_the_geometry_may_be_another(made, offset, value):
    true_word = os.pread(made[0], 4, offset)
    word = struct.pack("<I", value)
    os.pwrite(made[0], word, offset)
    if word == true_word:
        segment.check(made[0])
        return
    with pytest.raises(ringbell.LayoutMismatch, match="geometry"):
        segment.check(made[0])


def test_a_segment_of_another_size_is_refused():
    with segment.create(4096, memory="posix") as made:
        os.truncate(made.descriptor, 4096)
        with pytest.raises(ringbell.LayoutMismatch, match="geometry"):
            segment.check(made.descriptor)
        os.truncate(made.descriptor, 10)
        with pytest.raises(ringbell.LayoutMismatch, match="only 10 bytes"):
            segment.check(made.descriptor)


def test_a_server_refuses_one_driver_and_serves_the_next(start, connect, path, made):
    start("serve", handler="upper")
    os.pwrite(made[0], b"garbage!", 0)
    with raw_socket(path) as control:
        handshake.say_hello(control, "driver", made)
        with pytest.raises(ringbell.LayoutMismatch, match="the device refused the channel"):
            handshake.receive_welcome(control, "device")
    assert connect().call(b"x") == b"X"


def test_a_full_dev_shm_is_an_error_before_anything_is_used():
    """Mount another /dev/shm that is really full, in a namespace of its own."""
    code = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k"):
    sys.exit(77)
import ringbell
listener = ringbell.listen(sys.argv[1])
before = len(os.listdir("/proc/self/fd"))
try:
    ringbell.connect(sys.argv[1], memory="posix")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
    assert "/dev/shm has no room for" in str(error), error
else:
    sys.exit("no error")
assert os.listdir("/dev/shm") == []
assert len(os.listdir("/proc/self/fd")) == before
"""
    folder = Path(f"/tmp/rb-full-{os.getpid()}")
    folder.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "s")],
            timeout=30,
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
    if done.returncode == 77:
        pytest.skip("no permission to mount; the next test covers a size that cannot fit")
    assert done.returncode == 0, done.stderr


def test_a_ring_larger_than_dev_shm_is_enospc(path):
    status = os.statvfs("/dev/shm")
    if status.f_blocks * status.f_frsize >= 2**31:
        pytest.skip("two rings of the largest size fit into this /dev/shm")
    with ringbell.listen(path), pytest.raises(OSError, match="no room") as caught:
        ringbell.connect(path, ring_size=2**30, memory="posix")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("ring_size", [0, -4096, 1000, 2048, 12288, 2**31, 2**70])
def test_a_bad_ring_size_is_a_value_error(path, ring_size):
    with pytest.raises(ValueError, match="ring_size is a power of two from"):
        ringbell.connect(path, ring_size=ring_size)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("polling", "sometimes"),
        ("kick", "never"),
        ("max_poll", -1),
        ("max_poll", 0.06),
        ("max_poll", float("nan")),
        ("cpu", 100_000),
        ("cpu", -1),
    ],
)
def test_bad_options_are_value_errors(path, option, value):
    for use in (ringbell.listen, ringbell.connect):
        with pytest.raises(ValueError, match=rf"{option}|CPU"):
            use(path, **{option: value})


def test_cpu_pins_the_calling_thread(start, path):
    cpu = max(os.sched_getaffinity(0))
    peer = start("nothing")
    peer.run(f"ringbell.listen(path, cpu={cpu}).close()")
    assert peer.run("__import__('os').sched_getaffinity(0)") == repr({cpu})


def test_the_header_is_made_for_message_rings_of_the_size_asked_for():
    header = ffi.new("char[]", lib.rb_header_size())
    page = os.sysconf("SC_PAGESIZE")
    assert lib.rb_header_make(header, 1 << 14, 64, 1 << 14, 0, 7) == 3 * page + 2 * (1 << 20)
    magic, version, ready, _, size, first = HEADER.unpack(bytes(ffi.buffer(header))[: HEADER.size])
    assert magic.to_bytes(8, "little") == b"ringbell"
    assert (version, ready, size, first) == (5, 1, 3 * page + 2 * (1 << 20), 7)
