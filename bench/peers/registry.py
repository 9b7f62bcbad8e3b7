# SPDX-License-Identifier: MIT
"""Which peers there are, and which of them are installed."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from peers.adaptor import Adaptor

# PyPI's names by module in this folder; None is part of Python, or ours. The order of the tables.
PACKAGES: dict[str, str | None] = {
    "ours": None,
    "pipe": None,
    "pyzmq": "pyzmq",
    "kickmsg": "kickmsg",
    "cloudtoid": "cloudtoid-interprocess",
    "iceoryx2": "iceoryx2",
    "zeroq": "zeroq",
    "hyperq": "hyperq",
    "tachyon": "tachyon-ipc",
}


def installed_in() -> Path:
    """Give the folder that has one folder for each package, so that none can disturb another."""
    return Path(os.environ.get("RINGBELL_PEERS") or Path(sys.prefix) / "peers")


def load(module: str) -> Adaptor:
    """Import an adaptor, in a process that imports no other peer."""
    package = PACKAGES[module]
    if package:
        sys.path.append(str(installed_in() / package))
    return import_module(f"peers.{module}").Peer()


def why_missing(module: str) -> str | None:
    """Say why a peer is left out, or None if it is there."""
    package = PACKAGES[module]
    if package is None or (installed_in() / package).is_dir():
        return None
    log = installed_in() / f"{package}.log"
    if not log.exists():
        return "not installed; `make bench` tries to"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return f"did not install: {(errors or lines or ['nothing was said'])[-1]}"
