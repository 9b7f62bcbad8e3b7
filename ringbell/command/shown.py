# SPDX-License-Identifier: MIT
"""How errors, progress and figures are shown on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

import typer
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

from ringbell.errors import EndOfStream, PeerLost, RingbellError
from ringbell.stats import ConsumerCounters, ProducerCounters

Advance = Callable[[int], None]


def print_error(message: object) -> None:
    """Print one line to stderr, red on a terminal."""
    _print(f"ringbell: {message}", "red")


def print_note(message: object) -> None:
    """Print one line to stderr."""
    _print(f"ringbell: {message}", "")


def _print(text: str, style: str) -> None:
    # If stderr is closed or full, the text is lost.
    with contextlib.suppress(OSError):
        Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: object, code: int = 2) -> NoReturn:
    """Print what went wrong and end the command."""
    print_error(message)
    raise typer.Exit(code)


def say(text: str) -> None:
    """Print to stdout at once; an OSError names it."""
    try:
        print(text, flush=True)
    except OSError as error:
        error.filename = "standard output"
        raise


class _ShownLog(logging.Handler):
    """Shows what the library logs: what it waits for, and what a handler raised."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(record.getMessage())


@contextlib.contextmanager
def _shown_log() -> Iterator[None]:
    log, shown = logging.getLogger("ringbell"), _ShownLog()
    before = log.level
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(shown)


@contextlib.contextmanager
def shown_errors() -> Iterator[None]:
    """Show the library's log, and turn an error into one line and an exit code.

    The code is 1 when the other side went away, or did not come in time, and 2 when the command
    cannot be done as it was given.
    """
    try:
        with _shown_log():
            yield
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except BrokenPipeError:  # the reader of our output has ended, as in `... | head`
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (EndOfStream, PeerLost, TimeoutError) as error:
        fail(error, code=1)
    except OSError as error:
        why = error.strerror or str(error)
        fail(f"{error.filename}: {why}" if error.filename else why)
    except (RingbellError, ValueError, TypeError, RuntimeError, BufferError, MemoryError) as error:
        fail(str(error) or type(error).__name__)


@contextlib.contextmanager
def shown_warnings() -> Iterator[None]:
    """Show a warning in one line, without the place in our code that it comes from."""

    def show(message: Warning | str, *_: object, **_named: object) -> None:
        print_note(message)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def print_figures(end: ProducerCounters | ConsumerCounters, seconds: float) -> None:
    """Print what a stream carried and what it cost."""
    print_note(
        f"{end.bytes:,} bytes in {end.entries:,} entries, {seconds:.3f} s, "
        f"{end.bytes / 1e6 / max(seconds, 1e-9):,.1f} MB/s; {end.kicks_sent:,} kicks sent, "
        f"{end.kicks_saved:,} saved; {end.sleeps:,} sleeps; {end.polling.found:,} waits ended by "
        f"polling, {end.polling.missed:,} not"
    )


def bar(title: str, total: int, quiet: bool) -> contextlib.AbstractContextManager[Advance]:
    """Show the progress of some work, on a terminal."""
    columns = (BarColumn(bar_width=24), TaskProgressColumn(), TimeRemainingColumn())
    return _progress(title, total, quiet, *columns)


def stream_bar(title: str, total: int | None) -> contextlib.AbstractContextManager[Advance]:
    """Show the bytes sent and the speed; with a known total, also the progress."""
    columns: tuple[ProgressColumn, ...] = (FileSizeColumn(), TransferSpeedColumn())
    if total is not None:
        columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    return _progress(title, total, False, *columns)


@contextlib.contextmanager
def _progress(
    title: str, total: int | None, quiet: bool, *columns: ProgressColumn
) -> Iterator[Advance]:
    quiet = quiet or not (sys.stderr and sys.stderr.isatty()) or os.environ.get("TERM") == "dumb"
    first = TextColumn("{task.description}", markup=False)
    with Progress(first, *columns, console=Console(stderr=True), disable=quiet) as progress:
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
