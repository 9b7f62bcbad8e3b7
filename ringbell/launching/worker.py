# SPDX-License-Identifier: MIT
"""A process that does one task for this one."""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from ringbell.arguments import shown
from ringbell.calls.failures import describe_error
from ringbell.channel import forks
from ringbell.channel.closing import Closing
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import PeerLost
from ringbell.launching import inside, logs
from ringbell.launching.parcel import Parcel
from ringbell.launching.reports import Kind
from ringbell.meeting.control_socket import free_name

StartMethod = Literal["spawn", "fork", "forkserver"]

_METHODS = ("spawn", "fork", "forkserver")
_PAUSE = 0.05  # seconds
_log = logging.getLogger("ringbell")

# A process that another thread forks must not get the ends that belong to the new process.
_one_at_a_time = threading.Lock()


def _forget_lock() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()  # the thread that holds it may not be in the fork


os.register_at_fork(after_in_child=_forget_lock)

LAST_WORDS = 10.0
"""Seconds that a process has for its `atexit` functions and its threads, once its task is done."""

PATIENCE = 5.0
"""Seconds to wait for a process that may be about to say why its channel is lost."""

GRACE = 2.0
"""Seconds that a process has between SIGTERM and SIGKILL."""


class Worker(Closing):
    """A new process that does one task, and tells this one how it ended.

    A context manager: the end of the block waits until the task is done and the process has ended.
    An exception that leaves the block ends the process at once, with SIGTERM, and with SIGKILL if
    it takes too long. `lifeline.py` ends it with this process.
    """

    def __init__(
        self,
        what: str,
        task: inside.Task,
        parcel: Parcel,
        method: StartMethod,
        path: Path,
        **options: object,
    ) -> None:
        """Start a process that calls `task`; `what` names the process in errors.

        `path` is the private name under which the task meets its other side.

        Raises TypeError when what is in the parcel cannot be sent there, ValueError for a wrong
        `method`.
        """
        if method not in _METHODS:
            raise ValueError(f"start_method is one of {', '.join(_METHODS)}, not {shown(method)}")
        self.what: str = what
        self.ready: bool = False
        """Whether it has said that its work begins."""
        self.over: bool = False
        """Whether there will be no more reports."""
        self.died: bool = False
        """Whether it has ended without a report of how its task ended."""
        self.pid: int = 0
        """Its process id."""
        self.result: Any = None
        """What the task returned."""
        self._path = path
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._stopped = False
        self._code: int | None = None
        # `multiprocessing` has its process objects for one thread; a pool signals from another one.
        # A signal handler may come in between, so the same thread may hold this twice.
        self._handling = threading.RLock()
        self._owner = os.getpid()
        self._hearing: threading.Thread | None = None
        # A fork has this process's log handlers. Any other new process has none.
        self._forwards = method != "fork"
        self._life: Connection
        self.reports: Connection
        self._process: Any
        with _one_at_a_time:
            self._start(method, task, parcel, {"path": path, **options})

    def _start(
        self, method: StartMethod, task: inside.Task, parcel: Parcel, options: dict[str, object]
    ) -> None:
        context = multiprocessing.get_context(method)
        life, self._life = context.Pipe(duplex=False)
        self.reports, reports = context.Pipe(duplex=False)
        log = (logs.levels(), logging.root.manager.disable) if self._forwards else None
        self._process = context.Process(  # type: ignore[attr-defined]  # of all three
            target=inside.main,
            args=(task, parcel, options, life, reports, log),
            name=f"ringbell {self.what}",
        )
        forks.watch(self)
        # Before multiprocessing's own function, which would wait for the process.
        atexit.register(self.stop)
        try:
            with _ctrl_c_held(method):
                self._process.start()
        except BaseException:
            self.stop()
            self._leave()
            raise
        finally:
            life.close()
            reports.close()
        self.pid = self._process.pid

    @property
    def finished(self) -> bool:
        """Whether its task has ended; its process may still live."""
        return self._finished.is_set()

    # ---- hearing ----

    def hear(self) -> tuple[Kind | None, Any]:
        """Wait for the next report and note it; gives its kind, None at the end, and its content.

        Logs what the process has logged.
        """
        content: Any
        try:
            kind, packed = self.reports.recv()
        except (EOFError, OSError):
            self.died = not self.finished
            self.over = True
            self._finished.set()
            return None, None
        try:
            content = pickle.loads(packed)
        except Exception as error:  # whatever the code of its class raises
            if kind == "log":
                _log.warning("cannot show what the %s logged: %s", self.what, error)
                return kind, None
            text = f"what the {self.what} returned cannot be unpickled: {error}"
            kind, content = "failed", (b"", text, "")
        if kind == "log":
            logs.take(content)
        elif kind == "ready":
            self.ready = True
        elif kind == "done":
            self.result = content
            self._finished.set()
        elif kind == "failed":
            self._failure = self._restored(*content)
            self._finished.set()
        return kind, content

    def _restored(self, packed: bytes, text: str, trace: str) -> BaseException:
        """Make the exception again; its traceback is shown as a note below it."""
        try:
            error = pickle.loads(packed)
        except Exception:  # whatever its class does with what it has pickled
            error = RuntimeError(text)
        if trace:
            error.add_note(f"\nin the {self.what}, process {self.pid}:\n\n{trace}")
        return error  # type: ignore[no-any-return]

    def wait_until_ready(self, deadline: float | None) -> None:
        """Wait until its work begins. Raises what went wrong before that, and TimeoutError."""
        while not self.ready:
            if not self.reports.poll(seconds_left(deadline)):
                raise TimeoutError(f"the {self.what}'s process was not ready within the timeout")
            self.hear()
            self.check()

    def hear_on(self) -> None:
        """Start a thread that hears all further reports, if the process sends its log records.

        A forked process logs by itself.
        """
        if self._forwards:
            hearing = threading.Thread(target=self._hear_all, name=self._process.name, daemon=True)
            hearing.start()
            self._hearing = hearing

    def _hear_all(self) -> None:
        while not self.over:
            self.hear()

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if failure := self.failure():
            raise failure

    def failure(self) -> BaseException | None:
        """Give what the task raised, or an error if the process died, and was not stopped.

        The error is RuntimeError when it died before it was ready, PeerLost when it died later.
        """
        if self.died and not self._stopped and self._failure is None:
            self._failure = self._death()
        return self._failure

    def _death(self) -> Exception:
        self._wait_for_end(GRACE)
        how = f"the {self.what}'s process ({self.pid}) {_ending(self._exit_code())}"
        if self.ready:
            return PeerLost(f"{how} before it had done its work")
        return RuntimeError(
            f"{how} before it was ready; what it said is on the standard error. A script starts "
            'processes below `if __name__ == "__main__":`, as a new process imports the script'
        )

    def trouble(self, patience: float | None = None) -> str | None:
        """Say why its task ended before this process wanted that; None if it did not.

        Waits `patience` seconds for the end of the task; None is a few seconds.
        """
        if patience is None:
            patience = PATIENCE
        if self._is_forked() or not self._wait_until_finished(patience):
            return None
        if failure := self.failure():
            return "\n".join([describe_error(failure), *getattr(failure, "__notes__", [])])
        return None

    # ---- ending ----

    def close(self) -> None:
        """Wait until the task is done and the process has ended.

        Its `atexit` functions and its threads have some seconds, then it is ended.
        """
        if self._is_forked():
            return
        try:
            self._wait_until_finished(None)
            self._hear_rest(LAST_WORDS)
            self._wait_for_end(GRACE)
        finally:
            self._give_up()

    def _wait_until_finished(self, patience: float | None) -> bool:
        if self._hearing:
            return self._finished.wait(patience)
        deadline = deadline_after(patience)
        while not self.finished and self.reports.poll(seconds_left(deadline)):
            self.hear()
        return self.finished

    def _wait_for_end(self, patience: float) -> bool:
        """Wait `patience` seconds for the end of the process; False if it lives on.

        Looks again and again, because processes that it has started may hold its sentinel, too.
        """
        deadline = deadline_after(patience)
        while self._exit_code() is None:
            left = seconds_left(deadline)
            if not left:
                return False
            self._wait_a_moment(min(left, _PAUSE))
        return True

    def _wait_a_moment(self, seconds: float) -> None:
        try:
            sentinel = self._process.sentinel
        except ValueError:  # a signal handler that raises ended the start of the process
            time.sleep(seconds)
        else:
            wait([sentinel], seconds)

    def _hear_rest(self, patience: float) -> None:
        """Hear all that comes before its end, for at most `patience` seconds."""
        if self._hearing:
            self._hearing.join(patience)
            return
        deadline = deadline_after(patience)
        while not self.over and self.reports.poll(seconds_left(deadline)):
            self.hear()

    def _give_up(self) -> None:
        """End the process at once."""
        try:
            self.stop()
            self._hear_rest(GRACE)
        finally:
            self._leave()

    def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL if that takes too long. Waits until it has ended.

        Does nothing if it has ended already.
        """
        if self._is_forked() or self._exit_code() is not None or self._process.pid is None:
            return
        try:
            self.send_signal(signal.SIGTERM)
            self._wait_for_end(GRACE)
        finally:
            while self._exit_code() is None:
                self.send_signal(signal.SIGKILL)
                self._wait_a_moment(_PAUSE)

    def send_signal(self, number: signal.Signals) -> None:
        """Send SIGTERM or SIGKILL, and wait for nothing; the end of the process is wanted then.

        Does nothing if it has ended already.
        """
        if self._is_forked():
            return
        with self._handling:
            if self._exit_code() is not None or self._process.pid is None:
                return
            self._stopped = True
            if number == signal.SIGKILL:
                self._process.kill()
            else:
                self._process.terminate()

    def leave_to_parent(self) -> None:
        """Leave the process to the one that started it; in a forked child."""
        self._handling = threading.RLock()  # the thread that holds it may not be in the fork
        self._leave()
        # At its end the child would wait for processes that are not its own, and show an error.
        getattr(process, "_children", set()).discard(self._process)

    def _exit_code(self) -> int | None:
        """Give the exit code, None while the process lives."""
        with self._handling:
            if self._code is None:
                self._process.is_alive()  # asks the kernel
                self._code = self._process.exitcode
            return self._code

    def _is_forked(self) -> bool:
        return os.getpid() != self._owner

    def _leave(self) -> None:
        self.over = True
        atexit.unregister(self.stop)
        forks.forget(self)
        self._life.close()
        if not (self._hearing and self._hearing.is_alive()):  # a child of its own may hold the pipe
            self.reports.close()
        with self._handling:
            if self._code is not None:
                self._process.close()
                free_name(self._path)  # it may have been ended while it freed the name itself


def _ending(code: int | None) -> str:
    if code is None:
        return "went away"
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"


@contextlib.contextmanager
def _ctrl_c_held(method: StartMethod) -> Iterator[None]:
    """Keep Ctrl-C from a new process until it has said what it does about it.

    It inherits the mask of this thread. Otherwise Python's handler would show a traceback there. A
    child of the fork server has the mask of the server, which serves other users, too.
    """
    if method == "forkserver":
        yield
        return
    resource_tracker.ensure_running()  # when it starts, it removes the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
