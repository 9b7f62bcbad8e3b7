# SPDX-License-Identifier: MIT
"""Producers of a gather that end, give up, are killed or are refused."""

import os

import pytest
from gathered import SEND, meet, part, take_nothing, take_some
from kinds import KINDS
from processes import PeerError, wait_until

import ringbell


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_producer_is_told_as_such_and_harms_nobody(gather, start, kind, caplog):
    gone = []
    logs = gather(left=lambda producer: gone.append((producer.pid, producer.lost)))
    options = {} if kind == "messages" else {"dtype": "'i4'"}
    killed, closing, other = (start("producer", **options) for _ in range(3))
    meet(logs, 3)
    for peer in (killed, closing, other):
        peer.run(SEND[kind] % 7)
    closing.run("producer.close()")
    killed.kill()
    taken = take_some(logs, 3)
    part(logs, 1)
    assert sorted(taken) == sorted((peer.pid, 7) for peer in (killed, closing, other))
    assert sorted(gone) == sorted([(killed.pid, True), (closing.pid, False)])
    assert [r.message for r in caplog.records if "died" in r.message and str(killed.pid)]
    other.run(SEND[kind] % 8)
    assert take_some(logs, 1) == [(other.pid, 8)]


def test_a_producer_that_gives_up_is_lost(gather, start, path):
    gone = []
    logs = gather(left=gone.append)
    peer = start("nothing")
    peer.begin("""
with ringbell.produce(path) as producer:
    producer.send(b"1")
    raise ZeroDivisionError
""")
    assert take_some(logs, 1) == [(peer.pid, 1)]
    part(logs, 0)
    assert [producer.lost for producer in gone] == [True]
    with pytest.raises(PeerError, match="ZeroDivisionError"):
        peer.reply()


@pytest.mark.parametrize(
    "step",
    [
        "producer.send(b'8'); block = producer.reserve(10); block.__enter__()",
        "producer.send(b'8'); [producer.send(b'9' * 100000)]",
        "producer.coalesce().__enter__(); producer.send(b'8')",
        "producer.send_many([b'8'] * 100000)",
    ],
)
def test_a_producer_that_is_killed_in_the_middle_of_a_step_harms_nobody(gather, producers, step):
    logs = gather()
    killed, other = producers(2, ring_size=4096)
    meet(logs, 2)
    killed.begin(step)
    stats = next(p for p in logs.producers if p.pid == killed.pid)._consumer.stats
    wait_until(lambda: stats().driver.producer.entries > 0)
    killed.kill()
    other.run("producer.send(b'7')")
    taken = []
    while len(logs.producers) > 1:
        try:
            producer, payload = logs.take(timeout=0.1)
        except ringbell.RingEmpty:
            continue
        taken.append((producer.pid, bytes(payload)))
    assert set(taken) == {(killed.pid, b"8"), (other.pid, b"7")}


def test_a_producer_that_is_killed_while_it_meets_the_gather_harms_nobody(gather, start, path):
    logs = gather()
    dying = [start("producer") for _ in range(3)]
    for peer in dying:
        wait_until(lambda peer=peer: peer.state() == "S")
        peer.kill()
    peer = start("producer")
    while peer.pid not in [producer.pid for producer in logs.producers]:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)
    peer.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(peer.pid, 1)]
    part(logs, 1)


def test_producers_come_and_go_and_leave_no_descriptor(gather, start, path):
    logs = gather()
    peer = start("nothing")
    take_nothing(logs)
    before = len(os.listdir("/proc/self/fd"))
    peer.begin("""
for i in range(300):
    with ringbell.produce(path, ring_size=4096) as producer:
        producer.send(b"%d" % i)
""")
    assert sorted(take_some(logs, 300)) == [(peer.pid, number) for number in range(300)]
    peer.reply()
    part(logs, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_exception_of_a_hook_comes_out_and_the_loop_may_go_on(gather, producers):
    def fail(_producer):
        raise ZeroDivisionError

    logs = gather(left=fail)
    one, other = producers(2)
    meet(logs, 2)
    one.run("producer.close()")
    with pytest.raises(ZeroDivisionError):
        logs.take(timeout=5)
    other.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(other.pid, 1)]


def test_a_producer_that_the_hook_refuses_is_closed(gather, start, path):
    def fail(_producer):
        raise ZeroDivisionError

    logs = gather(arrived=fail)
    peer = start("producer")
    with pytest.raises(ZeroDivisionError):
        logs.take(timeout=5)
    assert logs.producers == []
    with pytest.raises(PeerError, match="EndOfStream"):
        peer.run("producer.send(b'1'); producer.check_consumer()")
