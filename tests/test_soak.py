# SPDX-License-Identifier: MIT
"""The soak of `make soak` runs, and finds the faults that it is made to find."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crowds import Account, Crowd
from numbered import ANSWER, REQUEST, Traffic, Wrong
from processes import state_of, wait_until

pytestmark = pytest.mark.proof

TESTS = Path(__file__).parent
SOAK = TESTS / "soak.py"
CSRC = TESTS.parent / "csrc"
SOURCES = [TESTS / "c/stress.c", *sorted(CSRC.glob("*.c"))]
SLEEPY = ["--sleeps", "200", "--polling", "never"]


@pytest.fixture(scope="module")
def soak_in_c(tmp_path_factory):
    program = tmp_path_factory.mktemp("soak") / "stress"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-pthread"]
    subprocess.run([*command, f"-I{CSRC}", "-o", program, *SOURCES], check=True, timeout=60)
    return program


def long_waits(output):
    """Give for each long wait: its milliseconds, how late the third process was, in milliseconds,
    and whether the soak found no reason for the wait."""
    line = r"^driver waited ([\d.]+) ms; meanwhile .* by ([\d.]+) ms(: NO REASON)?$"
    found = re.findall(line, output, re.MULTILINE)
    return [(float(waited), float(late), bool(none)) for waited, late, none in found]


@pytest.mark.parametrize(
    "options",
    [
        "--kind messages --size 9000 --polling never",
        "--kind requests --window 5 --polling adaptive --max-poll 1e-6",
        "--kind messages --least 2040 --size 4080 --polling never",
    ],
)
def test_a_short_soak_loses_nothing(options):
    done = subprocess.run(
        [sys.executable, SOAK, "--sleeps", "200", *options.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[-1].split()
    numbers = dict(zip(words[::2], words[1::2], strict=True))
    assert int(numbers["sleeps"]) >= 200
    assert int(numbers["entries"]) > 0


@pytest.mark.timeout(180)  # many processes start, and a writer stands still for 5 s
def test_a_short_soak_of_readers_loses_nothing():
    done = subprocess.run(
        [sys.executable, TESTS / "soak_publishing.py", "--seconds", "5", "--readers", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[-1].split()
    counted = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert all(counted[name] for name in ("published", "started", "got", "missed"))


def test_a_gap_of_a_lossless_reader_is_wrong():
    account = Account(lossless=True)
    account.note([7, 8], 2, 0)
    with pytest.raises(Wrong, match="10 after 8"):
        account.note([10], 3, 1)


@pytest.mark.parametrize("missed", [0, 2])
def test_a_miscount_of_a_reader_of_the_newest_is_wrong(missed):
    account = Account(lossless=False)
    account.note([7, 8], 2, 5)
    account.note([10], 3, 6)
    with pytest.raises(Wrong, match="came"):
        account.note([12], 4, 6 + missed)


def test_an_end_before_the_last_entry_is_wrong():
    account = Account(lossless=True)
    account.note([7, 8], 2, 0)
    account.end(9)
    with pytest.raises(Wrong, match="8 was the last"):
        account.end(10)


def test_a_torn_entry_is_wrong():
    crowd = Crowd(Path("x"), "messages", "all")
    torn = bytearray(crowd.message(5))
    assert crowd.number(torn) == 5
    torn[-1] ^= 1
    with pytest.raises(Wrong):
        crowd.number(torn)
    with pytest.raises(Wrong):
        crowd.number(crowd.message(5)[:-8])
    rows = crowd.records(5, 3)
    assert crowd.numbers(rows) == [5, 6, 7]
    rows["rest"][1, 3] = 9
    with pytest.raises(Wrong):
        crowd.numbers(rows)


@pytest.mark.parametrize("other", [4, 6])
def test_another_number_than_the_next_is_wrong(other):
    traffic = Traffic()
    traffic.check(traffic.message(5, REQUEST), 5, REQUEST)
    with pytest.raises(Wrong):
        traffic.check(traffic.message(other, REQUEST), 5, REQUEST)
    with pytest.raises(Wrong):
        traffic.check(traffic.message(5, ANSWER), 5, REQUEST)


@pytest.mark.parametrize("place", [0, 7, 8, -1])
def test_a_changed_byte_is_wrong(place):
    traffic = Traffic(least=20)
    message = bytearray(traffic.message(5, REQUEST))
    message[place] ^= 1
    with pytest.raises(Wrong):
        traffic.check(message, 5, REQUEST)


def test_a_message_cut_short_is_wrong():
    traffic = Traffic(least=20)
    with pytest.raises(Wrong):
        traffic.check(traffic.message(5, REQUEST)[:-1], 5, REQUEST)


@pytest.mark.parametrize("how", [[], ["--threads"]], ids=["processes", "threads"])
def test_a_long_wait_without_a_reason_fails_the_soak_in_c(soak_in_c, how):
    pause = ["--pauses", "1", "--pause", "1000000000"]
    done = subprocess.run(
        [soak_in_c, *SLEEPY, *how, *pause], capture_output=True, text=True, check=False
    )
    [(waited, _, without_reason)] = long_waits(done.stdout)
    assert waited > 500
    assert without_reason
    assert done.returncode == 1


@pytest.mark.parametrize("pauses", [1, 2])
def test_a_stop_of_all_is_the_reason_for_the_wait_it_was_in_and_no_other(soak_in_c, pauses):
    soak = subprocess.Popen(
        [soak_in_c, *SLEEPY, "--pauses", str(pauses), "--pause", "1500000000"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert soak.stdout.readline().startswith("device pauses")
        wait_until(lambda: state_of(soak.pid) == "S")  # the driver waits for the device
        os.killpg(soak.pid, signal.SIGSTOP)
        # More than half of the wait, even if the whole pause of 1.5 s comes before the stop.
        time.sleep(2.5)
        os.killpg(soak.pid, signal.SIGCONT)
        output = soak.communicate()[0]
    finally:
        soak.kill()
        soak.wait()
        soak.stdout.close()
    waits = long_waits(output)
    assert [without_reason for _, _, without_reason in waits] == [False, True][:pauses]
    waited, late, _ = waits[0]
    assert 2 * late >= waited > 2400
    assert soak.returncode == pauses - 1
