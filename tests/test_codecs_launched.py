# SPDX-License-Identifier: MIT
"""Launched devices, pools and pipelines carry objects."""

import coded
import pytest
from coded import large

import ringbell


@pytest.mark.parametrize("codec", ["pickle", (coded.to_json, coded.from_json)])
def test_a_launched_device_and_a_pool_have_the_codec(names, method, codec):
    with ringbell.launch(coded.back, start_method=method, codec=codec) as driver:
        assert driver.call({"a": [1]}) == {"a": [1]}
    with ringbell.Pool(coded.back, 2, start_method=method, codec=codec) as pool:
        values = [{"n": i} for i in range(300)]
        assert list(pool.map(values)) == values
        assert pool.submit([5]).result() == [5]


@pytest.mark.parametrize("codec", ["pickle", (coded.to_json, coded.from_json)])
def test_a_pipeline_has_the_codec(names, method, codec):
    taken = ringbell.pipeline(coded.sends_some, coded.takes_all, start_method=method, codec=codec)
    assert taken == [{"n": i} for i in range(300)]


def test_the_consumer_of_a_pipeline_holds_arrays_by_reference(names):
    blocks = ringbell.Blocks(pool=1 << 20, least=1 << 16)
    held = ringbell.pipeline(coded.sends_arrays, coded.holds_arrays, codec="pickle", blocks=blocks)
    assert held == (False, [0, 1, 2, 3, 4])


def test_a_pool_gives_objects_and_errors_at_their_places(names):
    with ringbell.Pool(coded.odd, 1, codec="pickle") as pool:
        given = [large, coded.Unpicklable(), coded.Explosive(), "unpicklable", "explosive", "last"]
        answers = pool.map(given)
        assert (next(answers) == large).all()
        for error, text in [
            (TypeError, "not this one"),
            (ringbell.RequestFailed, "boom"),
            (ringbell.RequestFailed, "not this one"),
            (ArithmeticError, "boom"),
        ]:
            with pytest.raises(error, match=text):
                next(answers)
        assert list(answers) == ["last"]
        with pytest.raises(TypeError, match="not this one"):
            pool.submit(coded.Unpicklable())
        assert isinstance(pool.submit("explosive").exception(), ArithmeticError)
        assert pool.submit(1).result() == 1


def test_a_codec_that_cannot_be_sent_to_a_new_process_is_refused(names):
    codec = (lambda value: value, lambda octets: octets, "local")
    for launch in (ringbell.launch(coded.back, codec=codec).__enter__, None):
        with pytest.raises(TypeError, match="the codec cannot be sent to a new process"):
            launch() if launch else ringbell.Pool(coded.back, 1, codec=codec)
    with pytest.raises(TypeError, match="the codec cannot be sent to a new process"):
        ringbell.pipeline(coded.sends_some, coded.takes_all, codec=codec)
    with ringbell.launch(coded.back, start_method="fork", codec=codec) as driver:
        assert driver.call(b"x") == b"x"
