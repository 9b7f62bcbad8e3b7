# SPDX-License-Identifier: MIT
"""The model: searched in full, and again with one thing wrong at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import ROOT, Failed, Row, run

RINGS = ROOT / "tests/model/rings.pml"
SLEEPERS = ROOT / "tests/model/sleepers.pml"
WAITER = ROOT / "tests/model/waiter.pml"
CHIME = ROOT / "tests/model/chime.pml"
BLOCKS = ROOT / "tests/model/blocks.pml"
PUBLISHING = ROOT / "tests/model/publishing.pml"
LEAST_STATES = 2_000_000
MEGABYTES = 4096

SMALL = ["-DN=2"]
ONE_WAY = ["-DONE_WAY", "-DN=3"]
COALESCE, MODERATION, POLLABLE = "-DCOALESCE", "-DMODERATION=2", "-DPOLLABLE"
KILLED = "-DCRASHES=1"
TWO_THREADS = "-DTWO_THREADS"

# The searches for a deadlock or a wrong entry, and the number of entries in each.
SEARCHES = {
    "both rings, 4 entries": [],
    "device killed twice": [*SMALL, "-DCRASHES=2"],
    "coalescing": [*SMALL, COALESCE],
    "coalescing, moderation": [*SMALL, COALESCE, MODERATION],
    "one way, coalescing, two threads": ["-DONE_WAY", *SMALL, COALESCE, MODERATION, TWO_THREADS],
    "one way, coalescing, pollable": [*ONE_WAY, COALESCE, POLLABLE],
    "one way, coalescing, moderation, pollable": [*ONE_WAY, COALESCE, MODERATION, POLLABLE],
    "the same, killed twice": ["-DONE_WAY", *SMALL, COALESCE, MODERATION, POLLABLE, "-DCRASHES=2"],
    "both rings of one slot, pollable": ["-DN=3", "-DSLOTS=1", POLLABLE],
}
SEARCHES_OF_SLEEPERS = {"two threads": [], "a thread and an event loop": ["-DEVENT_LOOP"]}
SEARCHES_OF_BLOCKS = {"blocks that come back in any order": []}
ONCE = "-DN=1"
BUSY = ["-DBUSY", "-DP=3", ONCE]
CLOSES = ["-DCLOSES=2", ONCE]
CALLS = ["-DCALLS=2", ONCE]
ROOM = ["-DROOM", ONCE]
OWES = "-DOWES"
SEARCHES_OF_WAITER = {
    "a waiter of two": [],
    "a waiter of three": ["-DP=3", ONCE],
    "a waiter, calls between waits": CALLS,
    "a waiter, a thread waits for room": ROOM,
    "a waiter, its channels are closed": CLOSES,
    "a waiter that owes a kick": [OWES],
    "a waiter, one member is always ready": BUSY,
}
SMALLEST = ["-DN=2", "-DSLOTS=1"]
THREE = ["-DR=3", "-DAT_ONCE", "-DN=2"]
NEWEST = "-DNEWEST"
RESERVES = ["-DR=1", NEWEST, "-DSLOTS=4", "-DN=6", "-DGIVES_UP=1"]
SEARCHES_OF_PUBLISHING = {
    "a publication, one of two readers is killed": ["-DR=2", *SMALLEST, "-DKILLS=1"],
    "the same, one of two is let go": ["-DR=2", *SMALLEST, "-DSTALLS=1"],
    "the same, one that is let go, two slots": ["-DR=1", "-DSTALLS=1"],
    "the same, both are awaited": ["-DR=2", *SMALLEST, "-DAWAITED=2"],
    "the same, one comes three times": ["-DR=1", "-DVISITS=3", "-DKILLS=2", "-DAWAITED=1"],
    "the same, three readers": [*THREE, "-DSLOTS=1", "-DPRESENT=2"],
    "the newest, two readers": ["-DR=2", NEWEST, "-DN=2"],
    "the newest, reservations": RESERVES,
    "the newest, three readers": [*THREE, NEWEST, "-DPRESENT=3"],
}
SEARCHES_OF_CHIME = {"the chimes of a pipe": [], "the same, 8 entries": ["-DN=8"]}
# The searches for an entry that is never taken, under weak fairness.
FAIR_SEARCHES = {
    "both rings of one slot": [*SMALL, "-DSLOTS=1"],
    "device killed": [*SMALL, KILLED],
    "one way, coalescing, pollable": ["-DONE_WAY", *SMALL, COALESCE, POLLABLE],
    "one way, coalescing, moderation, pollable": [
        "-DONE_WAY",
        *SMALL,
        COALESCE,
        MODERATION,
        POLLABLE,
    ],
}

MODEL_OF = {
    **dict.fromkeys(SEARCHES, RINGS),
    **dict.fromkeys(FAIR_SEARCHES, RINGS),
    **dict.fromkeys(SEARCHES_OF_SLEEPERS, SLEEPERS),
    **dict.fromkeys(SEARCHES_OF_WAITER, WAITER),
    **dict.fromkeys(SEARCHES_OF_CHIME, CHIME),
    **dict.fromkeys(SEARCHES_OF_BLOCKS, BLOCKS),
    **dict.fromkeys(SEARCHES_OF_PUBLISHING, PUBLISHING),
}

# The options that a mutant needs beside its own macro to go wrong.
MUTANT_OPTIONS = {
    "MUTANT_SUBMIT_TAKES_NOTHING": ["-DSLOTS=1", "-DN=3"],
    "MUTANT_SLEEPS_OWING_A_KICK": [*SMALL, COALESCE],
    "MUTANT_BLOCK_ENDS_WITHOUT_A_KICK": [*ONE_WAY, COALESCE],
    "MUTANT_KICK_THEN_CLEAR": [*ONE_WAY, COALESCE, TWO_THREADS],
    "MUTANT_OTHER_END_TAKES_THE_TIMER_BACK": [*ONE_WAY, COALESCE, MODERATION, TWO_THREADS],
    "MUTANT_NO_TIMER_IN_A_BLOCK": [*ONE_WAY, COALESCE],
    "MUTANT_NO_TIMER": [*ONE_WAY, "-DMODERATION=3"],
    "MUTANT_TIMER_ONLY_ONCE": [*ONE_WAY, "-DMODERATION=3"],
    "MUTANT_LOOKED_BUT_UNREADABLE": [*ONE_WAY, POLLABLE],
    "MUTANT_WAIT_LEAVES_IT_UNREADABLE": [*ONE_WAY, POLLABLE],
    "MUTANT_UNREADABLE_AFTER_THE_LOOK": [*ONE_WAY, POLLABLE],
    "MUTANT_UNREADABLE_UNARMED": [*ONE_WAY, POLLABLE],
    "MUTANT_UNREADABLE_UNLOOKED": [*ONE_WAY, POLLABLE],
    "MUTANT_RELEASE_BEFORE_COMPLETE": [*SMALL, KILLED],
    "MUTANT_REPLACED_STARTS_AT_WRITE": [*SMALL, KILLED],
    "MUTANT_TIMER_NOT_PASSED": [*ONE_WAY, "-DMODERATION=3"],
    "MUTANT_DRAINED_FOR_THE_EVENT_LOOP": ["-DN=3", "-DSLOTS=1", POLLABLE],
    "MUTANT_EVENT_LOOP_IS_NOT_TOLD": ["-DEVENT_LOOP"],
    "MUTANT_SETTLE_DRAINS_FOR_ALL": ["-DEVENT_LOOP"],
    "MUTANT_NO_TURNS": BUSY,
    "MUTANT_THE_KERNEL_IS_NOT_ASKED": BUSY,
    "MUTANT_WAITS_OWING_A_KICK": [OWES],
    "MUTANT_ADDED_WHILE_ANOTHER_SLEEPS": ROOM,
    "MUTANT_THE_WAITER_IS_NOT_TOLD_OF_A_DRAIN": ROOM,
    "MUTANT_THE_WAITER_IS_NOT_LET_WATCH": CALLS,
    "MUTANT_A_CALL_DISARMS": CALLS,
    "MUTANT_A_CALL_TELLS_NOBODY": CALLS,
    "MUTANT_THE_WAITER_IS_NOT_TOLD_OF_A_CLOSE": CLOSES,
    "MUTANT_CLOSED_AND_STILL_WATCHED": CLOSES,
    "MUTANT_DRAINS_AFTER_THE_CLOSED": CLOSES,
    "MUTANT_ONLY_ONE_READER_IS_KICKED": ["-DR=2", *SMALLEST],
    "MUTANT_A_REMOVAL_KICKS_NOBODY": ["-DR=1", "-DKILLS=1"],
    "MUTANT_ONE_THAT_COMES_KICKS_NOBODY": ["-DR=1", "-DAWAITED=1"],
    "MUTANT_CHECKS_BEFORE_THE_COPY": ["-DR=1", NEWEST],
    "MUTANT_CLAIMS_AFTER_THE_SLOT": ["-DR=1", NEWEST],
    "MUTANT_A_CLAIM_GOES_BACK": RESERVES,
    "MUTANT_CLAIMS_WHAT_IS_TO_BE_READ": ["-DR=1", "-DSTALLS=1"],
    "MUTANT_CLAIMS_THE_NEWEST": ["-DR=1", NEWEST],
    "MUTANT_A_BATCH_TAKES_THE_WHOLE_RING": ["-DR=1", NEWEST],
    "MUTANT_BELIEVES_AFTER_A_GAP": ["-DR=1", NEWEST, "-DN=5"],
    "MUTANT_ONE_TOO_FEW_IS_MISSED": ["-DR=1", NEWEST, "-DN=5"],
}
OTHER_MUTANTS = {RINGS: ["-DN=3"], PUBLISHING: ["-DR=1"]}
# Options of mutants that no search above has. With these the model must hold without a mutant.
SANE_OPTIONS = [
    ["-DSLOTS=1", "-DN=3"],
    [*ONE_WAY, "-DMODERATION=3"],
    [*ONE_WAY, COALESCE],
    [*ONE_WAY, POLLABLE],
]


def search(
    folder: Path,
    model: Path,
    name: str,
    defines: list[str],
    liveness: bool = False,
    optimise: str = "-O2",
) -> tuple[int, str]:
    """Search a model in full; return the number of states and what went wrong, if anything."""
    place = folder / name.replace(" ", "-").replace(",", "")
    place.mkdir()
    run(["spin", *defines, "-a", str(model)], cwd=place)
    options = ["-DCOLLAPSE", "-DNFAIR=3", f"-DMEMLIM={MEGABYTES}"] + (
        [] if liveness else ["-DSAFETY", "-DNOCLAIM"]
    )
    run([os.environ.get("CC", "cc"), optimise, "-w", *options, "-o", "pan", "pan.c"], cwd=place)
    output = run(["./pan", "-m1000000", "-n", *(["-a", "-f"] if liveness else [])], cwd=place)
    wrong = re.search(r"pan:1: (.*?)(?: \(at|$)", output, re.MULTILINE)
    cut_off = ("max search depth too small", "Search not completed", "-DMEMLIM")
    if "errors:" not in output or (not wrong and any(text in output for text in cut_off)):
        raise Failed(f"the search was not complete: {output[-500:]}")
    states = int(float(re.search(r"([\d.e+]+) states, stored", output)[1]))
    return states, wrong[1] if wrong else ""


def check_model(folder: Path) -> Iterator[Row]:
    with ThreadPoolExecutor(2) as pool:
        # These take longest, so they start first.
        fair = {
            name: pool.submit(
                search, folder, MODEL_OF[name], f"fair {name}", defines, liveness=True
            )
            for name, defines in {
                **FAIR_SEARCHES,
                **SEARCHES_OF_SLEEPERS,
                **SEARCHES_OF_WAITER,
            }.items()
        }
        safe = {
            name: pool.submit(search, folder, MODEL_OF[name], f"safe {name}", defines)
            for name, defines in {
                **SEARCHES,
                **SEARCHES_OF_SLEEPERS,
                **SEARCHES_OF_WAITER,
                **SEARCHES_OF_CHIME,
                **SEARCHES_OF_BLOCKS,
                **SEARCHES_OF_PUBLISHING,
            }.items()
        }
        searched = 0
        for name, future in safe.items():
            states, wrong = future.result()
            searched += states
            yield Row(f"model: {name}", f"{states:,} states", wrong or "holds", not wrong)
        yield Row("model: all of it", f"{searched:,} states", "searched", searched >= LEAST_STATES)
        for name, future in fair.items():
            states, wrong = future.result()
            what = f"each entry is taken: {name}"
            yield Row(what, f"{states:,} states", wrong or "holds", not wrong)


def check_mutants(folder: Path) -> Iterator[Row]:
    mutants = {
        mutant: model
        for model in (RINGS, SLEEPERS, WAITER, CHIME, BLOCKS, PUBLISHING)
        for mutant in sorted(set(re.findall(r"MUTANT_\w+", model.read_text())))
    }
    with ThreadPoolExecutor(2) as pool:
        sane = [
            pool.submit(search, folder, RINGS, f"sane-{i}", options, optimise="-O1")
            for i, options in enumerate(SANE_OPTIONS)
        ]
        searches = [
            pool.submit(
                search,
                folder,
                model,
                mutant,
                [f"-D{mutant}", *MUTANT_OPTIONS.get(mutant, OTHER_MUTANTS.get(model, []))],
                # To compile takes most of the time.
                optimise="-O0",
            )
            for mutant, model in mutants.items()
        ]
        for options, future in zip(SANE_OPTIONS, sane, strict=True):
            if wrong := future.result()[1]:
                raise Failed(f"the model fails with {options} alone: {wrong}")
        for mutant, future in zip(mutants, searches, strict=True):
            states, wrong = future.result()
            name = mutant.removeprefix("MUTANT_").lower().replace("_", " ")
            result = f"killed: {wrong}" if wrong else "SURVIVED"
            yield Row(f"mutant: {name}", f"{states:,} states", result, bool(wrong))
