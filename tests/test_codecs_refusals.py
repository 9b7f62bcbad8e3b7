# SPDX-License-Identifier: MIT
"""What is no codec, and objects that cannot be encoded, decoded or sent."""

import os
import pickle
import struct

import coded
import numpy as np
import pytest
from coded import consumer, large

import ringbell
from ringbell import codecs


@pytest.mark.parametrize(
    ("codec", "error"),
    [
        ("json", ValueError),
        (5, TypeError),
        (len, TypeError),
        ((len,), TypeError),
        ((len, 5), TypeError),
        ([len, len], TypeError),
        ((len, len, 5), TypeError),
        ((len, len, ""), ValueError),
        ((len, len, "pickle"), ValueError),
        ((len, len, "two\nlines"), ValueError),
        ((len, len, "x" * 201), ValueError),
        ((len, len, "x", "y"), TypeError),
    ],
)
def test_what_is_no_codec_is_refused(path, codec, error):
    calls = [
        lambda: ringbell.connect(path, codec=codec),
        lambda: ringbell.listen(path, codec=codec),
        lambda: ringbell.serve(path, coded.back, codec=codec),
        lambda: ringbell.Server(path, coded.back, codec=codec),
        lambda: ringbell.produce(path, codec=codec, timeout=0),
        lambda: ringbell.consume(path, codec=codec, timeout=0),
        lambda: ringbell.gather(path, codec=codec),
        lambda: ringbell.launch(coded.back, codec=codec).__enter__(),
        lambda: ringbell.Pool(coded.back, 1, codec=codec),
        lambda: ringbell.pipeline(coded.sends_some, coded.takes_all, codec=codec),
    ]
    for call in calls:
        with pytest.raises(error, match="codec"):
            call()


def test_records_have_no_codec(path):
    for open_stream in (ringbell.produce, ringbell.consume, ringbell.gather):
        with pytest.raises(ValueError, match="records of a dtype, or objects of the codec"):
            open_stream(path, "f8", codec="pickle")
    with pytest.raises(ValueError, match="records of a dtype, or objects of the codec"):
        ringbell.pipeline(coded.sends_some, coded.takes_all, "f8", codec="pickle")


def test_a_stream_of_objects_is_no_file(stream):
    for end in stream(codec="pickle", consume={"codec": "pickle"}):
        with pytest.raises(TypeError, match="objects of the codec 'pickle'"):
            end.as_file()


def test_what_cannot_be_pickled_is_not_sent(server):
    driver = server()
    calls = [
        lambda: driver.call(coded.Unpicklable()),
        lambda: driver.submit([large, coded.Unpicklable()]),
        lambda: next(driver.map([coded.Unpicklable()])),
        lambda: driver.doorbell.send(coded.Unpicklable()),
        lambda: driver.doorbell.send_many([1, coded.Unpicklable()]),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="not this one"):
            call()
    assert driver.stats().driver.producer.entries == 0
    with pytest.raises(pickle.PicklingError, match="non-contiguous"):
        driver.call(pickle.PickleBuffer(large[::2]))
    assert driver.call(1) == 1
    assert driver.stats().driver.producer.entries == 1


def test_an_encoder_that_returns_no_buffer_is_an_error_of_the_call(start, connect):
    peer = start("serve", handler="back", codec="no buffer")
    driver = connect(codec=(coded.returns_text, coded.from_json, "no buffer"))
    for call in (driver.call, driver.submit, driver.doorbell.send):
        with pytest.raises(TypeError, match="encode function returned str; it has to return"):
            call(1)
    with pytest.raises(ringbell.LayoutMismatch):
        connect()
    driver.close()
    encoded = connect(codec=(coded.to_json, coded.from_json, "no buffer"))
    with pytest.raises(ringbell.RequestFailed, match="encode function returned str"):
        encoded.call(1)
    peer.end()


def test_what_a_handler_cannot_answer_fails_the_request(server):
    driver = server("odd")
    with pytest.raises(ringbell.RequestFailed, match="TypeError: not this one"):
        driver.call("unpicklable")
    with pytest.raises(ringbell.RequestFailed, match="ArithmeticError: boom"):
        driver.call(coded.Explosive())
    with pytest.raises(ArithmeticError, match="boom"):
        driver.call("explosive")
    answers = driver.map([1, "explosive", 3])
    assert next(answers) == 1
    with pytest.raises(ArithmeticError, match="boom"):
        next(answers)
    assert list(answers) == []
    driver.submit("explosive")
    completion = driver.reap()
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="boom"):
            completion.result()
    assert driver.call(1) == 1


def test_a_request_that_cannot_be_decoded_can_be_failed(pair):
    driver, device = pair(listen={"codec": "pickle"}, codec="pickle")
    driver.submit(coded.Explosive())
    request = device.take()
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="boom"):
            request.payload  # noqa: B018
    request.fail("it explodes")
    with pytest.raises(ringbell.RequestFailed, match="it explodes"):
        driver.reap().result()


def test_a_message_that_cannot_be_decoded_is_taken_and_the_next_one_is_there(stream):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"})
    for take in (consumer.recv, consumer.borrow, lambda: next(iter(consumer))):
        producer.send(coded.Explosive())
        producer.send([large])
        with pytest.raises(ArithmeticError, match="boom"):
            take()
        (got,) = take()
        assert (got == large).all()
        del got
    producer.send_many([1, 2, coded.Explosive(), 3, coded.Explosive()])
    assert consumer.recv_many() == [1, 2]
    with pytest.raises(ArithmeticError, match="boom"):
        consumer.recv_many()
    assert consumer.recv_many(1) == [3]
    with pytest.raises(ArithmeticError, match="boom"):
        consumer.recv()
    producer.send(4)
    assert consumer.recv_many() == [4]
    producer.send(coded.Stopping())
    with pytest.raises(RuntimeError, match=r"decoding a message raised StopIteration"):
        next(iter(consumer))


def test_a_message_whose_decoding_is_interrupted_is_taken_again(stream, monkeypatch):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"})
    for take in (consumer.recv, consumer.borrow, lambda: consumer.recv_many()[0]):
        monkeypatch.setattr(coded, "interrupts", 0)
        producer.send_many([coded.Interrupting(), "next"])
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                take()
            assert ringbell.wait([consumer], timeout=0) == [consumer]
        assert take() == "whole"
        if take in (consumer.recv, consumer.borrow):
            assert take() == "next"
    monkeypatch.setattr(coded, "interrupts", 0)
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0)
    assert ringbell.wait([consumer], timeout=0) == []
    producer.send_many([0, coded.Interrupting(), 2])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            consumer.recv_many()
    assert consumer.recv_many(2) == [0, "whole"]
    assert consumer.recv_many() == [2]
    monkeypatch.setattr(coded, "interrupts", 0)
    producer.send(coded.Interrupting())
    with pytest.raises(KeyboardInterrupt):
        consumer.recv()
    consumer.close()
    for take in (consumer.recv, consumer.borrow, consumer.recv_many):
        with pytest.raises(ringbell.ChannelClosed):
            take()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"nonsense",
        codecs.MAGIC,
        codecs.MAGIC + struct.pack("<Q", 2**60),
        codecs.MAGIC + struct.pack("<2Q", 0, 2**60),
        codecs.MAGIC + struct.pack("<3Q", 1, 2, 2**63),
        codecs.MAGIC + struct.pack("<4Q", 2, 2, 1, 1) + b"N.",
        codecs.MAGIC + struct.pack("<2Q", 0, 1) + b"NN",
        pickle.dumps(large)[:-1],
    ],
)
def test_a_message_that_is_no_pickle_is_an_error(stream, octets):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"}, ring_size=1 << 20)
    for take in (consumer.recv, consumer.borrow):
        with producer.reserve(len(octets)) as frame:
            frame.payload[:] = octets
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            take()
    producer.send("good")
    assert consumer.recv() == "good"


def test_objects_too_long_are_refused_as_other_messages_are(start, connect):
    start("serve", handler="back", codec="pickle", max_message=10_000)
    driver = connect(codec="pickle")
    with pytest.raises(ringbell.RequestFailed, match="too long"):
        driver.call(large)
    assert driver.call(1) == 1


@pytest.mark.variant
def test_an_object_of_3_gib_arrives_and_the_next_one_behind_it(start, produce):
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 6 << 30:
        pytest.skip("it takes more memory than there is")
    peer, producer = consumer(start, produce)
    huge = np.zeros(3 << 30, "u1")
    huge[-1] = 7
    peer.begin(
        "[(len(got), int(got[-1])) for got in [consumer.recv()['huge']]] + [consumer.recv()]"
    )
    producer.send({"huge": huge})
    producer.send("next")
    assert peer.reply() == f"[({3 << 30}, 7), 'next']"
