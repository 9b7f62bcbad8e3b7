# SPDX-License-Identifier: MIT
"""All commands, and those that have to do with names: serve and clean."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from ringbell import __version__
from ringbell.calls.opening import listen
from ringbell.calls.serving import serve_on
from ringbell.command import options
from ringbell.command.help import COMMAND, COMMANDS, SETTINGS
from ringbell.command.measuring_commands import run_bench, run_demo
from ringbell.command.process import end_tidily
from ringbell.command.shown import say, shown_errors
from ringbell.command.stream_commands import run_consume, run_produce, run_run
from ringbell.meeting.control_socket import sweep_names
from ringbell.meeting.segment import sweep_old_names
from ringbell.policy import MAX_POLL, Kick, Polling

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


def run_serve(
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
    end_tidily()
    with shown_errors():
        how: dict[str, Any] = {
            "cpu": options.read_cpu(cpu),
            "polling": cast(Polling, options.read_choice("--polling", options.POLLING, polling)),
            "max_poll": options.read_seconds("--max-poll", max_poll),
            "kick": cast(Kick, options.read_choice("--kick", options.KICK, kick)),
        }
        function = options.read_function("handler", handler)
        with listen(name, **how) as listener:
            say(f"listening on {listener.path}")
            serve_on(listener, function)


def run_clean() -> None:
    """Remove the sockets and locks that killed processes of yours left.

    Prints what it removed. Leaves alone what is in use, or belongs to another user.
    """
    with shown_errors():
        removed = [*sweep_names(), *sweep_old_names()]
        for path in removed:
            say(f"removed {path}")
        if not removed:
            say("nothing to remove")


def _add_commands() -> None:
    for name, function, short in (  # in the order in which the help shows them
        ("serve", run_serve, "Answer requests with a function."),
        ("produce", run_produce, "Send files, or the standard input."),
        ("consume", run_consume, "Write what comes to a file or the output."),
        ("run", run_run, "Run a stream between two new processes."),
        ("bench", run_bench, "Compare with Pipe on this machine."),
        ("clean", run_clean, "Remove what killed processes left."),
        ("demo", run_demo, "Send real files to another process and back."),
    ):
        app.command(cls=COMMAND, name=name, short_help=short)(function)


_add_commands()
