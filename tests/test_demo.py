# SPDX-License-Identifier: MIT
"""`ringbell demo`: real files through a device, and what it shows."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run, run_here
from processes import RINGBELL, has_ended, spawned_by, wait_until
from typer.testing import CliRunner

from ringbell.command import cli, demo


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
def test_a_demo_that_is_killed_leaves_no_device_and_no_name(tmp_path, names, number, moment):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x" * 5_000_000)
    with subprocess.Popen(
        [*RINGBELL, "demo", "--input", source, "--block", "1", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: spawned_by(process.pid))
            (device,) = spawned_by(process.pid)
            if moment == "while it serves":
                maps = Path(f"/proc/{device}/maps")
                wait_until(lambda: "memfd:ringbell" in maps.read_text())
        finally:
            process.send_signal(number)
    assert process.returncode == -number
    wait_until(lambda: has_ended(device))
    assert list(names.iterdir()) == []


def test_a_frozen_program_says_that_it_has_no_python_for_the_demo(files, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    done = run_here("demo", "--input", files, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a frozen program has none" in done.stderr


def test_a_folder_without_files_is_an_error(tmp_path):
    done = run_here("demo", "--input", tmp_path)
    assert (done.exit_code, "there are no files in it" in done.stderr) == (2, True)
