# SPDX-License-Identifier: MIT
"""The memory orders of the real functions, in the C11 model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import ROOT, Row, run

CONTEXT_BOUND = 3
# More preemptions than an execution has steps, so this searches all executions.
NO_BOUND = 1000
RANDOM_SCHEDULES = 1_000_000

# The tests and how each is searched. To search all executions of every test would take minutes.
ORDERS_TESTS = ["data", "space", "both", "terms", "good_part", "block", "whole"]
ORDERS_SEARCHES = [
    *((test, "bound", CONTEXT_BOUND) for test in ORDERS_TESTS),
    *((test, "random", RANDOM_SCHEDULES) for test in ORDERS_TESTS),
    ("good_part", "bound", NO_BOUND),
    ("block", "bound", NO_BOUND),
    ("whole", "bound", NO_BOUND),
]
# For each macro: the tests that must fail with it, and what it takes out of the sources there.
ORDERS_BREAKAGES = {
    "WITHOUT_RING_FENCE": {
        "data": "fence (B) of the producer",
        "space": "fence (D) of the consumer",
        "block": "fence (H) of the receiver",
    },
    "WITHOUT_WAIT_FENCE": {
        "data": "fence (B) of the consumer",
        "space": "fence (D) of the producer",
        "block": "fence (H) of the sender",
    },
    "WITHOUT_RELEASE": {
        "data": "release (A) of write_index",
        "space": "release (C) of read_index",
        "block": "release (G) of a returned block",
        "whole": "release (A) of an entry that may be overwritten",
    },
    "WITHOUT_ACQUIRE": {
        "data": "acquire (A) of write_index",
        "space": "acquire (C) of read_index",
        "block": "acquire (G) of a returned block",
        "whole": "acquire (A) of an entry that may be overwritten",
    },
    "WITHOUT_EVENT_RELEASE": {"terms": "release (E) of data_event"},
    "WITHOUT_EVENT_ACQUIRE": {"terms": "acquire (E) of data_event"},
    "WITHOUT_CLAIM_FENCE": {"whole": "fence (I) of the writer"},
    "WITHOUT_CHECK_FENCE": {"whole": "fence (I) of the reader"},
    "WITHOUT_TIMEOUT": {"good_part": "bound of the sleep for a good part"},
}


def build_orders(folder: Path, name: str, *options: str) -> str:
    """Build the search of the orders; Relacy's headers do without our warnings."""
    program = str(folder / name)
    flags = ["-std=gnu++17", "-D_GNU_SOURCE", "-w", f"-I{ROOT / 'csrc'}"]
    # Relacy switches threads by longjmp between stacks, which a fortified libc forbids.
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
        # The first one takes long to compile. The broken ones run meanwhile, and do not need it.
        program = pool.submit(build_orders, folder, "orders", "-O2")
        broken = [pool.submit(check_broken_orders, folder, macro) for macro in ORDERS_BREAKAGES]
        whole = [
            pool.submit(lambda *search: check_whole_orders(program.result(), *search), *search)
            for search in ORDERS_SEARCHES
        ]
        yield from (row.result() for row in whole)
        for rows in broken:
            yield from rows.result()
