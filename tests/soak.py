# SPDX-License-Identifier: MIT
"""Two processes that put each other to sleep and wake each other, over the public Python API.

    python tests/soak.py [--sleeps N] [--ring BYTES] [--kind messages|requests] [--least BYTES]
                         [--size BYTES] [--window N] [--polling never] [--max-poll SECONDS]
                         [--skew NANOSECONDS] [--first INDEX] [--seed N] [--cpus A,B]
                         [--hang SECONDS]

What they exchange is in tests/numbered.py. Ends when both sides together have slept N times, with
one line of numbers. Exits with 1, and says what it saw, when a message is wrong, when nothing moves
for a minute (which is a lost wake-up: nothing here pauses for more than microseconds), or when a
wait took more than 100 ms and neither the scheduler nor the hypervisor is the reason.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import faulthandler
import multiprocessing
import os
import pprint
import signal
import sys
import tempfile
import time
from pathlib import Path

from indices import indices_from
from numbered import Progress, Traffic, drive, serve
from processes import die_with_parent

import ringbell

TICK = 0.05  # seconds
NANOSECONDS = 1_000_000_000


class Report(ctypes.Structure):
    """What one side tells the others, in memory that all share."""

    _fields_ = (
        ("pid", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("taken", ctypes.c_uint64),
        ("sleeps", ctypes.c_uint64),
        ("kicks", ctypes.c_uint64),
        ("longest", ctypes.c_uint64),
        ("long_waits", ctypes.c_uint64),
        ("unexplained", ctypes.c_uint64),
    )


class Shared(ctypes.Structure):
    _fields_ = (
        ("listening", ctypes.c_uint64),
        ("late", ctypes.c_uint64),  # ns by which the timer of the watching process was late
        ("driver", Report),
        ("device", Report),
    )


# ---- why a wait was long ----


def run_delay(pid: int) -> int:
    """Give the nanoseconds that a process was ready to run and got no CPU."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except OSError:
        return 0


def stolen() -> int:
    """Give the nanoseconds that the hypervisor gave to others."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) * NANOSECONDS // os.sysconf("SC_CLK_TCK")


class Reasons:
    """The time that no side could use, and who took it."""

    NAMES = (
        "it was ready to run and had no CPU",
        "the other side was",
        "the hypervisor took",
        "the timer of a third process was late by",
    )

    def __init__(self, shared: Shared, mine: Report, theirs: Report) -> None:
        self._run_delays = lambda: (run_delay(mine.pid), run_delay(theirs.pid))
        self._others = lambda: (stolen(), shared.late)
        self.reset()

    def reset(self) -> None:
        self._before = (*self._run_delays(), *self._others())
        self._delays = self._before[:2]

    def waited_long(self) -> None:
        """Be called at the end of a long wait: both sides have run by now.

        Later the time that they lose to each other at a million wake-ups would look like a reason.
        """
        self._delays = self._run_delays()

    def since(self) -> dict[str, int]:
        after = (*self._delays, *self._others())
        lost = [now - then for now, then in zip(after, self._before, strict=True)]
        return dict(zip(self.NAMES, lost, strict=True))


# ---- the two sides ----


class SoakProgress(Progress):
    """Progress that is reported, with the reasons for long waits."""

    def __init__(self, traffic: Traffic, side: str, shared: Shared) -> None:
        super().__init__(traffic, side)
        self.report: Report = getattr(shared, side)
        other = shared.device if side == "driver" else shared.driver
        self.reasons = Reasons(shared, self.report, other)
        self.channel: ringbell.Driver | ringbell.Device | None = None
        self.unexplained_yet: list[int] = []
        self.explain_at = 0.0

    def look(self) -> None:
        report, stats = self.report, self.channel.stats()
        ends = getattr(stats, self.side)
        report.sent, report.taken, report.longest = self.sent, self.taken, self.longest
        report.sleeps = ends.producer.sleeps + ends.consumer.sleeps
        report.kicks = ends.producer.kicks_sent + ends.consumer.kicks_sent
        if not self.unexplained_yet:
            self.reasons.reset()
        elif time.monotonic() > self.explain_at:
            self.explain()

    def waited_long(self, nanoseconds: int) -> None:
        self.reasons.waited_long()
        self.unexplained_yet.append(nanoseconds)
        # The third process must notice it, too. If this one waited for that, the peer would wait.
        self.explain_at = time.monotonic() + 4 * TICK

    def explain(self) -> None:
        reasons = self.reasons.since()
        text = ", ".join(f"{name} {lost / 1e6:.1f} ms" for name, lost in reasons.items())
        waits = " and ".join(f"{waited / 1e6:.1f} ms" for waited in self.unexplained_yet)
        explained = 2 * max(reasons.values()) >= max(self.unexplained_yet)
        print(f"{self.side} waited {waits}; meanwhile {text}{'' if explained else ': NO REASON'}")
        self.report.long_waits += len(self.unexplained_yet)
        self.report.unexplained += not explained
        self.unexplained_yet.clear()

    def say_stats(self, *_: object) -> None:
        """Say what both sides have done; the watching process asks when nothing moves."""
        print(f"{self.side}: sent {self.sent}, taken {self.taken}; both sides:", file=sys.stderr)
        if self.channel is not None:
            pprint.pprint(dataclasses.asdict(self.channel.stats()), stream=sys.stderr)
        os._exit(1)


def run_side(side: str, path: Path, shared: Shared, options: argparse.Namespace) -> None:
    die_with_parent()
    faulthandler.register(signal.SIGUSR1, chain=False)
    getattr(shared, side).pid = os.getpid()
    names = [field.name for field in dataclasses.fields(Traffic)]
    progress = SoakProgress(Traffic(**{n: getattr(options, n) for n in names}), side, shared)
    signal.signal(signal.SIGUSR2, progress.say_stats)
    waiting = {"polling": options.polling, "max_poll": options.max_poll}
    if side == "device":
        with ringbell.listen(path, cpu=options.cpus[1], **waiting) as listener:
            shared.listening = 1
            progress.channel = device = listener.accept()
        serve(device, progress)
    else:
        while not shared.listening:
            time.sleep(0.001)
        with indices_from(options.first):
            progress.channel = driver = ringbell.connect(
                path, cpu=options.cpus[0], ring_size=options.ring, **waiting
            )
        drive(
            driver,
            progress,
            lambda: shared.driver.sleeps + shared.device.sleeps >= options.sleeps,
        )
    if progress.unexplained_yet:
        time.sleep(4 * TICK)
        progress.explain()


# ---- watching them ----


def watch(sides: list[multiprocessing.Process], shared: Shared, hang: float) -> bool:
    """Wait for both sides to end; false when one failed or nothing moves any longer."""
    moved, moved_at, tick = None, time.monotonic(), time.monotonic()
    while any(side.exitcode is None for side in sides):
        time.sleep(TICK)
        now = time.monotonic()
        shared.late += int(max(now - tick - TICK, 0) * 1e9)
        tick = now
        if any(side.exitcode for side in sides):
            return False
        done = bytes(shared.driver) + bytes(shared.device)
        if done != moved:
            moved, moved_at = done, now
        elif now - moved_at > hang:
            print(f"LOST WAKE-UP: nothing moved for {hang:g} seconds", file=sys.stderr)
            ask_for_state(sides)
            return False
    return all(side.exitcode == 0 for side in sides)


def ask_for_state(sides: list[multiprocessing.Process]) -> None:
    """Have each side print its stack and the counters, as they are now.

    A signal ends a sleep, so no side may go on before both have got their signal.
    """
    alive = [side for side in sides if side.exitcode is None]
    for side in alive:
        for number in (signal.SIGSTOP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(side.pid, number)
    for side in alive:
        print(f"---- {side.name} ----", file=sys.stderr, flush=True)
        os.kill(side.pid, signal.SIGCONT)
        side.join(5)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sleeps", type=int, default=20_000)
    parser.add_argument("--ring", type=int, default=4096)
    parser.add_argument("--kind", choices=["messages", "requests"], default="messages")
    parser.add_argument("--least", type=int, default=8)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--window", type=int, default=3)
    parser.add_argument("--polling", choices=["never", "adaptive"], default="adaptive")
    parser.add_argument("--max-poll", type=float, default=20e-6)
    parser.add_argument("--skew", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpus", default="")
    parser.add_argument("--hang", type=float, default=60.0)
    options = parser.parse_args()
    options.cpus = [int(cpu) for cpu in options.cpus.split(",")] if options.cpus else [None, None]
    return options


def main() -> int:
    options = parse()
    processes = multiprocessing.get_context("fork")
    shared = processes.RawValue(Shared)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        path = Path(folder) / "s"
        sides = [
            processes.Process(target=run_side, name=side, args=(side, path, shared, options))
            for side in ("device", "driver")
        ]
        try:
            for side in sides:
                side.start()
            good = watch(sides, shared, options.hang)
        finally:
            for side in sides:
                if side.pid is not None:
                    side.kill()
                    side.join()
    driver, device = shared.driver, shared.device
    if not good:
        return 1
    if not driver.sent == device.taken == device.sent == driver.taken:
        print(
            f"FAILED: the driver sent {driver.sent}, the device took {device.taken} and sent "
            f"{device.sent}, the driver took {driver.taken}",
            file=sys.stderr,
        )
        return 1
    numbers = {
        "sleeps": driver.sleeps + device.sleeps,
        "entries": driver.sent + device.sent,
        "seconds": round(time.monotonic() - begin, 1),
        "longest_ms": round(max(driver.longest, device.longest) / 1e6, 2),
        "long_waits": driver.long_waits + device.long_waits,
        "kicks": driver.kicks + device.kicks,
    }
    print(" ".join(f"{name} {number}" for name, number in numbers.items()))
    return 1 if driver.unexplained + device.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
