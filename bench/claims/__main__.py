# SPDX-License-Identifier: MIT
"""Measures what the design claims, plots it, and writes the page about it.

    python bench/claims [--quick] [--only N]

A whole run writes docs/claims.md and docs/figures/; a quick one, or one of a single claim, writes
to build/claims/, so that the page is always of one run. Needs two CPUs: ends with 2 without.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import CpuTime, describe, is_virtual

from claims import claim_1, claim_2, claim_3, claim_4, claim_5, claim_6, claim_7, claim_8
from claims.programs import ROOT, Bench, Failed
from claims.section import Section, fill
from ringbell.pinning import choose_pair

CLAIMS: list[Callable[[Bench], Section]] = [
    module.claim
    for module in (claim_1, claim_2, claim_3, claim_4, claim_5, claim_6, claim_7, claim_8)
]

# Share of the CPUs' time that others may take.
QUIET = 0.05


def page(sections: list[Section], cpus: tuple[int, int], spent: CpuTime) -> str:
    machine = describe(cpus)
    virtual = "a virtual machine: " if is_virtual() else ""
    verdicts = "\n".join(
        f"| {section.number} | {section.verdict.title} | {section.claim} | {section.verdict.word} |"
        for section in sections
    )
    text = "\n".join(section.as_markdown() for section in sections)
    written = fill(
        "Written by `make figures`, verdicts included: each is decided by thresholds that stand in "
        "`bench/claims/verdicts.py`, and its numbers are those of the run. The programs are in "
        "`bench/c`, over the very sources of the extension; where Python is measured, it says so."
    )
    measured = fill(
        f"Measured on {virtual}{machine}. Where it says two CPUs, the driver is on CPU {cpus[0]} "
        f"and the device on CPU {cpus[1]}. {noise(spent)}"
    )
    return f"""# What the design claims, measured

{written}

{measured}

| | what is the case | what was claimed | verdict |
| --- | --- | --- | --- |
{verdicts}

{text}"""


def noise(spent: CpuTime) -> str:
    others = max(spent.others / spent.all, 0)
    text = f"Other processes took {100 * others:.1f} % of the CPUs' time in this run"
    if is_virtual():
        text += (
            f", other guests of the host {100 * spent.stolen / spent.all:.1f} %, as far as it "
            "tells. A wake-up of a virtual CPU that sleeps goes through the hypervisor, so W is "
            "not that of bare metal"
        )
    text += (
        ". What others take disturbs the p99 first, and medians last. Numbers of another run will "
        "differ; what counts is the shape of the lines, and which of them is above."
    )
    if others > QUIET:
        text += " **The machine was too busy for figures that one can rely on.**"
    return text


def measure(bench: Bench, numbers: list[int]) -> list[Section]:
    bench.build()
    sections = []
    for number in numbers:
        began = time.monotonic()
        section = CLAIMS[number - 1](bench)
        print(f"{number}. {section.verdict.title}: {section.verdict.word.upper()}", flush=True)
        print(f"   {section.verdict.text} [{time.monotonic() - began:.0f} s]", flush=True)
        sections.append(section)
    return sections


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of half a minute")
    parser.add_argument("--only", type=int, choices=range(1, len(CLAIMS) + 1), metavar="N")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("The claims need two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    whole = not options.quick and not options.only
    target = ROOT / ("docs" if whole else "build/claims")
    numbers = [options.only] if options.only else list(range(1, len(CLAIMS) + 1))
    # So that what was started ends with us, and the folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    print(describe(cpus), flush=True)
    began, before = time.monotonic(), CpuTime.now()
    try:
        with tempfile.TemporaryDirectory(prefix="ringbell-claims-") as folder:
            bench = Bench(Path(folder), target / "figures", cpus, options.quick)
            bench.figures.mkdir(parents=True, exist_ok=True)
            sections = measure(bench, numbers)
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    text = page(sections, cpus, CpuTime.now().since(before))
    (target / "claims.md").write_text(text)
    print(f"{(target / 'claims.md').relative_to(ROOT)}, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
