# SPDX-License-Identifier: MIT
"""The progress bars on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    FileSizeColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]
_STEP = 1 << 20
_PAUSE = 0.1
"""The bar is told of so many bytes, or after so many seconds, whichever comes first."""


def work(title: str, total: int) -> contextlib.AbstractContextManager[Advance]:
    """Show the progress of some work."""
    return _progress(
        title, total, BarColumn(bar_width=24), TaskProgressColumn(), TimeRemainingColumn()
    )


def stream(way: str, name: str, total: int | None) -> contextlib.AbstractContextManager[Advance]:
    """Show the bytes sent and the speed; with a known total, also the progress.

    Of a long name it shows the end: the figures need their room.
    """
    most = max(Console(stderr=True).width // 2 - 10, 6)
    if len(name) > most:
        name = "..." + name[3 - most :]
    columns: tuple[ProgressColumn, ...] = (FileSizeColumn(), TransferSpeedColumn())
    if total is not None:
        columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    return _progress(f"{way} {name}", total, *columns)


@contextlib.contextmanager
def line(title: str) -> Iterator[Callable[[str], None]]:
    """Show one line of text; what is given is called with each new text."""
    with _shown(TextColumn("{task.fields[text]}", markup=False)) as progress:
        task = progress.add_task(title, total=None, text="")
        yield lambda text: progress.update(task, text=text)


def _shown(*columns: ProgressColumn) -> Progress:
    first = TextColumn("{task.description}", markup=False)
    return Progress(first, *columns, console=Console(stderr=True))


@contextlib.contextmanager
def _progress(title: str, total: int | None, *columns: ProgressColumn) -> Iterator[Advance]:
    with _shown(*columns) as progress:
        task = progress.add_task(title, total=total)
        # To tell the bar of each step would be a measurable part of a request.
        waiting, told = 0, time.monotonic()

        def advance(size: int) -> None:
            nonlocal waiting, told
            waiting += size
            now = time.monotonic()
            if waiting >= _STEP or now - told >= _PAUSE:
                progress.advance(task, waiting)
                waiting, told = 0, now

        yield advance
        progress.update(task, advance=waiting)
