# SPDX-License-Identifier: MIT
"""One writer and many readers, over the C functions."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.variant

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"


def build(folder, name):
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O0", "-pthread"]
    sources = [TESTS / f"c/{name}.c", *sorted(CSRC.glob("*.c"))]
    program = folder / name
    subprocess.run([*command, f"-I{CSRC}", "-o", program, *sources], check=True, timeout=60)
    return program


@pytest.fixture(scope="module")
def one_reader(tmp_path_factory):
    return build(tmp_path_factory.mktemp("one"), "one_reader")


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return build(tmp_path_factory.mktemp("readers"), "readers")


STEPS = "slot middle batch portions index ahead last crowded child"


@pytest.mark.parametrize("step", STEPS.split())
def test_a_step_of_one_writer_and_its_readers(one_reader, step):
    subprocess.run([one_reader, step], check=True, timeout=60)


@pytest.mark.parametrize("entries", ["messages", "records"])
@pytest.mark.parametrize("keep", ["all", "stall", "newest"])
def test_readers_that_come_and_go_get_every_entry_or_are_told(readers, keep, entries):
    command = [readers, keep, entries, "40"]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    visits, published, taken, missed, gone, sleeps = map(int, re.findall(r"\d+", done.stdout))
    assert visits == 160
    assert published and taken and sleeps
    assert bool(missed) == (keep == "newest")
    assert not gone or keep == "stall"
