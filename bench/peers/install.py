# SPDX-License-Identifier: MIT
"""Install each peer into a folder of its own, and go on when one does not install.

    python bench/peers/install.py FOLDER

What pip says about one that does not install is in FOLDER/<package>.log. A folder each, because
they may want different versions of the same thing, and ringbell's environment is none of theirs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = [
    "pyzmq",
    "kickmsg",
    "faster-fifo",
    "cloudtoid-interprocess",
    "iceoryx2",
    "zeroq",
    "hyperq",
    "gymnasium",
]
# It must be compiled, with a newer compiler than most machines have. PyPI has one.
COMPILED = "tachyon-ipc"
TOOLS = ["ziglang", "setuptools", "wheel"]


def pip(folder: Path, *words: str, **environment: str) -> str | None:
    """Install into the folder, all or nothing; give what pip said if that failed."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--retries", "1", "--target", str(folder), *words]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return done.stdout


def compile_peer(folder: Path) -> str | None:
    """Install the peer that must be compiled. Its build wants compilers that are one word each."""
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        tools = Path(name) / "tools"
        if failure := pip(tools, *TOOLS):
            return failure
        compilers = {}
        for variable, language in (("CC", "cc"), ("CXX", "c++")):
            script = Path(name) / f"zig-{variable.lower()}"
            python = shlex.quote(sys.executable)
            script.write_text(f'#!/bin/sh\nexec {python} -m ziglang {language} "$@"\n')
            script.chmod(0o755)
            compilers[variable] = str(script)
        return pip(folder, "--no-build-isolation", COMPILED, PYTHONPATH=str(tools), **compilers)


def main() -> None:
    everything = Path(sys.argv[1])
    everything.mkdir(parents=True, exist_ok=True)
    for package in [*PEERS, COMPILED]:
        folder, log = everything / package, everything / f"{package}.log"
        if folder.is_dir():
            continue
        failure = compile_peer(folder) if package == COMPILED else pip(folder, package)
        log.unlink(missing_ok=True)
        if failure is not None:
            log.write_text(failure)
            print(f"{package} does not install and is left out; {log} says why")


if __name__ == "__main__":
    main()
