# SPDX-License-Identifier: MIT
"""The programs of examples/ run, and print what they say."""

import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import wait_until_listening

import ringbell

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="rb-") as made:
        yield made


@pytest.fixture
def start(folder):
    """Start one side of an example; what still runs at the end is ended."""
    with ExitStack() as guard:

        def start_side(example, side):
            process = subprocess.Popen(
                [sys.executable, str(EXAMPLES / example), side],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"XDG_RUNTIME_DIR": folder},
            )
            guard.enter_context(process)
            guard.callback(process.kill)
            return process

        yield start_side


def printed(process):
    out, messages = process.communicate()
    assert (process.returncode, messages) == (0, "")
    return out


def test_requests_are_answered(start, folder):
    device = start("request_answer.py", "device")
    wait_until_listening(Path(folder) / "ringbell/words.sock")
    assert printed(start("request_answer.py", "driver")) == "one line: 5\n3000 lines: 13000 words\n"
    device.send_signal(signal.SIGINT)
    assert printed(device) == ""


@pytest.mark.parametrize(
    ("example", "from_side", "to_side", "expected"),
    [
        ("records.py", "producer", "consumer", r"100000 ticks, 50\.0 on average, 100 at the end"),
        ("asyncio_consumer.py", "producer", "consumer", "1000 events, the last is 'event 999'"),
        ("frames.py", "camera", "viewer", r"looked at \d+ frames, passed over \d+, 200 came"),
        (
            "frames_newest.py",
            "camera",
            "viewer",
            r"looked at \d+ frames, missed \d+; the last is 300",
        ),
    ],
)
def test_a_stream_arrives(start, example, from_side, to_side, expected):
    sender, taker = start(example, from_side), start(example, to_side)
    assert re.fullmatch(expected, printed(taker).strip())
    assert printed(sender) == ""


def test_ctrl_c_ends_an_event_loop_that_waits_for_its_producer(start, folder):
    consumer = start("asyncio_consumer.py", "consumer")
    wait_until_listening(Path(folder) / "ringbell/events.sock")
    consumer.send_signal(signal.SIGINT)
    consumer.communicate()
    assert consumer.returncode == -signal.SIGINT


def test_the_event_loop_is_told_when_the_producer_dies(start, folder):
    names = Path(folder) / "ringbell"
    names.mkdir(0o700)
    consumer = start("asyncio_consumer.py", "consumer")
    with pytest.raises(InterruptedError), ringbell.produce(names / "events.sock"):
        raise InterruptedError
    _, messages = consumer.communicate()
    assert consumer.returncode == 1
    assert "PeerLost" in messages.splitlines()[-1]


# They start the other processes themselves.
IN_ONE_SCRIPT = {
    "one_script.py": "3000 lines: 13000 words\n50.0 on average\n",
    "vector_env.py": "2 carts left the rail; 3998 steps were on it\n",
}


@pytest.mark.parametrize(("example", "expected"), IN_ONE_SCRIPT.items(), ids=IN_ONE_SCRIPT)
def test_one_script_starts_the_other_processes(folder, example, expected):
    done = subprocess.run(
        [sys.executable, EXAMPLES / example],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": folder},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected


WITH_SIDES = sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / name for name in IN_ONE_SCRIPT})


@pytest.mark.parametrize("example", WITH_SIDES, ids=lambda file: file.stem)
def test_without_a_side_an_example_says_how_it_is_used(example):
    text = runpy.run_path(str(example))["__doc__"]
    assert re.search(rf"^python examples/{example.name} \w+ +in one terminal$", text, re.MULTILINE)


def test_a_side_that_there_is_not_is_answered_with_the_use(start):
    example = start("records.py", "nonsense")
    _, messages = example.communicate()
    assert (example.returncode, "in one terminal" in messages) == (1, True)
    assert "Traceback" not in messages


def test_a_folder_is_copied_by_the_pipeline(folder, tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "ringbell"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ringbell "$@"\n')
    command.chmod(0o755)
    search = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [EXAMPLES / "pipeline.sh", EXAMPLES, tmp_path / "copy"],
        env=os.environ | {"XDG_RUNTIME_DIR": folder, "PATH": search},
        check=True,
    )
    subprocess.run(["diff", "-r", EXAMPLES, tmp_path / "copy"], check=True)


def test_requests_come_from_many_tasks(start, folder):
    device = start("asyncio_requests.py", "device")
    wait_until_listening(Path(folder) / "ringbell/squares.sock")
    assert printed(start("asyncio_requests.py", "driver")) == ("1000 answers, the last is 998001\n")
    device.send_signal(signal.SIGINT)
    assert printed(device) == ""
