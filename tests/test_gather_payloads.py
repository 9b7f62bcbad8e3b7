# SPDX-License-Identifier: MIT
"""What a gather carries and lends: which records, how long a message, and for how long."""

import numpy as np
import pytest
from gathered import meet, numbers_of, take_nothing, take_some
from kinds import KINDS, SMALL_RING
from processes import PeerError, wait_until_listening

import ringbell

# ---- what is carried ----


def test_a_producer_of_other_records_is_told_and_the_gather_goes_on(gather, start, path, caplog):
    logs = gather()
    first = start("producer", dtype="'i4'")
    meet(logs, 1)
    assert logs.dtype == "i4"
    for other in ({"dtype": "'i8'"}, {}):
        peer = start("producer", **other)
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.2)
        while "refused" not in caplog.text:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.01)
        assert peer.process.wait() == 1  # by LayoutMismatch
        caplog.clear()
    assert len(logs.producers) == 1
    first.run("producer.write([5])")
    assert take_some(logs, 1) == [(first.pid, 5)]


@pytest.mark.parametrize(
    ("first", "other", "why"),
    [
        ({}, {"dtype": "f8"}, "carries records of float64, and those before it messages"),
        ({"dtype": "f8"}, {}, "carries messages, not records of float64"),
        ({"dtype": "f8"}, {"dtype": "f4"}, "carries records of float32, not records of float64"),
    ],
)
def test_the_first_producer_decides_what_is_carried(gather, start, path, first, other, why):
    peers = start("nothing"), start("nothing")
    logs = gather()
    assert logs.dtype is None
    peers[0].begin(f"producer = ringbell.produce(path, **{first!r})")
    meet(logs, 1)
    peers[1].begin(f"producer = ringbell.produce(path, **{other!r})")
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=1)
    with pytest.raises(PeerError, match=f"LayoutMismatch: .*{why}"):
        peers[1].reply()
    peers[0].reply()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dtype_that_is_wanted_decides(start, path, when, caplog):
    bad, good = start("nothing"), start("nothing")
    if when == "before":
        bad.begin("ringbell.produce(path, 'f8')")
        wait_until_listening(path)
        good.begin("producer = ringbell.produce(path, 'i4')")
    with ringbell.gather(path, "i4") as logs:
        if when == "after":
            bad.begin("ringbell.produce(path, 'f8')")
            good.begin("producer = ringbell.produce(path, 'i4')")
        meet(logs, 1)
        while "refused" not in caplog.text:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.01)
        with pytest.raises(PeerError, match="LayoutMismatch: .*float64, not records of int32"):
            bad.reply()
        good.reply()
        good.run("producer.write([3])")
        assert take_some(logs, 1) == [(good.pid, 3)]


def test_whoever_renames_the_fields_of_a_dtype_does_not_refuse_the_next_producer(gather, start):
    wanted = np.dtype([("a", "i4")])
    logs = gather(wanted)
    wanted.names = ("b",)
    start("producer", dtype="[('a', 'i4')]")
    meet(logs, 1)
    logs.dtype.names = ("c",)
    start("producer", dtype="[('a', 'i4')]")
    meet(logs, 2)


def test_messages_longer_than_the_ring_arrive(gather, producers):
    logs = gather()
    peers = producers(2, ring_size=4096)
    meet(logs, 2)
    for number, peer in enumerate(peers):
        peer.begin(f"[producer.send(b'{number}' * 20000) for _ in range(5)]")
    got = [bytes(payload) for _, payload in (logs.take() for _ in range(10))]
    assert sorted(got) == [b"0" * 20000] * 5 + [b"1" * 20000] * 5
    for peer in peers:
        peer.reply()


def test_a_message_that_is_too_long_is_told_and_the_next_one_comes(gather, producers):
    logs = gather(max_message=100)
    (peer,) = producers(1)
    meet(logs, 1)
    peer.run("producer.send_many([b'1' * 101, b'2'])")
    for step in (logs.take, lambda: next(iter(logs))):
        with pytest.raises(ringbell.MessageTooLong):
            step()
        assert bytes(logs.take()[1]) == b"2"
        peer.run("producer.send_many([b'1' * 101, b'2'])")


# ---- what is lent ----


def test_a_payload_is_valid_for_one_step(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'1'] * 40)")
    before = None
    for count, (_, payload) in enumerate(logs, 1):
        if before is not None:
            with pytest.raises(ValueError, match="released"):
                bytes(before)
        assert bytes(payload) == b"1"
        before = payload
        if count == 80:
            break


def test_a_take_within_the_loop_ends_the_step_of_the_loop(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(40)])")
    taken = []
    for producer, payload in logs:
        taken.append((producer.pid, int(bytes(payload))))
        other, another = logs.take()
        taken.append((other.pid, int(bytes(another))))
        with pytest.raises(ValueError, match="released"):
            bytes(payload)
        if len(taken) == 80:
            break
    for peer in peers:
        assert numbers_of(taken, peer.pid) == list(range(40))
    take_nothing(logs)
    with pytest.raises(ValueError, match="released"):
        bytes(another)


def test_a_slice_that_is_alive_ends_the_step_and_nothing_is_lost(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(40)])")
    taken = []
    for step in range(80):
        producer, payload = logs.take()
        taken.append((producer.pid, int(bytes(payload))))
        kept = payload[:1]
        if step in (5, 39, 40, 79):
            for _ in range(2):
                with pytest.raises(BufferError):
                    logs.take(timeout=0)
                with pytest.raises(BufferError):
                    next(iter(logs))
        kept.release()
    for peer in peers:
        assert numbers_of(taken, peer.pid) == list(range(40))
    take_nothing(logs)


def test_checked_records_raise_after_their_step_whoever_sent_the_next(gather, producers):
    logs = gather(checked=True)
    peers = producers(2, dtype="'i4'")
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.write([1, 2])")
    _, rows = logs.take()
    assert rows.sum() == 3
    _, others = logs.take()
    with pytest.raises(RuntimeError, match="borrowed"):
        rows.sum()
    take_nothing(logs)
    with pytest.raises(RuntimeError, match="borrowed"):
        others.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_the_ring_is_free_while_the_gather_waits(gather, start, path, kind):
    logs = gather()
    peer = start("nothing")
    peer.begin(f"producer = ringbell.produce(path, ring_size={SMALL_RING}, **{KINDS[kind]!r})")
    meet(logs, 1)
    peer.reply()
    for _ in range(3):
        count = 64 if kind == "messages" else 1024
        fill = (
            "producer.send_many([b'1'] * 64, 0)"
            if kind == "messages"
            else ("producer.write([1] * 1024, 0)")
        )
        assert peer.run(fill) == str(count)
        assert len(take_some(logs, count)) == count
        take_nothing(logs)
