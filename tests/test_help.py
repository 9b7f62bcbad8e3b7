# SPDX-License-Identifier: MIT
"""What the command says about itself: help, usage, values, completion."""

import itertools
import os
import re
import shlex
import subprocess
import sys

import pytest
from processes import RINGBELL
from typer.testing import CliRunner

import ringbell
from ringbell.command import cli, demo, options


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_shown(option):
    assert CliRunner().invoke(cli.app, [option]).stdout == f"ringbell {ringbell.__version__}\n"


COMMANDS = ["serve", "produce", "consume", "run", "bench", "clean", "demo"]


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_fits_the_terminal_and_reads_as_a_manual_page(command, columns):
    width = {"COLUMNS": str(columns)}
    done = CliRunner().invoke(cli.app, [*command, "--help"], env=width)
    assert done.exit_code == 0
    assert CliRunner().invoke(cli.app, [*command, "-h"], env=width).stdout == done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Usage: ringbell {' '.join(command)}".rstrip())
    assert max(map(len, lines)) <= columns
    assert not re.search(r"\]\]|<str>|None|\{", done.stdout)
    assert columns < 80 or "[default:\n" not in done.stdout
    # A line of a text is broken only where the next word has no room.
    text = re.split(r"^\w+:$", done.stdout, maxsplit=1, flags=re.MULTILINE)[0]
    for line, following in itertools.pairwise(text.splitlines()):
        if line.startswith("  ") and following:
            assert len(line) + 1 + len(following.split()[0]) > columns - 2


def test_without_a_command_the_help_goes_to_stderr():
    done = CliRunner().invoke(cli.app, [])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage: ringbell" in done.stderr


def test_defaults_that_are_sizes_are_shown_as_they_are_given():
    assert "[default: 1M]" in CliRunner().invoke(cli.app, ["produce", "-h"]).stdout


@pytest.mark.parametrize("text", ["65536", "64K", "64k", "64KiB", "64 KB"])
def test_a_size_may_be_written_in_several_ways(text):
    assert options.read_size("--ring-size", text) == 65536
    assert options.shown_size(65536) == "64K"


@pytest.mark.parametrize("text", ["", "K", "1.5M", "-1", "1MM", "1e6", "1T", "\u0661K"])
def test_what_is_no_size_is_refused_with_one_that_is(text):
    with pytest.raises(ValueError, match="--ring-size is a size like 64K, 1M or 1048576, not"):
        options.read_size("--ring-size", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["produce"], "missing argument 'NAME'; see 'ringbell produce --help'"),
        (["serve", "x"], "missing argument 'MODULE:FUNCTION'; see 'ringbell serve --help'"),
        (["prodcue"], "no such command 'prodcue'"),
        (["consume", "x", "--nope"], "no such option: --nope"),
        (["prodcue"], "(did you mean 'produce'?); see 'ringbell --help'"),
        (["consume", "x", "--timeout"], "--timeout"),
        (["consume", "x", "--cpu"], "'--cpu' requires an argument; see 'ringbell consume --help'"),
        (["demo", "--json=1"], "'--json' does not take a value; see 'ringbell demo --help'"),
        (["consume", "x", "y", "z"], "too many arguments: z; see 'ringbell consume --help'"),
        (["consume", "x", ""], "FILE is the path of a file, not ''"),
        (["produce", "x", ""], "FILE is the path of a file, not ''"),
        (["demo", "--input", ""], "--input is the path of a file, not ''"),
        (["produce", "x", "--cpu", "9999"], "ringbell: --cpu is the number of a CPU that this"),
        (["serve", "x", "os:fspath", "--max-poll", "1"], "ringbell: --max-poll is from 0 to 0.05"),
        (["produce", "x", "--ring-size", "9" * 5000], "--ring-size is a size like 64K"),
        (["consume", "x", "--timeout", "1_0"], "--timeout is a number of seconds, at least 0, not"),
        (["demo", "--depth", "\u0661"], "--depth is a number of requests, at least 1, not"),
        (["produce", "x", "--ring-size", "1000"], "--ring-size is a power of two from 4K to 1G"),
        (
            ["produce", "x", "--timeout", "soon"],
            "--timeout is a number of seconds, at least 0, not 'soon'",
        ),
        (["produce", "x", "--timeout", "-1"], "--timeout is a number of seconds, at least 0"),
        (["consume", "", "--timeout", "0"], "cannot be the name of a channel"),
    ],
)
def test_wrong_words_are_answered_in_one_line(arguments, message):
    done = CliRunner().invoke(cli.app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.fullmatch(rf"(?=ringbell: ).*{re.escape(message)}.*\n", done.stderr)


# ---- what is loaded ----

LOADED = """
import sys
from ringbell.__main__ import main
sys.argv[1:] = {arguments}
try:
    main()
finally:
    print([name for name in ("numpy", "rich", "ringbell.command.demo") if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["produce", "./s", "--timeout", "0"], ["consume", "./s", "--timeout", "0"]],
    ids=str,
)
def test_what_takes_long_to_load_is_loaded_only_where_it_is_needed(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=arguments)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("\n[]\n") or done.stdout == "[]\n"


# ---- completion ----


def test_a_shell_completes_commands_and_values():
    def completed(words):
        settings = {"_RINGBELL_COMPLETE": "complete_bash", "COMP_WORDS": words}
        settings["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        done = CliRunner().invoke(cli.app, [], env=settings)
        return done.stdout.split()

    assert completed("ringbell ") == COMMANDS
    assert completed("ringbell serve x y --polling ") == options.POLLING
    assert completed("ringbell demo --work ") == options.WORKS == list(demo.WORKS)


def test_the_completion_can_be_shown():
    command = " ".join(map(shlex.quote, [*RINGBELL, "--show-completion"]))
    shown = subprocess.run(["bash", "-c", f"{command}; exit"], capture_output=True, check=True)
    assert b"_RINGBELL_COMPLETE=complete_bash" in shown.stdout
    assert "--install-completion" in CliRunner().invoke(cli.app, ["--help"]).stdout


def test_a_completion_that_cannot_be_installed_is_told():
    command = " ".join(map(shlex.quote, [*RINGBELL, "--install-completion"]))
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit"],
        env=os.environ | {"HOME": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"ringbell: /dev/null\S*: [\w ]+\n", done.stderr)


# ---- output ----


def test_what_cannot_be_written_to_the_output_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RINGBELL, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "ringbell: standard output: No space left on device\n"


def test_help_that_nobody_reads_ends_like_any_output_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*RINGBELL, "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
