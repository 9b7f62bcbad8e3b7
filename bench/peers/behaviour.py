# SPDX-License-Identifier: MIT
"""The second table: what a blocked receiver costs and is told, and what is left behind.

Each library has three pairs of a sender and a receiver, each in a process of its own. The sender
sends one message, so that the two have met. Then the receiver blocks. In the first pair we watch
the receiver and then interrupt it. In the second we kill the sender, in the third we kill both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from peers import registry
from peers.adaptor import Place
from peers.pair import die_with_parent
from peers.traces import remove_traces, traces_of

START, SETTLE, WATCH, INTERRUPT, DEATH = 30.0, 0.5, 2.0, 1.0, 3.0  # seconds
_SIZE = 64


@dataclass
class Behaviour:
    peer: str
    idle_cpu: float | None = None
    """Percent of a CPU."""
    wakeups: float | None = None
    """A second."""
    interrupted: str = "?"
    death: str = "?"
    leftovers: str = "?"


def hold_sender(module: str, place: Place, parent: Connection) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the receiver's Ctrl-C is of interest
    sender = registry.load(module).sender(place)
    parent.recv()  # wait for the receiver: some libraries drop what is sent before it is there
    sender.send(bytes(_SIZE))
    parent.send("sent")
    parent.recv()  # nothing comes: this process waits until it is killed


def hold_receiver(module: str, place: Place, parent: Connection) -> None:
    """Block in a receive and say how it ends."""
    die_with_parent()
    receiver = registry.load(module).receiver(place)
    parent.send("open")
    receiver.recv()
    parent.send("blocks")
    try:
        try:
            said = f"returned {receiver.recv()!r}"
        except BaseException as error:
            said = type(error).__name__
    except KeyboardInterrupt as error:
        said = type(error).__name__  # it may come after an error of the library
    parent.send(said)


class Held:
    """A sender and a blocked receiver of one library."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.token = f"rb{os.urandom(5).hex()}"
        self._guard = ExitStack()
        self._guard.callback(remove_traces, self.token)
        folder = tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True)
        self.folder = self._guard.enter_context(folder)
        place = Place(self.folder, self.token, _SIZE, what="idle")
        self.receiver, self.hears_receiver = self._start(hold_receiver, place)
        self.sender, self.hears_sender = self._start(hold_sender, place)

    def _start(self, target: Any, place: Place) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(self.module, place, theirs), daemon=True)
        process.start()
        theirs.close()
        self._guard.callback(ours.close)
        self._guard.callback(process.join)
        self._guard.callback(process.kill)
        return process, ours

    def blocks(self, give_up: float) -> bool:
        """Let them meet; say whether the receiver is about to block."""
        if _listen(self.hears_receiver, give_up) != "open":
            return False
        self.hears_sender.send("go")
        said = _listen(self.hears_sender, give_up), _listen(self.hears_receiver, give_up)
        return said == ("sent", "blocks")

    def end(self) -> None:
        self._guard.close()


def _listen(connection: Connection, give_up: float) -> str:
    if not connection.poll(max(0.0, give_up - time.monotonic())):
        return ""
    try:
        return connection.recv()
    except EOFError:
        return "died"


def of_everybody(modules: list[str]) -> list[Behaviour]:
    """Watch all of them at the same time; it takes about ten seconds."""
    found = {module: Behaviour(registry.PEERS[module].name) for module in modules}
    with ExitStack() as guard:
        groups: list[dict[str, Held]] = [{}, {}, {}]
        for group in groups:
            for module in modules:
                group[module] = Held(module)
                guard.callback(group[module].end)
        give_up = time.monotonic() + START
        for group in groups:
            for module in modules:
                if not group[module].blocks(give_up):
                    del group[module]
        watched, widowed, killed = groups
        _watch(watched, found)
        _interrupt(watched, found)
        _kill_senders(widowed, found)
        _kill_both(killed, found)
    return list(found.values())


def _watch(pairs: dict[str, Held], found: dict[str, Behaviour]) -> None:
    time.sleep(SETTLE)
    began = time.monotonic()
    before = {module: _usage(pair.receiver.pid) for module, pair in pairs.items()}
    time.sleep(WATCH)
    for module, pair in pairs.items():
        seconds, wakeups = _usage(pair.receiver.pid)
        lasted = time.monotonic() - began
        found[module].idle_cpu = 100 * (seconds - before[module][0]) / lasted
        found[module].wakeups = (wakeups - before[module][1]) / lasted


def _usage(pid: int) -> tuple[float, int]:
    """Give the seconds of CPU and the number of sleeps of all threads of a process."""
    seconds, slept = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                slept += int(line.split()[1])
    return seconds, slept


def _interrupt(pairs: dict[str, Held], found: dict[str, Behaviour]) -> None:
    for pair in pairs.values():
        os.kill(pair.receiver.pid, signal.SIGINT)
    for module, (after, said) in _reports(pairs, INTERRUPT).items():
        found[module].interrupted = f"deaf for {INTERRUPT:g} s"
        if said:
            found[module].interrupted = f"{said} after {after * 1e3:.0f} ms"


def _kill_senders(pairs: dict[str, Held], found: dict[str, Behaviour]) -> None:
    for pair in pairs.values():
        os.kill(pair.sender.pid, signal.SIGKILL)
    for module, (after, said) in _reports(pairs, DEATH).items():
        found[module].death = f"not told in {DEATH:g} s"
        if said:
            found[module].death = f"{said} after {after * 1e3:.0f} ms"


def _reports(pairs: dict[str, Held], within: float) -> dict[str, tuple[float, str]]:
    """Give for each receiver after how many seconds it said what; "" if it said nothing in time."""
    began = time.monotonic()
    silent = {pair.hears_receiver: module for module, pair in pairs.items()}
    reports = dict.fromkeys(pairs, (0.0, ""))
    while silent:
        heard = wait(list(silent), max(0.0, began + within - time.monotonic()))
        if not heard:
            break
        for connection in heard:
            module = silent.pop(connection)
            reports[module] = time.monotonic() - began, _listen(connection, began)
    return reports


def _kill_both(pairs: dict[str, Held], found: dict[str, Behaviour]) -> None:
    for pair in pairs.values():
        for process in (pair.sender, pair.receiver):
            os.kill(process.pid, signal.SIGKILL)
    for module, pair in pairs.items():
        pair.sender.join()
        pair.receiver.join()
        places = Counter(
            "folder" if str(path).startswith(pair.folder) else str(path.parent)
            for path in traces_of(pair.token, pair.folder)
        )
        counted = [f"{count} in {place}" for place, count in sorted(places.items())]
        found[module].leftovers = ", ".join(counted) or "nothing"


def print_table(behaviours: list[Behaviour]) -> None:
    print(
        f"{'a blocked receiver':20}{'CPU, %':>8}{'wake-ups/s':>12}  {'Ctrl-C':32}"
        f"{'the sender is killed':30}left when both are killed"
    )
    for one in behaviours:
        cpu = "?" if one.idle_cpu is None else f"{one.idle_cpu:.2f}"
        wakeups = "?" if one.wakeups is None else f"{one.wakeups:.0f}"
        print(
            f"{one.peer:20}{cpu:>8}{wakeups:>12}  {one.interrupted:32}{one.death:30}{one.leftovers}"
        )
