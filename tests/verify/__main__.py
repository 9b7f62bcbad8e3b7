# SPDX-License-Identifier: MIT
"""Shows that no wake-up is lost; `make verify` for the quick form, `make soak` for a long soak.

    python tests/verify [--soak SLEEPS] [--only NAME]

Searches the model and its mutants, and the memory orders of the sources of the extension with and
without each of them; runs the C programs over these sources (under ThreadSanitizer,
AddressSanitizer and UBSan, and as two processes), the same soak in Python, the litmus with and
without the fences, the tests that stop a side, those of the soaks, and the check of the machine
code. Ends with one table; exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from model import check_model, check_mutants
from orders import check_orders
from programs import (
    check_debugger,
    check_litmus,
    check_machine_code,
    check_sanitizers,
    check_stopping,
    check_tools,
    check_variants,
)
from running import Failed, Row, install_tools
from soaks import QUICK_SLEEPS, check_soak


def print_table(rows: list[Row]) -> None:
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("check", "explored")]
    print(f"\n{'check':{widths[0]}}  {'explored':{widths[1]}}  result")
    for row in rows:
        mark = "" if row.ok else "FAILED: "
        print(f"{row.check:{widths[0]}}  {row.explored:{widths[1]}}  {mark}{row.result}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soak", type=int, metavar="SLEEPS", help="only soak, for so many sleeps")
    parser.add_argument("--only", metavar="NAME", help="only this check")
    options = parser.parse_args()
    checks: dict[str, Callable[[Path], Iterator[Row]]] = {
        "model": check_model,
        "mutants": check_mutants,
        "orders": check_orders,
        "machine-code": check_machine_code,
        "litmus": check_litmus,
        "sanitizers": check_sanitizers,
        "debugger": check_debugger,
        "stopping": check_stopping,
        "tools": check_tools,
        "variants": check_variants,
        "soak": lambda folder: check_soak(folder, options.soak or QUICK_SLEEPS),
    }
    only = "soak" if options.soak else options.only
    if only and only not in checks:
        parser.error(f"--only is one of {', '.join(checks)}")
    install_tools()
    rows: list[Row] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ringbell-verify-") as folder:
        for name, check in checks.items():
            if only and name != only:
                continue
            try:
                for row in check(Path(folder)):
                    rows.append(row)
                    print(
                        f"{time.monotonic() - begin:6.1f} s  {row.check}: {row.result}", flush=True
                    )
            except (Failed, FileNotFoundError, subprocess.TimeoutExpired) as error:
                rows.append(Row(name, "-", str(error), False))
                print(f"{name}: {error}", file=sys.stderr, flush=True)
    print_table(rows)
    return 0 if rows and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
