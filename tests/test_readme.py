# SPDX-License-Identifier: MIT
"""The README's code does what the README says, and its links lead somewhere."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import wait_until_listening

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEVICE, DRIVER, PRODUCER, CONSUMER, PUBLISHER, SUBSCRIBER, ONE_SCRIPT, OBJECTS = re.findall(
    r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE
)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@contextmanager
def running(code, folder):
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def printed(process):
    out, messages = process.communicate()
    assert (process.returncode, messages) == (0, "")
    return out.splitlines()


def test_the_driver_prints_what_the_device_answers(path):
    with running(DEVICE, path.parent) as device:
        wait_until_listening(path.parent / "ringbell/sha256.sock")
        with running(DRIVER, path.parent) as driver:
            lines = printed(driver)
        device.send_signal(signal.SIGINT)
        assert printed(device) == []
    payloads = [b"hello", *(b"block %d" % i for i in range(1000))]
    assert lines == [hashlib.sha256(payload).hexdigest() for payload in payloads]


def test_the_consumer_takes_the_records_of_the_producer(path):
    with running(PRODUCER, path.parent) as producer, running(CONSUMER, path.parent) as consumer:
        assert sum(map(int, printed(consumer))) == 1000
        assert printed(producer) == []


def test_subscribers_take_the_newest_frames(path):
    camera = PUBLISHER.replace("100_000", "10**9")  # it films for as long as the readers look
    with running(camera, path.parent) as publisher:
        with running(SUBSCRIBER, path.parent) as one, running(SUBSCRIBER, path.parent) as other:
            for reader in (one, other):
                *frames, (word, missed) = (line.split() for line in printed(reader))
                numbers = [int(number) for number, _ in frames]
                assert numbers == sorted(set(numbers))
                assert [float(mean) for _, mean in frames] == [n % 256 for n in numbers]
                assert (word, len(frames)) == ("missed", 10)
                # It began with what it found as it came.
                assert int(missed) >= numbers[-1] - numbers[0] + 1 - 10
        publisher.kill()


def test_one_script_starts_the_other_processes(path, tmp_path):
    last = max(os.sched_getaffinity(0))
    script = tmp_path / "script.py"
    script.write_text(ONE_SCRIPT.replace("cpu=1", f"cpu={last}"))
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(path.parent)},
    ) as process:
        digest, total = printed(process)
    assert digest == hashlib.sha256(b"hello").hexdigest()
    assert float(total) == pytest.approx(5_000_000)


def test_a_handler_gets_and_gives_objects(path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OBJECTS)
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(path.parent)},
    ) as process:
        assert printed(process) == ["2000000.0"]


def test_the_demo_and_the_tests_are_the_first_commands():
    assert re.findall(r"^    (\w+ \w+)", README, re.MULTILINE)[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_pages_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_a_page_lead_to_its_headings(page):
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", page.read_text())) <= headings
