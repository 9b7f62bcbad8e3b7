# SPDX-License-Identifier: MIT
"""How a stream ends: what was sent arrives, and each side is told how the other one ended."""

import os
import threading
from contextlib import suppress

import numpy as np
import pytest
from kinds import KINDS, PUT, SMALL_RING, TAKE, peer_options, put
from processes import PeerError, wait_until, wait_until_blocked, wait_until_listening

import ringbell
from ringbell.meeting import handshake

# ---- how a stream ends ----


def test_a_consumer_takes_all_that_was_sent_before_it_is_told_of_the_end(stream):
    messages = [b"%d" % i for i in range(10)]
    for take in (
        lambda c: c.recv(),
        lambda c: c.recv_many(1)[0],
        lambda c: bytes(c.borrow()),
        lambda c: bytes(next(iter(c))),
    ):
        producer, consumer = stream()
        producer.send_many(messages)
        producer.close()
        assert [take(consumer) for _ in messages] == messages
        assert list(consumer) == []
        for again in (consumer.recv, consumer.recv_many, consumer.borrow):
            with pytest.raises(ringbell.EndOfStream):
                again()


def test_a_consumer_of_records_takes_all_before_it_is_told_of_the_end(stream):
    rows = np.arange(10, dtype="i4")
    for take in (lambda c: c.borrow(1)[0], lambda c: c.read(1)[0]):
        producer, consumer = stream("i4")
        producer.write(rows)
        producer.close()
        assert [take(consumer) for _ in rows] == rows.tolist()
        assert list(consumer) == []
        for again in (consumer.borrow, consumer.read):
            with pytest.raises(ringbell.EndOfStream):
                again()
    producer, consumer = stream("i4")
    producer.write(rows)
    producer.close()
    assert np.concatenate([some.copy() for some in consumer]).tolist() == rows.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_producer_sent_is_taken_first(start, consume, kind):
    producer = start("producer", **peer_options(kind))
    consumer = consume()
    for i in range(10):
        producer.run(PUT[kind] % i)
    producer.kill()
    assert [TAKE[kind](consumer) for _ in range(10)] == list(range(10))
    for take in (lambda: next(iter(consumer)), consumer.borrow):
        with pytest.raises(ringbell.PeerLost, match=f"process {producer.pid}"):
            take()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, ringbell.RingFull])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_that_leaves_the_block_gives_the_stream_up(stream, kind, error):
    producer, consumer = stream(**KINDS[kind])
    with pytest.raises(error), producer:
        for i in range(3):
            put(producer, kind, i)
        raise error
    assert [TAKE[kind](consumer) for _ in range(3)] == [0, 1, 2]
    for take in (consumer.borrow, lambda: list(consumer)):
        with pytest.raises(ringbell.PeerLost, match="or gave it up"):
            take()
    with pytest.raises(ringbell.ChannelClosed):
        put(producer, kind, 3)


def test_a_block_that_ends_by_itself_closes_the_stream(stream):
    producer, consumer = stream()
    with producer:
        producer.send(b"x")
    assert [bytes(message) for message in consumer] == [b"x"]


def test_an_exception_in_the_consumers_block_is_no_loss_to_the_producer(stream):
    producer, consumer = stream()
    with pytest.raises(ZeroDivisionError), consumer:
        raise ZeroDivisionError
    with pytest.raises(ringbell.EndOfStream):
        producer.send(b"x")


FOR_ROOM = {
    "send": ("messages", "[producer.send(b'x' * 100) for _ in range(100)]"),
    "send in pieces": ("messages", "producer.send(b'x' * 100_000)"),
    "send_many": ("messages", "producer.send_many([b'x'] * 100)"),
    "reserve": ("messages", "[producer.send(b'x') for _ in range(64)], producer.reserve(1)"),
    "write": ("records", "producer.write(range(5000))"),
    "reserve records": ("records", "producer.write(range(1024)), producer.reserve(1)"),
}


@pytest.mark.parametrize(("ending", "error"), [("close", "EndOfStream"), ("kill", "PeerLost")])
@pytest.mark.parametrize("wait", FOR_ROOM)
def test_a_producer_that_waits_for_room_is_told_when_its_consumer_goes(
    start, produce, wait, ending, error
):
    kind, code = FOR_ROOM[wait]
    consumer = start("consumer")
    producer = produce(ring_size=SMALL_RING, **KINDS[kind])

    def end_when_it_waits():
        wait_until_blocked(producer, "driver", "adaptive")
        consumer.run("consumer.close()") if ending == "close" else consumer.kill()

    thread = threading.Thread(target=end_when_it_waits)
    thread.start()
    try:
        with pytest.raises(getattr(ringbell, error), match=f"process {consumer.pid}"):
            eval(code, {"producer": producer})
    finally:
        thread.join()
    with pytest.raises(getattr(ringbell, error)):
        producer.reserve(1)
    with pytest.raises(getattr(ringbell, error)):
        put(producer, kind, 1)


FOR_DATA = [
    ("messages", lambda c: c.recv()),
    ("messages", lambda c: c.recv_many()),
    ("messages", lambda c: c.borrow()),
    ("records", lambda c: c.read()),
    ("records", lambda c: c.borrow()),
]


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("producer.close()", ringbell.EndOfStream),
        ("producer.__exit__(ValueError, ValueError(), None)", ringbell.PeerLost),
    ],
)
def test_a_consumer_that_waits_for_data_is_told_how_its_producer_ended(start, path, ending, error):
    peer = start("nothing")
    for polling in ("adaptive", "always"):
        for kind, take in FOR_DATA:
            peer.begin(f"producer = ringbell.produce(path, **{KINDS[kind]!r})")
            with ringbell.consume(path, polling=polling) as consumer:
                peer.reply()

                def end_when_it_waits(consumer=consumer, polling=polling):
                    wait_until_blocked(consumer, "device", polling)
                    peer.run(ending)

                thread = threading.Thread(target=end_when_it_waits)
                thread.start()
                with pytest.raises(error):
                    take(consumer)
                thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_works_after_close(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    put(producer, kind, 1)
    for side in (producer, consumer):
        side.close()
        side.close()
        assert repr(side).endswith(", closed>")
    uses = [consumer.borrow, consumer.fileno, lambda: next(iter(consumer))]
    uses += [lambda: put(producer, kind, 1), lambda: producer.reserve(1)]
    uses += [lambda: producer.coalesce().__enter__()]
    if kind == "messages":
        uses += [consumer.recv, consumer.recv_many, lambda: producer.send_many([b"x"])]
    else:
        uses += [consumer.read, consumer.read]
    for use in uses:
        with pytest.raises(
            ringbell.ChannelClosed, match="this side has closed the channel; open a new channel"
        ):
            use()
    assert producer.stats().driver.producer.entries == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_producer_may_close_while_it_coalesces_or_reserves(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    with producer.coalesce():
        put(producer, kind, 1)
        with pytest.raises(ringbell.ChannelClosed), producer.reserve(1):
            producer.close()
    assert TAKE[kind](consumer) == 1
    with pytest.raises(ringbell.EndOfStream):
        consumer.borrow()


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_has_no_say_in_its_parents_stream(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (lambda: put(producer, kind, 1), consumer.borrow):
            try:
                use()
            except ringbell.ChannelClosed as error:
                refused += "forked from" in str(error)
        producer.__exit__(ValueError, ValueError(), None)
        consumer.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    put(producer, kind, 5)
    assert TAKE[kind](consumer) == 5
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_forgotten_warns_and_is_lost_to_the_other_side(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    with pytest.warns(ResourceWarning, match="a ringbell channel was not closed"):
        producer._channel.__del__()
    with pytest.raises(ringbell.PeerLost):
        consumer.borrow()


# ---- a consumer that dies unseen ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_died_asleep_is_missed_by_the_next_call_but_one(start, produce, path, kind):
    consumer = start("consumer", wait=False, polling="never")
    producer = produce(**KINDS[kind])
    assert consumer.reply() == "ready"
    consumer.begin("consumer.borrow()")
    wait_until(lambda: producer.stats().device.consumer.sleeps == 1)
    consumer.kill()
    put(producer, kind, 1)  # wakes nobody
    with pytest.raises(ringbell.PeerLost):
        put(producer, kind, 2)


LEAVE = {
    "closes": ("consumer.close()", ringbell.EndOfStream),
    "raises": ("with consumer: 1 / 0", ringbell.EndOfStream),
    "dies": (None, ringbell.PeerLost),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", LEAVE)
def test_a_producer_is_told_at_its_end_of_what_its_consumer_has_not_taken(
    start, produce, kind, way
):
    consumer = start("consumer", wait=False)
    producer = produce(**KINDS[kind])
    assert consumer.reply() == "ready"
    consumer.run("consumer.stats()")  # it has met us
    for i in range(2):
        put(producer, kind, i)
    consumer.run("taken = consumer.borrow(1)" if kind == "records" else "consumer.recv()")
    code, error = LEAVE[way]
    if code is None:
        consumer.kill()
    else:
        with suppress(PeerError):
            consumer.run(code)
    with pytest.raises(error, match=f"process {consumer.pid}"):
        if kind == "messages":
            producer.close()
        else:
            with producer:
                pass
    producer.close()
    with pytest.raises(ringbell.ChannelClosed):
        put(producer, kind, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lent_counts_as_taken_by_a_consumer_that_closes_and_by_no_other(
    start, produce, path, kind
):
    for way, (code, error) in LEAVE.items():
        consumer = start("consumer", wait=False)
        with suppress(error), ringbell.produce(path, **KINDS[kind]) as producer:
            assert consumer.reply() == "ready"
            put(producer, kind, 1)
            consumer.run("lent = consumer.borrow()")
            if code is None:
                consumer.kill()
            else:
                with suppress(PeerError):
                    consumer.run(code)
            if way == "closes":
                producer.check_consumer()
                producer.close()
            else:
                with pytest.raises(error):
                    producer.check_consumer()


def test_a_consumer_that_died_with_all_in_hand_is_no_error_of_the_close(start, produce):
    consumer = start("consumer", wait=False)
    producer = produce()
    assert consumer.reply() == "ready"
    producer.send(b"x")
    consumer.run("consumer.recv()")
    consumer.kill()
    producer.close()


def test_a_producer_that_ends_while_it_meets_its_consumer_has_ended_no_stream(path, monkeypatch):
    def interrupted(*arguments):
        receive_welcome(*arguments)
        raise KeyboardInterrupt

    receive_welcome = handshake.receive_welcome
    monkeypatch.setattr(handshake, "receive_welcome", interrupted)
    consumed = []
    thread = threading.Thread(target=lambda: consumed.append(ringbell.consume(path)))
    thread.start()
    wait_until_listening(path)
    with pytest.raises(KeyboardInterrupt):
        ringbell.produce(path)
    thread.join()
    with consumed[0] as consumer, pytest.raises(ringbell.PeerLost):
        consumer.recv()
