# SPDX-License-Identifier: MIT
"""A side that waits says for whom and where; `connect` can wait for its device."""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import RINGBELL, state_of, wait_until, wait_until_listening
from storms import handles_alarms

import ringbell
from ringbell.meeting import address

OPEN = {"producer": ringbell.produce, "consumer": ringbell.consume}
PARTNER = {"producer": "consumer", "consumer": "producer"}


@pytest.fixture
def folders(path, monkeypatch):
    """Make two folders of names: that of a session, which this process uses, and the other one."""
    session, other = path.parent / "session", path.parent / "other"
    (session / "ringbell").mkdir(parents=True, mode=0o700)
    other.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    monkeypatch.setattr(address, "_folder_without_runtime", lambda: other)
    return session / "ringbell", other


@contextlib.contextmanager
def a_socket_at(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(os.fspath(path))
        yield path


# ---- what is waited for ----


@pytest.mark.parametrize("side", OPEN)
def test_a_side_of_a_stream_that_waits_logs_for_whom_and_where(path, caplog, side):
    caplog.set_level(logging.INFO, "ringbell")
    with pytest.raises(TimeoutError):
        OPEN[side](path, timeout=0.01)
    assert caplog.messages == [f"waiting for the {PARTNER[side]} of '{path}' on {path}"]


def test_a_side_of_a_stream_that_need_not_wait_logs_nothing(start, consume, path, caplog):
    caplog.set_level(logging.INFO, "ringbell")
    start("producer")
    wait_until_listening(path)
    consume()
    assert caplog.messages == []


def test_a_timeout_of_meeting_names_the_path(start, path):
    for open_stream in OPEN.values():
        with pytest.raises(TimeoutError, match=re.escape(f"(waited on {path})")):
            open_stream(path, timeout=0)
    with pytest.raises(TimeoutError, match=f"nobody listened on {path} within the timeout"):
        ringbell.connect(path, wait=True, timeout=0.01)
    with ringbell.listen(path) as listener:
        with pytest.raises(TimeoutError, match=str(path)):
            listener.accept(timeout=0)
        with pytest.raises(TimeoutError, match=f"somebody listens on {path} but did not accept"):
            ringbell.connect(path, timeout=0.01)


@pytest.mark.parametrize("meet", [ringbell.produce, ringbell.consume])
def test_a_timeout_says_that_somebody_listens_but_does_not_answer(path, meet):
    with (
        ringbell.listen(path),  # a device that is busy with another driver
        pytest.raises(TimeoutError, match=f"somebody listens, but does not answer, on {path}"),
    ):
        meet(path, timeout=0.01)


@pytest.mark.parametrize(("command", "partner"), [("consume", "producer"), ("produce", "consumer")])
def test_the_command_says_at_once_what_it_waits_for_and_where(path, command, partner):
    lies_at = path.parent / "ringbell" / "nobody.sock"
    with subprocess.Popen(
        [*RINGBELL, command, "nobody"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(path.parent)},
    ) as process:
        try:
            line = process.stderr.readline()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert line == f"ringbell: waiting for the {partner} of 'nobody' on {lies_at}\n"
    assert process.returncode == 128 + signal.SIGINT


# ---- names in another folder ----


def test_a_name_that_is_in_the_other_folder_is_told_by_every_error(folders, caplog):
    caplog.set_level(logging.INFO, "ringbell")
    hint = f"a socket of that name is in another folder, {folders[1]}/ticks.sock: set XDG_RUNTIME"
    with a_socket_at(folders[1] / "ticks.sock"):
        with pytest.raises(ConnectionRefusedError, match=hint):
            ringbell.connect("ticks")
        for open_side in (*OPEN.values(), lambda *a, **o: ringbell.connect(*a, wait=True, **o)):
            with pytest.raises(TimeoutError, match=hint):
                open_side("ticks", timeout=0.01)
            assert hint in caplog.messages[-1]
    assert len(caplog.messages) == 3


def test_a_process_without_a_session_is_told_of_the_sessions_folder(path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(address, "_folder_without_runtime", lambda: path.parent / "mine")
    monkeypatch.setattr(address, "_folder_of_session", lambda: path.parent)
    with a_socket_at(path), pytest.raises(ConnectionRefusedError, match=f"folder, {path}: set"):
        ringbell.connect(path.stem)


@pytest.mark.parametrize("there", ["nothing", "a file", "another name"])
def test_nothing_is_told_of_what_is_no_socket_of_that_name(folders, there):
    with contextlib.ExitStack() as guard:
        if there == "a file":
            (folders[1] / "ticks.sock").touch()
        elif there == "another name":
            guard.enter_context(a_socket_at(folders[1] / "ticks2.sock"))
        with pytest.raises(ConnectionRefusedError) as caught:
            ringbell.connect("ticks")
    assert "another folder" not in str(caught.value)
    assert f"nobody listens on {folders[0]}/ticks.sock; start the device" in str(caught.value)


def test_a_path_is_looked_for_nowhere_else(folders, path):
    with (
        a_socket_at(folders[1] / "ticks.sock"),
        pytest.raises(ConnectionRefusedError) as caught,
    ):
        ringbell.connect(path.parent / "ticks.sock")
    assert "another folder" not in str(caught.value)


def test_a_runtime_folder_that_is_not_there_is_told(path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent / "gone"))
    for use in (ringbell.listen, ringbell.produce, ringbell.consume):
        with pytest.raises(FileNotFoundError, match="cannot make the socket folder .* unset XDG"):
            use("name")
    with pytest.raises(ConnectionRefusedError, match="nobody listens on"):
        ringbell.connect("name")


# ---- a driver that waits for its device ----


def test_a_driver_that_waits_gets_the_device_that_comes_later(start, path, caplog):
    caplog.set_level(logging.INFO, "ringbell")
    drivers = []
    thread = threading.Thread(target=lambda: drivers.append(ringbell.connect(path, wait=True)))
    thread.start()
    wait_until(lambda: caplog.messages)
    assert caplog.messages == [f"waiting for a device to listen on {path}"]
    start("serve", handler="upper")
    thread.join()
    with drivers[0] as driver:
        assert driver.call(b"late") == b"LATE"


def test_a_driver_that_waits_passes_over_the_socket_of_a_killed_device(start, path):
    start("device").kill()
    assert path.exists()
    later = threading.Timer(0.05, start, ("serve",), {"handler": "upper"})
    later.start()
    with ringbell.connect(path, wait=True) as driver:
        assert driver.call(b"x") == b"X"
    later.join()


def test_a_driver_that_waits_need_not_wait(start, path, caplog):
    caplog.set_level(logging.INFO, "ringbell")
    start("serve", handler="upper")
    with ringbell.connect(path, wait=True, timeout=None) as driver:
        assert driver.call(b"x") == b"X"
    assert caplog.messages == []


def test_a_signal_handler_that_raises_ends_the_wait_for_a_device(path):
    class Ended(Exception):  # noqa: N818
        pass

    def end(*_):
        raise Ended

    with handles_alarms(end):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Ended):
            ringbell.connect(path, wait=True, timeout=None)


def test_waiting_for_a_device_takes_next_to_no_cpu_time(start, path):
    peer = start("nothing")
    peer.begin("ringbell.connect(path, wait=True, timeout=None)")

    def ticks():
        fields = Path(f"/proc/{peer.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    wait_until(lambda: state_of(peer.pid) == "S")
    before = ticks()
    # This waits for nothing: it is the time in which next to nothing may happen.
    subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], check=True)
    assert ticks() - before <= 5  # a CPU has 100 ticks a second
    start("serve", handler="upper")
    peer.reply()


@pytest.mark.parametrize("who", ["connect", "produce", "consume"])
def test_a_wait_for_somebody_who_listens_and_does_not_answer_is_told(path, caplog, who):
    """A device that is busy, or a process that was stopped."""
    caplog.set_level(logging.INFO, "ringbell")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(os.fspath(path))
        silent.listen()
        with pytest.raises(TimeoutError):
            getattr(ringbell, who)(path, timeout=0.5)
    (told,) = [text for text in caplog.messages if "waiting for an answer" in text]
    assert str(path) in told
    assert f"process {os.getpid()}" in told
