# SPDX-License-Identifier: MIT
"""The soak of `make soak` runs, and does see what it is there to see."""

import subprocess
import sys
from pathlib import Path

import pytest
from numbered import ANSWER, REQUEST, Traffic, Wrong

SOAK = Path(__file__).with_name("soak.py")


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
