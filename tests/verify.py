# SPDX-License-Identifier: MIT
"""Shows that no wake-up is lost; `make verify` for the quick form, `make soak` for a long soak.

    python tests/verify.py [--soak SLEEPS] [--only NAME]

Searches the model and its mutants, and the memory orders of the sources of the extension with and
without each of them; runs the C programs over these sources (under ThreadSanitizer,
AddressSanitizer and UBSan, and as two processes), the same soak in Python, the litmus with and
without the fences, the tests that stop a side, and the check of the machine code. Ends with one
table; exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ringbell.pinning import choose_pair

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "tests/model/rings.pml"
SOURCES = [str(ROOT / "csrc" / name) for name in ("ring.c", "frame.c", "wait.c", "segment.c")]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT / 'csrc'}", "-g", "-pthread", "-Wall", "-Wextra"]
FLAGS += ["-Wno-unused-function"]
LEAST_STATES = 2_000_000
LITMUS_ROUNDS = 1_000_000
LITMUS_FACTOR = 50
QUICK_SLEEPS = 2_000_000
CONTEXT_BOUND = 3
# More preemptions than an execution has steps: all of them.
NO_BOUND = 1000
RANDOM_SCHEDULES = 1_000_000

# Debian's packages for the commands and the headers that are needed.
PACKAGES = {
    "spin": "spin",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "objdump": "binutils",
    "g++": "g++",
    "/usr/include/relacy/relacy.hpp": "relacy-dev",
    "gdb": "gdb",
}

# What a mutant needs beside its own macro to be able to go wrong.
MUTANT_OPTIONS = {"MUTANT_SUBMIT_TAKES_NOTHING": ["-DSLOTS=1"]}

# How the orders are searched. All executions of `both` would take minutes.
ORDERS_TESTS = ["data", "space", "both", "terms", "good_part"]
ORDERS_SEARCHES = [
    *((test, "bound", CONTEXT_BOUND) for test in ORDERS_TESTS),
    *((test, "random", RANDOM_SCHEDULES) for test in ORDERS_TESTS),
    *((test, "bound", NO_BOUND) for test in ("space", "good_part")),
]
# What is taken out of the sources, by macro and test.
ORDERS_BREAKAGES = {
    "WITHOUT_RING_FENCE": {
        "data": "fence (B) of the producer",
        "space": "fence (D) of the consumer",
    },
    "WITHOUT_WAIT_FENCE": {
        "data": "fence (B) of the consumer",
        "space": "fence (D) of the producer",
    },
    "WITHOUT_RELEASE": {
        "data": "release (A) of write_index",
        "space": "release (C) of read_index",
    },
    "WITHOUT_ACQUIRE": {
        "data": "acquire (A) of write_index",
        "space": "acquire (C) of read_index",
    },
    "WITHOUT_EVENT_RELEASE": {"terms": "release (E) of data_event"},
    "WITHOUT_EVENT_ACQUIRE": {"terms": "acquire (E) of data_event"},
    "WITHOUT_TIMEOUT": {"good_part": "bound of the sleep for a good part"},
}

# Ring size, messages, window, polling, first index: from one message up, with fragments, with
# indices that wrap. A share of the sleeps goes to each.
SOAKS = [
    (5, ["--ring", "4096", "--size", "200", "--window", "3", "--polling", "never"]),
    (1, ["--ring", "4096", "--size", "4080", "--window", "2", "--polling", "never"]),
    (1, ["--ring", "4096", "--least", "2040", "--size", "4080", "--polling", "never"]),
    (1, ["--ring", "4096", "--size", "9000", "--window", "1", "--polling", "never"]),
    (1, ["--ring", "65536", "--size", "30", "--window", "50", "--polling", "never"]),
    (1, ["--size", "40", "--polling", "never", "--first", str(2**64 - 5)]),
    # So short a budget is spent in vain nearly always; the usual one nearly never.
    (1, ["--size", "200", "--window", "2", "--polling", "adaptive", "--max-poll", "1000"]),
    (0.05, ["--ring", "4096", "--size", "200", "--window", "2", "--polling", "adaptive"]),
    (0.02, ["--ring", "4096", "--size", "9000", "--window", "1", "--polling", "adaptive"]),
]

# The same over the public API, where everything but the sleep takes ten times as long.
PYTHON_SHARE = 0.07
PYTHON_SOAKS = [
    (3, ["--kind", "messages", "--size", "200", "--polling", "never"]),
    (2, ["--kind", "requests", "--size", "200", "--window", "5", "--polling", "never"]),
    (2, ["--kind", "messages", "--least", "2040", "--size", "4080", "--polling", "never"]),
    (1, ["--kind", "messages", "--size", "9000", "--polling", "never"]),
    (1, ["--kind", "requests", "--size", "9000", "--polling", "never"]),
    (1, ["--kind", "messages", "--ring", "65536", "--window", "50", "--polling", "never"]),
    (1, ["--kind", "requests", "--polling", "never", "--first", str(2**64 - 5)]),
    (2, ["--kind", "messages", "--polling", "adaptive", "--max-poll", "4e-6"]),
    (1, ["--kind", "requests", "--size", "9000", "--polling", "adaptive", "--max-poll", "4e-6"]),
    (0.1, ["--kind", "requests", "--polling", "adaptive"]),
]


class Failed(Exception):  # noqa: N818
    """A check did not hold; the message says which way."""


@dataclass
class Row:
    check: str
    explored: str
    result: str
    ok: bool


def run(command: list[str], timeout: float = 900, **options: object) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        if len(output) > 5000:
            output = f"{output[:2500]}\n...\n{output[-2500:]}"
        raise Failed(f"{Path(command[0]).name} ended with {done.returncode}: {output}")
    return done.stdout


def install_tools() -> None:
    """Get what is missing, where this is allowed; each check says itself what it misses."""
    missing = sorted(
        {p for path, p in PACKAGES.items() if not shutil.which(path) and not Path(path).exists()}
    )
    if not missing or not shutil.which("apt-get"):
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    print(f"installing {' '.join(missing)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", *missing]):
        subprocess.run(
            [*prefix, "apt-get", *words], check=False, capture_output=True, env=environment
        )


def build(folder: Path, name: str, source: str, *options: str, without: str = "") -> str:
    program = folder / name
    sources = [path for path in SOURCES if not (without and path.endswith(without))]
    compiler = os.environ.get("CC", "cc")
    test = str(ROOT / "tests/c" / source)
    run([compiler, *FLAGS, *options, "-o", str(program), test, *sources])
    return str(program)


# ---- the model ----


def search(folder: Path, name: str, defines: list[str], liveness: bool = False) -> tuple[int, str]:
    """Search the model in full; return the number of states and what went wrong, if anything."""
    place = folder / name
    place.mkdir()
    run(["spin", *defines, "-a", str(MODEL)], cwd=place)
    options = ["-DCOLLAPSE"] if liveness else ["-DCOLLAPSE", "-DSAFETY", "-DNOCLAIM"]
    run([os.environ.get("CC", "cc"), "-O2", "-w", *options, "-o", "pan", "pan.c"], cwd=place)
    output = run(["./pan", "-m1000000", "-n", *(["-a", "-f"] if liveness else [])], cwd=place)
    if "max search depth too small" in output or "errors:" not in output:
        raise Failed(f"the search was not complete: {output[-500:]}")
    states = int(float(re.search(r"([\d.e+]+) states, stored", output)[1]))
    wrong = re.search(r"pan:1: (.*?)(?: \(at|$)", output, re.MULTILINE)
    return states, wrong[1] if wrong else ""


def check_model(folder: Path) -> Iterator[Row]:
    states, wrong = search(folder, "safety", [])
    ok = not wrong and states >= LEAST_STATES
    yield Row("model: no deadlock, no assertion", f"{states:,} states", wrong or "holds", ok)
    states, wrong = search(folder, "liveness", ["-DN=3"], liveness=True)
    what = "model: each entry is taken, weak fairness"
    yield Row(what, f"{states:,} states", wrong or "holds", not wrong)


def check_mutants(folder: Path) -> Iterator[Row]:
    for mutant in sorted(set(re.findall(r"MUTANT_\w+", MODEL.read_text()))):
        options = MUTANT_OPTIONS.get(mutant, [])
        if options:
            _, wrong = search(folder, f"{mutant}-sane", options)
            if wrong:
                raise Failed(f"the model fails with {options} alone: {wrong}")
        states, wrong = search(folder, mutant, [f"-D{mutant}", *options])
        name = mutant.removeprefix("MUTANT_").lower().replace("_", " ")
        result = f"killed: {wrong}" if wrong else "SURVIVED"
        yield Row(f"mutant: {name}", f"{states:,} states", result, bool(wrong))


# ---- the real functions ----


def build_orders(folder: Path, name: str, *options: str) -> str:
    """Build the search of the orders; Relacy's headers do without our warnings."""
    program = str(folder / name)
    flags = ["-std=gnu++17", "-D_GNU_SOURCE", "-w", f"-I{ROOT / 'csrc'}"]
    # Relacy's threads are longjmps from one stack to another, which a fortified libc forbids.
    flags += ["-U_FORTIFY_SOURCE"]
    source = str(ROOT / "tests/c/relacy/orders.cpp")
    run([os.environ.get("CXX", "g++"), *flags, *options, "-o", program, source])
    return program


def search_orders(program: str, test: str, how: str, bound: int) -> tuple[str, int]:
    """Return what went wrong, if anything, and after how many executions."""
    output = run([program, test, how, str(bound)])
    result, executions = re.search(r"^(.+) after (\d+)$", output.splitlines()[-1]).groups()
    return "" if result == "SUCCESS" else result.lower(), int(executions)


def check_whole_orders(program: str, test: str, how: str, bound: int) -> Row:
    wrong, executions = search_orders(program, test, how, bound)
    searched = "random"
    if how == "bound":
        searched = "all, complete" if bound == NO_BOUND else f"bound {bound}, complete"
    name = f"C11 orders: {test.replace('_', ' ')}, {searched}"
    return Row(name, f"{executions:,} executions", wrong or "holds", not wrong)


def check_broken_orders(folder: Path, macro: str) -> list[Row]:
    program = build_orders(folder, macro, "-O0", f"-D{macro}")
    rows = []
    for test, what in ORDERS_BREAKAGES[macro].items():
        wrong, executions = search_orders(program, test, "bound", CONTEXT_BOUND)
        result = f"killed: {wrong}" if wrong else "SURVIVED"
        name = f"C11 orders without the {what}"
        rows.append(Row(name, f"{executions:,} executions", result, bool(wrong)))
    return rows


def check_orders(folder: Path) -> Iterator[Row]:
    with ThreadPoolExecutor(2) as pool:
        # In this order, so that nobody waits for the first: most of the time is compiling.
        program = pool.submit(build_orders, folder, "orders", "-O2")
        broken = [pool.submit(check_broken_orders, folder, macro) for macro in ORDERS_BREAKAGES]
        whole = [
            pool.submit(lambda *search: check_whole_orders(program.result(), *search), *search)
            for search in ORDERS_SEARCHES
        ]
        yield from (row.result() for row in whole)
        for rows in broken:
            yield from rows.result()


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


def check_litmus(folder: Path) -> Iterator[Row]:
    cpus = [str(cpu) for cpu in choose_pair() or ()]
    if not cpus:
        yield Row("litmus", "-", "needs two CPUs", False)
        return
    # It includes wait.c, for its static functions.
    bare = build(folder, "bare", "litmus.c", "-O2", "-DRB_LITMUS_WITHOUT_FENCES", without="wait.c")
    fenced = build(folder, "fenced", "litmus.c", "-O2", without="wait.c")
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


def fixed_addresses() -> list[str]:
    """Sanitizers of some compilers cannot do with as much randomness as some kernels have."""
    command = ["setarch", platform.machine(), "-R"]
    with suppress(OSError):
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    return []


def soak_numbers(output: str) -> dict[str, float]:
    line = output.strip().splitlines()[-1].split()
    numbers = {name: float(value) for name, value in zip(line[::2], line[1::2], strict=True)}
    return {name: int(n) if n == int(n) else n for name, n in numbers.items()}


def soak(
    name: str, command: list[str], soaks: list[tuple[float, list[str]]], total: int
) -> Iterator[Row]:
    cpus = choose_pair()
    pinning = ["--cpus", f"{cpus[0]},{cpus[1]}"] if cpus else []
    shares = sum(share for share, _ in soaks)
    sleeps, longest, long_waits = 0, 0.0, 0
    for seed, (share, arguments) in enumerate(soaks, 1):
        count = str(max(int(total * share / shares) + 1, 1000))
        output = run(
            [*command, "--sleeps", count, "--seed", str(seed), *arguments, *pinning], timeout=86400
        )
        numbers = soak_numbers(output)
        for line in output.strip().splitlines()[:-1]:
            print(line)
        sleeps += numbers["sleeps"]
        longest = max(longest, numbers["longest_ms"])
        long_waits += numbers["long_waits"]
        explored = f"{numbers['sleeps']:,} sleeps, {numbers['entries']:,} entries"
        named = " ".join(arguments).replace("--", "")
        result = soak_result(numbers["longest_ms"], numbers["long_waits"])
        yield Row(f"soak in {name}: {named}", explored, result, True)
    explored = f"{sleeps:,} sleeps"
    yield Row(
        f"soak in {name}: all of it", explored, soak_result(longest, long_waits), sleeps >= total
    )


def soak_result(longest_ms: float, long_waits: int) -> str:
    result = f"nothing lost; longest wait {longest_ms} ms"
    return result + (f", {long_waits} above 100 ms, see above" if long_waits else "")


def check_soak(folder: Path, total: int) -> Iterator[Row]:
    in_python = int(total * PYTHON_SHARE)
    yield from soak("C", [build(folder, "stress", "stress.c", "-O2")], SOAKS, total - in_python)
    python = [sys.executable, str(ROOT / "tests/soak.py")]
    yield from soak("Python", python, PYTHON_SOAKS, in_python)


# ---- all of it ----


def print_table(rows: list[Row]) -> None:
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("check", "explored")]
    print(f"\n{'check':{widths[0]}}  {'explored':{widths[1]}}  result")
    for row in rows:
        mark = "" if row.ok else "FAILED: "
        print(f"{row.check:{widths[0]}}  {row.explored:{widths[1]}}  {mark}{row.result}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soak", type=int, metavar="SLEEPS", help="only soak, for so many sleeps")
    parser.add_argument("--only", metavar="NAME", help="only this check")
    options = parser.parse_args()
    checks: dict[str, Callable[[Path], Iterator[Row]]] = {
        "model": check_model,
        "mutants": check_mutants,
        "orders": check_orders,
        "machine-code": check_machine_code,
        "litmus": check_litmus,
        "sanitizers": check_sanitizers,
        "debugger": check_debugger,
        "stopping": check_stopping,
        "soak": lambda folder: check_soak(folder, options.soak or QUICK_SLEEPS),
    }
    only = "soak" if options.soak else options.only
    if only and only not in checks:
        parser.error(f"--only is one of {', '.join(checks)}")
    install_tools()
    rows: list[Row] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ringbell-verify-") as folder:
        for name, check in checks.items():
            if only and name != only:
                continue
            try:
                for row in check(Path(folder)):
                    rows.append(row)
                    print(
                        f"{time.monotonic() - begin:6.1f} s  {row.check}: {row.result}", flush=True
                    )
            except (Failed, FileNotFoundError, subprocess.TimeoutExpired) as error:
                rows.append(Row(name, "-", str(error), False))
                print(f"{name}: {error}", file=sys.stderr, flush=True)
    print_table(rows)
    return 0 if rows and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
