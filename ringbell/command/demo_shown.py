# SPDX-License-Identifier: MIT
"""How the demo's figures are shown: a table for 80 columns, or JSON."""

from __future__ import annotations

import dataclasses
import os
import shutil
import textwrap
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ringbell.command.demo import Job, Result
from ringbell.command.shown import say
from ringbell.policy import Kick

TITLES: dict[Kick, str] = {"asleep": "kick a sleeping side", "always": "kick for every entry"}


def _say(text: str) -> None:
    columns = min(shutil.get_terminal_size().columns, 80) - 1
    say(textwrap.fill(text, max(columns, 20), break_long_words=False, break_on_hyphens=False))


def describe(job: Job, cpus: tuple[int, int] | None, files: int, total: int) -> None:
    """Say what will be done, and where."""
    _say(f"{job.work} of {files:,} files, {total / 1e6:,.1f} MB, below {job.source}.")
    _say(f"Each request is a block of up to {job.block:,} bytes; {job.depth} are in flight.")
    if cpus:
        _say(f"The driver is on CPU {cpus[0]}, the device on CPU {cpus[1]}.")
    else:
        _say(
            "Only one CPU may be used, so both processes share it and every exchange is a context "
            "switch. Nobody polls: that would keep the other process from running."
        )


def as_json(job: Job, cpus: tuple[int, int] | None, results: list[Result]) -> dict[str, object]:
    """Give all figures, those of the table included."""
    return {
        "input": os.fspath(job.source),
        "work": job.work,
        "block": job.block,
        "depth": job.depth,
        "cpus": cpus,
        "runs": [dataclasses.asdict(result) | result.figures() for result in results],
    }


def print_table(job: Job, results: list[Result]) -> None:
    """Print both runs side by side, and what the latencies mean."""
    table = Table(title="The same work, the faster of two runs each")
    table.add_column("")
    for result in results:
        table.add_column(TITLES[result.kick], justify="right")
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("files", lambda r: f"{r.files:,}"),
        ("bytes", lambda r: f"{r.bytes:,}"),
        ("requests", lambda r: f"{r.requests:,}"),
        ("wrong answers", lambda r: f"{r.wrong:,}"),
        ("seconds", lambda r: f"{r.seconds:,.3f}"),
        ("requests/s", lambda r: f"{r.figures()['requests_per_second']:,.0f}"),
        ("MB/s", lambda r: f"{r.figures()['megabytes_per_second']:,.1f}"),
        ("kicks to the device, per 1,000", lambda r: f"{r.figures()['kicks_to_device']:,.1f}"),
        ("kicks to the driver, per 1,000", lambda r: f"{r.figures()['kicks_to_driver']:,.1f}"),
        ("kicks saved", lambda r: f"{r.kicks_saved:,}"),
        ("sleeps, driver + device", lambda r: f"{r.driver_sleeps:,} + {r.device_sleeps:,}"),
        (
            "kernel CPU s, driver + device",
            lambda r: f"{r.driver_kernel_seconds:.2f} + {r.device_kernel_seconds:.2f}",
        ),
        ("round trip alone, p50, us", lambda r: f"{r.alone_p50_us:,.1f}"),
        ("round trip alone, p99, us", lambda r: f"{r.alone_p99_us:,.1f}"),
        (f"round trip at {job.depth}, p50, us", lambda r: f"{r.latency_p50_us:,.1f}"),
        (f"round trip at {job.depth}, p99, us", lambda r: f"{r.latency_p99_us:,.1f}"),
        (f"round trip at {job.depth}, p99.9, us", lambda r: f"{r.latency_p999_us:,.1f}"),
    ]
    for what, show in rows:
        table.add_row(what, *(show(result) for result in results))
    Console(highlight=False).print(table)
    _explain(job, results[0])


def _explain(job: Job, result: Result) -> None:
    rate = result.figures()["requests_per_second"]
    _say(
        f"One at a time, a request and its answer take {result.alone_p50_us:,.1f} us; the "
        f"{job.work} of the block takes {result.work_p50_us:,.1f} us of that. With {job.depth} in "
        f"flight, each waits for those before it: at {rate:,.0f} requests/s, {job.depth} of them "
        f"take {job.depth / rate * 1e6:,.0f} us. So --depth trades latency for throughput."
    )
    if result.skipped:
        _say(f"{result.skipped} files could not be read and were left out.")
