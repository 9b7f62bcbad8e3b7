# SPDX-License-Identifier: MIT
"""The commands that move a stream: what they take and what they do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringbell.command import options, publications, standard
from ringbell.command.files import (
    STANDARD,
    check_target,
    consume_into,
    dtype_of,
    produce_files,
    size_of,
)
from ringbell.command.process import check_python, end_tidily
from ringbell.command.shown import (
    fail,
    live_line,
    print_figures,
    print_note,
    shown_errors,
    shown_warnings,
    stream_bar,
)
from ringbell.streams.opening import consume as consume_stream
from ringbell.streams.opening import produce as produce_stream

if TYPE_CHECKING:
    import numpy as np

    from ringbell.streams.messages import MessageConsumer, MessageProducer
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer


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
    end_tidily()
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
    until Ctrl-C or SIGTERM, and a line says who died. What each sends comes in order, and what its
    program wrote at once stays together; a line written in parts may get others in between.

    With --subscribe it takes what is published from now on, like `tail -f`; any number may do so at
    once. A line at the end says how many entries it missed, where only the newest are kept.
    """
    end_tidily()
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

    end_tidily()
    with shown_errors():
        check_python()
        how: dict[str, Any] = {
            "cpus": options.read_cpus(cpus),
            "ring_size": options.read_ring_size(ring_size),
            "dtype": None if dtype is None else _records_of(dtype),
        }
        for what, text in (("producer", producer), ("consumer", consumer)):
            options.read_function(what, text)  # so that a wrong name is told in one line
        with live_line("running", as_json) as show:
            shown = Shown("messages" if dtype is None else "records", show)
            error = run_shown(producer, consumer, shown, **how)
    if error:
        fail(error, code=1)
    if as_json:
        print(json.dumps(shown.as_json(producer, consumer, **how), indent=1))
    else:
        print_note(shown.summary())
