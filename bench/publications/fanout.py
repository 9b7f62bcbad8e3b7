# SPDX-License-Identifier: MIT
"""One writer at full speed: a publication against a stream, and against other libraries."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any, NamedTuple

from peers import registry
from peers.adaptor import Place
from peers.traces import remove_traces
from table import Row, compare

import ringbell
from publications.crew import Crew, Failed, Job, crew
from publications.libraries import PEERS, Library, Newest, Ours, Stream

READERS = 4
SECONDS = 0.3  # of a run
LARGE = 1 << 16
TRIPS = 5_000
STREAM_RATE, STREAM_TRIP = 0.8, 1 / 1.2


class Run(NamedTuple):
    rate: float
    """Entries a second, from before the first send to when the last reader had the last one."""
    lost: float
    """The share of the entries that readers did not get."""


# ---- in the processes ----


@cache
def payloads_of(size: int) -> list[bytes]:
    """Give the payloads of a run, which come again and again: a number, and bytes of it."""
    kinds = 256 if size < 1 << 12 else 16
    pattern = bytes(i % 251 for i in range(size + kinds))
    return [k.to_bytes(8, "little") + pattern[k : k + size - 8] for k in range(kinds)]


def send(meet: Callable[[], None], kind: type[Library], place: Place, readers: int) -> float:
    """Send all; give the time at which it began."""
    library, payloads = kind(place, readers), payloads_of(place.size)
    put = library.open_sender()
    meet()
    began = time.monotonic()
    for _ in range(place.count // len(payloads)):
        for payload in payloads:
            put(payload)
    library.finish()
    meet()
    library.close()
    return began


def take(
    meet: Callable[[], None], kind: type[Library], place: Place, readers: int, checked: bool
) -> tuple[int, float]:
    """Take all; give how many came, and the time of the last one."""
    library, payloads = kind(place, readers), payloads_of(place.size)
    receive = library.open_receiver()
    meet()
    if checked and not library.loses:
        for number in range(place.count):
            if receive() != payloads[number % len(payloads)]:
                raise ValueError(f"{library.name}: message {number} is wrong")
        got, last = place.count, payloads[-1]
    else:
        got, last = library.drain(receive, place.count)
    ended = time.monotonic()
    missed = library.missed()
    # Where some are lost, the last one shows that none is torn.
    if got and last != payloads[int.from_bytes(last[:8], "little")]:
        raise ValueError(f"{library.name}: the last message is wrong")
    if missed is not None and got + missed != place.count:
        raise ValueError(f"{library.name}: {got} came, {missed} missed, of {place.count}")
    meet()
    library.close()
    return got, ended


def ping(meet: Callable[[], None], many: bool, folder: str) -> float:
    """Give the median round trip in us."""
    publish, subscribe = _open_by(many)
    with publish(f"{folder}/a") as out, subscribe(f"{folder}/b") as back:
        put, get, payload = out.send, back.recv, b"x" * 64
        meet()
        clock, times = time.perf_counter_ns, []
        for _ in range(TRIPS):
            began = clock()
            put(payload)
            get()
            times.append(clock() - began)
        meet()
    return statistics.median(times) / 1e3


def pong(meet: Callable[[], None], many: bool, folder: str) -> None:
    publish, subscribe = _open_by(many)
    with subscribe(f"{folder}/a") as back, publish(f"{folder}/b") as out:
        put, get = out.send, back.recv
        meet()
        for _ in range(TRIPS):
            put(get())
        meet()


def _open_by(many: bool) -> tuple[Any, Any]:
    return (ringbell.publish, ringbell.subscribe) if many else (ringbell.produce, ringbell.consume)


# ---- here ----


def run(
    workers: Crew, kind: type[Library], size: int, count: int, readers: int, checked: bool = False
) -> Run:
    token = f"rb{os.urandom(5).hex()}"
    kinds = len(payloads_of(size))
    count = max(1, count // kinds) * kinds
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        place = Place(folder, token, size, count)
        jobs: list[Job] = [(send, (kind, place, readers))]
        jobs += [(take, (kind, place, readers, checked))] * readers
        try:
            began, *taken = workers.run(jobs)
        finally:
            remove_traces(token)
    got = sum(came for came, _ in taken)
    rate = count / (max(ended for _, ended in taken) - began)
    return Run(rate, 1 - got / (count * readers))


def calibrate(workers: Crew, kind: type[Library], size: int, readers: int, scale: float) -> int:
    """Give how many messages make a run of the wanted length; checks all of a short one."""
    most = kind.most if size < LARGE else min(kind.most, 1 << 11)
    few = 2048 if size < LARGE else 128
    run(workers, kind, size, few, readers, checked=True)
    rate = run(workers, kind, size, 4 * few, readers).rate
    return min(most, int(rate * SECONDS * scale))


def against_a_stream(rounds: int, cpus: tuple[int, int], scale: float) -> Iterator[Row]:
    rates, trips = [], []
    with crew([{cpus[0]}, {cpus[1]}]) as workers:
        counts = {kind: calibrate(workers, kind, 64, 1, scale) for kind in (Ours, Stream)}
        for _ in range(rounds):
            ours, theirs = (run(workers, kind, 64, counts[kind], 1) for kind in (Ours, Stream))
            rates.append((ours.rate, theirs.rate))
            trip = []
            for many in (True, False):
                with tempfile.TemporaryDirectory(prefix="rb-") as folder:
                    trip.append(workers.run([(ping, (many, folder)), (pong, (many, folder))])[0])
            trips.append((trip[0], trip[1]))
    yield compare("1 reader, 64 bytes one by one, /s", "stream", rates, STREAM_RATE)
    yield compare("1 reader, round trip, p50, us", "streams", trips, round(STREAM_TRIP, 3), True)


def against_others(
    rounds: int,
    cpus: tuple[int, int],
    scale: float,
    say: Callable[[str], None],
    notes: list[str],
) -> Iterator[Row]:
    """One writer and four readers, all on both CPUs."""
    peers = []
    for kind in PEERS:
        why = registry.why_not_installed(kind.package or "")
        if why is None:
            peers.append(kind)
        elif why not in notes:
            notes.append(why)
    everybody = [Ours, Newest, *peers]
    with ExitStack() as guard:
        # A crew for each package, so that none can disturb another.
        crews = {
            package: guard.enter_context(crew([set(cpus)] * (READERS + 1)))
            for package in {kind.package for kind in everybody}
        }
        for size in (64, LARGE):
            counts = {}
            found: dict[type[Library], list[Run]] = {kind: [] for kind in everybody}
            for turn in range(rounds + 1):
                for kind in list(found):
                    workers = crews[kind.package]
                    try:
                        if turn:
                            found[kind].append(run(workers, kind, size, counts[kind], READERS))
                        else:
                            say(f"{kind.name}, {size} bytes")
                            counts[kind] = calibrate(workers, kind, size, READERS, scale)
                    except Failed as error:
                        if kind not in peers:
                            raise
                        notes.append(f"{kind.name} is left out of {size} bytes: {error}")
                        del found[kind]
            yield from _rows(size, found, [kind for kind in peers if kind in found])


def _rows(
    size: int, found: dict[type[Library], list[Run]], peers: list[type[Library]]
) -> Iterator[Row]:
    def rate(kind: type[Library]) -> float:
        return statistics.median(one.rate for one in found[kind])

    lost = {kind: statistics.median(one.lost for one in runs) for kind, runs in found.items()}
    lossless = [kind for kind in peers if not any(one.lost for one in found[kind])]
    fastest = max(lossless, key=rate, default=None)
    name = f"{size} bytes" if size < 1024 else f"{size >> 10} KiB"
    for ours in (Ours, Newest):
        loss = f", {lost[ours]:.1%} lost" if lost[ours] else ""
        for kind in peers:
            pairs = [(a.rate, b.rate) for a, b in zip(found[ours], found[kind], strict=True)]
            theirs = f", theirs loses {lost[kind]:.1%}" if lost[kind] else ""
            what = f"{READERS} readers, {ours.name}{loss}, {name}, /s{theirs}"
            row = compare(what, kind.name, pairs, 1.0)
            counts = ours is Ours and kind is fastest
            yield row if counts else row._replace(target=None, reached=None)
