# SPDX-License-Identifier: MIT
"""Other processes, as tests start and watch them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ringbell

RINGBELL = [sys.executable, "-m", "ringbell"]
TESTS = Path(__file__).parent
PACKAGE = str(Path(ringbell.__file__).parent)
PEERS = TESTS / "peers.py"
_PR_SET_PDEATHSIG = 1
METHODS: list[Any] = ["spawn"]
METHODS += [pytest.param(name, marks=pytest.mark.variant) for name in ("fork", "forkserver")]
# The marks of tests that launch. A pool has a thread, and NumPy may have some; from Python 3.12 on,
# a fork warns of them.
LAUNCHES = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("names"),
]


class PeerError(Exception):
    """What the code raised in the other process: `name` is the class, the message is its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Peer:
    """A process that runs tests/peers.py."""

    def __init__(self, role: str, path: Path, options: dict[str, object]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEERS), role, str(path), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def begin(self, code: str) -> None:
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def reply(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise PeerError("Exit", str(self.process.wait()))
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"], reply["text"])
        return reply["value"]

    def run(self, code: str) -> str:
        self.begin(code)
        return self.reply()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def state(self) -> str:
        """Give its `state_of`."""
        return state_of(self.pid)

    def stop(self) -> None:
        """Send SIGSTOP, and wait until it stands still (or has ended)."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self.state() in "TZ")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def serving(path: Path, handler: str, folder: Path | None = None) -> Iterator[subprocess.Popen]:
    """Run `ringbell serve` in this folder, once it listens; end it whatever happens."""
    with subprocess.Popen(
        [*RINGBELL, "serve", str(path), handler],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("listening on")
            yield process
        finally:
            process.kill()


def run_script(text: str, folder: Path, *arguments: object, **options: Any) -> subprocess.Popen:
    """Start a script of a user, which imports `launched`."""
    script = folder / "script.py"
    script.write_text(f"import os, signal, sys, time, threading\nimport ringbell, launched\n{text}")
    return subprocess.Popen(
        # A fork of a process that has threads is what some of them are about.
        [sys.executable, "-Wignore::DeprecationWarning", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        **options,
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def state_of(pid: int) -> str:
    """Give the state of a process: R is running, S sleeps, T is stopped, Z has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def sleeps_without_end(pid: int) -> bool:
    """Whether it is in a `ppoll` without a timeout; csrc/python/sleep.c has a short one before."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    return len(call) > 3 and call[3] == "0x0"


def has_ended(pid: int) -> bool:
    try:
        return state_of(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def spawned_by(pid: int) -> list[int]:
    """Give the processes that multiprocessing has spawned for it."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    return [one for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until it holds. There is no limit here: the test's timeout says that it hangs."""
    while not condition():
        time.sleep(0.001)


def wait_until_listening(path: Path) -> None:
    """Wait until somebody listens on the socket; the file is there a little earlier."""
    listens = re.compile(rf"^\S+ \S+ \S+ 00010000 .* {re.escape(str(path))}$", re.MULTILINE)
    wait_until(lambda: listens.search(Path("/proc/net/unix").read_text()))


def wait_until_blocked(mine, side: str, polling: str) -> None:
    """Wait until that side ("driver" or "device") of the channel is waiting inside a call."""

    def waits() -> bool:
        end = getattr(mine.stats(), side)
        if polling == "always":
            return end.consumer.times_empty + end.producer.times_full > 0
        return end.consumer.sleeps + end.producer.sleeps > 0

    wait_until(waits)


def switches(pid: int) -> int:
    """Count how often the process went to sleep by itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError


class Storm:
    """Sends SIGINTs to a process at random moments, until the block ends."""

    def __init__(self, pid):
        self.pid, self.sent = pid, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        # The pauses differ, so that the signals come at all moments of the loop.
        while not self.stopping.wait(0.0003 + (self.sent % 17) * 1e-4):
            os.kill(self.pid, signal.SIGINT)
            self.sent += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


# The handler raises inside of ringbell, as Ctrl-C does. In the test's own code it does nothing,
# because that code could not know whether its step was done.
RAISES_INSIDE_RINGBELL = """
import os, signal, sys
folder = os.path.dirname(ringbell.__file__)
raised = 0
def interrupt(number, frame):
    global raised
    if frame is not None and frame.f_code.co_filename.startswith(folder):
        raised += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
"""


def is_in_a_finalizer(frame):
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Interruption(Exception):  # noqa: N818
    pass


class interruption:  # noqa: N801
    """Raise at the n-th place in the block where a signal handler could run.

    CPython runs one when a Python function begins and after a call into C returns.
    """

    def __init__(self, number):
        self.left = number
        self.happened = False

    def __enter__(self):
        sys.setprofile(self.event)
        return self

    def event(self, frame, kind, _argument):
        if kind in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            if is_in_a_finalizer(frame):
                return  # Python drops what is raised there
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.happened = True
                raise Interruption

    def __exit__(self, kind, error, traceback):
        sys.setprofile(None)
        return kind is Interruption
