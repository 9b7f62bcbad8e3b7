# SPDX-License-Identifier: MIT
"""The code of the guide does what the guide says."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import indent

import pytest

GUIDE = (Path(__file__).parent.parent / "docs/guide.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
LIBRARIES = ("torch", "pyarrow")
IMPORTS = "import array\nimport numpy as np\nimport ringbell\n"


def block(start: str) -> str:
    """Give the block that begins like this, without the lines for libraries that are missing."""
    (found,) = (text for text in BLOCKS if text.startswith(start))
    for library in LIBRARIES:
        if not importlib.util.find_spec(library):
            found = re.sub(rf"^.*\b{library}\..*\n", "", found, flags=re.MULTILINE)
    return found


def imports() -> str:
    there = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    return IMPORTS + "".join(f"import {name}\n" for name in there)


def within(line: str, text: str) -> str:
    return f"{line}\n{indent(text, '    ')}"


def run_both(*codes: str) -> str:
    """Run each in a process of its own, the consumer last; return what that one printed."""
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", imports() + code],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"XDG_RUNTIME_DIR": folder},
            )
            for code in codes
        ]
        try:
            outputs = [process.communicate() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        for process, (_, messages) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, messages
        return outputs[-1][0]


DTYPE = "import numpy as np\nimport ringbell\n\ntick = np.dtype(["
TICKS = block(DTYPE + '("time"')
WRITE_SOME = within('with ringbell.produce("ticks", dtype="f8") as ticks:', "ticks.write([1.0])")


def test_records_are_written_and_summed():
    assert run_both(TICKS, block("import ringbell\n\ntotal = 0")) == f"{sum(range(500))}\n"


def test_a_function_takes_what_it_names():
    assert run_both(TICKS, block("def total(ticks")) == f"{sum(range(500))}\n"


def test_pictures_are_held():
    producer = block("picture = np.full").replace("2160, 3840", "216, 384")
    consumer = block("pictures = []").replace("2160, 3840", "216, 384")
    assert run_both(producer.replace("Blocks()", "Blocks(least=1000)"), consumer) == "[7, 8]\n"


def test_messages_are_sent_and_received():
    printed = run_both(
        block('with ringbell.produce("lines")'), block('with ringbell.consume("lines")')
    )
    # The loop prints the sizes of the messages that recv_many did not take.
    sizes = [len(text) for text in (b"one", b"call into C", b"for many", b"short ones", b"hello")]
    assert [int(size) for size in printed.split()] in [sizes[first:] for first in range(1, 6)]


def test_buffers_go_in_and_are_wrapped():
    produce, consume = (
        f'with ringbell.{what}("lines") as lines:' for what in ("produce", "consume")
    )
    printed = run_both(
        within(produce, block("lines.send(array.array")),
        within(consume, block("for payload in lines:")),
    )
    first = 0x3F + 0xF0 + 0x40  # the sum of the bytes of 1.0 and 2.0
    there = [bool(importlib.util.find_spec(name)) for name in LIBRARIES]
    expected = [first, *([first] if there[0] else []), *([16] if there[1] else []), 45]
    assert [int(number) for number in printed.split()[: len(expected)]] == expected


def test_records_kept_too_long_are_found():
    write = 'with ringbell.produce("ticks", dtype="i4") as ticks:'
    printed = run_both(within(write, "ticks.write([1, 2])"), block("kept = []"))
    assert printed.startswith("these records were borrowed, and the step that lent them is over")


def test_a_table_of_arrow_goes_through():
    pytest.importorskip("pyarrow")
    printed = run_both(block("import os\n\nfiles ="), block('with ringbell.consume("files")'))
    assert printed == f"['name', 'bytes', 'changed'] {len(os.listdir(os.sep))}\n"


def test_frames_of_pandas_are_held():
    pytest.importorskip("pandas")
    produce = block("import numpy as np\nimport pandas")
    assert run_both(produce, block("import pandas")) == "100.0 50000\n"


def test_batches_of_arrow_are_held():
    pytest.importorskip("pyarrow")
    codec = block("import pyarrow\nimport ringbell\n\n\ndef to_ipc")
    sends = block('table = pyarrow.table({"number"')
    told = "    print(batches.stats().driver.blocks.sent)\n"
    takes = block('with ringbell.consume("batches"')
    assert run_both(codec + sends, codec + takes + told) == "100000\n10\n"


def test_objects_go_through_and_are_borrowed():
    produce = block('import numpy as np\nimport ringbell\n\nwith ringbell.produce("frames"')
    consume = block('import ringbell\n\nwith ringbell.consume("frames"')
    assert run_both(produce, consume) == "1 1.0\n2 2.0\n3 3.0\n"


def test_many_producers_are_gathered():
    workers = [block('import os\n\nwith ringbell.produce("logs")')] * 2
    assert run_both(*workers, block("import collections\n\nlines")) == "[1000, 1000]\n"
    assert run_both(block("import collections\n\nlines"), *workers) == "", "whoever starts first"


def test_gathered_producers_are_told_of_when_they_have_gone():
    printed = run_both(WRITE_SOME, WRITE_SOME, block("import contextlib\n\ngone"))
    assert re.fullmatch(r"\d+ 1.0\n\d+ 1.0\n\d+ 1 is done\n\d+ 1 is done\n", printed)


def test_all_subscribers_get_every_step():
    steps = block('import ringbell\n\nwith ringbell.publish("steps", min')
    worker = block('import ringbell\n\nwith ringbell.subscribe("steps")')
    assert run_both(steps, worker, worker) == "1000\n"
    assert run_both(block('with ringbell.publish("steps", stall'), worker) == "1\n"


CAMERA = block("import time\nimport numpy as np\nimport ringbell\n\nframe").replace(
    'keep="newest"', 'keep="newest", min_readers=1'
)


def test_a_viewer_takes_the_newest_frames():
    printed = run_both(
        CAMERA, block("import contextlib\nimport ringbell\n\nwith ringbell.subscribe")
    )
    lines = [[int(number) for number in line.split()] for line in printed.splitlines()]
    assert lines[-1][0] == 100
    assert len(lines) + lines[-1][1] == 100 - lines[0][0] + 1 + lines[0][1]
    printed = run_both(CAMERA, block('with ringbell.subscribe("camera") as camera:\n    try'))
    assert re.fullmatch(r"\d+\.0\n", printed)


def test_a_writer_that_is_started_again_is_followed():
    write = within('with ringbell.publish("x") as lines:', 'lines.send(b"%d" % number)')
    follow = "from collections.abc import Iterator\nimport itertools\n" + block("def follow")
    printed = run_both(
        within("for number in range(3):", write),
        f"{follow}\nprint(*itertools.islice(follow('x'), 3))",
    )
    assert printed == "b'0' b'1' b'2'\n"


def test_loaders_feed_a_training_loop():
    loader = block("import numpy as np\nimport ringbell\n\nsample")
    printed = run_both(loader, loader, block("from collections.abc import Iterable, Iterator"))
    means = [line.split() for line in printed.splitlines() if " " in line]
    assert len(means) == 8
    for pixels, label in means:
        assert float(pixels) == pytest.approx(float(label) / 8, rel=1e-5)
    assert sum(float(label) for _, label in means) == 8 * sum(range(8)) / 8


def test_what_polling_decided_is_shown():
    printed = run_both(WRITE_SOME, block('with ringbell.consume("ticks", max_share'))
    assert re.fullmatch(r"\d+ \d+ \d+\n\d+ \d+ \d+ \d+\n", printed)


def test_two_streams_are_taken_as_they_come():
    producer = 'with ringbell.produce("left") as left, ringbell.produce("right") as right:\n'
    producer += "    for number in range(3):\n"
    producer += "        left.send(b'left %d' % number)\n        right.send(b'right %d' % number)\n"
    consumer = 'import ringbell\n\nwith ringbell.consume("left")'
    printed = run_both(producer, block(consumer)).splitlines()
    for side in ("left", "right"):
        assert [line for line in printed if side in line] == [f"{side} {i}" for i in range(3)]


def test_kicks_are_held_back_and_wake_ups_moderated():
    ticks = 'with ringbell.produce("ticks", dtype="f8") as ticks:'
    printed = run_both(
        "rows = [1.0, 2.0]\n" + within(ticks, block("with ticks.coalesce")),
        block('with ringbell.consume("ticks", moderation') + "print(first.tolist())",
    )
    assert printed == "[1.0, 2.0]\n"


def test_a_ring_has_room_for_four_pictures():
    consumer = 'with ringbell.consume("camera") as camera:\n    '
    printed = run_both(
        "import warnings\nwarnings.simplefilter('error')\n" + block("frame = np.dtype"),
        consumer + "print([rows.shape for rows in camera], camera.capacity)",
    )
    assert printed == "[(1, 2160, 3840, 3)] 4\n"


def test_a_script_waits_for_the_device_that_it_starts(tmp_path, path):
    (tmp_path / "device.py").write_text(
        "import ringbell\nringbell.serve('sha256', lambda payload: bytes(payload).upper())\n"
    )
    script = "import subprocess, sys\n" + block("device = subprocess") + "device.kill()\n"
    done = subprocess.run(
        [sys.executable, "-c", imports() + script + "device.wait()"],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
        env=os.environ | {"XDG_RUNTIME_DIR": str(path.parent)},
    )
    assert (done.returncode, done.stdout) == (0, "b'HELLO'\n"), done.stderr


def test_a_stream_in_the_place_of_a_queue():
    producer = block('import ringbell\n\nwith ringbell.produce("numbers", codec')
    consumer = block('import ringbell\n\nwith ringbell.consume("numbers", codec')
    assert run_both(producer, consumer) == "0\n1\n2\n3\n4\n"


def test_the_library_logs_what_it_waits_for():
    consumer = "import logging, sys\nlogging.basicConfig(stream=sys.stdout)\n"
    consumer += "logging.getLogger().setLevel(0)\n" + block("logging.basicConfig")
    printed = run_both(WRITE_SOME, consumer)
    logged = "(INFO:ringbell:waiting for the producer of 'ticks' on .*/ringbell/ticks.sock\n)?"
    assert re.fullmatch(logged + "1\n", printed)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("import zlib", r"\d\d\d"),
        ("import contextlib\nimport numpy", r"\[0\.0, 0\.25, 0\.5, 0\.75\] 0"),
        (DTYPE + '("price"', r"4\.5"),
        ("import json", r"{'greeting': 'hello Ada'}"),
        ("import multiprocessing\nimport ringbell\n\n\ndef work", r"0\n1\n4\n9\n16"),
        ("import multiprocessing\nimport numpy as np\nimport ringbell\n\n\ndef brightest", "2"),
    ],
    ids=["launch", "simulators", "pipeline", "codec", "pipe", "pipe with blocks"],
)
def test_a_script_starts_the_other_processes(start, expected, tmp_path, path):
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/script.py"
    script.write_text(block(start))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=50,
        env=os.environ | {"XDG_RUNTIME_DIR": str(path.parent)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(expected + "\n", done.stdout)


def test_tasks_ask_and_are_answered():
    device = block("import asyncio\nfrom ringbell import aio\n\n\nasync def upper")
    ask = block("import asyncio\nfrom ringbell import aio\n\n\nasync def ask")
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        environment = os.environ | {"XDG_RUNTIME_DIR": folder}
        serving = subprocess.Popen(
            [sys.executable, "-c", device], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            done = subprocess.run(
                [sys.executable, "-c", ask],
                capture_output=True,
                text=True,
                timeout=50,
                env=environment,
            )
        finally:
            serving.kill()
            serving.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[b'ONE', b'TWO']",
        "its answer is dropped when it comes",
        "b'FOUR'",
    ]


def test_tasks_publish_and_subscribe():
    pytest.importorskip("trio")
    printed = run_both(block("import trio\nfrom ringbell import aio\n\n\nasync def measure"))
    assert printed.splitlines()[-1].startswith("29.0")


def test_tasks_of_asyncio_and_of_trio_share_a_stream():
    pytest.importorskip("trio")
    send = block("import asyncio\nfrom ringbell import aio\n\n\nasync def send")
    assert (
        run_both(send, block("import trio\nfrom ringbell import aio\n\n\nasync def add"))
        == f"{sum(range(1000))}\n"
    )


IN_A_HUB = {
    "gevent": """
from gevent import monkey
monkey.patch_all()
import gevent
def wait(fd):
    gevent.get_hub().wait(gevent.get_hub().loop.io(fd, 1))
spawn, wait_for = gevent.spawn, lambda one: one.get()
""",
    "eventlet": """
import eventlet, eventlet.hubs
def wait(fd):
    eventlet.hubs.trampoline(fd, read=True)
spawn, wait_for = eventlet.spawn, lambda one: one.wait()
""",
}
TAKES_IN_A_HUB = """
def take():
    taken = []
    with ringbell.consume("lines") as consumer:
        while True:
            wait(consumer.fileno())
            try:
                while True:
                    taken.append(consumer.recv(timeout=0))
            except ringbell.RingEmpty:
                continue
            except ringbell.EndOfStream:
                return taken
print(wait_for(spawn(take)))
"""


@pytest.mark.parametrize("library", IN_A_HUB)
def test_a_hub_waits_for_the_descriptor(library):
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed")
    line = next(line for line in GUIDE.splitlines() if line.startswith(f"| {library} |"))
    assert IN_A_HUB[library].split("def wait(fd):\n    ")[1].split("\n")[0] in line
    quiet = "import warnings\nwarnings.simplefilter('ignore')\n"
    producer = 'with ringbell.produce("lines") as lines:\n    lines.send_many([b"1", b"2"])'
    assert run_both(producer, quiet + IN_A_HUB[library] + TAKES_IN_A_HUB) == "[b'1', b'2']\n"
