# SPDX-License-Identifier: MIT
"""The machine code: on every way from the store of an index to the load of the event, or from the
store of an event to the next look, there is a full barrier."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.proof

CSRC = Path(__file__).parent.parent / "csrc"
# Offsets in struct rb_control; tests/test_format.py compares them with the compiler's.
WRITE_INDEX, SPACE_EVENT, READ_INDEX, DATA_EVENT = 0, 128, 256, 384
BLOCK_EVENT, BLOCKS_RETURNED = 1024, 1152


class X86:
    name = "x86_64"
    compiler = os.environ.get("CC", "cc")
    objdump = "objdump"
    barrier = re.compile(r"^(lock\b|mfence|xchg\b.*\()")
    jump = re.compile(r"^jmp\s+([0-9a-f]+)")
    branch = re.compile(r"^j\w+\s+([0-9a-f]+)")
    call = re.compile(r"^call\b")

    @staticmethod
    def place(offset):
        return rf"0x{offset:x}\(%r\w+\)" if offset else r"\(%r\w+\)"

    @classmethod
    def stores(cls, lines, i, offset):
        # A byte of an array has an index.
        place = cls.place(offset).replace(r"\)", r"(?:,%r\w+,1)?\)")
        return re.match(rf"mov\w*\s+%\w+,{place}$", lines[i])

    @classmethod
    def loads(cls, lines, i, offset):
        return re.match(rf"\w+\s+{cls.place(offset)},%r\w+$", lines[i])


class Arm64:
    name = "aarch64"
    compiler = "aarch64-linux-gnu-gcc"
    objdump = "aarch64-linux-gnu-objdump"
    barrier = re.compile(r"^dmb\s+ish$")
    jump = re.compile(r"^b\s+([0-9a-f]+)")
    branch = re.compile(r"^(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+([0-9a-f]+)")
    call = re.compile(r"^bl\b")

    @classmethod
    def access(cls, lines, i, operations, offset):
        """Whether line i accesses that offset, or an address that was computed shortly before."""
        found = re.match(rf"(?:{operations})\s+[wx]\w+, \[(x\d+)(?:, #(\d+))?\]$", lines[i])
        if not found:
            return False
        if int(found[2] or 0) == offset and not (offset == 0 and "stlr" not in lines[i]):
            return True
        added = rf"add\s+{found[1]}, x\d+, #0x{offset:x}$"
        return any(re.match(added, line) for line in lines[max(i - 4, 0) : i])

    @classmethod
    def stores(cls, lines, i, offset):
        return cls.access(lines, i, "stlrb?|str", offset)

    @classmethod
    def loads(cls, lines, i, offset):
        return cls.access(lines, i, "ldr|ldar", offset)


@pytest.fixture(params=[X86, Arm64], ids=lambda machine: machine.name)
def machine(request):
    machine = request.param
    target = ""
    if shutil.which(machine.compiler) and shutil.which(machine.objdump):
        target = subprocess.run(
            [machine.compiler, "-dumpmachine"], capture_output=True, text=True, check=True
        ).stdout
    if not target.startswith(machine.name):
        if os.environ.get("RINGBELL_VERIFY"):
            pytest.fail(f"{machine.compiler} and {machine.objdump} are needed here")
        pytest.skip(f"no {machine.compiler} for {machine.name}; make verify installs it")
    return machine


def disassemble(machine, folder, source, function, *options):
    """Return the function's instructions and the place of each address among them."""
    unit = folder / "unit.o"
    subprocess.run(
        [machine.compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-DNDEBUG", "-fPIC", *options]
        + ["-c", str(CSRC / source), "-o", str(unit)],
        check=True,
        timeout=60,
    )
    text = subprocess.run(
        [machine.objdump, "-d", "--no-show-raw-insn", str(unit)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    found = re.search(rf"<{function}>:\n(.*?)\n\n", text + "\n\n", re.DOTALL)
    assert found, f"{function} is in {source}"
    rows = re.findall(r"^\s*([0-9a-f]+):\s+(.*?)\s*(?://.*)?$", found[1], re.MULTILINE)
    lines = [re.sub(r"\s*<.*>$", "", line) for _, line in rows]
    return lines, {address: i for i, (address, _) in enumerate(rows)}


def reaches_unfenced(machine, lines, places, start, is_target):
    """Whether some way from line `start` reaches a target without a full barrier."""
    seen, ways = set(), [start + 1]
    while ways:
        i = ways.pop()
        if i in seen or i >= len(lines):
            continue
        seen.add(i)
        line = lines[i]
        if machine.barrier.match(line):
            continue
        if is_target(i):
            return True
        if line.startswith("ret"):
            continue
        if jump := machine.jump.match(line):
            ways.append(places[jump[1]])
            continue
        if branch := machine.branch.match(line):
            ways.append(places[branch[1]])
        ways.append(i + 1)
    return False


def unfenced(machine, folder, case, *options):
    source, function, stored, loaded = case
    lines, places = disassemble(machine, folder, source, function, *options)

    def is_target(i):
        # After rb_arm its caller looks. In ring.c the event is loaded.
        if loaded is None:
            return lines[i].startswith("ret")
        return machine.loads(lines, i, loaded)

    stores = [i for i in range(len(lines)) if machine.stores(lines, i, stored)]
    assert stores, "the word is stored"
    assert any(is_target(i) for i in range(len(lines))), "there is something to reach"
    return any(reaches_unfenced(machine, lines, places, i, is_target) for i in stores)


CASES = [
    ("ring.c", "rb_producer_publish", WRITE_INDEX, DATA_EVENT),
    ("ring.c", "rb_consumer_release_to", READ_INDEX, SPACE_EVENT),
    ("wait.c", "rb_arm", DATA_EVENT, None),
    ("wait.c", "rb_arm", SPACE_EVENT, None),
    ("wait.c", "rb_arm", BLOCK_EVENT, None),
    ("blocks.c", "rb_block_return", BLOCKS_RETURNED, BLOCK_EVENT),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[2]}")
def test_every_way_from_the_store_to_the_load_passes_a_full_barrier(machine, tmp_path, case):
    assert not unfenced(machine, tmp_path, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[2]}")
def test_the_check_finds_a_missing_barrier(machine, tmp_path, case):
    assert unfenced(machine, tmp_path, case, "-DRB_LITMUS_WITHOUT_FENCES")
