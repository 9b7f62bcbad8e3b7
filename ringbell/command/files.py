# SPDX-License-Identifier: MIT
"""Streams between files and pipes: what `ringbell produce` and `ringbell consume` do.

What concerns records is in `record_files` and `array_files`. They load NumPy, which takes longer
than all the rest of the command, so this module imports them only for records.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ringbell._ffi import ffi
from ringbell.streams.messages import MessageConsumer, MessageProducer

if TYPE_CHECKING:
    import numpy as np

    from ringbell.command.many import Many
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

    Source: TypeAlias = MessageConsumer | RecordConsumer | Many

Advance = Callable[[int], None]

STANDARD = Path("-")
_STANDARD_INPUT, _STANDARD_OUTPUT = 0, 1
PART = 4  # of the ring, so that both sides work at the same time
LONGEST_READ = 1 << 18


def size_of(files: Iterable[Path]) -> int | None:
    """Say how many bytes will come; None when a pipe or a terminal is among the files.

    Raises OSError when one cannot be read.
    """
    total = 0
    for file in files:
        status = os.fstat(_STANDARD_INPUT) if file == STANDARD else file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file", str(file))
        if file != STANDARD and not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def is_array_file(file: Path) -> bool:
    """Whether the name says that it is an array file."""
    return file.suffix.lower() == ".npy"


def is_archive(file: Path) -> bool:
    """Whether the name says that it holds several arrays."""
    return file.suffix.lower() == ".npz"


def is_pipe(file: Path) -> bool:
    """Whether it is there, but is no regular file."""
    return file.exists() and not file.is_file()


def dtype_of(files: list[Path], dtype: str | None) -> np.dtype[Any] | None:
    """Say what the stream will carry: records of this dtype, or messages.

    Raises ValueError when the files do not agree, OSError when one cannot be read.
    """
    if dtype is None and not any(is_array_file(file) or is_archive(file) for file in files):
        return None
    from ringbell.command import record_files

    return record_files.dtype_of(files, dtype)


def name_of(file: Path, descriptor: int) -> str:
    """Give the name of a file for an error text."""
    if file != STANDARD:
        return str(file)
    return "standard input" if descriptor == _STANDARD_INPUT else "standard output"


@contextmanager
def _named(file: Path, descriptor: int) -> Iterator[None]:
    """Add the file's name to an OSError."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or name_of(file, descriptor)
        raise


def read(source: int, file: Path, into: memoryview) -> int:
    """Read what is there, at least one byte; 0 at the end. An OSError names the file."""
    with _named(file, source):
        while True:
            try:
                return os.readv(source, [into])
            except BlockingIOError:  # a parent made it so; the next byte will come
                select.select([source], [], [])


@contextmanager
def opened(file: Path) -> Iterator[int]:
    """Open a file to read from it; the standard input is open."""
    if file == STANDARD:
        yield _STANDARD_INPUT
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def produce_files(
    producer: MessageProducer | RecordProducer, files: list[Path], raw: bool, advance: Advance
) -> None:
    """Send the files, one after the other; `raw` when they hold records without a header."""
    if isinstance(producer, MessageProducer):
        for file in files:
            with opened(file) as source:
                _send_bytes(producer, source, file, advance)
    else:
        from ringbell.command import record_files

        send = record_files.send_raw if raw else record_files.send_array
        for file in files:
            send(producer, file, advance)
    producer.check_consumer()


def _send_bytes(producer: MessageProducer, source: int, file: Path, advance: Advance) -> None:
    """Read right into the ring; each read sends what it got."""
    size = min(LONGEST_READ, producer.max_payload // PART)
    while True:
        with producer.reserve(size) as frame:
            frame.length = read(source, file, frame.payload)
            if not frame.length:
                frame.abandon()
                return
        advance(frame.length)


def check_target(file: Path) -> None:
    """Refuse a file that cannot be written, before the stream begins; do not touch it yet."""
    if file == STANDARD:
        return
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file", str(file))
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(file.parent))
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))


def _dtype_from(source: Source) -> np.dtype[Any] | None:
    """Give the dtype of the records that come; None for messages."""
    return None if isinstance(source, MessageConsumer) else source.dtype


def _check_format(source: Source, file: Path) -> None:
    """Refuse a name that does not fit what the stream carries, before anything is taken."""
    records = _dtype_from(source) is not None
    if is_array_file(file) and not records:
        raise ValueError(
            f"the stream carries bytes and no records, so {file} would be no array file; send the "
            "array as one, ringbell produce NAME FILE.npy, or give the copy another name"
        )
    if is_array_file(file) and is_pipe(file):
        raise ValueError(
            f"{file} is a pipe or a device, and an array file gets its length at the end; name "
            "another file"
        )
    if is_archive(file) and records:
        raise ValueError(
            f"the stream carries records, and {file} would have to hold several arrays; name it "
            f"{file.with_suffix('.npy')}"
        )


def consume_into(
    source: Source,
    file: Path,
    advance: Advance,
    may_be_binary: bool = True,
) -> None:
    """Write what comes to a file, or to the standard output, until the producer closes.

    Raises ValueError, and takes nothing, when the file cannot be what its name says. Raises
    ValueError before it would write binary data to a terminal, unless `may_be_binary`.
    """
    _check_format(source, file)
    if file == STANDARD:
        if not may_be_binary and os.isatty(_STANDARD_OUTPUT):
            _write_text(source, advance)
        else:
            write_all(source, _STANDARD_OUTPUT, file, advance)
    elif is_array_file(file) and (dtype := _dtype_from(source)) is not None:
        from ringbell.command import record_files

        record_files.write_array(source, dtype, file, advance)
    else:
        with file.open("wb", buffering=0) as target:
            write_all(source, target.fileno(), file, advance)


def write_all(source: Source, target: int, file: Path, advance: Advance) -> None:
    """Write the bytes of all that comes. An OSError names the file."""
    for entries in source:
        octets = memoryview(ffi.buffer(ffi.from_buffer(entries)))
        _write(target, file, octets)
        advance(len(octets))
        octets.release()


def _write(target: int, file: Path, octets: memoryview) -> None:
    with _named(file, target):
        written = 0
        while written < len(octets):
            try:
                written += os.write(target, octets[written:])
            except BlockingIOError:  # a parent made it so; there will be room
                select.select([], [target], [])


def _write_text(source: Source, advance: Advance) -> None:
    """Write text to a terminal; refuse bytes with a NUL, which no text has."""
    binary = "would go to a terminal; name a FILE, or - to see them all the same"
    if (dtype := _dtype_from(source)) is not None:
        raise ValueError(f"records of {dtype} {binary}")
    payload: Any  # no array, as there is no dtype
    for payload in source:
        if b"\0" in bytes(payload):
            raise ValueError(f"bytes that are no text {binary}")
        _write(_STANDARD_OUTPUT, STANDARD, payload)
        advance(len(payload))
