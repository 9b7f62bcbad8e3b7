# SPDX-License-Identifier: MIT
"""Records between files and streams: array files, and raw records without a header."""

from __future__ import annotations

import ast
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell.command.array_files import load, npy_header, rows_dtype, says
from ringbell.command.files import (
    LONGEST_READ,
    PART,
    Advance,
    is_archive,
    is_array_file,
    name_of,
    opened,
    read,
    write_all,
)
from ringbell.streams.dtypes import record_dtype
from ringbell.streams.record_producer import RecordProducer

if TYPE_CHECKING:
    from ringbell.command.files import Source


def parse_dtype(text: str) -> np.dtype[Any]:
    """Read a dtype from the command line: `f8`, `i4,f8`, or a list or dict as NumPy takes it.

    Raises ValueError when it is no dtype, or cannot be one of records.
    """
    literal = text.strip()[:1] + text.strip()[-1:] in ("[]", "()", "{}")  # and not M8[s]
    try:
        wanted = ast.literal_eval(text.strip()) if literal else text
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        why = "it is no list or dict of names and dtypes"
        raise ValueError(f"{text!r} is no dtype: {why}") from None
    try:
        return record_dtype(wanted)
    except TypeError as error:
        raise ValueError(error) from None


def dtype_of(files: list[Path], dtype: str | None) -> np.dtype[Any]:
    """Say of which dtype the records are: of this one, or of the array files' own.

    Raises ValueError when the files do not agree, OSError when one cannot be read.
    """
    if dtype is not None:
        for file in filter(is_array_file, files):
            raise ValueError(
                f"{file} is an array file, which says its dtype itself; leave --dtype away, or "
                f"send its bytes, the header too: ringbell produce NAME --dtype ... < {file}"
            )
        return parse_dtype(dtype)
    for file in files:
        if is_archive(file):
            raise ValueError(
                f"{file} holds several arrays, and a stream carries one: save each as .npy, or "
                f"send the file's bytes as they are, ringbell produce NAME < {file}"
            )
    if not all(is_array_file(file) for file in files):
        raise ValueError(
            ".npy files go as records, other files as bytes; one stream cannot carry both"
        )
    dtypes = {file: rows_dtype(load(file), file) for file in files}
    for file, found in dtypes.items():
        if found != dtypes[files[0]]:
            raise ValueError(f"{file} has the dtype {found}, {files[0]} has {dtypes[files[0]]}")
    return record_dtype(dtypes[files[0]])


def send_raw(producer: RecordProducer, file: Path, advance: Advance) -> None:
    """Send records that lie in a file without a header.

    Raises ValueError when a part of a record is left at the end.
    """
    with opened(file) as source:
        _send_records(producer, source, file, advance)


def _send_records(
    producer: RecordProducer, source: int, file: Path, advance: Advance, left: float = math.inf
) -> None:
    """Read whole records right into the ring, `left` bytes or all.

    Raises ValueError when a part of a record is left, or when the file ends too early.
    """
    size = producer.dtype.itemsize
    most = max(min(LONGEST_READ // size, producer.capacity // PART), 1)
    while left:
        block = producer.reserve(most)
        with block as rows:
            octets = rows.reshape(-1).view("u1").data
            octets = octets[: int(min(len(octets), left))]
            got = _read_whole(source, file, octets, size)
            block.count = got // size
        advance(got)
        left -= got
        if got % size:
            raise ValueError(
                f"{name_of(file, source)} ends with {got % size} bytes, which are no whole record "
                f"of {size} bytes"
            )
        if not got and math.isfinite(left):
            raise ValueError(f"{file} became shorter meanwhile: {left} bytes of its array are gone")
        if not got:
            return


def _read_whole(source: int, file: Path, octets: memoryview, size: int) -> int:
    """Read whole records, at least one; return the bytes.

    Only at the end of the file may a part of a record be among them.
    """
    got = 0
    while got == 0 or got % size:
        more = read(source, file, octets[got:])
        if not more:
            break
        got += more
    return got


def send_array(producer: RecordProducer, file: Path, advance: Advance) -> None:
    """Send the rows of an array file."""
    rows: Any = load(file)
    if rows.flags.c_contiguous:
        # Read, because a mapped file that became shorter would end the process by SIGBUS.
        with opened(file) as source:
            os.lseek(source, rows.offset, os.SEEK_SET)
            _send_records(producer, source, file, advance, rows.nbytes)
        return
    step = max(producer.capacity // PART, 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        producer.write(part)
        advance(part.nbytes)


def write_array(source: Source, dtype: np.dtype[Any], file: Path, advance: Advance) -> None:
    """Write a `.npy` file, whose header gets the number of rows at the end."""
    rows = 0

    def count(octets: int) -> None:
        nonlocal rows
        rows += octets // dtype.itemsize
        advance(octets)

    header = npy_header(dtype, 0)
    if not says(header, dtype):
        raise ValueError(
            f"an array file cannot describe records of {dtype}; name a file without "
            ".npy, which gets them raw"
        )
    with file.open("wb", buffering=0) as target:
        size = target.write(header)
        try:
            write_all(source, target.fileno(), file, count)
        finally:  # the file is a valid one, whatever ended the stream
            header = npy_header(dtype, rows)
            assert len(header) == size, "NumPy leaves room for the number of rows"
            os.pwrite(target.fileno(), header, 0)
