# SPDX-License-Identifier: MIT
"""The script that runs the standard library's tests on our pipes; see `make standard`."""

import subprocess
import sys
from pathlib import Path

SCRIPT = str(Path(__file__).with_name("standard_pipes.py"))


def run(*command):
    done = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True, timeout=50
    )
    return done.returncode, done.stdout + done.stderr


def test_a_few_of_them_pass():
    code, said = run(SCRIPT, "fork", "-k", "sendbytes")
    assert code == 0, said
    assert "all passed" in said or "skipped: this Python came without its tests" in said


def test_without_them_it_says_so():
    hides = "import runpy, sys; sys.modules['test'] = None; sys.argv[1:] = []; "
    code, said = run("-c", hides + f"runpy.run_path({SCRIPT!r}, run_name='__main__')")
    assert (code, said.split(":")[0]) == (0, "skipped")
