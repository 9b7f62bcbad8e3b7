# SPDX-License-Identifier: MIT
"""What is measured, and which target each figure has: the rows of the first table."""

from __future__ import annotations

from dataclasses import dataclass

from peers.jobs import DEPTH, LIST

OURS = "ours"
BEST = "best"


@dataclass(frozen=True)
class Measurement:
    """A job for every library that has a way to do it."""

    job: str
    size: int = 64
    seconds: float = 0.15
    """Of each run, about."""
    group: str = ""
    """Measurements that follow each other with the same group share their rounds."""


MEASUREMENTS = {
    "one way": Measurement("one way"),
    "one way 1024": Measurement("one way", size=1024),
    "views": Measurement("views"),
    "lists": Measurement("lists", group="lists"),
    "pickled lists": Measurement("pickled lists", group="lists"),
    "echo": Measurement("echo", group="echo"),
    "spinning": Measurement("spinning", group="echo"),
    "call": Measurement("call", group="echo"),
    "in flight": Measurement("in flight"),
    "idle": Measurement("idle", seconds=0.5),
}


@dataclass(frozen=True)
class Row:
    """A figure of ours against one of a peer. The ratio is ours divided by theirs."""

    what: str
    group: str
    """What `--rows` chooses it by; a measurement."""
    ours: tuple[str, str]
    """Measurement and field: rate and cpu (ns a message), or p50 and p99 (us)."""
    peer: str
    """A module of this package, or the best of all."""
    theirs: tuple[str, str]
    target: float | None
    """The ratio to reach: at least, for rates; at most, for all else. None: for information."""

    @property
    def more_is_better(self) -> bool:
        return self.ours[1] == "rate"

    def reached(self, ratio: float) -> bool | None:
        if self.target is None:
            return None
        return ratio >= self.target if self.more_is_better else ratio <= self.target


def _row(
    what: str,
    measurement: str,
    field: str,
    target: float | None,
    *,
    peer: str = BEST,
    against: str | None = None,
    their_field: str | None = None,
) -> Row:
    theirs = against or measurement, their_field or field
    return Row(what, measurement, (measurement, field), peer, theirs, target)


ROWS = [
    _row("one way, send and recv, /s", "one way", "rate", 2),
    _row("the same against Pipe", "one way", "rate", 16, peer="pipe"),
    _row("the same: CPU time a message, both sides, ns", "one way", "cpu", 0.6),
    _row("one way, 1,024 bytes, /s", "one way 1024", "rate", 2),
    _row("one way, iterating views, /s", "views", "rate", 2.5, peer="kickmsg"),
    _row("the same against the best", "views", "rate", None),
    _row(f"send_many, recv_many, lists of {LIST}, /s", "lists", "rate", 10),
    _row("the same against pickled lists", "lists", "rate", None, against="pickled lists"),
    _row("send, recv round trip, p50, us", "echo", "p50", 0.3, peer="tachyon"),
    _row("the same, our p99 against its p50", "echo", "p99", 1, peer="tachyon", their_field="p50"),
    _row("the same against the best that spins", "echo", "p50", None, against="spinning"),
    _row("call against serve, p50, us", "call", "p50", 0.45, peer="tachyon", against="echo"),
    _row("the same against its RpcBus", "call", "p50", None, peer="tachyon"),
    _row("the same against Pipe", "call", "p50", 0.02, peer="pipe", against="echo"),
    _row(f"map(depth={DEPTH}), requests /s", "in flight", "rate", 12, peer="pipe"),
    _row("the same against the best", "in flight", "rate", None),
    _row("round trip after 10 ms of idleness, p50, us", "idle", "p50", 1),
    _row("the same, p99", "idle", "p99", None),
]


def needed(rows: list[Row]) -> list[str]:
    """Give the measurements that those rows need, in their order."""
    wanted = {row.ours[0] for row in rows} | {row.theirs[0] for row in rows}
    return [name for name in MEASUREMENTS if name in wanted]
