# SPDX-License-Identifier: MIT
"""The options that several commands share, and the functions that read their values.

Every value arrives as text and is read here, so that the error texts are our own. Each function
raises ValueError, which says what the option takes.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ringbell.launching.functions import load_function
from ringbell.meeting.segment import RING_SIZE

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read_size(option: str, text: str) -> int:
    """Read a number of bytes: 1048576, 1024K, 1M, 1MiB."""
    found = re.fullmatch(r"(\d{1,20}) ?([KMG]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    if not found:
        raise ValueError(f"{option} is a size like 64K, 1M or 1048576, not {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def shown_size(size: int) -> str:
    """Write a number of bytes as an option takes it, in the largest unit that divides it."""
    for unit in "GMK":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def read_seconds(option: str, text: str) -> float:
    """Read a number of seconds."""
    if re.fullmatch(r"[\d.eE+-]+|inf", text.strip(), re.ASCII):
        with contextlib.suppress(ValueError):
            if (seconds := float(text)) >= 0:
                return seconds
    raise ValueError(f"{option} is a number of seconds, at least 0, not {text!r}")


def read_number(option: str, what: str, text: str) -> int:
    """Read a whole number; `what` says in errors what it is."""
    if not re.fullmatch(r"-?\d{1,20}", text.strip(), re.ASCII):
        raise ValueError(f"{option} is {what}, not {text!r}")
    return int(text)


def read_path(what: str, text: str) -> Path:
    """Read the path of a file. An empty one would be the current folder."""
    if not text:
        raise ValueError(f"{what} is the path of a file, not ''")
    return Path(text)


def read_cpu(text: str | None) -> int | None:
    """Read the number of a CPU."""
    return None if text is None else read_number("--cpu", "the number of a CPU", text)


def read_cpus(text: str) -> tuple[int, int] | Literal["auto"] | None:
    """Read the CPUs of the two sides of a stream."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    if found := re.fullmatch(r"(\d{1,9}),(\d{1,9})", text, re.ASCII):
        return int(found[1]), int(found[2])
    raise ValueError(f"--cpus is two CPUs like 0,1, or auto, or none, not {text!r}")


def read_timeout(text: str | None) -> float | None:
    """Read how long to wait for the other side; None is for ever."""
    return None if text is None else read_seconds("--timeout", text)


def read_ring_size(text: str) -> int:
    """Read a ring's size in bytes, a power of two."""
    size = read_size("--ring-size", text)
    if size & (size - 1) or not 4096 <= size <= 1 << 30:
        raise ValueError(f"--ring-size is a power of two from 4K to 1G, not {text!r}")
    return size


def read_choice(option: str, choices: list[str], text: str) -> str:
    """Read one of some words."""
    if text not in choices:
        raise ValueError(f"{option} is {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}")
    return text


def as_options(message: str) -> str:
    """Name options as the command does, where the library names the arguments of a function."""
    message = re.sub(
        r"\bring_size=(\d+)", lambda found: f"--ring-size {shown_size(int(found[1]))}", message
    )
    message = message.replace("ringbell.subscribe", "'ringbell consume --subscribe'")
    return re.sub(
        r"\bring_size\b|(?<!-)\b(cpu|max_poll)(?= is )",
        lambda found: "--" + found[0].replace("_", "-"),
        message,
    )


POLLING = ["adaptive", "never", "always"]
KICK = ["asleep", "always"]
WORKS = ["sha256", "compress"]
DEFAULT_BLOCK = "1K"
"""So small that the exchange takes most of the demo's time, not the hashing."""
DEFAULT_DEPTH = "64"


def read_function(what: str, text: str) -> Callable[..., Any]:
    """Import `MODULE:FUNCTION`, from the current folder first; `what` says what it is for.

    Raises ValueError, which says which part is wrong.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    return load_function(what, text)


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the channel, or a path with a slash in it.")
]
Cpu = Annotated[str | None, typer.Option("--cpu", metavar="CPU", help="Pin to this CPU.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Records of this dtype: f8, or i4,f8, or a list as NumPy takes it.",
    ),
]
RingSize = Annotated[
    str,
    typer.Option("--ring-size", metavar="SIZE", help="Size of the ring, a power of two."),
]
DEFAULT_RING_SIZE = shown_size(RING_SIZE)
Stats = Annotated[bool, typer.Option("--stats", help="Print a line of figures at the end.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="Give up if the other side does not come in time."
    ),
]
