# SPDX-License-Identifier: MIT
"""Which peers there are, which jobs each can do, and which of them are installed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from peers.adaptor import Adaptor


@dataclass(frozen=True)
class Peer:
    """A library; the module of this folder that adapts it gives it its key."""

    name: str
    package: str | None = None
    """On PyPI; None is part of Python, or ours."""
    jobs: frozenset[str] = frozenset({"one way", "echo", "in flight", "idle"})
    most: int = 1_000_000
    """Messages in one run: fewer for one that needs memory for all of them."""


def _can(*more: str) -> frozenset[str]:
    return frozenset({"one way", "echo", "in flight", "idle", *more})


# In the order of the tables.
PEERS = {
    "ours": Peer("ringbell", None, _can("call", "views", "lists", "spinning")),
    "pipe": Peer("Pipe", None, _can("pickled lists")),
    "pyzmq": Peer("pyzmq", "pyzmq", _can("lists")),
    "kickmsg": Peer("kickmsg", "kickmsg", _can("views", "spinning"), most=250_000),
    "cloudtoid": Peer("cloudtoid", "cloudtoid-interprocess", _can("lists", "spinning")),
    "iceoryx2": Peer("iceoryx2", "iceoryx2", _can("views", "spinning")),
    "zeroq": Peer("zeroq", "zeroq", _can("spinning")),
    "hyperq": Peer("hyperq", "hyperq", _can()),
    "tachyon": Peer("tachyon", "tachyon-ipc", _can("call", "views", "lists", "spinning")),
}


def installed_in() -> Path:
    """Give the folder that has one folder for each package, so that none can disturb another."""
    return Path(os.environ.get("RINGBELL_PEERS") or Path(sys.prefix) / "peers")


def add_to_path(package: str) -> None:
    """Let this process, and those that it spawns, import a package."""
    sys.path.append(str(installed_in() / package))


def load(module: str) -> Adaptor:
    """Import an adaptor, in a process that imports no other."""
    package = PEERS[module].package
    if package:
        add_to_path(package)
    return import_module(f"peers.{module}").Peer()


def why_missing(module: str) -> str | None:
    """Say why a peer is left out, or None if it is there."""
    package = PEERS[module].package
    return why_not_installed(package) if package else None


def why_not_installed(package: str) -> str | None:
    """Say why a package is left out, or None if it is there."""
    if (installed_in() / package).is_dir():
        return None
    log = installed_in() / f"{package}.log"
    if not log.exists():
        return f"{package} is left out: it is not installed; `make bench` tries to"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if line.lower().startswith("error")]
    reason = (errors or lines or ["pip said nothing"])[-1]
    return f"{package} is left out: it did not install ({reason})"
