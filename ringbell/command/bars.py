# SPDX-License-Identifier: MIT
"""The progress bars on a terminal."""

from __future__ import annotations

import contextlib
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
def _progress(title: str, total: int | None, *columns: ProgressColumn) -> Iterator[Advance]:
    first = TextColumn("{task.description}", markup=False)
    with Progress(first, *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        # A redraw would be a measurable part of a request: tell the bar about every megabyte.
        waiting = 0

        def advance(size: int) -> None:
            nonlocal waiting
            waiting += size
            if waiting >= 1 << 20:
                progress.advance(task, waiting)
                waiting = 0

        yield advance
        progress.update(task, advance=waiting)
