# SPDX-License-Identifier: MIT
"""The commands: what they take and what they do."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from ringbell import __version__
from ringbell.calls.opening import listen
from ringbell.calls.serving import serve_on
from ringbell.command import options, publications, standard
from ringbell.command.files import (
    STANDARD,
    check_target,
    consume_into,
    dtype_of,
    produce_files,
    size_of,
)
from ringbell.command.help import COMMAND, COMMANDS, SETTINGS
from ringbell.command.shown import (
    bar,
    fail,
    live_line,
    print_figures,
    print_note,
    say,
    shown_errors,
    shown_warnings,
    stream_bar,
)
from ringbell.launching.functions import load_function
from ringbell.meeting.control_socket import sweep_names
from ringbell.meeting.segment import sweep_old_names
from ringbell.pinning import choose_pair
from ringbell.policy import MAX_POLL, Kick, Polling
from ringbell.streams.opening import consume as consume_stream
from ringbell.streams.opening import produce as produce_stream

if TYPE_CHECKING:
    import numpy as np

    from ringbell.streams.messages import MessageConsumer, MessageProducer
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

app: typer.Typer = typer.Typer(
    cls=COMMANDS,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    invoke_without_command=True,
    help="Requests and answers, or a stream, between two processes through shared memory.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ringbell {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command(cls=COMMAND, short_help="Answer requests with a function.")
def serve(
    name: options.Name,
    handler: Annotated[
        str,
        typer.Argument(metavar="MODULE:FUNCTION", help="Called with the payload of each request."),
    ],
    cpu: options.Cpu = None,
    polling: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            autocompletion=lambda: options.POLLING,
            help="Look before sleeping: adaptive, never or always.",
        ),
    ] = "adaptive",
    max_poll: Annotated[
        str, typer.Option(metavar="SECONDS", help="Longest look, if adaptive.")
    ] = str(MAX_POLL),
    kick: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            autocompletion=lambda: options.KICK,
            help="Wake the other side when it is asleep, or always: for every entry.",
        ),
    ] = "asleep",
) -> None:
    """Answer requests with a function, until Ctrl-C, SIGTERM or SIGHUP.

    The function gets each payload as a read-only memoryview and returns the answer, any buffer.
    Its module may lie in the current folder: `ringbell serve sums mycode:handle`.
    """
    _end_tidily()
    with shown_errors():
        how: dict[str, Any] = {
            "cpu": options.read_cpu(cpu),
            "polling": cast(Polling, options.read_choice("--polling", options.POLLING, polling)),
            "max_poll": options.read_seconds("--max-poll", max_poll),
            "kick": cast(Kick, options.read_choice("--kick", options.KICK, kick)),
        }
        function = load_handler("handler", handler)
        with listen(name, **how) as listener:
            say(f"listening on {listener.path}")
            serve_on(listener, function)


def _end_tidily() -> None:
    """Leave no socket behind when a signal, or the end of the terminal, ends the command."""
    signal.signal(signal.SIGTERM, _exit)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which is how nohup starts us
        signal.signal(signal.SIGHUP, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def check_python() -> None:
    """Raise if there is no Python that a new process could run."""
    if getattr(sys, "frozen", False):
        raise RuntimeError("this command starts Python in new processes; a frozen program has none")


def load_handler(what: str, text: str) -> Callable[..., Any]:
    """Import `MODULE:FUNCTION`, from the current folder first; `what` says what it is for.

    Raises ValueError, which says which part is wrong.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    return load_function(what, text)


@app.command(cls=COMMAND, name="produce", short_help="Send files, or the standard input.")
def run_produce(
    name: options.Name,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="What to send; - or no FILE is the standard input."),
    ] = None,
    dtype: options.Dtype = None,
    ring_size: options.RingSize = options.DEFAULT_RING_SIZE,
    cpu: options.Cpu = None,
    timeout: options.Timeout = None,
    stats: options.Stats = False,
    readers: Annotated[
        str | None,
        typer.Option(
            metavar="N|newest",
            help="Publish to many; wait for N of them, or for nobody at all: newest.",
        ),
    ] = None,
) -> None:
    """Send files, or the standard input, to `ringbell consume NAME`.

    Either of the two may start first; it waits for the other. Bytes go as they are, as in
    `tar c src | ringbell produce x`. A .npy file goes as records of its dtype.

    Ends once all is in the ring, as a writer to a pipe does. Exits with 1 when the consumer is
    gone by then and has not taken everything.

    With --readers any number of `ringbell consume --subscribe NAME` come and go. With a number the
    slowest of them holds this side back. With newest nobody does: who is too slow misses entries.
    """
    _end_tidily()
    with shown_errors():
        how: dict[str, Any] = {
            "ring_size": options.read_ring_size(ring_size),
            "cpu": options.read_cpu(cpu),
            "timeout": options.read_timeout(timeout),
        }
        sources = [options.read_path("FILE", file) for file in files or ["-"]]
        standard.check_input(sources)
        records = dtype_of(sources, dtype)
        total = size_of(sources)
        if records is not None and dtype is None:
            _tell_of_lost_order(sources)
        stream: MessageProducer | RecordProducer
        with shown_warnings():
            if readers is None:
                stream = produce_stream(name, records, **how)
            else:
                stream = publications.open_publisher(name, records, readers, **how)
        begin = time.monotonic()
        quiet = standard.is_typed(sources)  # a bar would overwrite what is typed
        with stream, stream_bar("to", name, total, quiet) as advance:
            produce_files(stream, sources, dtype is not None, advance)
        if stats:
            print_figures(stream.stats().driver.producer, time.monotonic() - begin)


def _tell_of_lost_order(files: list[Path]) -> None:
    from ringbell.command.array_files import lost_order

    for file in lost_order(files):
        print_note(f"{file} lies column by column (Fortran order); it arrives row by row")


@app.command(cls=COMMAND, name="consume", short_help="Write what comes to a file or the output.")
def run_consume(
    name: options.Name,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="Where to write it; - or no FILE is the standard output."
        ),
    ] = None,
    dtype: options.Dtype = None,
    cpu: options.Cpu = None,
    timeout: options.Timeout = None,
    stats: options.Stats = False,
    many: Annotated[
        bool, typer.Option("--many", help="Keep the name, and take from all who produce.")
    ] = False,
    subscribed: Annotated[
        bool, typer.Option("--subscribe", help="Take what --readers publishes, beside others.")
    ] = False,
) -> None:
    """Write what `ringbell produce NAME` sends to a file, or to the standard output.

    Either of the two may start first; it waits for the other. Records go raw, as in
    `ringbell consume x > raw`, or into a FILE.npy as an array. With --dtype a stream of anything
    else is refused.

    Exits with 1 when the producer gives up or dies before the stream ends. With --many it goes on
    until Ctrl-C or SIGTERM, and a line says who died; what each sends comes in order and whole.

    With --subscribe it takes what is published from now on, like `tail -f`; any number may do so at
    once. A line at the end says how many entries it missed, where only the newest are kept.
    """
    _end_tidily()
    with shown_errors():
        wanted = None if dtype is None else _records_of(dtype)
        how: dict[str, Any] = {
            "cpu": options.read_cpu(cpu),
            "timeout": options.read_timeout(timeout),
        }
        target = STANDARD if file is None else options.read_path("FILE", file)
        check_target(target)
        standard.check_output(target)
        if many and subscribed:
            raise ValueError("--many takes from many producers, --subscribe from one publisher")
        if many:
            from ringbell.command.many import consume_many

            consume_many(name, wanted, target, file is not None, stats, **how)
            return
        if subscribed:
            publications.consume(name, wanted, target, file is not None, stats, **how)
            return
        stream: MessageConsumer | RecordConsumer
        stream = consume_stream(name, wanted, **how)
        begin = time.monotonic()
        quiet = standard.is_read(target)  # a bar would stand between the lines
        with stream, stream_bar("from", name, None, quiet) as advance:
            consume_into(stream, target, advance, may_be_binary=file is not None)
        if stats:
            print_figures(stream.stats().device.consumer, time.monotonic() - begin)


def _records_of(dtype: str) -> np.dtype[Any]:
    from ringbell.command.record_files import parse_dtype

    return parse_dtype(dtype)


@app.command(cls=COMMAND, name="run", short_help="Run a stream between two new processes.")
def run_run(
    producer: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="Called with the producing end.")
    ],
    consumer: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="Called with the consuming end.")
    ],
    dtype: options.Dtype = None,
    cpus: Annotated[
        str,
        typer.Option(metavar="CPUS", help="Pin the two to these CPUs, like 0,1; or auto or none."),
    ] = "auto",
    ring_size: options.RingSize = options.DEFAULT_RING_SIZE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a stream between two new processes, each of which calls a function with its end.

    Without --dtype the stream carries messages. It ends when the producer's function returns. The
    modules may lie in the current folder. Shows rate, fill and kicks on a terminal, and the figures
    at the end. `auto` takes two CPUs that share a cache.

    Exits with 1 when one of the functions raises, or a process is killed.
    """
    import json

    from ringbell.command.run import Shown, run_shown  # loads multiprocessing

    _end_tidily()
    with shown_errors():
        check_python()
        how: dict[str, Any] = {
            "cpus": options.read_cpus(cpus),
            "ring_size": options.read_ring_size(ring_size),
            "dtype": None if dtype is None else _records_of(dtype),
        }
        for what, text in (("producer", producer), ("consumer", consumer)):
            load_handler(what, text)  # so that a wrong name is told in one line
        with live_line("running", as_json) as show:
            shown = Shown("messages" if dtype is None else "records", show)
            error = run_shown(producer, consumer, shown, **how)
    if error:
        fail(error, code=1)
    if as_json:
        print(json.dumps(shown.as_json(producer, consumer, **how), indent=1))
    else:
        print_note(shown.summary())


@app.command(cls=COMMAND, name="bench", short_help="Compare with Pipe on this machine.")
def run_bench(
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure requests, messages and records on this machine, and multiprocessing.Pipe beside them.

    Messages have 64 bytes. The two sides are pinned to two CPUs, if there are two. Ours and Pipe
    run in turn, three times; shows medians, and the kicks for 1,000 entries. Takes some ten
    seconds; on a busy machine the figures mean little.
    """
    import json

    from ringbell.command import bench  # loads multiprocessing

    _end_tidily()
    with shown_errors():
        check_python()
        cpus = choose_pair()
        with live_line("measuring", as_json) as show:
            figures = bench.measure(cpus, show)
    if as_json:
        print(json.dumps(bench.as_json(cpus, figures), indent=1))
        return
    where = f"on CPU {cpus[0]} and {cpus[1]}" if cpus else "on one CPU, which both sides share"
    say(f"The two sides are {where}.")
    for line in bench.table(figures):
        say(line)


@app.command(cls=COMMAND, short_help="Remove what killed processes left.")
def clean() -> None:
    """Remove the sockets and locks that killed processes of yours left.

    Prints what it removed. Leaves alone what is in use, or belongs to another user.
    """
    with shown_errors():
        removed = [*sweep_names(), *sweep_old_names()]
        for path in removed:
            say(f"removed {path}")
        if not removed:
            say("nothing to remove")


@app.command(cls=COMMAND, name="demo", short_help="Send real files to another process and back.")
def run_demo(
    source: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="PATH", help="Folder or file to send instead of Python's library."
        ),
    ] = None,
    work: Annotated[
        str,
        typer.Option(
            metavar="WORK",
            autocompletion=lambda: options.WORKS,
            help=f"Work to do: {' or '.join(options.WORKS)}.",
        ),
    ] = "sha256",
    block: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of a request, at most.")
    ] = options.DEFAULT_BLOCK,
    depth: Annotated[
        str, typer.Option(metavar="COUNT", help="Requests in flight.")
    ] = options.DEFAULT_DEPTH,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Push real files through a device in another process, check its answers, show the figures.

    Does the work with kicks only for a side that sleeps, and with a kick for every entry, to show
    the difference. Does each twice, in turn, and shows the faster run.

    Exits with 1 when an answer is wrong.
    """
    import json
    import sysconfig

    from ringbell.command import demo, demo_shown

    with shown_errors():
        check_python()
        job = demo.Job(
            options.read_path(
                "--input", sysconfig.get_path("stdlib") if source is None else source
            ),
            work,
            options.read_size("--block", block),
            options.read_number("--depth", "a number of requests, at least 1", depth),
        )
        cpus = choose_pair()
        files, total = job.files()
        if not as_json:
            demo_shown.describe(job, cpus, len(files), total)
        kicks: tuple[Kick, ...] = ("asleep", "always")
        with bar("reading the files once", total, as_json) as advance:
            demo.read_once(files, advance)
        runs: dict[Kick, list[demo.Result]] = {kick: [] for kick in kicks}
        for _ in range(demo.ROUNDS):  # in turn: the speed of a shared machine varies
            for kick in kicks:
                with bar(demo_shown.TITLES[kick], total, as_json) as advance:
                    runs[kick].append(demo.run(job, kick, cpus, files, advance))
        # The fastest run; but a run with a wrong answer comes first, so that nothing hides it.
        results = [min(runs[kick], key=lambda run: (-run.wrong, run.seconds)) for kick in kicks]
    if as_json:
        print(json.dumps(demo_shown.as_json(job, cpus, results), indent=1))
    else:
        demo_shown.print_table(job, results)
    wrong = sum(result.wrong for result in results)
    if wrong:
        fail(f"{wrong} answers are wrong", code=1)
