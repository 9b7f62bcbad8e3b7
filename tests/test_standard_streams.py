# SPDX-License-Identifier: MIT
"""The command with its standard input, output or errors closed, and what `clean` removes."""

import fcntl
import os
import subprocess
import sys
import termios
import threading
from contextlib import ExitStack

import pytest
from processes import wait_until
from typer.testing import CliRunner

from ringbell.command import cli
from ringbell.meeting import segment

FRAME = "(2160,3840,3)u1"  # a picture of 24.9 MB
COMMAND = f"exec {sys.executable} -m ringbell"


def shell(line, path, **options):
    """Run the command as a shell starts it, with what the line closes."""
    return subprocess.run(
        ["sh", "-c", f"{COMMAND} {line}", "sh", str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('consume "$1" >&-', "output"),
        ('consume "$1" <&- >&-', "output"),
        ('produce "$1" <&-', "input"),
        ('produce "$1" - <&- >&-', "input"),
    ],
)
def test_a_closed_stream_that_is_needed_is_an_error_before_anybody_is_met(path, line, what):
    done = shell(line, path)
    assert done.returncode == 2
    assert done.stdout == ""
    message = f"ringbell: the standard {what} is closed; name a file, or open it"
    assert " ".join(done.stderr.split()) == message
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("line", ['consume "$1" >&- 2>&-', 'produce "$1" <&- >&- 2>&-'])
def test_without_a_place_for_errors_the_status_says_it(path, line):
    done = shell(line, path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_files_go_through_a_command_without_any_standard_stream(path, tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(3_000_000))
    line = f'{COMMAND} consume "$1" "$2" <&- >&- 2>&-'
    with subprocess.Popen(["sh", "-c", line, "sh", path, copy]) as consumer:
        done = shell(f'produce "$1" {source} <&- >&- 2>&-', path)
        assert done.returncode == consumer.wait() == 0
    assert copy.read_bytes() == source.read_bytes()


def test_pipes_that_a_parent_made_nonblocking_carry_everything(path):
    sent = os.urandom(1_000_000)
    (source, feed), (result, target) = os.pipe(), os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(target, False)
    command = [sys.executable, "-m", "ringbell"]
    with ExitStack() as guard:
        got = guard.enter_context(os.fdopen(result, "rb"))
        consumer = guard.enter_context(subprocess.Popen([*command, "consume", path], stdout=target))
        producer = guard.enter_context(subprocess.Popen([*command, "produce", path], stdin=source))
        for process in (consumer, producer):
            guard.callback(process.kill)
        os.close(source)
        os.close(target)

        def write():
            with os.fdopen(feed, "wb") as file:
                file.write(sent)

        thread = threading.Thread(target=write)
        thread.start()
        guard.callback(thread.join)
        wait_until(lambda: waiting_in(result) == 1 << 16 or consumer.poll())  # the pipe is full
        assert got.read() == sent
        assert producer.wait() == consumer.wait() == 0


def waiting_in(pipe):
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


# ---- warnings ----


def test_a_stream_of_large_frames_in_the_default_ring_is_told_of_in_one_line(path):
    done = shell(f'produce "$1" --dtype "{FRAME}" --timeout 0', path, stdin=subprocess.DEVNULL)
    first, second = done.stderr.splitlines()
    assert first == (
        "ringbell: the ring has room for one record of 24883200 bytes, so the producer and the "
        "consumer wait for each other at every record; --ring-size 128M has room for 4"
    )
    assert "within the timeout" in second


# ---- clean ----


def test_clean_removes_what_an_earlier_ringbell_left_and_nothing_of_others(monkeypatch, tmp_path):
    mine = tmp_path / f"ringbell.{os.geteuid()}.0123456789abcdef"
    others = [tmp_path / f"ringbell.{os.geteuid() + 1}.0123456789abcdef", tmp_path / "another"]
    if os.geteuid() == 0:
        others.append(tmp_path / "ringbell.0.fedcba9876543210")
    for name in (mine, *others):
        name.touch()
    for name in others[2:]:
        os.chown(name, 65534, 65534)
    monkeypatch.setattr(segment, "_FOLDER", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "names"))
    done = CliRunner().invoke(cli.app, ["clean"])
    assert (done.exit_code, done.stdout) == (0, f"removed {mine}\n")
    assert not mine.exists()
    assert all(name.exists() for name in others)
    done = CliRunner().invoke(cli.app, ["clean"])
    assert (done.exit_code, done.stdout) == (0, "nothing to remove\n")


# ---- in the library ----

# The process may print to descriptor 1, so that must never be a descriptor of ours.
WITHOUT_ANY = """
import os, signal, stat, sys, threading
os.closerange(0, 3)
import ringbell

def taken():
    found = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found

path, report = sys.argv[1], sys.argv[2]
accepted = []
with ringbell.listen(path) as listener:
    thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
    thread.start()
    driver = ringbell.connect(path, memory=sys.argv[3])
    thread.join()
    while_listening = taken()
device = accepted[0]
driver.submit(b"x")
device.take().complete(b"X")
assert driver.reap().result() == b"X"
driver.interrupt.fileno()
device.doorbell.fileno()
try:
    device.take(timeout=0.001)  # sleeps, with a pipe for signals
except ringbell.RingEmpty:
    pass
open_at_last = taken()
with open(report, "w") as file:
    print(while_listening, open_at_last, file=file)
driver.close()
device.close()
"""


@pytest.mark.parametrize("memory", ["memfd", "posix"])
def test_no_descriptor_of_ours_is_a_standard_one(path, tmp_path, memory):
    report = tmp_path / "report"
    arguments = [sys.executable, "-c", WITHOUT_ANY, str(path), str(report), memory]
    assert subprocess.run(arguments, timeout=30, check=False).returncode == 0
    assert report.read_text() == "[] []\n"
