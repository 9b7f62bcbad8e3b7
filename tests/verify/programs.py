# SPDX-License-Identifier: MIT
"""The real functions at work: machine code, litmus, sanitizers, sides that are stopped."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from running import ROOT, Row, build, fixed_addresses, run
from soaks import SOAKS, soak_numbers

from ringbell.pinning import choose_pair

LITMUS_ROUNDS = 1_000_000
LITMUS_FACTOR = 50
FOUR_THREADS_ROUNDS = 300
BLOCKS_SENT = 100_000
VISITS = 300


def passed_tests(name: str) -> int:
    """Run one file of the tests as thoroughly as they can; return how many there are."""
    output = run(
        [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / name)],
        cwd=ROOT,
        env=os.environ | {"RINGBELL_VERIFY": "1"},
    )
    return int(re.search(r"(\d+) passed", output)[1])


def check_machine_code(_: Path) -> Iterator[Row]:
    passed = passed_tests("test_barriers.py")
    yield Row("machine code: barriers", f"{passed} checks, x86-64 and aarch64", "holds", True)


def check_debugger(_: Path) -> Iterator[Row]:
    if platform.machine() != "x86_64":
        yield Row("stops between two instructions", "-", "only on x86-64", True)
        return
    passed = passed_tests("test_debugger.py")
    explored = f"{passed} checks, both sides of both rings"
    yield Row("stops between two instructions", explored, "nothing lost", True)


def check_stopping(_: Path) -> Iterator[Row]:
    passed_tests("test_stopping.py")
    explored = "2,000 stops, in Python, never and adaptive"
    yield Row("sides stopped and continued", explored, "nothing lost", True)


def check_variants(_: Path) -> Iterator[Row]:
    """The tests that `make test` leaves out, because they take long."""
    output = run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "variant"],
        cwd=ROOT,
    )
    passed = int(re.search(r"(\d+) passed", output)[1])
    yield Row("other loops, other starts, storms", f"{passed} tests", "passed", True)


def check_tools(_: Path) -> Iterator[Row]:
    for name, what in (("soak", "the soaks"), ("bench_peers", "the comparison with others")):
        passed = passed_tests(f"test_{name}.py")
        yield Row(f"tests of {what}", f"{passed} tests", "passed", True)


def check_litmus(folder: Path) -> Iterator[Row]:
    cpus = [str(cpu) for cpu in choose_pair() or ()]
    if not cpus:
        yield Row("litmus", "-", "needs two CPUs", False)
        return
    bare = build(folder, "bare", "litmus.c", "-O2", "-DRB_LITMUS_WITHOUT_FENCES")
    fenced = build(folder, "fenced", "litmus.c", "-O2")
    rounds = LITMUS_ROUNDS
    for program, name in ((bare, "without fences"), (fenced, "with fences")):
        output = run([program, str(rounds), *cpus])
        data, space = (int(n) for n in re.findall(r"lost_\w+ (\d+)", output))
        ok = data > 0 and space > 0 if program is bare else data == space == 0
        result = f"{data} lost for data, {space} for space"
        yield Row(f"litmus {name}", f"{rounds:,} rounds", result, ok)
        rounds *= LITMUS_FACTOR


def check_sanitizers(folder: Path) -> Iterator[Row]:
    builds = {
        "ThreadSanitizer": ["-O1", "-fsanitize=thread", "-Wno-tsan"],
        "ASan and UBSan": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    }
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    for name, options in builds.items():
        program = build(folder, name.replace(" ", "-"), "stress.c", *options)
        sleeps = entries = 0
        for seed, (_, arguments) in enumerate(SOAKS, 1):
            count = "2000" if "adaptive" in arguments else "20000"
            command = [*fixed_addresses(), program, "--threads", "--sleeps", count]
            command += ["--seed", str(seed), *arguments]
            numbers = soak_numbers(run(command, env=environment))
            sleeps += numbers["sleeps"]
            entries += numbers["entries"]
        explored = f"{sleeps:,} sleeps, {entries:,} entries, two threads"
        yield Row(f"stress under {name}", explored, "clean", True)
        program = build(folder, f"four-{name.replace(' ', '-')}", "four_threads.c", *options)
        command = [*fixed_addresses(), program, str(FOUR_THREADS_ROUNDS)]
        numbers = soak_numbers(run(command, env=environment))
        explored = f"{numbers['rounds']:,} channels, {numbers['entries']:,} entries"
        yield Row(f"two threads a side under {name}", explored, "clean", True)
        program = build(folder, f"blocks-{name.replace(' ', '-')}", "blocks.c", *options)
        command = [*fixed_addresses(), program, "threads", str(BLOCKS_SENT)]
        numbers = soak_numbers(run(command, env=environment))
        explored = f"{numbers['messages']:,} blocks, {numbers['sleeps']:,} sleeps for one"
        yield Row(f"blocks under {name}", explored, "clean", True)
        yield from check_readers(folder, name, options, environment)


def check_readers(
    folder: Path, name: str, options: list[str], environment: dict[str, str]
) -> Iterator[Row]:
    program = build(folder, f"readers-{name.replace(' ', '-')}", "readers.c", *options)
    for keep in ("all", "stall", "newest"):
        visits = taken = sleeps = 0
        for entries in ("messages", "records"):
            command = [*fixed_addresses(), program, keep, entries, str(VISITS)]
            numbers = soak_numbers(run(command, env=environment))
            visits += numbers["visits"]
            taken += numbers["taken"]
            sleeps += numbers["sleeps"]
        explored = f"{visits:,} visits, {taken:,} entries taken, {sleeps:,} sleeps"
        yield Row(f"many readers, {keep}, under {name}", explored, "clean", True)
