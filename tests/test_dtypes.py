# SPDX-License-Identifier: MIT
"""The dtype of a stream on the other side: what is kept of it, and what is said to be lost."""

import re

import numpy as np
import pytest
from processes import PeerError, wait_until_listening

import ringbell
from ringbell.streams import dtypes

ALIGNED = np.dtype([("a", "u1"), ("b", [("x", "u1"), ("y", "f8")]), ("c", "u1")], align=True)


def custom(*names):
    """The dtypes of ml_dtypes with these names."""
    package = pytest.importorskip("ml_dtypes")
    return [np.dtype(getattr(package, name)) for name in names]


CUSTOM = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint4")


@pytest.mark.parametrize("name", CUSTOM)
def test_numbers_of_ml_dtypes_arrive_as_what_they_are(stream, name):
    (dtype,) = custom(name)
    producer, consumer = stream(dtype)
    rows = np.array([1, 2, 4, 1], dtype)
    assert producer.write(rows) == 4
    assert producer.write([1, dtype.type(2)]) == 2
    taken = consumer.read()
    assert taken.dtype == consumer.dtype == dtype
    assert taken.astype("f8").tolist() == [1, 2, 4, 1, 1, 2]
    with producer.reserve(2) as reserved:
        reserved[:] = rows[:2]
    assert consumer.borrow().astype("f8").tolist() == [1, 2]


def test_numbers_of_ml_dtypes_may_be_fields(start, produce):
    bfloat16, int4 = custom("bfloat16", "int4")
    dtype = np.dtype([("id", "u4"), ("v", [("w", bfloat16, (2, 2)), ("n", int4)])], align=True)
    consumer = start("consumer")
    producer = produce(dtype)
    producer.write([(7, ([[1, 2], [3, 4]], -8))] * 3)
    producer.close()
    consumer.run("rows = consumer.read()")
    assert consumer.run("rows['v']['w'].astype('f8').tolist()") == str(
        [[[1.0, 2.0], [3.0, 4.0]]] * 3
    )
    assert consumer.run("rows['v']['n'].astype('i8').tolist()") == str([-8] * 3)
    assert consumer.run("str(consumer.dtype)") == repr(str(dtype))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("int4", 1.5, TypeError),
        ("int4", 100, OverflowError),
        ("bfloat16", 257, OverflowError),
        ("bfloat16", 1e300, OverflowError),
        ("float8_e4m3fn", 1e6, OverflowError),
        ("float4_e2m1fn", 1e6, OverflowError),  # the largest is 6
        ("bfloat16", None, TypeError),
        ("bfloat16", "1", ValueError),
    ],
)
def test_a_value_that_ml_dtypes_would_change_is_refused(stream, name, value, error):
    (dtype,) = custom(name)
    producer, _ = stream(dtype)
    with pytest.raises(error, match=r"fractions|would be|is a NoneType|invalid literal"):
        producer.write([value])


def test_an_array_of_plain_octets_is_no_array_of_ml_dtypes(stream):
    (bfloat16,) = custom("bfloat16")
    producer, _ = stream(bfloat16)
    for wrong in ("V2", "u2", "f2"):
        with pytest.raises(TypeError, match=r"rows\.astype"):
            producer.write(np.zeros(2, wrong))


def test_a_consumer_without_ml_dtypes_is_told_to_install_it(start, path):
    (bfloat16,) = custom("bfloat16")
    consumer = start("nothing")
    consumer.run("import sys; sys.modules['ml_dtypes'] = None")
    consumer.begin("ringbell.consume(path)")
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match="install it on both sides"):
        ringbell.produce(path, [("a", bfloat16)])
    with pytest.raises(PeerError, match="a dtype of ml_dtypes, which cannot be imported here"):
        consumer.reply()


def test_a_name_of_ml_dtypes_needs_no_import(start, consume):
    """NumPy knows such a name once the package is loaded; in another process it is not yet."""
    (bfloat16,) = custom("bfloat16")
    producer = start("producer", dtype="[('a', 'bfloat16')]")
    assert consume([("a", bfloat16)]).dtype == np.dtype([("a", bfloat16)])
    producer.run("producer.close()")
    module = "__import__('ringbell.command.record_files').command.record_files"
    parsed = f"{module}.parse_dtype('i4,bfloat16')"
    assert start("nothing").run(f"str({parsed})") == repr(
        str(np.dtype([("f0", "i4"), ("f1", bfloat16)]))
    )


def test_a_name_of_ml_dtypes_without_the_package_says_so(start):
    peer = start("nothing")
    peer.run("import sys; sys.modules['ml_dtypes'] = None")
    for name in ("bfloat16", "float8_e5m2", "int4", "uint2"):
        with pytest.raises(PeerError, match=f"'{name}' not understood; it needs .* ml_dtypes"):
            peer.run(f"ringbell.consume(path, '{name}')")
    with pytest.raises(PeerError, match="data type 'nonsense' not understood$"):
        peer.run("ringbell.consume(path, 'nonsense')")


@pytest.mark.parametrize(
    "text", ["'ml_dtypes.nothing'", "'ml_dtypes.finfo'", "'os.path'", "'ml_dtypes.__name__'"]
)
def test_no_name_brings_in_anything_but_a_dtype(text):
    with pytest.raises(ringbell.LayoutMismatch, match="is no dtype"):
        dtypes.restore(text.encode(), 2)


def test_a_dtype_of_an_unknown_package_is_refused_with_its_name(path, monkeypatch):
    (bfloat16,) = custom("bfloat16")
    monkeypatch.setattr(dtypes, "_PACKAGE", "another_package")
    with pytest.raises(ValueError, match="is made by the package ml_dtypes; only NumPy's own"):
        ringbell.produce(path, bfloat16)


@pytest.mark.parametrize("dtype", [ALIGNED, np.dtype((ALIGNED, (2,)))])
def test_an_aligned_structure_arrives_aligned(stream, dtype):
    producer, consumer = stream(dtype)
    assert consumer.dtype == dtype
    assert consumer.dtype.base.isalignedstruct
    assert consumer.dtype.base.fields["b"][0].isalignedstruct
    assert consumer.dtype.base.fields["c"][1] == ALIGNED.fields["c"][1]
    assert not dtypes.restore(dtypes.describe(np.dtype("u1,u2")), 3).isalignedstruct


def test_titles_arrive(stream):
    _, consumer = stream(np.dtype([(("The first", "a"), "i4"), ("b", "f4")]))
    assert consumer.dtype.fields["The first"] == consumer.dtype.fields["a"]
    assert consumer.dtype.fields["a"][2] == "The first"


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype("f8", metadata={"unit": "m"}),
        np.dtype([("a", np.dtype("f8", metadata={"unit": "m"}), (2,))]),
    ],
)
def test_metadata_is_said_to_be_left_out(stream, dtype):
    with pytest.warns(UserWarning, match="metadata of the dtype .* is not sent") as caught:
        producer, consumer = stream(dtype)
    assert caught[0].filename.endswith("conftest.py")
    assert producer.dtype == consumer.dtype


@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [("f8", ("dtype", "capacity", "peer_pid")), (None, ("max_payload", "peer_pid"))],
)
def test_what_describes_an_end_is_read_only(stream, dtype, attributes):
    for end in stream(dtype):
        for name in attributes:
            if hasattr(end, name):
                with pytest.raises(AttributeError):
                    setattr(end, name, getattr(end, name))
                with pytest.raises(AttributeError):
                    delattr(end, name)


@pytest.mark.parametrize("wanted", ["nope", 5, [("a",)], "(1,f8", {"names": "aa", "formats": "bb"}])
def test_what_is_no_dtype_is_refused_in_our_own_words(wanted):
    with pytest.raises((TypeError, ValueError), match=re.escape(f"{wanted!r} is no dtype: ")):
        ringbell.produce("ticks", wanted, timeout=0)
