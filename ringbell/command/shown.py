# SPDX-License-Identifier: MIT
"""How errors, progress and figures are shown on stderr.

rich takes as long to load as the rest of the command, so only what is drawn on a terminal loads it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

import typer

from ringbell.command.options import as_options
from ringbell.errors import EndOfStream, LetGo, PeerLost, RingbellError
from ringbell.stats import ConsumerCounters, ProducerCounters

Advance = Callable[[int], None]


def print_error(message: object) -> None:
    """Print one line to stderr, red on a terminal."""
    _print(f"ringbell: {_visible(as_options(str(message)))}", "red")


def print_note(message: object) -> None:
    """Print a line to stderr; a traceback has several."""
    _print("ringbell: " + _visible(as_options(str(message)), but="\n\t"), "")


def _visible(text: str, but: str = "") -> str:
    """Escape control characters: a file's name, for instance, may have some for the terminal."""
    found = {c for c in text if unicodedata.category(c) == "Cc"} - set(but)
    return text.translate({ord(c): repr(c)[1:-1] for c in found})


def _print(text: str, style: str) -> None:
    # If stderr is closed or full, the text is lost.
    with contextlib.suppress(OSError):
        if style and _is_terminal():
            from rich.console import Console  # takes long to load

            Console(stderr=True).print(
                text, style=style, markup=False, highlight=False, soft_wrap=True
            )
        elif sys.stderr:
            print(text, file=sys.stderr, flush=True)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def fail(message: object, code: int = 2) -> NoReturn:
    """Print what went wrong and end the command."""
    print_error(message)
    raise typer.Exit(code)


def say(text: str) -> None:
    """Print to stdout at once; an OSError names it."""
    try:
        print(_visible(text, but="\n"), flush=True)
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
    except (EndOfStream, PeerLost, LetGo, TimeoutError) as error:
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


def print_sum(octets: int, producers: int, seconds: float) -> None:
    """Print what came from many producers."""
    print_note(
        f"{octets:,} bytes of {producers:,} producers, {seconds:.3f} s, "
        f"{octets / 1e6 / max(seconds, 1e-9):,.1f} MB/s"
    )


def bar(title: str, total: int, quiet: bool) -> contextlib.AbstractContextManager[Advance]:
    """Show the progress of some work, on a terminal."""
    if quiet or not _can_draw():
        return contextlib.nullcontext(_no_advance)
    from ringbell.command import bars

    return bars.work(title, total)


def stream_bar(
    way: str, name: str, total: int | None, quiet: bool
) -> contextlib.AbstractContextManager[Advance]:
    """Show the bytes sent and the speed, on a terminal; with a known total, also the progress."""
    if quiet or not _can_draw():
        return contextlib.nullcontext(_no_advance)
    from ringbell.command import bars

    return bars.stream(way, _visible(name), total)


def live_line(title: str, quiet: bool) -> contextlib.AbstractContextManager[Callable[[str], None]]:
    """Show one line of text, on a terminal; what is given is called with each new text."""
    if quiet or not _can_draw():
        return contextlib.nullcontext(_no_text)
    from ringbell.command import bars

    return bars.line(title)


def _can_draw() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    return _is_terminal() and os.environ.get("TERM") != "dumb"


def _no_advance(_size: int) -> None:
    """Advance no bar."""


def _no_text(_text: str) -> None:
    """Show no text."""
