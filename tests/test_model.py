# SPDX-License-Identifier: MIT
"""What the model's README says of the code and of the model."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "tests/model/README.md").read_text()
MODEL = (ROOT / "tests/model/rings.pml").read_text()
ROW = re.compile(
    r"^\| (`\w+`(?:, `\w+`)*) \| .* \| `(csrc/\w+\.[ch]):(\d+)` \| `(.+)` \|$", re.MULTILINE
)
STEPS = ROW.findall(README)
# Which stand for the user, the kernel and what is not there yet.
NOT_IN_CSRC = {"event_loop", "connect_anew", "Commit", "Killer"}


@pytest.mark.parametrize(("steps", "source", "line", "text"), STEPS)
def test_a_step_is_the_line_that_it_names(steps, source, line, text):
    lines = (ROOT / source).read_text().splitlines()
    found = [number for number, there in enumerate(lines, 1) if text in there]
    assert int(line) in found, f"{steps} is now on {source}:{found}"


def test_every_step_of_the_model_is_in_the_table():
    named = {name for steps, *_ in STEPS for name in re.findall(r"\w+", steps)}
    steps = set(re.findall(r"^(?:inline|proctype) (\w+)\(", MODEL, re.MULTILINE))
    assert len(steps) > 20
    assert steps - named == NOT_IN_CSRC


def test_every_mutant_is_explained():
    mutants = set(re.findall(r"MUTANT_(\w+)", MODEL))
    rows = README.partition("## Its mutants")[2]
    explained = set(re.findall(r"`([A-Z_]{6,})`", rows))
    assert len(mutants) >= 12
    assert explained == mutants
