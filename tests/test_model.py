# SPDX-License-Identifier: MIT
"""What the model's README says of the code and of the model."""

import re
from pathlib import Path

import pytest
from renumber import lines_in

ROOT = Path(__file__).parent.parent
README = (ROOT / "tests/model/README.md").read_text()
MODELS = [file.read_text() for file in sorted((ROOT / "tests/model").glob("*.pml"))]
MODEL = "\n".join(MODELS)
ROW = re.compile(
    r"^\| (`\w+`(?:, `\w+`)*) \| .* \| `(csrc/\w+\.[ch]):(\d+)` \| `(\w+)` \| `(.+)` \|$",
    re.MULTILINE,
)
STEPS = ROW.findall(README)
# The steps of the user, of the kernel, and of code that does not exist yet.
NOT_IN_CSRC = {"event_loop", "EventLoop", "connect_anew", "Commit", "Killer"}
NOT_IN_CSRC |= {"call", "take", "count_the_passed"}


@pytest.mark.parametrize(("steps", "source", "line", "function", "text"), STEPS)
def test_a_step_is_the_one_line_of_the_function_that_it_names(steps, source, line, function, text):
    assert lines_in(source, function, text) == [int(line)], "python tests/model/renumber.py"


def test_every_row_with_a_line_of_the_code_is_tested():
    assert len(STEPS) == README.count("| `csrc/")


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
