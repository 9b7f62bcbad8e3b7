# SPDX-License-Identifier: MIT
"""The command line, as a shell sees it."""

import os
import re
import signal
import subprocess
import sys
import zlib

import pytest
from commands import run_here
from processes import RINGBELL, serving
from typer.testing import CliRunner

import ringbell
from ringbell.command import cli


@pytest.fixture
def server(path, tmp_path):
    (tmp_path / "shout.py").write_text("def shout(payload):\n    return bytes(payload).upper()\n")
    with serving(path, "shout:shout", tmp_path) as process:
        yield process


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


def test_a_device_is_no_producer_and_says_what_it_is(server, path):
    for command in ("consume", "produce"):
        done = CliRunner().invoke(cli.app, [command, str(path)], input="")
        assert done.exit_code == 2
        assert "a device serves requests under this name" in done.stderr


def test_an_error_is_one_line_however_long(tmp_path):
    done = run_here("demo", "--input", tmp_path / ("x" * 200))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "there is no such file or folder" in done.stderr


def test_control_characters_in_a_name_do_not_reach_the_terminal(path, tmp_path):
    done = run_here("produce", path, tmp_path / "a\nb\x1b[31m")
    assert done.exit_code == 2
    assert done.stderr == f"ringbell: {tmp_path}/a\\nb\\x1b[31m: No such file or directory\n"


def test_a_name_that_the_output_cannot_encode_is_shown_all_the_same(path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with serving(path.with_name("\xe9.sock"), "os:fspath"):
        pass


def test_a_file_that_may_not_be_written_is_refused_before_anybody_is_met(
    path, tmp_path, monkeypatch
):
    (tmp_path / "there").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may do anything
    for file in (tmp_path / "there", tmp_path / "new"):
        done = run_here("consume", path, file)
        assert (done.exit_code, done.stderr) == (2, f"ringbell: {file}: Permission denied\n")
    assert not (tmp_path / "new").exists()


ENDS = """
import signal, sys
from ringbell.__main__ import main
sys.argv[1:] = ["--version"]
try:
    main()
finally:
    signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_while_python_ends_is_no_traceback():
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_server_frees_its_name(path, number):
    with serving(path, "zlib:compress") as server:
        server.send_signal(number)
        assert server.wait() == 128 + number
    assert not list(path.parent.iterdir())


def test_a_server_that_is_started_by_nohup_outlives_its_terminal(path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(path, "zlib:decompress") as server:
            server.send_signal(signal.SIGHUP)
            with ringbell.connect(path) as driver:
                assert driver.call(zlib.compress(b"hello")) == b"hello"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_while_the_command_loads_is_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("print('loads', flush=True)\nimport time\ntime.sleep(100)\n")
    with subprocess.Popen(
        [*RINGBELL, "demo"],
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


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_library_that_is_missing_for_the_command_line_is_told(missing):
    hide = f"import sys; sys.modules['{missing}'] = None; from ringbell.__main__ import main; "
    code = hide + "sys.argv[1:] = ['demo', '--input', '/dev/null']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"ringbell: the command line needs {missing}; pip install 'ringbell-ipc[cli]'\n"
    )
