# SPDX-License-Identifier: MIT
"""`ringbell bench`."""

import json
import subprocess

import pytest
from processes import RINGBELL

from ringbell.command import bench

pytestmark = pytest.mark.variant


def test_bench_compares_on_this_machine():
    done = subprocess.run(
        [*RINGBELL, "bench", "--json"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    figures = [bench.Figure(**figure) for figure in found["figures"]]
    assert len(figures) == 4
    assert all(figure.ours > 0 for figure in figures)
    assert [figure.theirs is None for figure in figures] == [False, False, False, True]
    assert all(len(line) < 80 for line in bench.table(figures))
