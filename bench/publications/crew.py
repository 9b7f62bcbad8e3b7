# SPDX-License-Identifier: MIT
"""Processes that do one job after the other, all at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from peers.pair import die_with_parent

Job = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments; before them it gets `meet`, which waits for all who work."""
PATIENCE = 30.0  # seconds for a job


class Failed(SystemExit):
    """A job did not end in time, or raised."""


def work(cpus: set[int], parent: Connection) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.sched_setaffinity(0, cpus)

    def meet() -> None:
        parent.send(("here", None))
        parent.recv()

    while (job := parent.recv()) is not None:
        function, arguments = job
        try:
            parent.send(("done", function(meet, *arguments)))
        except Exception as error:
            parent.send(("failed", f"{function.__name__}: {type(error).__name__}: {error}"))


class Crew:
    """As many processes as CPU sets were given; they start when they are needed."""

    def __init__(self, cpus: list[set[int]]) -> None:
        self._cpus = cpus
        self._members: list[Any] = [None] * len(cpus)

    def run(self, jobs: list[Job], kill: tuple[int, float] | None = None) -> list[Any]:
        """Give what each job returns; None for the one that was killed.

        `kill` says which member gets a SIGKILL, and how many seconds after all have met.
        """
        for i in range(len(jobs)):
            self._members[i] = self._members[i] or self._start(self._cpus[i])
        connections = [connection for _, connection in self._members[: len(jobs)]]
        for connection, job in zip(connections, jobs, strict=True):
            connection.send(job)
        results: dict[int, Any] = {}
        here: set[int] = set()
        over = time.monotonic() + PATIENCE
        while len(results) < len(jobs):
            waited = [c for i, c in enumerate(connections) if i not in results]
            heard = wait(waited, max(0.0, over - time.monotonic()))
            if not heard:
                self.end()  # the next job finds new members
                raise Failed(f"{jobs[0][0].__name__}{jobs[0][1]} did not end")
            for connection in heard:
                i = connections.index(connection)
                kind, what = connection.recv()
                if kind == "failed":
                    self.end()
                    raise Failed(what)
                if kind == "done":
                    results[i] = what
                else:
                    here.add(i)
            if len(here) == len(jobs) - len(results) and here:
                for i in here:
                    connections[i].send(None)
                here.clear()
                if kill:
                    time.sleep(kill[1])
                    results[kill[0]] = None
                    self._end(kill[0])
                    kill = None
        return [results[i] for i in range(len(jobs))]

    def _start(self, cpus: set[int]) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(cpus, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _end(self, member: int) -> None:
        process, connection = self._members[member]
        process.kill()
        process.join()
        connection.close()
        self._members[member] = None

    def end(self) -> None:
        for i, member in enumerate(self._members):
            if member:
                self._end(i)


@contextmanager
def crew(cpus: list[set[int]]) -> Iterator[Crew]:
    made = Crew(cpus)
    try:
        yield made
    finally:
        made.end()
