# SPDX-License-Identifier: MIT
"""The command line, as a shell sees it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import state_of, wait_until
from typer.testing import CliRunner

import ringbell
from ringbell.command import cli, demo

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
    done = run("demo", "--input", files, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    for row in ("files", "requests/s", "MB/s", "kicks saved", "latency p99.9", "wrong answers"):
        assert row in done.stdout
    assert "100,005" in done.stdout
    assert "driver on CPU" in done.stdout or "only one CPU" in done.stdout


def test_the_demo_on_one_cpu_says_what_it_does(files):
    done = run(
        "demo",
        "--input",
        files,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    assert done.returncode == 0, done.stderr
    assert "only one CPU may be used" in done.stdout


def test_the_demo_exits_with_1_if_an_answer_is_wrong(files, monkeypatch):
    # The device computes the true answers; this process expects others for one block.
    def expected(block):
        return b"other" if block == b"small" else demo.sha256(block)

    monkeypatch.setitem(demo.WORKS, "sha256", expected)
    done = CliRunner().invoke(cli.app, ["demo", "--input", str(files), "--json"])
    assert done.exit_code == 1
    assert '"wrong": 1,' in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "/nowhere"], "there is no such file or folder"),
        (["--work", "nothing"], "--work is one of sha256, compress"),
        (["--block", "1000000000000"], "--block is from 1 to"),
        (["--block", "0"], "--block is from 1 to 268435456 bytes"),
        (["--depth", "0"], "--depth is a number of requests, at least 1"),
    ],
)
def test_a_wrong_argument_of_the_demo_is_one_line_and_exit_code_2(arguments, message):
    done = run("demo", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


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


def test_a_folder_without_files_is_an_error(tmp_path):
    done = run("demo", "--input", tmp_path)
    assert (done.returncode, "there are no files in it" in done.stderr) == (2, True)


def test_an_error_is_one_line_however_long(tmp_path):
    done = run("demo", "--input", tmp_path / ("x" * 200))
    assert done.returncode == 2
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


def test_serve_shows_no_traceback_of_a_broken_module(path, tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    for module, message in (("broken", "SyntaxError"), ("raises", "ZeroDivisionError")):
        done = run("serve", path, f"{module}:f", cwd=tmp_path)
        assert (done.returncode, message in done.stderr) == (2, True)
        assert "Traceback" not in done.stderr


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
    done = run("serve", path, handler)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_says_that_a_name_is_in_use(server, path):
    done = run("serve", path, "hashlib:sha256")
    assert (done.returncode, "somebody listens on" in done.stderr) == (2, True)


@pytest.mark.parametrize("option", [["--polling", "no"], ["--kick", "no"], ["--cpu", "9999"]])
def test_serve_refuses_bad_options(path, option):
    done = run("serve", path, "hashlib:sha256", *option)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_version_is_shown():
    assert run("--version").stdout == f"ringbell {ringbell.__version__}\n"
