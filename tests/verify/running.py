# SPDX-License-Identifier: MIT
"""Running commands, building programs over the sources of the extension, rows of the table."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCES = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT / 'csrc'}", "-g", "-pthread", "-Wall", "-Wextra"]
FLAGS += ["-Wno-unused-function"]

# Debian's packages for the commands and the headers that are needed.
PACKAGES = {
    "spin": "spin",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "objdump": "binutils",
    "g++": "g++",
    "/usr/include/relacy/relacy.hpp": "relacy-dev",
    "gdb": "gdb",
}


class Failed(Exception):  # noqa: N818
    """A check did not hold; the message says how."""


@dataclass
class Row:
    check: str
    explored: str
    result: str
    ok: bool


def run(command: list[str], timeout: float = 900, **options: object) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        if len(output) > 5000:
            output = f"{output[:2500]}\n...\n{output[-2500:]}"
        raise Failed(f"{Path(command[0]).name} ended with {done.returncode}: {output}")
    return done.stdout


def install_tools() -> None:
    """Install missing tools where that is allowed; each check says which tools it misses."""
    missing = sorted(
        {p for path, p in PACKAGES.items() if not shutil.which(path) and not Path(path).exists()}
    )
    if not missing or not shutil.which("apt-get"):
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    print(f"installing {' '.join(missing)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", *missing]):
        subprocess.run(
            [*prefix, "apt-get", *words], check=False, capture_output=True, env=environment
        )


def build(folder: Path, name: str, source: str, *options: str) -> str:
    program = folder / name
    compiler = os.environ.get("CC", "cc")
    test = str(ROOT / "tests/c" / source)
    run([compiler, *FLAGS, *options, "-o", str(program), test, *SOURCES])
    return str(program)


def fixed_addresses() -> list[str]:
    """Give the command that fixes addresses: some sanitizers fail with the kernel's random ones."""
    command = ["setarch", platform.machine(), "-R"]
    with suppress(OSError):
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    return []
