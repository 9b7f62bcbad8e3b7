# SPDX-License-Identifier: MIT
"""How help and errors of usage look: plain text for 80 columns, an error in one line."""

# ruff: noqa: ANN401  (contexts and formatters are typer's own or click's, as the version has it)

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from ringbell.command.shown import print_error

# The base of all errors of usage. typer has it in a private module, which may move.
_ShownError = cast(type[Exception], typer.BadParameter.__mro__[2])
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_WIDEST, _NARROW, _NARROWEST = 80, 56, 28


def _usage_pieces(command: Any, context: Any) -> list[str]:
    pieces = ["[OPTIONS]"]
    for parameter in command.get_params(context):
        if parameter.param_type_name == "argument":
            name = parameter.metavar if parameter.required else f"[{parameter.metavar}]"
            pieces.append(name if parameter.nargs == 1 else f"{name}...")
    return pieces


def _format_options(command: Any, context: Any, formatter: Any) -> None:
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            rows["Arguments"].append((parameter.metavar, parameter.help or ""))
            continue
        short = [name for name in parameter.opts if not name.startswith("--")]
        names = ", ".join([*short, *(name for name in parameter.opts if name not in short)])
        names = names if short else f"    {names}"
        value = "" if parameter.is_flag else f" <{parameter.metavar}>"
        text = parameter.help or ""
        if parameter.show_default and not parameter.is_flag and parameter.default is not None:
            text += f" [default: {parameter.default}]"
        rows["Options"].append((names + value, text))
    for title, found in rows.items():
        if found:
            with formatter.section(title):
                # In a narrow terminal the text goes below the option.
                formatter.write_dl(found, col_max=34 if formatter.width > _NARROW else 8)


def _fit(context: Any) -> None:
    """Break the lines of the help for the terminal, however narrow; typer stops at 50 columns."""
    columns = shutil.get_terminal_size().columns
    context.terminal_width = max(min(columns, _WIDEST) - 2, _NARROWEST)


class _Command(TyperCommand):
    """One command."""

    def get_help(self, ctx: Any) -> str:
        """Write the help for this terminal."""
        _fit(ctx)
        return super().get_help(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what follows the command; the parser's errors do not say of which command."""
        try:
            return super().parse_args(ctx, args)
        except _ShownError as error:
            cast(Any, error).ctx = getattr(error, "ctx", None) or ctx
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name the arguments as the manual pages do."""
        return _usage_pieces(self, ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what it takes: arguments first."""
        _format_options(self, ctx, formatter)


class _Commands(TyperGroup):
    """All commands: an error becomes one line on stderr and an exit code."""

    def get_help(self, ctx: Any) -> str:
        """Write the help for this terminal."""
        _fit(ctx)
        return super().get_help(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands first."""
        rows = [(name, self.commands[name].short_help or "") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        _format_options(self, ctx, formatter)

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run a command and exit; say in one line what was wrong with the arguments."""
        always = {"prog_name": "ringbell", "standalone_mode": False}
        try:
            code = super().main(*arguments, **options | always)
            if sys.stdout is not None:
                sys.stdout.flush()
        except _ShownError as error:
            print_error(_in_our_words(error))
            code = 2
        except BrokenPipeError:  # the reader of our output has ended, as in `... | head`
            code = 128 + signal.SIGPIPE
        except SystemExit as end:  # typer makes an exit of a broken pipe that it meets itself
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            code = 128 + signal.SIGPIPE
        except OSError as error:
            print_error(f"{error.filename or 'standard output'}: {error.strerror}")
            code = 2
        if code:
            _forget_output()
        sys.exit(code or 0)


# The classes for typer: of one command, and of the group.
COMMAND: type[Any] = _Command
COMMANDS: type[Any] = _Commands


def _in_our_words(error: Any) -> str:
    text = error.format_message().rstrip(".")
    text = re.sub(r"^Got unexpected extra argument\S* \((.*)\)$", r"too many arguments: \1", text)
    text = re.sub(r"\. Did you mean (.*)\?$", r" (did you mean \1?)", text)
    where = getattr(getattr(error, "ctx", None), "command_path", "ringbell")
    return f"{text[:1].lower()}{text[1:]}; see '{where} --help'"


def _forget_output() -> None:
    """Drop output that could not be written, or the interpreter would try again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
