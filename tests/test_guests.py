# SPDX-License-Identifier: MIT
"""Guests that connect and are no partner: they delay nobody, and end nothing."""

import contextlib
import errno
import gc
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import (
    PeerError,
    interruption,
    sleeps_without_end,
    wait_until,
    wait_until_listening,
)

import ringbell
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import datagrams, handshake, segment
from ringbell.meeting.control_socket import sweep_names

MEETS = {"producer": "produce", "consumer": "consume"}
PARTNER = {"serve": "connect", "producer": "consume", "consumer": "produce"}


@contextlib.contextmanager
def guest(path, *texts, descriptors=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.connect(os.fspath(path))
        with contextlib.suppress(BrokenPipeError):  # it may have been sent away at once
            for text in texts:
                socket.send_fds(control, [text], descriptors)
        yield control


@contextlib.contextmanager
def segment_descriptors():
    with segment.create(4096) as made, Descriptors(socket.socket()) as owned:
        yield [made.descriptor, *handshake.make_wake_fds(owned)]


def listening(start, path, who):
    """Start a process that waits for a partner: `serve`, or one side of a stream."""
    peer = start(who, **({"handler": "upper"} if who == "serve" else {}))
    wait_until_listening(path)
    return peer


def meet(path, who):
    """Meet the process that waits, and check that the channel works."""
    partner = getattr(ringbell, PARTNER[who])(path, timeout=None)
    with partner:
        if who == "serve":
            assert partner.call(b"x") == b"X"


ODD = {
    "silent": [],
    "empty": [b""],
    "garbage": [b"GET / HTTP/1.1\r\n\r\n"],
    "long": [b"x" * 5000],
    "half": [b"ringbell driv"],
    "old version": [b"ringbell driver 3"],
    "another version": [b"ringbell consumer 5"],
    "a driver that brings nothing": [b"ringbell driver 4"],
    "a producer that brings nothing": [b"ringbell producer 4"],
    "welcome": [b"ringbell welcome"],
    "refused": [b"ringbell refused because"],
    "failed": [b"ringbell failed 24 because"],
    "a silent consumer": [b"ringbell consumer 4"],
    "a consumer that refuses": [b"ringbell consumer 4", b"ringbell refused because"],
    "a consumer that fails": [b"ringbell consumer 4", b"ringbell failed 24 because"],
    "a consumer that says it twice": [b"ringbell consumer 4", b"ringbell consumer 4"],
}


@pytest.mark.parametrize("who", ["serve", "producer", "consumer"])
def test_odd_guests_hold_nobody_up_and_end_nothing(start, path, who):
    listening(start, path, who)
    with contextlib.ExitStack() as guests, segment_descriptors() as descriptors:
        reader, writer = os.pipe()
        guests.callback(os.close, reader)
        guests.callback(os.close, writer)
        for texts in ODD.values():
            with guest(path, *texts):
                pass  # this guest hangs up at once
            guests.enter_context(guest(path, *texts))
        for hello in (b"ringbell driver 4", b"ringbell producer 4", b"ringbell consumer 4"):
            for sent in (descriptors[:2], descriptors * 3, [reader] * 3, [descriptors[0]] * 3):
                guests.enter_context(guest(path, hello, descriptors=sent))
        meet(path, who)


@pytest.mark.parametrize("who", ["serve", "producer", "consumer"])
def test_more_silent_guests_than_there_is_room_for(start, path, who):
    peer = listening(start, path, who)
    text = [b"ringbell consumer 4"] if who == "producer" else []
    with contextlib.ExitStack() as guests:
        for _ in range(300):
            guests.enter_context(guest(path, *text))
        if who == "serve":
            # It has let all of them in, and has sent the first ones away.
            wait_until(lambda: len(os.listdir(f"/proc/{peer.pid}/fd")) > 90)
            assert len(os.listdir(f"/proc/{peer.pid}/fd")) < 130
        meet(path, who)


FLOOD = """
import random, socket, sys
path, count = sys.argv[1], int(sys.argv[2])
texts = [b"", b"garbage", b"ringbell driver 3", b"ringbell consumer 4", b"ringbell driver 4"]
held, rng = [], random.Random(1)
for i in range(count):
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(path)
    try:
        if i % 2:
            control.send(rng.choice(texts))
    except OSError:
        pass
    held.append(control)
    if len(held) > 500:
        held.pop(rng.randrange(500)).close()
"""


def test_honest_ones_get_in_while_others_storm(start, path):
    listening(start, path, "serve")
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(path), "2000"]) as flood:
        try:
            met = 0
            while flood.poll() is None or not met:
                meet(path, "serve")
                met += 1
            assert flood.wait() == 0
        finally:
            flood.kill()
    meet(path, "serve")


def test_the_command_tells_of_each_kind_of_guest_once(path):
    with subprocess.Popen(
        [sys.executable, "-m", "ringbell", "serve", str(path), "builtins:bytes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("listening on")
            for _ in range(20):
                with guest(path):
                    pass  # hangs up at once
                with guest(path, b"garbage") as control:
                    assert control.recv(100).startswith(b"ringbell refused")
        finally:
            process.terminate()
        shown = process.stderr.read()
    assert shown.count("garbage") == shown.count("guest") == 1


def test_a_consumer_that_says_nothing_more_does_not_get_the_stream(start, path):
    producer = listening(start, path, "producer")
    with offered(path) as silent:
        with ringbell.consume(path) as consumer:
            producer.run("producer.send(b'to the one that took it')")
            assert consumer.recv() == b"to the one that took it"
        assert silent.recv(100) == b""


def test_a_consumer_that_goes_before_it_is_told_that_the_stream_is_its_own(start, path):
    """The descriptors of the offer have gone with it, and another guest has that offer, too."""
    producer = listening(start, path, "producer")
    with contextlib.ExitStack() as guests:
        gone, slow = (guests.enter_context(offered(path)) for _ in range(2))
        producer.stop()
        for consumer in (gone, slow):
            consumer.send(b"ringbell welcome")
        gone.close()
        producer.signal(signal.SIGCONT)
        with pytest.raises(ConnectionResetError):
            slow.recv(100)
    with ringbell.consume(path) as consumer:
        producer.run("producer.send(b'to the one that stays')")
        assert consumer.recv() == b"to the one that stays"


@contextlib.contextmanager
def offered(path):
    """A consumer that has the producer's offer, and has not answered it."""
    with guest(path, b"ringbell consumer 4") as control:
        hello, descriptors, _, _ = socket.recv_fds(control, 100, 10)
        for descriptor in descriptors:
            os.close(descriptor)
        assert hello == b"ringbell producer 4"
        yield control


@pytest.mark.parametrize(("side", "other"), [("produce", "consume"), ("consume", "produce")])
def test_a_stream_of_other_records_is_still_an_error_for_both(path, side, other):
    errors = []

    def first():
        with pytest.raises(ringbell.LayoutMismatch, match="not records of") as caught:
            getattr(ringbell, side)(path, "f8")
        errors.append(caught.value)

    thread = threading.Thread(target=first)
    thread.start()
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match="not records of"):
        getattr(ringbell, other)(path, "i4")
    thread.join()
    assert errors


def test_a_failure_of_the_other_side_is_told_as_its_own(start, path):
    listening(start, path, "serve")
    with segment_descriptors() as (memory, *others):
        cannot_be_written = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
        try:
            sent = [cannot_be_written, *others]
            with guest(path, b"ringbell driver 4", descriptors=sent) as driver:
                assert driver.recv(1000).startswith(
                    b"ringbell failed 13 the device cannot open the channel: cannot map the segment"
                )
        finally:
            os.close(cannot_be_written)
    meet(path, "serve")


# ---- closing, signals, forks ----


@pytest.mark.parametrize("closer", ["thread", "signal"])
def test_a_listener_that_is_closed_ends_accept(path, closer):
    for _ in range(200):
        listener = ringbell.listen(path)
        if closer == "thread":
            thread = threading.Thread(target=listener.close)
        else:
            signal.signal(signal.SIGUSR1, lambda *_: listener.close())  # noqa: B023
            me = threading.get_ident()
            thread = threading.Thread(target=lambda: signal.pthread_kill(me, signal.SIGUSR1))  # noqa: B023
        thread.start()
        with pytest.raises(ringbell.ChannelClosed):
            listener.accept()
        thread.join()
        listener.close()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert not list(path.parent.iterdir())


def test_two_threads_accept_two_drivers(path):
    with ringbell.listen(path) as listener:
        devices = []
        threads = [
            threading.Thread(target=lambda: devices.append(listener.accept())) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        drivers = [ringbell.connect(path) for _ in range(2)]
        for thread in threads:
            thread.join()
    for end in devices + drivers:
        end.close()


class Alarm(Exception):  # noqa: N818
    pass


def test_a_signal_just_before_accept_is_not_missed(path):
    def handler(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    rng = random.Random(1)
    try:
        with ringbell.listen(path) as listener:
            for _ in range(3000):
                with pytest.raises(Alarm):
                    signal.setitimer(signal.ITIMER_REAL, rng.random() * 2e-5 + 1e-6)
                    listener.accept()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_accept_goes_on_after_a_handler_that_returns(path):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        with ringbell.listen(path) as listener:
            signal.setitimer(signal.ITIMER_REAL, 1e-3)
            with pytest.raises(TimeoutError):
                listener.accept(timeout=0.05)
        assert seen
    finally:
        signal.signal(signal.SIGALRM, before)


# An interrupted call may drop an end that it has opened. Then the end warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("who", ["connect", "accept", "produce", "consume"])
def test_an_interrupt_anywhere_in_meeting_leaks_nothing(path, who):
    """Interrupt at every place where a handler may run. The fixture checks that nothing is left."""
    stop = threading.Event()

    def others():
        with contextlib.ExitStack() as stack:
            if who == "connect":
                listener = stack.enter_context(ringbell.listen(path))
            while not stop.is_set():
                with contextlib.suppress(OSError, ringbell.RingbellError):
                    if who == "connect":
                        listener.accept(timeout=0.01).close()
                    elif who == "accept":
                        ringbell.connect(path, timeout=0.01, ring_size=4096).close()
                    elif who == "produce":
                        ringbell.consume(path, timeout=0.01).close()
                    else:
                        ringbell.produce(path, timeout=0.01, ring_size=4096).close()

    def act(listener):
        if who == "connect":
            return ringbell.connect(path, timeout=10, ring_size=4096)
        if who == "accept":
            return listener.accept(timeout=10)
        if who == "produce":
            return ringbell.produce(path, timeout=10, ring_size=4096)
        return ringbell.consume(path, timeout=10)

    thread = threading.Thread(target=others)
    if who != "accept":
        thread.start()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(ringbell.listen(path)) if who == "accept" else None
        if who == "accept":
            thread.start()
        try:
            number = 1
            while True:
                with contextlib.suppress(ringbell.RingbellError, OSError):
                    with interruption(number) as interrupted:
                        end = act(listener)
                    if not interrupted.happened:
                        end.close()
                        break
                number += 1
            assert number > 40
        finally:
            stop.set()
            thread.join()
    del end
    gc.collect()
    assert "memfd:ringbell" not in Path("/proc/self/maps").read_text()


def test_what_is_being_opened_does_not_live_on_in_a_forked_child(path):
    """The listening socket, its lock, and the guest's socket end with the parent."""
    code = """
import os, sys, threading, time, ringbell
listener = ringbell.listen(sys.argv[1])
thread = threading.Thread(target=listener.accept, daemon=True)
thread.start()
print("listens", flush=True)
sys.stdin.readline()
if not os.fork():
    left = []
    for fd in range(3, 100):
        try:
            left.append(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
        except FileNotFoundError:
            pass
    print(os.getpid(), *left, flush=True)
    time.sleep(600)
    os._exit(0)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout.readline() == "listens\n"
        fds = Path(f"/proc/{parent.pid}/fd")
        with guest(path) as silent:
            # Two sockets: the one that listens, and the guest's.
            wait_until(lambda: sum(os.readlink(fd)[:6] == "socket" for fd in fds.iterdir()) == 2)
            parent.stdin.write("\n")
            parent.stdin.flush()
            child, *left = parent.stdout.readline().split()
            try:
                assert "socket" not in left
                assert not any(name.startswith(str(path.parent)) for name in left)
                parent.kill()
                parent.wait()
                assert silent.recv(100) == b""  # at once, as no child has a copy
                ringbell.listen(path).close()
            finally:
                os.kill(int(child), signal.SIGKILL)


def in_a_child(call):
    """The exit code of a forked child: 0 when the call raises ChannelClosed because of the fork."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        call()
    except ringbell.ChannelClosed as error:
        os._exit(0 if "forked from" in str(error) else 1)
    except BaseException:
        os._exit(2)
    os._exit(3)


def test_a_forked_child_does_not_wait_under_the_name_of_its_parent(path):
    with ringbell.listen(path) as listener:
        assert in_a_child(lambda: listener.accept(timeout=0)) == 0
        with pytest.raises(TimeoutError):
            listener.accept(timeout=0)


FORKS_WHILE_IT_WAITS = """
import os, signal
parent, codes = os.getpid(), []
def handler(*_):
    if child := os.fork():
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
def wait(meet):
    try:
        meet(path).close()
    except BaseException as error:
        if os.getpid() != parent:
            os._exit(0 if "forked from" in str(error) else 1)
        raise
signal.signal(signal.SIGUSR1, handler)
"""


@pytest.mark.parametrize("who", ["producer", "consumer"])
def test_a_handler_that_forks_does_not_make_two_wait_under_one_name(start, path, who):
    peer = start("nothing")
    peer.run(FORKS_WHILE_IT_WAITS)
    peer.begin(f"wait(ringbell.{MEETS[who]})")
    wait_until_listening(path)
    wait_until(lambda: sleeps_without_end(peer.pid))
    peer.signal(signal.SIGUSR1)
    meet(path, who)
    peer.reply()
    assert peer.run("codes") == "[0]"


# ---- descriptors ----


@contextlib.contextmanager
def so_many_more(count):
    """Let this process open that many more descriptors, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir("/proc/self/fd")}
    limit = max(used) + 1
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit + count, hard))
    try:
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)


def test_a_driver_without_descriptors_says_so(start, path):
    start("serve", handler="upper")
    for count in range(4):
        with so_many_more(count), pytest.raises(OSError, match="channel takes 4 of them") as caught:
            ringbell.connect(path)
        assert caught.value.errno == errno.EMFILE
    meet(path, "serve")


LACKS = """
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
def lack(count):
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    global held
    held = []
    try:
        while True: held.append(os.dup(0))
    except OSError: pass
    for _ in range(count): os.close(held.pop())
def have():
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    while held: os.close(held.pop())
"""


def test_a_device_without_descriptors_says_so_and_tells_the_driver(start, path):
    device = start("nothing")
    device.run(LACKS)
    device.run("listener = ringbell.listen(path)")
    for count in (0, 1, 2, 3):
        device.run(f"lack({count})")
        device.begin("listener.accept()")
        with pytest.raises(ConnectionRefusedError, match="the device has no file descriptor left"):
            ringbell.connect(path)
        with pytest.raises(PeerError, match="OSError: .*no file descriptor left.*channel takes 4"):
            device.reply()
        device.run("have()")
    device.begin("device = listener.accept()")
    ringbell.connect(path).close()
    device.reply()


def test_serve_lives_on_without_descriptors_and_does_not_spin(start, path):
    device = start("nothing")
    device.run(LACKS)
    device.run(
        "import threading\n"
        "server = ringbell.Server(path, bytes)\n"
        "lack(0)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()"
    )
    with guest(path) as silent:
        assert silent.recv(1000).startswith(b"ringbell failed 111 the device has no file")
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError, match="the device has no file descriptor left"):
            ringbell.connect(path)
    before = float(device.run("time.process_time()"))
    time.sleep(0.2)
    assert float(device.run("time.process_time()")) - before < 0.1
    device.run("have()")
    with ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"x"


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_side_of_a_stream_without_descriptors_says_so(start, path, side):
    peer = start("nothing")
    peer.run(LACKS)
    peer.run("lack(2)")
    with pytest.raises(PeerError, match="OSError: .*no file descriptor left.*channel takes 4"):
        peer.run(f"ringbell.{MEETS[side]}(path)")
    peer.run("have()")
    assert not list(path.parent.iterdir())


# ---- names ----


def test_a_relative_path_is_removed_after_a_change_of_the_folder(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    listener = ringbell.listen("./here.sock")
    monkeypatch.chdir("/")
    assert listener.path == path.parent / "here.sock"
    with contextlib.suppress(TimeoutError):
        listener.accept(timeout=0)
    listener.close()
    assert not list(path.parent.iterdir())


def test_a_relative_path_may_be_short_where_the_whole_is_too_long(path, monkeypatch):
    folder = path.parent / ("x" * 120)
    folder.mkdir()
    monkeypatch.chdir(folder)
    with ringbell.listen("./a.sock") as listener:
        thread = threading.Thread(target=lambda: listener.accept().close())
        thread.start()
        ringbell.connect("./a.sock").close()
        thread.join()
    assert not list(folder.iterdir())
    folder.rmdir()


def test_a_listener_that_is_dropped_frees_its_name(path):
    listener = ringbell.listen(path)
    child = os.fork()
    if not child:
        del listener  # it is the parent's
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.exists()
    with pytest.warns(ResourceWarning, match="nobody closed what listens on"):
        del listener
        gc.collect()
    assert not list(path.parent.iterdir())


def test_a_process_that_ends_without_a_close_leaves_no_name(path):
    code = "import ringbell, sys; listener = ringbell.listen(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert not list(path.parent.iterdir())


def test_what_killed_processes_left_is_swept_at_the_next_creation(start, path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    folder = path.parent / "ringbell"
    dead, alive = start("nothing"), start("nothing")
    dead.run("listeners = [ringbell.listen(f'dead{i}') for i in range(3)]")
    alive.run("listener = ringbell.listen('alive')")
    dead.kill()
    (folder / "other.txt").write_text("not ours")
    with ringbell.listen("new"):
        names = {file.name for file in folder.iterdir()}
        assert names == {
            "other.txt", "alive.sock", "alive.sock.lock", "new.sock", "new.sock.lock"
        }  # fmt: skip
    alive.kill()
    assert sweep_names() == [folder / "alive.sock"]
    assert sweep_names() == []
    assert [file.name for file in folder.iterdir()] == ["other.txt"]


def test_only_the_folder_of_plain_names_is_swept(start, path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent / "elsewhere"))
    (path.parent / "elsewhere").mkdir()
    start("device").kill()
    ringbell.listen(path.with_name("other.sock")).close()
    assert path.exists()
    assert sweep_names() == []
    path.unlink()


def test_a_peer_without_a_number_is_called_what_it_is(pair):
    driver, device = pair()
    driver._channel.peer_pid = device._channel.peer_pid = 0
    assert "a process of another PID namespace" in repr(driver)
    assert "process 0" not in repr(driver) + repr(device)
    device.close()
    with pytest.raises(ringbell.EndOfStream, match="a process of another PID namespace"):
        driver.doorbell.send(b"x")


def test_a_reason_is_heard_from_one_who_closed_before_it_heard_us():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"hello")
        theirs.send(b"ringbell refused: no")
        theirs.close()
        ours.setblocking(False)
        assert datagrams.hear(Descriptors(ours)) == b"ringbell refused: no"
        assert datagrams.hear(Descriptors(ours)) == b""


def test_a_silent_guest_is_forgotten_by_an_accept_that_does_not_wait(path, monkeypatch):
    monkeypatch.setattr("ringbell.meeting.reception._FIRST_WORDS", 0.01)
    with ringbell.listen(path) as listener, guest(path) as silent:
        while listener._silence_over() is None:
            with pytest.raises(TimeoutError):
                listener.accept(timeout=0)
        wait_until(lambda: time.monotonic() > listener._silence_over())
        with pytest.raises(TimeoutError):
            listener.accept(timeout=0)
        assert b"said nothing" in silent.recv(1000)
