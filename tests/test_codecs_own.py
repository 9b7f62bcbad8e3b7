# SPDX-License-Identifier: MIT
"""Codecs of one's own, and sides that have different ones."""

import contextlib

import coded
import pytest

import ringbell


@pytest.mark.parametrize("codec", ["json", "named"])
def test_a_pair_of_functions_is_a_codec(start, connect, codec):
    start("serve", handler="back", codec=codec)
    driver = connect(codec=coded.CODECS[codec])
    value = {"a": [1, None, "x" * 2_000_000]}
    assert driver.call(value) == value
    assert list(driver.map([1, [2], "3"])) == [1, [2], "3"]


def test_msgspec_is_a_codec(path):
    msgpack = pytest.importorskip("msgspec").msgpack
    codec = msgpack.encode, msgpack.Decoder().decode
    with ringbell.launch(coded.back, start_method="fork", codec=codec) as driver:
        assert driver.call({"a": [1, b"two"]}) == {"a": [1, b"two"]}


@pytest.mark.parametrize("mine", ["bytes", "pickle", "json", "named"])
@pytest.mark.parametrize("theirs", ["bytes", "pickle", "json", "named"])
def test_a_driver_with_another_codec_is_refused_and_told_both(start, connect, mine, theirs):
    if mine == theirs:
        return
    named = {"json": "coded.to_json, coded.from_json", "named": "a name"}
    start("serve", handler="back" if theirs != "bytes" else "upper", codec=theirs)
    with pytest.raises(ringbell.LayoutMismatch) as told:
        connect(codec=coded.CODECS.get(mine, mine))
    ours, others = named.get(mine, mine), named.get(theirs, theirs)
    assert f"the driver's codec is '{ours}', and the device's is '{others}'" in str(told.value)


@pytest.mark.parametrize(("mine", "theirs"), [("bytes", "pickle"), ("pickle", "json")])
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_both_sides_of_a_stream_are_told_of_another_codec(start, path, mine, theirs, role):
    peer = start(role, codec=theirs)
    peer.begin("1")
    open_stream = ringbell.consume if role == "producer" else ringbell.produce
    with pytest.raises(ringbell.LayoutMismatch, match="codec") as told:
        open_stream(path, codec=mine, timeout=60)
    with pytest.raises(Exception, match="Exit: 1"):  # its error is on its stderr
        peer.reply()
    assert f"'{mine}'" in str(told.value)
    assert "give both sides the same codec=" in str(told.value)


def test_a_gather_refuses_a_producer_with_another_codec_and_goes_on(path, start, caplog):
    with ringbell.gather(path, codec="pickle") as gather:
        wrong = start("producer", codec="json")
        while wrong.process.poll() is None:  # it is refused in here
            with contextlib.suppress(ringbell.RingEmpty):
                gather.take(timeout=0.01)
        right = start("producer", codec="pickle", timeout=60)
        right.begin("producer.send('right')")
        assert gather.take()[1] == "right"
    assert "the producer's codec is 'coded.to_json, coded.from_json'" in caplog.text


def test_a_codec_may_use_its_buffer_again(path, start, connect, names):
    codec = coded.CODECS["reused"]
    start("serve", handler="back", codec="reused")
    driver = connect(codec=codec)
    values = [[i] for i in range(300)]
    assert list(driver.map(values)) == [driver.call(value) for value in values] == values
    with ringbell.Pool(coded.back, 1, codec=codec) as pool:
        assert list(pool.map(values)) == values
    driver.doorbell.send_many(values[:3])
