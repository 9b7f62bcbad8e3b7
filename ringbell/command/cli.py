# SPDX-License-Identifier: MIT
"""The commands: what they take, and how their errors and results are shown."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ringbell import __version__
from ringbell.calls.opening import listen
from ringbell.calls.serving import serve_on
from ringbell.command import demo, standard
from ringbell.errors import EndOfStream, PeerLost, RingbellError
from ringbell.meeting.control_socket import sweep_names
from ringbell.meeting.segment import RING_SIZE, sweep_old_names
from ringbell.pinning import choose_pair
from ringbell.policy import MAX_POLL, Kick, Polling
from ringbell.stats import ConsumerCounters, ProducerCounters
from ringbell.streams.opening import consume as consume_stream
from ringbell.streams.opening import produce as produce_stream

if TYPE_CHECKING:
    from ringbell.streams.messages import MessageConsumer, MessageProducer
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Doorbell rings in shared memory: two processes exchange requests and answers, or one "
    "sends a stream to the other.",
)
_errors = Console(stderr=True)
_TITLES: dict[Kick, str] = {"asleep": "kick a side that sleeps", "always": "kick for every entry"}

CpuOption = Annotated[int | None, typer.Option(help="Pin to this CPU.")]
PollingOption = Annotated[str, typer.Option(help="adaptive, never or always.")]
KickOption = Annotated[str, typer.Option(help="asleep, or always: a kick for every entry.")]


def _tell(message: object) -> None:
    _errors.print(
        f"ringbell: {message}", style="red", markup=False, highlight=False, soft_wrap=True
    )


def _fail(message: object, code: int = 2) -> NoReturn:
    _tell(message)
    raise typer.Exit(code)


def _say(message: str) -> None:
    _errors.print(f"ringbell: {message}", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _shown_errors() -> Iterator[None]:
    """Show what went wrong in one line, without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except BrokenPipeError:  # whoever read our output wants no more, as in `... | head`
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (EndOfStream, PeerLost) as error:
        _fail(error, code=1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{where}")
    except (RingbellError, ValueError, RuntimeError, BufferError) as error:
        _fail(error)


@contextlib.contextmanager
def _shown_warnings() -> Iterator[None]:
    """Show a warning in one line, without the place in our code that it comes from."""

    def show(message: Warning | str, *_: object, **_named: object) -> None:
        _tell(message)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ringbell {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help="Name to listen under, or a path with a slash.")],
    handler: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Called with each request's payload.")
    ],
    cpu: CpuOption = None,
    polling: PollingOption = "adaptive",
    max_poll: Annotated[
        float, typer.Option(help="Seconds that adaptive polling may take.")
    ] = MAX_POLL,
    kick: KickOption = "asleep",
) -> None:
    """Answer requests with a function, until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _end_on_sigterm)
    with _shown_errors():
        function = load_handler(handler)
        with listen(
            name, cpu=cpu, polling=_polling(polling), max_poll=max_poll, kick=_kick(kick)
        ) as listener:
            print(f"listening on {listener.path}", flush=True)
            serve_on(listener, function)


def _end_on_sigterm(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _polling(text: str) -> Polling:
    return text  # type: ignore[return-value]  # Policy checks it


def _kick(text: str) -> Kick:
    return text  # type: ignore[return-value]  # Policy checks it


def load_handler(text: str) -> Callable[[memoryview], Any]:
    """Import `MODULE:FUNCTION`; the current folder is looked in first.

    Raises ValueError that says which part is wrong.
    """
    module_name, colon, path = text.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"a handler is MODULE:FUNCTION, like zlib:compress, not {text!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the module's own code raises
        raise ValueError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module {module_name!r} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{text!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


StatsOption = Annotated[bool, typer.Option("--stats", help="A line of figures at the end.")]
TimeoutOption = Annotated[
    float | None, typer.Option(help="Seconds to wait for the other side; for ever if not given.")
]


@app.command(name="produce")
def run_produce(
    name: Annotated[str, typer.Argument(help="Name of the stream, or a path with a slash.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="- or nothing: the input.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Records of this dtype, raw: f8, i4,f8, or a list as NumPy takes it."),
    ] = None,
    ring_size: Annotated[int, typer.Option(help="Bytes of the ring, a power of two.")] = RING_SIZE,
    cpu: CpuOption = None,
    timeout: TimeoutOption = None,
    stats: StatsOption = False,
) -> None:
    """Send files, or what comes in, to `ringbell consume NAME`; whichever starts first waits.

    Bytes go as they are: tar c src | ringbell produce x. A .npy file goes as records of its dtype.
    Exits with 1 when the consumer goes away before all was sent.
    """
    from ringbell.command.files import dtype_of, lost_order, produce_files, size_of  # loads NumPy

    signal.signal(signal.SIGTERM, _end_on_sigterm)
    with _shown_errors():
        sources = files or [Path("-")]
        standard.check_input(sources)
        records = dtype_of(sources, dtype)
        total = size_of(sources)
        for file in lost_order(sources) if dtype is None else ():
            _say(f"{file} lies column by column (Fortran order); it arrives row by row")
        stream: MessageProducer | RecordProducer
        options: dict[str, Any] = {"ring_size": ring_size, "cpu": cpu, "timeout": timeout}
        with _shown_warnings():
            stream = produce_stream(name, records, **options)
        begin = time.monotonic()
        with stream, _stream_bar(f"to {name}", total) as advance:
            produce_files(stream, sources, dtype is not None, advance)
        if stats:
            _print_stats(stream.stats().driver.producer, time.monotonic() - begin)


@app.command(name="consume")
def run_consume(
    name: Annotated[str, typer.Argument(help="Name of the stream, or a path with a slash.")],
    file: Annotated[Path, typer.Argument(help="- or nothing: the output.")] = Path("-"),
    dtype: Annotated[
        str | None, typer.Option(help="Refuse a stream of other records than of this dtype.")
    ] = None,
    cpu: CpuOption = None,
    timeout: TimeoutOption = None,
    stats: StatsOption = False,
) -> None:
    """Write what `ringbell produce NAME` sends; whichever starts first waits.

    ringbell consume x | tar x -C copy. Records go raw, or into a FILE.npy as an array.
    Exits with 1 when the producer gives up or dies before its end.
    """
    from ringbell.command.files import check_target, consume_into, parse_dtype  # loads NumPy

    signal.signal(signal.SIGTERM, _end_on_sigterm)
    with _shown_errors():
        wanted = None if dtype is None else parse_dtype(dtype)
        check_target(file)
        standard.check_output(file)
        stream: MessageConsumer | RecordConsumer
        stream = consume_stream(name, wanted, cpu=cpu, timeout=timeout)
        begin = time.monotonic()
        with stream, _stream_bar(f"from {name}", None) as advance:
            consume_into(stream, file, advance)
        if stats:
            _print_stats(stream.stats().device.consumer, time.monotonic() - begin)


def _print_stats(end: ProducerCounters | ConsumerCounters, seconds: float) -> None:
    _errors.print(
        f"ringbell: {end.bytes:,} bytes in {end.entries:,} entries, {seconds:.3f} s, "
        f"{end.bytes / 1e6 / max(seconds, 1e-9):,.1f} MB/s; {end.kicks_sent:,} kicks sent, "
        f"{end.kicks_saved:,} saved; {end.sleeps:,} sleeps; {end.polling.found:,} waits ended by "
        f"polling, {end.polling.missed:,} not",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def clean() -> None:
    """Remove what killed processes of yours left behind, and say what that was."""
    with _shown_errors():
        removed = [*sweep_names(), *sweep_old_names()]
        for path in removed:
            print(f"removed {path}")
        if not removed:
            print("nothing to remove")


@app.command(name="demo")
def run_demo(
    input_path: Annotated[
        Path | None,
        typer.Option("--input", help="Folder or file to send; the standard library if not given."),
    ] = None,
    work: Annotated[
        str, typer.Option(help=f"What the device does: {' or '.join(demo.WORKS)}.")
    ] = "sha256",
    block: Annotated[int, typer.Option(help="Bytes in a request, at most.")] = demo.BLOCK,
    depth: Annotated[int, typer.Option(help="Requests in flight.")] = demo.DEPTH,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Push real files through a device in another process, check its answers, show the figures.

    The work is done with kicks only for a side that sleeps, and with a kick for every entry, so
    that the difference is visible; each twice, in turn, and the faster run of each is shown.
    Exits with 1 if an answer is wrong.
    """
    with _shown_errors():
        job = demo.Job(input_path or Path(sysconfig.get_path("stdlib")), work, block, depth)
        cpus = choose_pair()
        files, total = job.files()
        if not as_json:
            _describe(job, cpus, len(files), total)
        kicks: tuple[Kick, ...] = ("asleep", "always")
        with _bar("reading the files once", total, as_json) as advance:
            demo.read_once(files, advance)
        runs: dict[Kick, list[demo.Result]] = {kick: [] for kick in kicks}
        for _ in range(demo.ROUNDS):  # in turn: the speed of a shared machine varies
            for kick in kicks:
                with _bar(_TITLES[kick], total, as_json) as advance:
                    runs[kick].append(demo.run(job, kick, cpus, files, advance))
        # The fastest, but for one with a wrong answer, which is shown rather than hidden.
        results = [min(runs[kick], key=lambda run: (-run.wrong, run.seconds)) for kick in kicks]
    if as_json:
        print(json.dumps(_as_json(job, cpus, results), indent=1))
    else:
        Console().print(_table(results))
    wrong = sum(result.wrong for result in results)
    if wrong:
        _fail(f"{wrong} answers are wrong", code=1)


def _describe(job: demo.Job, cpus: tuple[int, int] | None, files: int, total: int) -> None:
    if cpus:
        where = f"driver on CPU {cpus[0]}, device on CPU {cpus[1]}"
    else:
        where = (
            "only one CPU may be used: both processes share it, so nobody polls (it would keep the "
            "other from running) and every exchange is a context switch"
        )
    print(f"{job.work} of {files:,} files, {total / 1e6:,.1f} MB, below {job.source}")
    print(f"in blocks of up to {job.block:,} bytes, {job.depth} in flight; {where}")


def _bar(
    title: str, total: int, quiet: bool
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    return _progress(title, total, quiet, TaskProgressColumn(), TimeRemainingColumn())


def _stream_bar(
    title: str, total: int | None
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    quiet = sys.stderr is None or not sys.stderr.isatty()
    return _progress(title, total, quiet, DownloadColumn(), TransferSpeedColumn())


@contextlib.contextmanager
def _progress(
    title: str, total: int | None, quiet: bool, *columns: ProgressColumn
) -> Iterator[Callable[[int], None]]:
    first = (TextColumn("{task.description:24}", markup=False), BarColumn())
    console = Console(stderr=True)
    with Progress(*first, *columns, console=console, disable=quiet) as progress:
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


def _as_json(
    job: demo.Job, cpus: tuple[int, int] | None, results: list[demo.Result]
) -> dict[str, object]:
    return {
        "input": os.fspath(job.source),
        "work": job.work,
        "block": job.block,
        "depth": job.depth,
        "cpus": cpus,
        "runs": [dataclasses.asdict(result) | result.figures() for result in results],
    }


def _table(results: list[demo.Result]) -> Table:
    table = Table(title="The same work, the faster of two runs each")
    table.add_column("")
    for result in results:
        table.add_column(_TITLES[result.kick], justify="right")
    rows: list[tuple[str, Callable[[demo.Result], str]]] = [
        ("files", lambda r: f"{r.files:,}"),
        ("bytes", lambda r: f"{r.bytes:,}"),
        ("requests", lambda r: f"{r.requests:,}"),
        ("wrong answers", lambda r: f"{r.wrong:,}"),
        ("seconds", lambda r: f"{r.seconds:,.2f}"),
        ("requests/s", lambda r: f"{r.figures()['requests_per_second']:,.0f}"),
        ("MB/s", lambda r: f"{r.figures()['megabytes_per_second']:,.1f}"),
        ("kicks per 1,000 requests, to device", lambda r: f"{r.figures()['kicks_to_device']:,.1f}"),
        ("kicks per 1,000 requests, to driver", lambda r: f"{r.figures()['kicks_to_driver']:,.1f}"),
        ("kicks saved", lambda r: f"{r.kicks_saved:,}"),
        ("sleeps, driver + device", lambda r: f"{r.driver_sleeps:,} + {r.device_sleeps:,}"),
        (
            "CPU time in the kernel, s, driver + device",
            lambda r: f"{r.driver_kernel_seconds:.2f} + {r.device_kernel_seconds:.2f}",
        ),
        ("latency p50, us", lambda r: f"{r.latency_p50_us:,.1f}"),
        ("latency p99, us", lambda r: f"{r.latency_p99_us:,.1f}"),
        ("latency p99.9, us", lambda r: f"{r.latency_p999_us:,.1f}"),
    ]
    for what, show in rows:
        table.add_row(what, *(show(result) for result in results))
    skipped = results[0].skipped
    if skipped:
        table.caption = f"{skipped} files could not be read and were left out"
    return table
