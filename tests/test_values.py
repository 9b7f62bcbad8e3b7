# SPDX-License-Identifier: MIT
"""What `write` makes of Python values: records that say the same, or an error."""

import array
import datetime
import decimal
import fractions
import functools
import math
import typing

import numpy as np
import pytest

import ringbell

UTC = datetime.UTC
NOON = datetime.datetime(2026, 3, 1, 12, 0, 0, 5)
NESTED = [("id", "u2"), ("at", [("x", "f4"), ("n", "i2", (2,))])]


class Tick(typing.NamedTuple):
    price: float
    text: str


REFUSED = {
    "fraction into i4": ("i4", [1.9], TypeError, "are fractions"),
    "fraction in a field": ([("size", "i4")], [(1.9,)], TypeError, "field size: .* are fractions"),
    "whole float in a field": ([("size", "i4")], [(2.0,)], TypeError, "are fractions"),
    "fraction in one record": ([("a", "f8"), ("b", "i4")], (1.0, 1.9), TypeError, "field b"),
    "fraction after good rows": ([("a", "i4")], [(1,), (2,), (2.5,)], TypeError, "field a"),
    "fraction of NumPy": ([("a", "i4")], [(np.float32(1.5),)], TypeError, "are fractions"),
    "fraction in a sub-array": ([("a", "i4", (2,))], [([1, 1.5],)], TypeError, "are fractions"),
    "fraction in an array in a list": ([("a", "i4", (2,))], [(np.ones(2),)], TypeError, "field a"),
    "fraction in a nested field": (NESTED, [(1, (1.0, [1, 2.5]))], TypeError, r"field at\.n: "),
    "fraction in records that are arrays": (np.dtype(("i4", (2,))), [[1, 2.5]], TypeError, "fract"),
    "fraction into bool": ("?", [0.5], TypeError, "are fractions"),
    "NaN into i4": ("i4", [math.nan], TypeError, "are fractions"),
    "NaN into a field": ([("a", "i4")], [(math.nan,)], TypeError, "are fractions"),
    "complex into f8": ("f8", [1j], TypeError, "is a complex"),
    "two into bool": ("?", [2], OverflowError, "would be"),
    "long double too large": ("f8", [np.longdouble("1e4000")], OverflowError, "inf"),
    "the int that is NaT": ("m8[s]", [-(2**63)], OverflowError, "NaT"),
    "time into no unit": ("M8", ["2026"], TypeError, "says no unit"),
    "span into no unit": ([("a", "m8")], [(np.timedelta64(5, "s"),)], TypeError, "field a: "),
    "text into no length": ([("a", "i4"), ("b", "S0")], [(1, "x")], TypeError, "no unit or length"),
    "octets into no length": ([("a", "i4"), ("b", "V0")], [(1, b"x")], TypeError, "field b: "),
    "text of a time in UTC": ("M8[s]", ["2026-03-01T12:00Z"], TypeError, "with a timezone"),
    "text of a time elsewhere": ("M8[s]", ["2026-03-01 12:00+02"], TypeError, "with a timezone"),
    "int too large": ("u1", [300], OverflowError, "300"),
    "negative into unsigned": ([("a", "u4")], [(-1,)], OverflowError, "field a: "),
    "int of NumPy too large": ("u1", [np.int64(300)], OverflowError, "300"),
    "int of NumPy in a field": ([("a", "i1")], [(np.int64(200),)], OverflowError, "field a: "),
    "int that f4 rounds": ("f4", [2**24 + 1], OverflowError, "16777217"),
    "int that f8 rounds": ([("ns", "f8")], [(2**53 + 1,)], OverflowError, "field ns: "),
    "int of NumPy that f8 rounds": ("f8", [np.int64(2**53 + 1)], OverflowError, "9007199254740993"),
    "ints of NumPy among floats": ("f4", [0.5, np.int32(2**24 + 1)], OverflowError, "16777217"),
    "int that c16 rounds": ("c16", [2**60 + 1], OverflowError, "would be"),
    "int of NumPy that c8 rounds": ("c8", [np.uint32(2**24 + 1)], OverflowError, "would be"),
    "int that a long double rounds": ("g", [2**70 + 1], OverflowError, "would be"),
    "float too large": ("f4", [1e300], OverflowError, "inf"),
    "float too large in a field": ([("a", "f2")], [(70000.0,)], OverflowError, "field a: "),
    "None into f8": ("f8", [None], TypeError, "is a NoneType"),
    "None into a field": ([("a", "f8")], [(None,)], TypeError, "field a: None"),
    "None into text": ("S4", [None], TypeError, "is a NoneType"),
    "None into bool": ("?", [None], TypeError, "is a NoneType"),
    "Decimal into f8": ("f8", [decimal.Decimal("0.1")], TypeError, "is a Decimal"),
    "Decimal into i4": ([("a", "i4")], [(decimal.Decimal("1.9"),)], TypeError, "is a Decimal"),
    "Fraction into i4": ("i4", [fractions.Fraction(3, 2)], TypeError, "is a Fraction"),
    "text into a number": ("i4", ["5"], ValueError, "invalid literal"),
    "number into text": ("S5", [12345], TypeError, "is a int"),
    "bytes too long": ("S2", [b"abc"], ValueError, "b'ab'"),
    "text too long": ([("a", "U2")], [("abc",)], ValueError, "field a: 'abc'"),
    "text too long for bytes": ("S2", ["abc"], ValueError, "'abc'"),
    "zero bytes at the end": ("S4", [b"ab\0"], ValueError, "would be"),
    "text that is no ASCII": ("S4", ["größ"], ValueError, "ascii"),
    "too few bytes": ("V3", [b"ab"], ValueError, "would be"),
    "too many bytes": ("V3", [b"abcd"], ValueError, "would be"),
    "parts of the unit": ("M8[s]", [NOON], OverflowError, "would be"),
    "finer unit": ("M8[us]", [np.datetime64(1500, "ns")], OverflowError, "would be"),
    "year out of range": ([("t", "M8[ns]")], [(datetime.datetime(1, 1, 1),)], OverflowError, "t: "),
    "timezone": ("M8[us]", [NOON.replace(tzinfo=UTC)], TypeError, "timezone"),
    "timezone in a field": ([("t", "M8[us]")], [(NOON.replace(tzinfo=UTC),)], TypeError, "field t"),
    "None into a time": ("M8[us]", [None], TypeError, "is a NoneType"),
    "finer span": ("m8[s]", [datetime.timedelta(microseconds=5)], OverflowError, "would be"),
    "time into a span": ("m8[s]", [NOON], TypeError, "is a datetime"),
    "named tuple in another order": (
        [("text", "U2"), ("price", "f8")],
        [Tick("a", 1.0)],
        TypeError,
        r"order of this one is .*getattr\(row, name\)",
    ),
    "named tuple in a field": (
        [("t", [("text", "S1"), ("price", "S1")])],
        [(Tick("a", "b"),)],
        TypeError,
        "field t: a record",
    ),
    "dict": ([("a", "i4")], [{"a": 1}], TypeError, r"tuple\(row\[name\] for name in"),
    "one number for all fields": ([("a", "i4"), ("b", "i4")], [5], TypeError, "is a tuple of its"),
    "text for all fields": ([("a", "S2")], ["ab"], TypeError, "is a tuple of its fields"),
    "too few fields": ([("a", "i4"), ("b", "i4")], [(1,)], ValueError, "2 fields, .* has 1"),
    "too many fields": ([("a", "i4"), ("b", "i4")], [(1, 2), (1, 2, 3)], ValueError, "has 3"),
    "one number for a sub-array": ([("a", "f4", (3,))], [(5,)], ValueError, "field a: its shape"),
    "short sub-array": ([("a", "f4", (3,))], [([5],)], ValueError, r"\(3,\), not \(1,\)"),
    "text for a sub-array": ([("a", "S1", (3,))], [("abc",)], ValueError, "field a: its shape"),
    "record of another dtype": (
        [("a", "i4")],
        [np.ones(1, [("a", "f8")])[0]],
        TypeError,
        "a record is of dtype",
    ),
    "lists of two lengths": (np.dtype(("i4", (2,))), [[1, 2], [3]], ValueError, "inhomogeneous"),
    "masked record": (
        [("a", "i4")],
        [np.ma.array([(1,)], mask=[(1,)], dtype=[("a", "i4")])[0]],
        TypeError,
        "mask",
    ),
    "masked value": ("f8", [1.0, np.ma.masked], TypeError, "mask"),
    "masked value in a field": ([("a", "f8")], [(np.ma.masked,)], TypeError, "mask"),
    "masked row": (np.dtype(("i4", (2,))), [np.ma.array([1, 2], mask=[0, 1])], TypeError, "mask"),
    "masked part": ([("a", "i4", (2,))], [(np.ma.array([1, 2], mask=[0, 1]),)], TypeError, "mask"),
    "structure with a mask": (
        [("a", "i4")],
        np.ma.array([(1,)], mask=[(0,)], dtype=[("a", "i4")]),
        TypeError,
        "filled",
    ),
}


@pytest.mark.parametrize(("dtype", "rows", "error", "why"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_would_change_is_refused(stream, dtype, rows, error, why):
    producer, _ = stream(dtype)
    with pytest.raises(error, match=why):
        producer.write(rows)
    assert producer.stats().dwi == 0


KEPT = {
    "ints": ("i2", [1, True, np.int64(-3), np.uint8(4)], [1, 1, -3, 4]),
    "ints of an array": ("i4", array.array("q", [5, -6]), [5, -6]),
    "rounded floats": ("f4", [0.1, 1, np.float64(0.5)], [float(np.float32(0.1)), 1, 0.5]),
    "what floats have beside numbers": ("f4", [-math.inf, 2**24], [-math.inf, 2**24]),
    "large ints": ("u8", [2**64 - 1], [2**64 - 1]),
    "bools": ("?", [True, 0, np.True_], [True, False, True]),
    "complex": ("c16", [1j, 2, 0.5], [1j, 2, 0.5]),
    "large ints in floats": (
        "f8",
        [np.int64(2**53), 2**60, np.uint64(2**63)],
        [2**53, 2**60, 2**63],
    ),
    "large ints in long doubles": ("g", [2**70, np.uint64(5), -1.5], [2**70, 5, -1.5]),
    "a large long double": ("g", [np.longdouble("1e4000")], [np.longdouble("1e4000")]),
    "small floats": ("f4", [1e-300, -1e-45], [0, float(np.float32(-1e-45))]),
    "bytes and text": ("S3", [b"abc", "x", b""], [b"abc", b"x", b""]),
    "text of any script": ("U3", ["größe"[:3], b"ab"], ["grö", "ab"]),
    "octets": ("V3", [b"a\0c", np.void(b"xyz")], [b"a\0c", b"xyz"]),
    "times": ("M8[us]", [NOON, 5, NOON.date()], [NOON, None, None]),
    "times of a coarser unit": ("M8[ns]", [np.datetime64(3, "s")], [3 * 10**9]),
    "spans": ("m8[us]", [datetime.timedelta(1), 7], [datetime.timedelta(1), None]),
    "records": (
        [("a", "f8"), ("b", "S2")],
        [(1, b"x"), Tick(2.5, "yz")],
        [(1, b"x"), (2.5, b"yz")],
    ),
    "padded": (
        {"names": ["a", "b"], "formats": ["i4", "S2"], "offsets": [5, 17]},
        [(1, b"x")],
        [(1, b"x")],
    ),
}


@pytest.mark.parametrize(("dtype", "rows", "arrived"), KEPT.values(), ids=KEPT)
def test_a_value_that_stays_what_it_is_arrives(stream, dtype, rows, arrived):
    producer, consumer = stream(dtype)
    assert producer.write(rows) == len(rows)
    taken = consumer.read()
    for got, expected in zip(taken.tolist(), arrived, strict=True):
        assert expected is None or got == expected


def test_records_that_nest_arrive(stream):
    producer, consumer = stream(NESTED)
    assert producer.write([(1, (0.5, [2, 3])), (4, (1, np.array([5, 6], "i8")))]) == 2
    taken = consumer.read()
    assert taken["id"].tolist() == [1, 4]
    assert taken["at"]["x"].tolist() == [0.5, 1]
    assert taken["at"]["n"].tolist() == [[2, 3], [5, 6]]


def test_not_a_number_and_not_a_time_arrive(stream):
    producer, consumer = stream([("x", "f4"), ("t", "M8[ms]")])
    producer.write([(math.nan, np.datetime64("NaT")), (1.0, "2026-03-01T12:00")])
    first, second = consumer.read()
    assert math.isnan(first["x"])
    assert np.isnat(first["t"])
    assert second["t"] == np.datetime64("2026-03-01T12:00")


def test_a_list_that_holds_itself_is_refused(stream):
    producer, _ = stream("i4")
    rows = []
    rows.append(rows)
    with pytest.raises(ValueError, match="inhomogeneous"):
        producer.write(rows)


def test_the_bytes_between_the_fields_of_a_list_are_zero(stream):
    producer, consumer = stream(np.dtype([("a", "u1"), ("b", "u8")], align=True))
    producer.write([(255, 2**64 - 1)] * 3)
    taken = consumer.borrow()
    octets = np.ndarray((len(taken), taken.itemsize), "u1", buffer=taken)
    assert not octets[:, 1:8].any()


# ---- arrays ----


def test_an_array_of_fields_that_were_picked_out_is_told_of_repack_fields(stream):
    rows = np.zeros(3, [("a", "i4"), ("b", "f8"), ("c", "i2")])
    picked = rows[["c", "a"]]
    producer, consumer = stream([("c", "i2"), ("a", "i4")])
    with pytest.raises(TypeError, match=r"numpy\.lib\.recfunctions\.repack_fields\(rows\)"):
        producer.write(picked)
    assert producer.write(np.lib.recfunctions.repack_fields(picked)) == 3
    with pytest.raises(TypeError, match=r"repack_fields\(rows\[\['c', 'a'\]\]\)"):
        producer.write(rows[["a", "c"]])
    assert producer.write(np.lib.recfunctions.repack_fields(rows[["a", "c"]][["c", "a"]])) == 3
    assert len(consumer.read()) == 6
    with pytest.raises(ValueError, match="repack_fields"):
        ringbell.produce("unused", picked.dtype)


def test_an_array_whose_fields_differ_is_told_how_to_convert(stream):
    producer, _ = stream(np.dtype([("a", "u1"), ("b", "f8")], align=True))
    for dtype, why in (
        ([("a", "u1"), ("b", "f8")], r"rows\.astype\(stream\.dtype\)"),
        ([("a", "f8"), ("b", "f8")], "field by field"),
        ([("a", "u1"), ("x", "f8")], "give them the fields"),
    ):
        with pytest.raises(TypeError, match=why):
            producer.write(np.zeros(2, dtype))
    assert producer.write(np.zeros(2, [("a", "u1"), ("b", "f8")]).astype(producer.dtype)) == 2


@pytest.mark.parametrize(
    ("dtype", "rows"),
    [("f4", np.zeros(2)), ("f8", np.zeros(2, "f4")), ("i8", np.zeros(2, "i4")), ("S4", "S2")],
)
def test_an_array_is_not_cast_even_where_numpy_would(stream, dtype, rows):
    producer, _ = stream(dtype)
    with pytest.raises(TypeError, match=r"convert them, rows\.astype"):
        producer.write(np.zeros(2, rows) if isinstance(rows, str) else rows)


def test_a_table_of_pandas_is_told_of_to_records(stream):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    producer, consumer = stream([("a", "i8"), ("b", "f8")])
    with pytest.raises(TypeError, match=r"to_records\(index=False\)"):
        producer.write(table)
    assert producer.write(table.to_records(index=False)) == 2
    assert producer.write(list(table.itertuples(index=False))) == 2
    assert consumer.read().tolist() == [(1, 0.5), (2, 1.5)] * 2
    names = pandas.DataFrame({"a": ["x", "y"], "b": [0.5, 1.5]})
    with pytest.raises(TypeError, match="Python objects"):
        producer.write(names.to_records(index=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda pandas: pandas.Series(["a", "b"]),
        lambda pandas: pandas.Series(["a", "b"], dtype="category"),
        lambda pandas: pandas.Series([1, None], dtype="Int64"),
        lambda pandas: pandas.Series(pandas.date_range("2026", periods=2, tz="UTC")),
        lambda pandas: pandas.Series([1.5, 2.5]),
        lambda pandas: pandas.DataFrame({"a": [1]}),
    ],
    ids=["strings", "categories", "missing values", "timezones", "floats", "table"],
)
def test_columns_of_pandas_are_type_errors_where_they_would_change(stream, make):
    column = make(pytest.importorskip("pandas"))
    records, _ = stream("i8")
    messages, _ = stream()
    for write in (records.write, messages.send):
        with pytest.raises(TypeError, match=r"convert|encode it first|objects|to_records|missing"):
            write(column)


def test_columns_of_the_streams_dtype_go_as_they_are(stream):
    pandas = pytest.importorskip("pandas")
    producer, consumer = stream("M8[ns]")
    times = [pandas.Timestamp("2026-03-01 12:00:00.123456789")]
    assert producer.write(pandas.Series(times).dt.as_unit("ns")) == 1
    assert producer.write([*times, pandas.NaT]) == 2  # of which NumPy itself drops the nanoseconds
    assert consumer.read().view("i8").tolist() == [times[0].value] * 2 + [-(2**63)]


@pytest.mark.parametrize("package", ["pandas", "pandas in Arrow", "pyarrow"])
def test_a_missing_value_does_not_become_nan(stream, package):
    library = pytest.importorskip(package.partition(" ")[0])
    if package == "pyarrow":
        make = library.array
    else:
        if "Arrow" in package:
            pytest.importorskip("pyarrow")
        make = functools.partial(
            library.Series, dtype="float64[pyarrow]" if "Arrow" in package else "Float64"
        )
    producer, consumer = stream("f8")
    with pytest.raises(TypeError, match="1 of the rows are missing"):
        producer.write(make([1.5, None]))
    assert producer.write(make([1.5, 2.5])) == 2
    assert consumer.read().tolist() == [1.5, 2.5]
    arrays, _ = stream([("a", "f8", (2,))])
    with pytest.raises(TypeError, match="1 of the rows are missing"):
        arrays.write([(make([1.5, None]),)])


def test_a_table_of_polars_or_arrow_is_told_what_to_do(stream):
    producer, _ = stream([("a", "i8")])
    for package, how in (("polars", r"to_numpy\(structured=True\)"), ("pyarrow", "as_file")):
        library = pytest.importorskip(package)
        table = library.DataFrame if package == "polars" else library.table
        with pytest.raises(TypeError, match=how):
            producer.write(table({"a": [1, 2]}))


@pytest.mark.parametrize("use", ["send", "send_many", "view", "call", "complete"])
def test_a_mask_is_not_dropped_by_messages_and_requests(stream, pair, use):
    masked = np.ma.array([1, 2], mask=[0, 1], dtype="i4")
    if use in ("call", "complete"):
        driver, device = pair()
        driver.submit(b"x")
        request = device.take()
        send = driver.submit if use == "call" else request.complete
        with pytest.raises(TypeError, match="filled"):
            send(masked)
        request.complete()
        return
    producer, _ = stream()
    sent = {"send": masked, "send_many": [masked], "view": memoryview(masked)}[use]
    with pytest.raises(TypeError, match="filled"):
        (producer.send_many if use == "send_many" else producer.send)(sent)
