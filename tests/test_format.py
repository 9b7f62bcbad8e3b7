# SPDX-License-Identifier: MIT
"""The shared memory: as documented, and never trusted."""

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
from memory import READ_INDEX, WRITE_INDEX, control_words

import ringbell

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| (\d+) \|", re.MULTILINE)
NONSENSE = [1, 63, 65, 2**31, 2**32, 2**63, 2**64 - 1]


def documented():
    rows = ROW.findall((ROOT / "docs/layout.md").read_text())
    return [(struct_, field, int(offset), int(size)) for struct_, field, offset, size in rows]


def test_the_documented_offsets_and_sizes_are_those_of_the_compiler(tmp_path):
    source = tmp_path / "layout.c"
    lines = ['#include "layout.h"']
    for name, field, offset, size in documented():
        lines.append(
            f"static_assert(offsetof(struct {name}, {field}) == {offset} && "
            f'sizeof(((struct {name} *)0)->{field}) == {size}, "{name}.{field}");'
        )
    source.write_text("\n".join(lines) + "\n")
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-std=gnu11", "-fsyntax-only", f"-I{ROOT / 'csrc'}", str(source)],
        check=True,
        timeout=60,
    )


def test_every_field_of_the_layout_is_documented():
    text = (ROOT / "csrc/layout.h").read_text()
    fields = set()
    for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", text, re.DOTALL | re.MULTILINE):
        for field in re.findall(
            r"^\t(?:alignas\(\w+\) )?(?:struct )?\w+ (\w+)(?:\[\w+\])?;", body, re.MULTILINE
        ):
            fields.add((name, field))
            assert f"offsetof(struct {name}, {field})" in text, "each offset is asserted"
    assert len(fields) > 25
    assert fields == {(name, field) for name, field, _, _ in documented()}


def test_memory_orders_are_spelled_in_one_file_only():
    for source in (ROOT / "csrc").glob("*.[ch]"):
        spelled = re.search(r"__ATOMIC|__atomic|atomic_|__sync", source.read_text())
        assert bool(spelled) == (source.name == "ordering.h"), source


def test_each_system_call_of_the_core_is_made_in_one_file():
    made = {}
    for source in sorted((ROOT / "csrc").glob("*.[ch]")):
        calls = r"\b(read|write|syscall|p?poll|timerfd_\w+|shutdown)\("
        for call in re.findall(calls, source.read_text()):
            made.setdefault(source.name, set()).add(call)
    assert made == {
        "closing.c": {"shutdown"},
        "control.c": {"shutdown"},
        "kick.c": {"read", "write", "syscall", "poll"}
        | {"timerfd_create", "timerfd_settime", "timerfd_gettime"},
        "life.h": {"poll"},
        "memory.c": {"syscall"},
        "sleepers.c": {"ppoll"},
    }


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_nonsense_write_index_is_a_corrupt_ring_and_the_end_is_dead(pair, nonsense):
    driver, device = pair(ring_size=4096)
    # 1 and 63 are possible indices. For them the frame that they offer is wrong.
    frame = b"\xff" * 16 if nonsense < 64 else struct.pack("<IHHQ", 1, 1, 0, 0)
    driver._channel.my_slots()[:16] = frame
    control_words(driver)[WRITE_INDEX] = nonsense
    with pytest.raises(ringbell.CorruptRing, match="open a new one"):
        device.take()
    for use in (device.take, device.doorbell.recv, lambda: device.interrupt.send(b"x")):
        with pytest.raises(ringbell.CorruptRing):
            use()


@pytest.mark.parametrize("nonsense", NONSENSE[2:])  # the first two are possible
def test_a_nonsense_read_index_is_a_corrupt_ring(pair, nonsense):
    driver, device = pair(ring_size=4096)
    control_words(device)[READ_INDEX] = nonsense
    with pytest.raises(ringbell.CorruptRing, match="broke the format"):
        for _ in range(100):
            driver.submit(b"x", timeout=0)
    with pytest.raises(ringbell.CorruptRing):
        driver.reap()


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IHHQ", 2**32 - 1, 1, 0, 0),  # longer than any ring
        struct.pack("<IHHQ", 49, 1, 0, 0),  # one slot more than was published
        struct.pack("<IHHQ", 1, 0, 0, 0),  # kind 0, which does not exist
        struct.pack("<IHHQ", 1, 7, 0, 0),  # unknown kind
        struct.pack("<IHHQ", 1, 1, 4, 0),  # unknown flag
        struct.pack("<IHHQ", 1, 1, 2, 0),  # a later piece without a first one
    ],
)
@pytest.mark.parametrize("take", [lambda d: d.take(), lambda d: d.doorbell.recv()])
def test_a_nonsense_frame_is_a_corrupt_ring(pair, header, take):
    driver, device = pair(ring_size=4096)
    driver._channel.my_slots()[: len(header)] = header
    control_words(driver)[WRITE_INDEX] = 1
    with pytest.raises(ringbell.CorruptRing, match="broke the format"):
        take(device)


def test_random_bytes_in_the_ring_never_do_worse_than_an_error(pair):
    import random

    rng = random.Random(1)
    for i in range(30):
        driver, device = pair(ring_size=4096)
        ring = driver._channel.my_slots()
        ring[:4096] = rng.randbytes(4096)
        for offset in range(0, 4096, 64):
            if rng.random() < 0.9:
                header = (rng.randrange(200), rng.choice((1, 2)), rng.randrange(4), i)
                ring[offset : offset + 16] = struct.pack("<IHHQ", *header)
        control_words(driver)[WRITE_INDEX] = 64
        try:
            for _ in range(100):
                device.take(timeout=0).complete(timeout=0)
        except (ringbell.CorruptRing, ringbell.RingEmpty, RuntimeError):
            pass
        device.close()
        driver.close()
