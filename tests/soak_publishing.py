# SPDX-License-Identifier: MIT
"""Publications whose readers come and are killed, stopped and closed at random, under load.

    python tests/soak_publishing.py [--seconds 20] [--readers 6] [--only "messages, all"]
                                    [--seed N] [--hang SECONDS]

There are five publications at the same time: messages and records, every entry or the newest, and
one with `stall`; each has a writer at full speed and up to so many readers. tests/crowds.py has
what they do and check. Readers are started, killed with SIGKILL, stopped with SIGSTOP and
continued, and closed with SIGTERM. Each writer is killed once and started again under its name, and
later stopped once for five seconds. At the end a writer must hold what it held before the crowd.

Exits with 1, and says what it saw, when an entry is wrong or missing, when a side fails, when
nothing moves for a minute, or when a writer has more descriptors or memory than before.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crowds import Crowd, Taken, Told, holdings, read, write
from processes import die_with_parent

FORK = multiprocessing.get_context("fork")
STOPPED = 5.0  # seconds, a writer once
SPARE_KB = 2048  # of memory that a writer may have more at the end: the allocator's
SETTLES = 1.0  # seconds that a writer has to forget the first readers
CASES = [
    ("messages", "all", None),
    ("messages", "newest", None),
    ("records", "all", None),
    ("records", "newest", None),
    ("records", "all", 0.3),
]


class Failed(Exception):  # noqa: N818
    """The soak saw what must not be."""


class Side:
    """A process of the soak, and what it tells."""

    def __init__(self, what: Callable[..., None], told: Any, *arguments: object) -> None:
        self.told = told
        self.ways_to_end = {0}  # as exit codes; what we have done to it adds to them
        self.resumes_at = 0.0  # when it is stopped
        self.moved_at = time.monotonic()
        self._seen = -1
        self.process = FORK.Process(target=run_side, args=(what, *arguments))
        self.process.start()

    def signal(self, number: int) -> None:
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def stop(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        self.resumes_at = time.monotonic() + seconds

    def resume(self) -> None:
        self.resumes_at = 0.0
        self.moved_at = time.monotonic()
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.ways_to_end.add(-signal.SIGKILL)
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        self.ways_to_end.add(-signal.SIGTERM)  # before it has a handler
        self.signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has; raises Failed if that was not to be."""
        code = self.process.exitcode
        if code is None:
            return False
        if code not in self.ways_to_end:
            raise Failed(f"process {self.process.pid} ended with {code}")
        return True

    def has_moved(self, count: int, hang: float) -> None:
        """Raise Failed if the count is the same for too long."""
        now = time.monotonic()
        if count != self._seen or self.resumes_at:
            self._seen, self.moved_at = count, now
        elif now - self.moved_at > hang:
            self.signal(signal.SIGUSR1)  # says where it is
            time.sleep(0.5)
            raise Failed(f"nothing moved for {hang:g} s in process {self.process.pid}")

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def run_side(what: Callable[..., None], *arguments: object) -> None:
    die_with_parent()
    faulthandler.register(signal.SIGUSR1)
    logging.getLogger("ringbell").setLevel(logging.ERROR)  # that a reader is let go is no news
    try:
        what(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # nothing of the parent's is flushed or closed twice


class Publication:
    """A writer and its crowd."""

    def __init__(self, crowd: Crowd, readers: int, hang: float, draw: random.Random) -> None:
        self.crowd, self._draw, self._most, self._hang = crowd, draw, readers, hang
        self._told = FORK.RawValue(Told)
        self._readers: list[Side] = []
        self._held: dict[str, int] = {}
        self.done: Counter[str] = Counter()
        self.writer = self._start_writer()

    def _start_writer(self) -> Side:
        self._told.readers = 0
        return Side(write, self._told, self.crowd, self._told, self._draw.getrandbits(32))

    def step(self) -> None:
        """Do something to a reader, and see what has become of all."""
        if len(self._readers) < self._most:
            self._start_reader()
        else:
            self._disturb(self._draw.choice(self._readers))
        self.look()

    def _start_reader(self) -> None:
        taken = FORK.RawValue(Taken)
        seed = self._draw.getrandbits(32)
        self._readers.append(Side(read, taken, self.crowd, self._told, taken, seed))
        self.done["started"] += 1

    def _disturb(self, reader: Side) -> None:
        way = self._draw.random()
        if reader.resumes_at:
            return
        if way < 0.05:
            reader.kill()
            self.done["killed"] += 1
        elif way < 0.1:
            reader.stop(self._draw.random() * (1 if self.crowd.stall else 0.1))
            self.done["stopped"] += 1
        elif way < 0.15:
            reader.close()
            self.done["closed"] += 1

    def look(self) -> None:
        """Let the stopped go on, bury the dead, and see that all others move."""
        now = time.monotonic()
        for side in [self.writer, *self._readers]:
            if side.resumes_at and now >= side.resumes_at:
                side.resume()
        if self.writer.ended():
            raise Failed("the writer has ended")
        self.writer.has_moved(self._told.published, self._hang)
        for reader in list(self._readers):
            if reader.ended():
                self._bury(reader)
            elif not self.writer.resumes_at:
                reader.has_moved(reader.told.steps + reader.told.subscribed, self._hang)

    def _bury(self, reader: Side) -> None:
        self._readers.remove(reader)
        reader.end()
        for name, _ in Taken._fields_:
            self.done[name] += getattr(reader.told, name)

    def restart(self) -> None:
        """Kill the writer, and start it again under its name. The readers subscribe again."""
        self.writer.kill()
        self.writer.end()
        self.done["published"] += self._published()
        self.writer = self._start_writer()

    def _published(self) -> int:
        return self._told.published % (1 << 40)

    def send_all_away(self) -> None:
        """Close all readers, and wait until the writer knows it."""
        for reader in self._readers:
            if reader.resumes_at:
                reader.resume()
            reader.close()
        published = self._told.published
        # Only after so much has been published the count is of now.
        while self._readers or self._told.readers or self._told.published < published + 10_000:
            self.look()
            time.sleep(0.01)

    def hold(self) -> None:
        """Note what the writer holds when it has no readers, or compare it with that.

        It still lets those go who left before they were readers, in a thread of its own.
        """
        pid = self.writer.process.pid
        assert pid is not None
        over = time.monotonic() + (self._hang if self._held else SETTLES)
        least = holdings(pid)
        while time.monotonic() < over and (not self._held or self._above(least)):
            time.sleep(0.02)
            self.look()
            now = holdings(pid)
            least = {name: min(count, now[name]) for name, count in least.items()}
        if self._held and (above := self._above(least)):
            raise Failed(f"the writer held {self._held} before the crowd, and now more: {above}")
        self._held = least

    def _above(self, held: dict[str, int]) -> dict[str, int]:
        spare = {"private kB": SPARE_KB}
        return {n: count for n, count in held.items() if count > self._held[n] + spare.get(n, 0)}

    def finish(self) -> None:
        """Close the writer while there are readers again, and see them end by that."""
        while len(self._readers) < self._most:
            self._start_reader()
        while self._told.readers < self._most:
            self.look()
            time.sleep(0.01)
        self._told.ends = 1
        while not self.writer.ended() or self._readers:
            for reader in list(self._readers):
                if reader.ended():
                    self._bury(reader)
            time.sleep(0.01)
        self.done["published"] += self._published()

    def end(self) -> None:
        for side in [self.writer, *self._readers]:
            side.end()


def soak(publications: list[Publication], seconds: float) -> None:
    begin = time.monotonic()
    moments: list[tuple[float, Callable[[Publication], None]]] = [
        (0.2, Publication.restart),
        (0.25, send_away_and_hold),
        (0.5, lambda one: one.writer.stop(STOPPED)),
    ]
    while (part := (time.monotonic() - begin) / seconds) < 1:
        if moments and part >= moments[0][0]:
            _, act = moments.pop(0)
            for one in publications:
                act(one)
        for one in publications:
            one.step()
        time.sleep(publications[0]._draw.random() * 0.01)
    for one in publications:
        send_away_and_hold(one)
    for one in publications:
        one.finish()


def send_away_and_hold(one: Publication) -> None:
    one.send_all_away()
    one.hold()


def parse() -> argparse.Namespace:
    names = [Crowd(Path(), *case).name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--readers", type=int, default=6)
    parser.add_argument("--only", choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hang", type=float, default=60.0)
    return parser.parse_args()


def main() -> int:
    options = parse()
    draw = random.Random(options.seed)
    publications: list[Publication] = []
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        crowds = [Crowd(Path(folder) / str(i), *case) for i, case in enumerate(CASES)]
        try:
            for crowd in crowds:
                if options.only in (None, crowd.name):
                    one = Publication(crowd, options.readers, options.hang, draw)
                    publications.append(one)
            soak(publications, options.seconds)
        except Failed as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
        finally:
            for one in publications:
                one.end()
    for one in publications:
        print(f"{one.crowd.name}: {numbers(one.done)}")
    print(numbers(sum((one.done for one in publications), Counter())))
    return 0


def numbers(done: Counter[str]) -> str:
    return " ".join(f"{name} {count}" for name, count in sorted(done.items()) if name != "steps")


if __name__ == "__main__":
    sys.exit(main())
