# SPDX-License-Identifier: MIT
"""Publications on the command line: `produce --readers` and `consume --subscribe`."""

from __future__ import annotations

import errno
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ringbell.command import standard
from ringbell.command.files import consume_into
from ringbell.command.shown import print_figures, print_note, stream_bar
from ringbell.errors import RingFull
from ringbell.publishing.opening import publish, subscribe

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ringbell.meeting.segment import Keep
    from ringbell.publishing.publisher import MessagePublisher
    from ringbell.publishing.record_publisher import RecordPublisher
    from ringbell.publishing.record_subscriber import RecordSubscriber
    from ringbell.publishing.subscriber import MessageSubscriber

_MOST = 64


def read_readers(text: str) -> tuple[Keep, int]:
    """Read for whom to publish: what is kept for them, and how many to wait for."""
    if text == "newest":
        return "newest", 0
    if re.fullmatch(r"\d{1,2}", text, re.ASCII) and int(text) <= _MOST:
        return "all", int(text)
    raise ValueError(
        f"--readers is how many to wait for, from 0 to {_MOST}, or newest, not {text!r}"
    )


def open_publisher(
    name: str,
    records: np.dtype[Any] | None,
    readers: str,
    timeout: float | None,
    **how: Any,  # noqa: ANN401  (options of publish)
) -> MessagePublisher | RecordPublisher:
    """Publish, and wait for as many readers as there should be.

    Raises ValueError for bad options; TimeoutError when they did not come in time; OSError.
    """
    keep, count = read_readers(readers)
    if timeout is not None and not count:
        raise ValueError(
            f"--timeout is how long to wait for readers, and --readers {readers} waits for none"
        )
    publisher: MessagePublisher | RecordPublisher
    with ExitStack() as stack:
        try:
            publisher = publish(name, records, keep=keep, min_readers=count, **how)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            why = f"{error.strerror}; a 'ringbell consume' that waits there needs --subscribe"
            raise OSError(error.errno, why) from None
        stack.enter_context(publisher)
        _await_readers(publisher, count, timeout)
        stack.pop_all()
    return publisher


def _await_readers(publisher: Any, count: int, timeout: float | None) -> None:  # noqa: ANN401
    if not count:
        return
    who = "a reader" if count == 1 else f"{count} readers"
    print_note(f"waiting for {who} on {publisher.path}")
    try:
        room = publisher.reserve(1, timeout=timeout)  # is there once they have come
    except RingFull:
        came = len(publisher.readers)
        raise TimeoutError(
            f"{came} of {count} readers came within the timeout (waited on {publisher.path})"
        ) from None
    with room:
        room.abandon()


def consume(
    name: str,
    wanted: np.dtype[Any] | None,
    target: Path,
    may_be_binary: bool,
    stats: bool,
    **how: Any,  # noqa: ANN401  (options of subscribe)
) -> None:
    """Write what is published, until the publisher closes or a signal comes."""
    stream: MessageSubscriber | RecordSubscriber = subscribe(name, wanted, **how)
    begin = time.monotonic()
    try:
        with stream, stream_bar("from", name, None, standard.is_read(target)) as advance:
            consume_into(stream, target, advance, may_be_binary)
    finally:
        if missed := stream.missed:
            print_note(f"missed {missed:,} entries: they were overwritten before they were taken")
        if stats:
            print_figures(stream.stats().device.consumer, time.monotonic() - begin)
