# SPDX-License-Identifier: MIT
"""The commands that measure: what they take and what they do."""

from __future__ import annotations

from typing import Annotated

import typer

from ringbell.command import options
from ringbell.command.process import check_python, end_tidily
from ringbell.command.shown import bar, fail, live_line, say, shown_errors
from ringbell.pinning import choose_pair
from ringbell.policy import Kick


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

    end_tidily()
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
