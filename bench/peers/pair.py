# SPDX-License-Identifier: MIT
"""Two processes for one library, a CPU each, which do one job after the other."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import tempfile
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from peers import jobs, registry
from peers.adaptor import Place
from peers.jobs import Job, Result
from peers.traces import remove_traces

_PR_SET_PDEATHSIG = 1
_SIDES = {True: (jobs.receive, jobs.send), False: (jobs.answer, jobs.ask)}


class PeerFailed(Exception):  # noqa: N818
    """A job did not end, or ended in an exception; the message says how."""


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent, or it might spin for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def work(module: str, far: bool, cpu: int, parent: Connection) -> None:
    """Do the jobs that come, in a process of its own."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    # Pin before the import, so that threads of the library share the CPU.
    os.sched_setaffinity(0, {cpu})

    def meet() -> None:
        parent.send(("ready", None))
        parent.recv()

    adaptor = None
    while True:
        place, job = parent.recv()
        try:
            adaptor = adaptor or registry.load(module)
            side = _SIDES[job.what in jobs.ONE_WAY][not far]
            parent.send(("done", side(adaptor, place, job, meet)))
        except Exception as error:
            parent.send(("failed", f"{type(error).__name__}: {error}"))


class Pair:
    """Starts the two when they are needed, and anew after a failure."""

    def __init__(self, module: str, cpus: tuple[int, int]) -> None:
        self.module = module
        self._cpus = cpus
        self._processes: list[Any] = []
        self._connections: list[Connection] = []  # to the far side, then to the near one

    def run(self, job: Job, size: int, timeout: float = 20.0) -> Result:
        """Have a job done; give what both sides say of it. Raises PeerFailed."""
        with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
            # Short, as hyperq takes names of at most 28 characters, with our prefix and suffix.
            token = f"rb{os.urandom(5).hex()}"
            count = job.count * jobs.BLOCK if job.what in jobs.ONE_WAY else job.count
            try:
                return self._run(Place(folder, token, size, count, job.what), job, timeout)
            except BaseException:
                self.end()
                raise
            finally:
                remove_traces(token)

    def _run(self, place: Place, job: Job, timeout: float) -> Result:
        if not self._processes:
            self._start()
        for connection in self._connections:
            connection.send((place, job))
        give_up = time.monotonic() + timeout
        results: Result = {}
        done, ready = 0, set()
        while done < 2:
            heard = wait(self._connections, max(0.0, give_up - time.monotonic()))
            if not heard:
                raise PeerFailed(f"did not end within {timeout:g} s")
            for connection in heard:
                kind, what = self._hear(connection)
                if kind == "done":
                    results |= what
                    done += 1
                else:
                    ready.add(connection)
            if len(ready) == 2:
                ready.clear()
                for connection in self._connections:
                    connection.send(None)
        return results

    def _hear(self, connection: Any) -> tuple[str, Any]:
        try:
            kind, what = connection.recv()
        except EOFError:
            raise PeerFailed("a process died") from None
        if kind == "failed":
            raise PeerFailed(what)
        return kind, what

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for far in (True, False):
            ours, theirs = context.Pipe()
            arguments = (self.module, far, self._cpus[far], theirs)
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections = [], []
