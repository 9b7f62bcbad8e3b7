# SPDX-License-Identifier: MIT
"""A debugger stops a side between any two steps of a handover, until the other side has done its
part or sleeps: no wake-up is lost."""

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.proof

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
SOURCES = [TESTS / "c/handover.c", *sorted(CSRC.glob("*.c"))]
HANG = 30_000  # milliseconds


@dataclass
class Handover:
    """Which side is stopped, in which function, and how the source spells the steps of it."""

    side: str
    ring: str
    file_of: str  # a function that names the source file: the file exports it
    function: str
    store: str
    load: str
    word: str  # the word of memory that the store changes
    steps: tuple[str, ...]


PUBLISHING = ("before the store", "after the store", "after the fence", "after the load")
ARMING = PUBLISHING[:3] + ("before the count", "before the sleep")
HANDOVERS = {
    "publish": Handover(
        "driver",
        "data",
        "rb_producer_publish",
        "rb_producer_publish",
        "rb_store_release(&producer->mine->write_index",
        "->data_event",
        "pair.driver->producer.mine->write_index",
        PUBLISHING,
    ),
    "release": Handover(
        "device",
        "space",
        "rb_consumer_release_to",
        "rb_consumer_release_to",
        "rb_store_release(&consumer->mine->read_index",
        "->space_event",
        "pair.device->consumer.mine->read_index",
        PUBLISHING,
    ),
    "wait for data": Handover(
        "device",
        "data",
        "rb_wait_sleep",
        "rb_arm",
        "rb_store_release(&consumer->mine->data_event",
        "",
        "pair.device->consumer.mine->data_event",
        ARMING,
    ),
    "wait for space": Handover(
        "driver",
        "space",
        "rb_wait_sleep",
        "rb_arm",
        "rb_store_relaxed(&producer->mine->space_event",
        "",
        "pair.driver->producer.mine->space_event",
        ARMING,
    ),
}
SLEEPS = {
    "data": "pair.device->consumer.mine->consumer.sleeps",
    "space": "pair.driver->producer.mine->producer.sleeps",
}


def step_of(handover, step, *commands):
    """Say where a step is: in which function, and before or after which line of it."""
    place, _, what = step.partition(" the ")
    text = {
        "store": handover.store,
        "fence": "rb_fence_full();",
        "load": handover.load,
        "count": "rb_count(&counters->sleeps, !goes_on)",
        "sleep": "ppoll(",
    }[what]
    function = {"count": "rb_wait_sleep", "sleep": "rb_sleep_on"}.get(what, handover.function)
    return {
        "file_of": "rb_sleep_on" if what == "sleep" else handover.file_of,
        "function": function,
        "text": text,
        "at": place,
        "commands": commands,
    }


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handover")
    if platform.machine() != "x86_64":
        pytest.skip("the fence is looked for among the instructions of x86-64")
    lacking = None
    if not shutil.which("gdb"):
        lacking = "gdb is not installed"
    else:
        tried = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", "python print('python')", "-ex", "run"]
            + ["-ex", "print $_exitcode", shutil.which("true")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "python" not in tried.stdout or "$1 = 0" not in tried.stdout:
            lacking = f"gdb cannot run programs here: {tried.stdout}{tried.stderr}"
    if lacking and os.environ.get("RINGBELL_VERIFY"):
        pytest.fail(lacking)
    if lacking:
        pytest.skip(f"{lacking}; make verify needs it")
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g"]
    subprocess.run(
        [*command, f"-I{CSRC}", "-o", folder / "handover", *SOURCES], check=True, timeout=60
    )
    return folder / "handover"


def stop(program, folder, handover, steps, patience=HANG):
    """Run one handover with a stop at each of the steps; return what was seen and all output."""
    gate, result = folder / "gate", folder / "result"
    os.mkfifo(gate)
    result.write_text("[]")
    told = {
        "start": "drive" if handover.side == "driver" else "serve",
        "word": handover.word,
        "sleeps": SLEEPS[handover.ring],
        "gate": str(gate),
        "result": str(result),
        "steps": steps,
    }
    gdb = subprocess.Popen(
        ["gdb", "-nx", "-batch", "-x", str(TESTS / "stop_in_gdb.py"), "--args", str(program)]
        + [handover.side, handover.ring, str(gate), str(patience)],
        env=os.environ | {"RINGBELL_HANDOVER": json.dumps(told)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = gdb.communicate()[0]
    finally:
        # With gdb the kernel kills the program that gdb debugs, and the program's child.
        gdb.kill()
        gdb.wait()
        gdb.stdout.close()
    done = json.loads(result.read_text())
    assert len(done) == len(steps), output
    counted = re.findall(r"^sleeps (\d+) kicks (\d+)$", output, re.MULTILINE)
    for said, (sleeps, kicks) in zip(done, counted, strict=False):
        said |= {"sleeps": int(sleeps), "kicks": int(kicks)}
    return done, output


@pytest.mark.parametrize("name", HANDOVERS)
def test_a_stop_loses_no_wake_up(program, tmp_path, name):
    handover = HANDOVERS[name]
    steps = [step_of(handover, step) for step in handover.steps]
    done, output = stop(program, tmp_path, handover, steps)
    for step, said in zip(handover.steps, done, strict=True):
        assert said["status"] == 0, output
        # Check that the stop was where the step says.
        assert said["moved"] == (step != "before the store"), output
        if name in ("publish", "release"):
            # Before the store the ring is empty, so the other side sleeps and needs a kick.
            # After the store the last look of the other side finds the entry.
            sleeps = kicks = step == "before the store"
            assert said["asleep"] == sleeps, output
        else:
            # The other side kicks when it sees the event. The last look may save the sleep.
            sleeps = step in ("before the count", "before the sleep")
            kicks = step != "before the store"
        assert said["sleeps"] == sleeps, output
        # A side that is about to wake up by itself may get one needless kick.
        assert said["kicks"] >= kicks, output


@pytest.mark.parametrize("name", ["publish", "release"])
def test_a_lost_wake_up_is_seen(program, tmp_path, name):
    handover = HANDOVERS[name]
    event = {
        "data": "pair.device->consumer.mine->data_event",
        "space": "pair.driver->producer.mine->space_event",
    }[handover.ring]
    # Undo what the sleeping side did to be kicked.
    step = step_of(handover, "before the store", f"set var {event} -= 1000")
    done, output = stop(program, tmp_path, handover, [step], patience=300)
    assert done[0]["status"] == 1, output
    assert "LOST WAKE-UP" in output
