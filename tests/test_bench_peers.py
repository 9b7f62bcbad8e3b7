# SPDX-License-Identifier: MIT
"""The comparison with other libraries, with tiny counts. ringbell and Pipe are always there."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import wait_until

from ringbell.pinning import choose_pair

BENCH = Path(__file__).parent.parent / "bench"
COMPARE = BENCH / "compare.py"
JOBS = "one way,one way 1024,views,lists,pickled lists,echo,spinning,call,in flight,idle"

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(choose_pair() is None, reason="needs two CPUs"),
]

# A stand-in for zeroq, over a named pipe, which spoils one message on the way.
SPOILING_QUEUE = """
import os

class Empty(Exception):
    pass

class Queue:
    def __init__(self, name, element_size=64, capacity=None, create=True):
        self.path, self.file, self.sent = os.environ["RINGBELL_PEERS"] + "/" + name, None, 0
        self.size = element_size
        if create:
            os.mkfifo(self.path)

    def put(self, item):
        self.file = self.file or open(self.path, "wb", buffering=0)
        self.sent += 1
        self.file.write(b"?" * len(item) if self.sent == 1500 else item)

    def get(self):
        self.file = self.file or open(self.path, "rb")
        return self.file.read(self.size)

    def get_nowait(self):
        raise Empty

    def close(self):
        self.file.close()
"""


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        yield Path(name)


@pytest.fixture
def environment(folder):
    """An environment with the test's own peers and its own temporary folder."""
    for name in ("peers", "tmp"):
        (folder / name).mkdir()
    return os.environ | {"RINGBELL_PEERS": f"{folder}/peers", "TMPDIR": f"{folder}/tmp"}


def command(peers, rows):
    words = ["--rounds", "1", "--scale", "0.02", "--json"]
    return [sys.executable, str(COMPARE), *words, "--peers", peers, "--rows", rows]


def compare(environment, peers, rows):
    done = subprocess.run(
        command(peers, rows), env=environment, capture_output=True, text=True, check=True
    )
    assert os.listdir(environment["TMPDIR"]) == []
    return json.loads(done.stdout)


def test_ours_and_pipe_do_every_job_that_they_have_a_way_for(environment):
    found = compare(environment, "pipe", JOBS)
    measured = {(one["peer"], one["measurement"]) for one in found["values"]}
    for_all = {"one way", "one way 1024", "echo", "in flight", "idle"}
    assert {job for peer, job in measured if peer == "pipe"} == for_all | {"pickled lists"}
    assert {job for peer, job in measured if peer == "ours"} == for_all | {
        "views",
        "lists",
        "spinning",
        "call",
    }
    assert all(value > 0 for one in found["values"] for value in one["rounds"])
    assert found["notes"] == []  # no library failed, or lost or changed a message
    against_pipe = [row["what"] for row in found["rows"] if row["peer"] == "Pipe"]
    assert "one way, send and recv, /s" in against_pipe


def test_a_blocked_receiver_is_watched_interrupted_and_told_of_a_death(environment):
    ours, pipe = compare(environment, "pipe", "behaviour")["behaviour"]
    assert (ours["peer"], pipe["peer"]) == ("ringbell", "Pipe")
    for one in (ours, pipe):
        assert one["idle_cpu"] is not None
        assert one["wakeups"] is not None
        assert one["interrupted"].startswith("KeyboardInterrupt after")
        assert one["leftovers"] == "nothing"
    assert ours["death"].startswith("PeerLost after")
    assert pipe["death"].startswith("EOFError after")


def test_a_peer_that_is_not_there_is_left_out_with_a_line(environment):
    (Path(environment["RINGBELL_PEERS"]) / "hyperq.log").write_text("x\nERROR: no compiler\n")
    found = compare(environment, "pipe,zeroq,hyperq", "echo")
    assert {one["peer"] for one in found["values"]} == {"ours", "pipe"}
    assert found["notes"] == [
        "zeroq is left out: it is not installed; `make bench` tries to",
        "hyperq is left out: it did not install (ERROR: no compiler)",
    ]


def test_a_wrong_payload_is_counted_and_a_peer_that_fails_is_left_out(environment):
    for name, source in (("zeroq", SPOILING_QUEUE), ("hyperq", "raise ImportError('too old')")):
        package = Path(environment["RINGBELL_PEERS"]) / name
        package.mkdir()
        (package / f"{name}.py").write_text(source)
    found = compare(environment, "zeroq,hyperq", "one way")
    assert "hyperq is left out of 'one way': ImportError: too old" in found["notes"]
    assert "zeroq in 'one way': 1 wrong payloads" in found["notes"]
    assert {one["peer"] for one in found["values"]} == {"ours", "zeroq"}


def test_a_comparison_that_is_ended_leaves_nothing(environment):
    process = subprocess.Popen(command("pipe", "idle"), env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: list(Path(environment["TMPDIR"]).glob("*/rb*")))  # both sides are there
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert os.listdir(environment["TMPDIR"]) == []


@pytest.mark.timeout(180)  # many processes start
def test_publications_are_measured(environment):
    done = subprocess.run(
        [sys.executable, BENCH / "publish.py", "--rounds", "1", "--scale", "0.05", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    rows = found["rows"]
    assert done.returncode in (0, 1), done.stderr  # 1: a target was missed, which is no matter here
    peers = {row["peer"] for row in rows}
    assert {"stream", "streams", "pipe", "spinning", "memcpy", "none killed"} <= peers
    exact = [row for row in rows if row["target"] == "<= 0"]
    assert len(exact) == 10
    assert all(row["reached"] for row in exact), exact
    assert len(found["notes"]) == 3  # no other library is there
    assert os.listdir(environment["TMPDIR"]) == []
