# SPDX-License-Identifier: MIT
"""How the producer and the consumer of a stream meet, and what they are told if they do not."""

import errno
import os
import re
import signal

import pytest
from kinds import KINDS, peer_options
from processes import wait_until, wait_until_listening

import ringbell


def test_a_producer_that_starts_first_waits_for_its_consumer(start, consume, path):
    producer = start("producer")
    wait_until_listening(path)
    consumer = consume()
    assert not list(path.parent.iterdir()), "the name is free again"
    assert consumer.peer_pid == producer.pid
    producer.run("producer.send(b'hello')")
    assert consumer.recv() == b"hello"


def test_a_consumer_that_starts_first_waits_for_its_producer(start, produce, path):
    consumer = start("consumer")
    wait_until_listening(path)
    producer = produce()
    assert not list(path.parent.iterdir()), "the name is free again"
    assert producer.peer_pid == consumer.pid
    producer.send(b"hello")
    assert consumer.run("consumer.recv()") == "b'hello'"


def test_sides_that_start_at_once_always_meet(start):
    producer, consumer = start("nothing"), start("nothing")
    producer.begin("""
for i in range(200):
    with ringbell.produce(path, ring_size=4096) as stream:
        stream.send(b"%d" % i)
""")
    consumer.run("""
got = []
for i in range(200):
    with ringbell.consume(path) as stream:
        got += [bytes(message) for message in stream]
""")
    producer.reply()
    assert consumer.run("got == [b'%d' % i for i in range(200)]") == "True"


def test_the_next_two_may_meet_while_a_stream_goes_on(stream):
    streams = [stream(), stream("f8"), stream()]
    for producer, consumer in streams[::2]:
        producer.send(b"x")
        assert consumer.recv(timeout=0) == b"x"


@pytest.mark.parametrize("timeout", [0, 0.01])
@pytest.mark.parametrize("side", [ringbell.produce, ringbell.consume])
def test_nobody_on_the_other_side_is_a_timeout(path, side, timeout):
    done = "consumed" if side is ringbell.produce else "produced"
    with pytest.raises(TimeoutError, match=f"nobody {done} .* within the timeout"):
        side(path, timeout=timeout)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_consumer_that_gives_up_on_a_slow_producer_leaves_the_stream_whole(
    start, consume, path, timeout
):
    producer = start("producer")
    wait_until_listening(path)
    producer.stop()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="nobody produced"):
            ringbell.consume(path, timeout=timeout)
    producer.signal(signal.SIGCONT)
    consumer = consume()
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0)
    producer.run("producer.send(b'after all')")
    assert consumer.recv() == b"after all"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_producer_that_gives_up_on_a_slow_consumer_leaves_it_waiting(
    start, produce, path, timeout
):
    consumer = start("consumer")
    wait_until_listening(path)
    consumer.stop()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="nobody consumed"):
            ringbell.produce(path, timeout=timeout)
    consumer.signal(signal.SIGCONT)
    produce().send(b"after all")
    assert consumer.run("consumer.recv()") == "b'after all'"


def test_a_consumer_that_dies_while_it_meets_is_passed_over(start, consume, path):
    producer = start("producer")
    wait_until_listening(path)
    producer.stop()
    dying = [start("consumer") for _ in range(3)]
    for peer in dying:
        wait_until(lambda peer=peer: peer.state() == "S")
        peer.kill()
    producer.signal(signal.SIGCONT)
    consumer = consume()
    producer.run("producer.send(b'to the living')")
    assert consumer.recv() == b"to the living"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_name_where_another_one_waits_is_in_use(start, produce, consume, path, side, kind):
    first = start(side, **peer_options(kind))
    wait_until_listening(path)
    meet = ringbell.produce if side == "producer" else ringbell.consume
    timeout = 1 if side == "producer" else None  # a producer waits until the name is free
    for _ in range(2):
        with pytest.raises(OSError, match=f"another {side} waits for the") as caught:
            meet(path, **KINDS[kind], timeout=timeout)
        assert caught.value.errno == errno.EADDRINUSE
    other = consume() if side == "producer" else produce(**KINDS[kind])
    assert other.peer_pid == first.pid
    assert first.run(f"{side}.peer_pid") == str(os.getpid())


@pytest.mark.parametrize(
    ("side", "why"),
    [
        ("producer", "a producer waits for its consumer under this name.*use ringbell.consume"),
        ("consumer", "a consumer waits for its producer under this name.*use ringbell.produce"),
    ],
)
def test_a_driver_is_told_that_a_stream_is_met_under_the_name(
    start, produce, consume, path, side, why
):
    waiting = start(side)
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match=f"^{why}"):
        ringbell.connect(path)
    assert (consume() if side == "producer" else produce()).peer_pid == waiting.pid


@pytest.mark.parametrize("side", [ringbell.produce, ringbell.consume])
def test_a_stream_and_a_device_under_one_name_tell_each_other(start, connect, path, side):
    device = start("nothing")
    device.run(WITH_A_LOG)
    device.run("listener = ringbell.listen(path)")
    device.begin("device = listener.accept()")
    why = "a device serves requests under this name, and a (producer|consumer) cannot meet a device"
    with pytest.raises(ringbell.LayoutMismatch, match=f"^{why}; use ringbell.connect, or another"):
        side(path)
    connect()
    device.reply()
    assert re.search(why, device.run("log.getvalue()"))


WITH_A_LOG = """
import io, logging
log = io.StringIO()
logging.basicConfig(stream=log, level=logging.INFO)
"""


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 200])
def test_a_name_that_cannot_be_one_is_a_value_error(name):
    for use in (ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match="cannot be the name|too long for a Unix socket"):
            use(name)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("polling", "sometimes"),
        ("max_poll", -1),
        ("max_poll", 0.06),
        ("cpu", 100_000),
        ("timeout", float("nan")),
    ],
)
def test_bad_options_are_value_errors(path, option, value):
    for use in (ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match=rf"{option}|CPU"):
            use(path, **{option: value})


@pytest.mark.parametrize("dtype", [None, "i4"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("kick", "never"), ("ring_size", 1000), ("ring_size", 2**31)],
)
def test_a_producers_bad_options_are_value_errors(path, option, value, dtype):
    with pytest.raises(ValueError, match=option):
        ringbell.produce(path, dtype, **{option: value})


def test_moderation_is_no_number(path):
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        ringbell.consume(path, moderation=50e-6)


def test_plain_names_live_in_the_runtime_folder(monkeypatch, path, start):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    producer = start("nothing")
    producer.begin("stream = ringbell.produce('ticks')")
    wait_until_listening(path.parent / "ringbell" / "ticks.sock")
    assert (path.parent / "ringbell").stat().st_mode & 0o777 == 0o700
    ringbell.consume("ticks").close()
    producer.reply()
