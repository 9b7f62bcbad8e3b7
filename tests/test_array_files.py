# SPDX-License-Identifier: MIT
"""Array files that a stream carries: equal on the other side, or refused."""

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from typer.testing import CliRunner

import ringbell
from ringbell.command import array_files, cli, files, record_files


def nothing(_octets):
    """Advance no bar."""


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(240, dtype=">u2").reshape(10, 2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(["2026-03-01", "NaT"], "M8[D]"),
        np.array([b"ab", b""], "S3"),
        np.zeros(3, np.dtype([("a", "u1"), (("The b", "b"), "f8")], align=True)),
        np.ones(3, {"names": ["a", "b"], "formats": ["i4", "S2"], "offsets": [5, 17]}),
        np.zeros((0, 3)),
        np.array([1, 2, 3])[::2],
    ],
    ids=["big-endian", "columns", "times", "text", "aligned", "padded", "no rows", "strided"],
)
def test_an_array_file_is_equal_on_the_other_side(stream, rows, tmp_path):
    there, here = tmp_path / "THERE.NPY", tmp_path / "here.Npy"
    np.save(tmp_path / "array.npy", rows)
    (tmp_path / "array.npy").rename(there)
    producer, consumer = stream(files.dtype_of([there], None))
    files.produce_files(producer, [there], False, nothing)
    producer.close()
    files.consume_into(consumer, here, nothing)
    arrived = np.load(here)
    assert (arrived.dtype, arrived.shape) == (rows.dtype, rows.shape)
    assert np.array_equal(arrived, rows, equal_nan=rows.dtype.kind == "M")
    if rows.flags.fnc:
        assert array_files.lost_order([there]) == [there]
    else:
        assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one.npy", "holds a single value, not an array"),
        ("many.npz", "holds several arrays, and a stream carries one"),
        ("MANY.NPZ", "holds several arrays, and a stream carries one"),
        ("several.npy", "it holds several arrays; rename it to .npz"),
        ("objects.npy", "cannot be read as an array file"),
        ("no bytes.npy", "have no bytes"),
        ("text.npy", "does not begin as one; name it otherwise"),
        ("two.npy", "136 bytes follow its array"),
        ("pipe.npy", "is a folder, a pipe or a device"),
    ],
)
def test_a_file_that_would_arrive_as_another_is_refused_before_anybody_is_met(
    path, tmp_path, name, message
):
    np.save(tmp_path / "one.npy", np.float32(1.5))
    np.savez(tmp_path / "many.npz", np.zeros(3), np.zeros(4))
    (tmp_path / "many.npz").rename(tmp_path / "several.npy")
    np.savez(tmp_path / "many.npz", np.zeros(3))
    (tmp_path / "MANY.NPZ").write_bytes((tmp_path / "many.npz").read_bytes())
    np.save(tmp_path / "objects.npy", np.array([{}, None], object), allow_pickle=True)
    np.save(tmp_path / "no bytes.npy", np.zeros((3, 0)))
    (tmp_path / "text.npy").write_text("no array")
    with (tmp_path / "two.npy").open("wb") as two:
        np.save(two, np.zeros(3))
        np.save(two, np.zeros(1))
    os.mkfifo(tmp_path / "pipe.npy")
    done = CliRunner().invoke(cli.app, ["produce", str(path), str(tmp_path / name)])
    assert done.exit_code == 2
    assert re.fullmatch(rf"ringbell: .*{message}.*\n", done.stderr)
    assert not path.exists()


@pytest.mark.parametrize(
    ("dtype", "copy", "message"),
    [
        (None, "copy.npy", "carries bytes and no records"),
        (None, "COPY.NPY", "carries bytes and no records"),
        ("f8", "copy.npz", "name it .*copy.npy"),
        ("bfloat16", "copy.npy", "cannot describe records of bfloat16"),
        ("float8_e5m2", "copy.npy", "cannot describe records of float8_e5m2"),
    ],
)
def test_a_copy_that_would_be_no_array_file_is_refused_before_anything_is_taken(
    stream, tmp_path, dtype, copy, message
):
    if dtype and "float" in dtype:
        dtype = getattr(pytest.importorskip("ml_dtypes"), dtype)
    (tmp_path / copy).write_bytes(b"what was there")
    producer, consumer = stream(dtype)
    producer.write([1.0]) if dtype else producer.send(b"x")
    with pytest.raises(ValueError, match=message):
        files.consume_into(consumer, tmp_path / copy, nothing)
    assert (tmp_path / copy).read_bytes() == b"what was there"
    assert consumer.read().size == 1 if dtype else consumer.recv() == b"x"


def test_an_array_file_that_becomes_shorter_is_an_error(stream, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(1 << 17))
    producer, consumer = stream("f8", ring_size=4096)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(files.produce_files, producer, [file], False, nothing)
        consumer.read()
        os.truncate(file, 1000)
        while not sent.done():
            with suppress(ringbell.RingEmpty):
                consumer.read(timeout=0.01)
    with pytest.raises(ValueError, match=r"a\.npy became shorter meanwhile"):
        sent.result()


def test_an_array_file_into_a_pipe_is_refused_before_anything_is_taken(stream, tmp_path):
    os.mkfifo(tmp_path / "copy.npy")
    producer, consumer = stream("f8")
    producer.write([1.0])
    with pytest.raises(ValueError, match="a pipe or a device, and an array file gets its length"):
        files.consume_into(consumer, tmp_path / "copy.npy", nothing)
    assert consumer.read().tolist() == [1.0]


@pytest.mark.parametrize("text", ["M8[s]", "i4,M8[ns]", "(2,)m8[D]", ' [("a", "M8[s]")] '])
def test_a_dtype_of_the_command_line_may_have_units(text):
    wanted = [("a", "M8[s]")] if "a" in text else text
    assert record_files.parse_dtype(text) == np.dtype(wanted)


def test_a_stream_of_bytes_into_an_array_file_is_one_line(path, tmp_path):
    producing = threading.Thread(target=lambda: ringbell.produce(path).close())
    producing.start()
    try:
        done = CliRunner().invoke(cli.app, ["consume", str(path), str(tmp_path / "copy.npy")])
    finally:
        producing.join()
    assert done.exit_code == 2
    assert re.fullmatch(
        r"(ringbell: waiting for .*\n)?ringbell: .*would be no array file.*\n", done.stderr
    )
    assert not (tmp_path / "copy.npy").exists()
