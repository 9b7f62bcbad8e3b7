# SPDX-License-Identifier: MIT
"""Meeting that is closed, that a signal interrupts, or that a fork copies."""

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from guests import MEETS, guest, meet
from processes import interruption, sleeps_without_end, wait_until, wait_until_listening

import ringbell


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
