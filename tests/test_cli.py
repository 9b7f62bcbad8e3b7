# SPDX-License-Identifier: MIT
"""The command line, as a shell sees it."""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import state_of, wait_until
from typer.testing import CliRunner

import ringbell
from ringbell.command import cli, demo, options

COMMAND = [sys.executable, "-m", "ringbell"]


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


def run_here(*arguments):
    """Run the command in this process, which takes a tenth of the time."""
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "small").write_bytes(b"small")
    (folder / "below/large").write_bytes(os.urandom(100_000))
    (folder / "link").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("work", ["sha256", "compress"])
def test_the_demo_sends_every_file_and_checks_every_answer(files, work):
    done = run("demo", "--input", files, "--work", work, "--block", 1000, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["work"] == work
    asleep, always = result["runs"]
    for figures in (asleep, always):
        assert (figures["files"], figures["bytes"]) == (3, 100_005)
        assert (figures["requests"], figures["wrong"], figures["skipped"]) == (101, 0, 0)
        assert figures["latency_p50_us"] <= figures["latency_p99_us"]
    assert asleep["kicks_sent_to_device"] < 101
    assert always["kicks_to_device"] == always["kicks_to_driver"] == 1000


def test_the_demo_shows_a_table(files):
    done = run("demo", "--input", files, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    for row in ("files", "requests/s", "MB/s", "kicks saved", "p99.9, us", "wrong answers"):
        assert row in done.stdout
    assert "100,005" in done.stdout
    assert "driver is on CPU" in done.stdout or "Only one CPU" in done.stdout
    assert re.search(r"round trip alone, p50, us +│ +[\d,]+\.\d │", done.stdout)
    assert "One at a time, a request and its answer take" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_demo_on_one_cpu_says_what_it_does(files):
    done = run(
        "demo",
        "--input",
        files,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    assert done.returncode == 0, done.stderr
    assert "Only one CPU may be used" in done.stdout


def test_the_demo_exits_with_1_if_an_answer_is_wrong(files, monkeypatch):
    # The device computes the true answers; this process expects others for one block.
    def expected(block):
        return b"other" if block == b"small" else demo.sha256(block)

    monkeypatch.setitem(demo.WORKS, "sha256", expected)
    done = CliRunner().invoke(cli.app, ["demo", "--input", str(files), "--json"])
    assert done.exit_code == 1
    assert '"wrong": 2,' in done.output  # with the others, and one at a time


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "/nowhere"], "there is no such file or folder"),
        (["--work", "nothing"], "--work is one of sha256, compress"),
        (["--block", "1000000000000"], "--block is from 1 to"),
        (["--block", "1T"], "--block is a size like 64K, 1M or 1048576, not '1T'"),
        (["--depth", "x"], "--depth is a number of requests, at least 1, not 'x'"),
        (["--block", "0"], "--block is from 1 to 268435456 bytes"),
        (["--depth", "0"], "--depth is a number of requests, at least 1"),
    ],
)
def test_a_wrong_argument_of_the_demo_is_one_line_and_exit_code_2(arguments, message):
    done = run_here("demo", *arguments)
    assert done.exit_code == 2
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGKILL, "while the device starts"),
        (signal.SIGHUP, "while the device starts"),
        (signal.SIGTERM, "while it serves"),
    ],
)
def test_a_demo_that_is_killed_leaves_no_device_and_no_folder(tmp_path, number, moment):
    work, source = tmp_path / "work", tmp_path / "source"
    work.mkdir()
    source.mkdir()
    (source / "file").write_bytes(b"x" * 5_000_000)
    with subprocess.Popen(
        [*COMMAND, "demo", "--input", source, "--block", "1", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(work)},
    ) as process:
        try:
            wait_until(lambda: children_of(process.pid))
            (device,) = children_of(process.pid)
            if moment == "while it serves":
                wait_until(lambda: not list(work.iterdir()))
        finally:
            process.send_signal(number)
    assert process.returncode == -number
    wait_until(lambda: has_ended(device))
    assert list(work.iterdir()) == []


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid):
    try:
        return state_of(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_ctrl_c_while_the_command_loads_is_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("print('loads', flush=True)\nimport time\ntime.sleep(100)\n")
    with subprocess.Popen(
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    ) as process:
        try:
            assert process.stdout.readline() == "loads\n"
        finally:
            process.send_signal(signal.SIGINT)
        assert (process.wait(), process.stderr.read()) == (130, "")


def test_a_frozen_program_says_that_it_has_no_python_for_the_demo(files, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    done = run_here("demo", "--input", files, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a frozen program has none" in done.stderr


def test_a_folder_without_files_is_an_error(tmp_path):
    done = run_here("demo", "--input", tmp_path)
    assert (done.exit_code, "there are no files in it" in done.stderr) == (2, True)


def test_an_error_is_one_line_however_long(tmp_path):
    done = run_here("demo", "--input", tmp_path / ("x" * 200))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "there is no such file or folder" in done.stderr


@pytest.fixture
def server(path, tmp_path):
    (tmp_path / "shout.py").write_text("def shout(payload):\n    return bytes(payload).upper()\n")
    with subprocess.Popen(
        [*COMMAND, "serve", str(path), "shout:shout"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("listening on")
            yield process
        finally:
            process.kill()


def test_serve_answers_with_a_function_of_the_current_folder(server, path):
    with ringbell.connect(path) as driver:
        assert driver.call(b"hello") == b"HELLO"


def test_ctrl_c_ends_serve_quietly(server, path):
    with ringbell.connect(path) as driver:
        driver.call(b"hello")
        server.send_signal(signal.SIGINT)
        assert server.wait() == 130
        assert "Traceback" not in server.stderr.read()
        with pytest.raises(ringbell.EndOfStream):
            driver.call(b"hello")


def test_serve_shows_no_traceback_of_a_broken_module(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "does_not_parse.py").write_text("def f(:\n")
    (tmp_path / "divides_by_0.py").write_text("1 / 0\n")
    for module, error in (("does_not_parse", "SyntaxError"), ("divides_by_0", "ZeroDivision")):
        done = run_here("serve", path, f"{module}:f")
        assert done.exit_code == 2
        assert re.fullmatch(rf"ringbell: cannot import '{module}': {error}.*\n", done.stderr)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("nocolon", "a handler is MODULE:FUNCTION"),
        (".relative:f", "cannot import '.relative'"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("hashlib:nothing", "module 'hashlib' has no 'nothing'"),
        ("sys:argv", "is a list, not a function"),
    ],
)
def test_serve_says_what_is_wrong_with_a_handler(path, handler, message):
    done = run_here("serve", path, handler)
    assert done.exit_code == 2
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


def test_serve_says_that_a_name_is_in_use(server, path):
    done = run_here("serve", path, "hashlib:sha256")
    assert (done.exit_code, "somebody listens on" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--polling", "no"], "--polling is adaptive, never or always, not 'no'"),
        (["--kick", "no"], "--kick is asleep or always, not 'no'"),
        (["--cpu", "9999"], "CPU"),
        (["--cpu", "x"], "--cpu is the number of a CPU, not 'x'"),
        (["--max-poll", "x"], "--max-poll is a number of seconds, at least 0, not 'x'"),
    ],
)
def test_serve_refuses_bad_options(path, option, message):
    done = CliRunner().invoke(cli.app, ["serve", str(path), "hashlib:sha256", *option])
    assert done.exit_code == 2
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_shown(option):
    assert CliRunner().invoke(cli.app, [option]).stdout == f"ringbell {ringbell.__version__}\n"


COMMANDS = ["serve", "produce", "consume", "clean", "demo"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_fits_80_columns_and_reads_as_a_manual_page(command):
    done = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert (
        CliRunner().invoke(cli.app, [*command, "-h"], env={"COLUMNS": "80"}).stdout == done.stdout
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Usage: ringbell {' '.join(command)}".rstrip())
    assert max(map(len, lines)) <= 80
    assert not re.search(r"\]\]|<str>|None|\{", done.stdout)
    # A line of a text is broken only where the next word has no room.
    text = re.split(r"^\w+:$", done.stdout, maxsplit=1, flags=re.MULTILINE)[0]
    for line, following in itertools.pairwise(text.splitlines()):
        if line.startswith("  ") and following:
            assert len(line) + 1 + len(following.split()[0]) > 78


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
        (["consume", "x", "--timeout"], "--timeout"),
        (["consume", "x", "y", "z"], "unexpected extra argument"),
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
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


def test_a_shell_completes_commands_and_values():
    def completed(words):
        settings = {"_RINGBELL_COMPLETE": "complete_bash", "COMP_WORDS": words}
        settings["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        done = CliRunner().invoke(cli.app, [], env=settings)
        return done.stdout.split()

    assert completed("ringbell ") == COMMANDS
    assert completed("ringbell serve x y --polling ") == options.POLLING


def test_the_completion_can_be_shown():
    command = " ".join(map(shlex.quote, [*COMMAND, "--show-completion"]))
    shown = subprocess.run(["bash", "-c", f"{command}; exit"], capture_output=True, check=True)
    assert b"_RINGBELL_COMPLETE=complete_bash" in shown.stdout
    assert "--install-completion" in CliRunner().invoke(cli.app, ["--help"]).stdout


def test_what_cannot_be_written_to_the_output_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "ringbell: standard output: No space left on device\n"


def test_help_that_nobody_reads_ends_like_any_output_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_device_is_no_producer_and_says_what_it_is(server, path):
    for command in ("consume", "produce"):
        done = CliRunner().invoke(cli.app, [command, str(path)], input="")
        assert done.exit_code == 2
        assert "a device serves requests under this name" in done.stderr
