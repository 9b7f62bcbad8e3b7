# SPDX-License-Identifier: MIT
"""One consumer for many producers: who comes, in what order, and who has the next turn."""

import time
from itertools import groupby

import pytest
from gathered import SEND, meet, numbers_of, part, take_nothing, take_some
from kinds import KINDS
from processes import wait_until_listening

import ringbell


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["loop", "take"])
def test_each_producer_arrives_in_order(gather, start, path, kind, how):
    logs = gather()
    peers = [start("nothing") for _ in range(4)]
    for peer in peers:
        peer.begin(
            f"""
with ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r}) as producer:
    for i in range(3000):
        {SEND[kind].replace("%d", "%d" if kind == "messages" else "i")}{" % i" * 0}
""".replace("b'%d'", "b'%d' % i")
        )
    taken = []
    if how == "take":
        taken = take_some(logs, 12000)
    else:
        for producer, entries in logs:
            numbers = [int(bytes(entries))] if kind == "messages" else entries.tolist()
            taken += [(producer.pid, number) for number in numbers]
            if len(taken) == 12000:
                break
    for peer in peers:
        peer.reply()
        assert numbers_of(taken, peer.pid) == list(range(3000))
    part(logs, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_six_producers_that_start_at_once_are_all_taken(gather, start, path, kind, when):
    peers = [start("nothing") for _ in range(6)]

    def begin():
        for peer in peers:
            peer.begin(f"producer = ringbell.produce(path, **{KINDS[kind]!r})")

    if when == "before":
        begin()
        wait_until_listening(path)
    logs = gather()
    if when == "after":
        begin()
    meet(logs, 6)
    for number, peer in enumerate(peers):
        peer.reply()
        peer.run(SEND[kind] % number)
    expected = [(peer.pid, number) for number, peer in enumerate(peers)]
    assert sorted(take_some(logs, 6)) == sorted(expected)
    assert sorted(producer.pid for producer in logs.producers) == sorted(p.pid for p in peers)


def test_producers_that_come_while_the_name_is_taken_over_are_all_taken(start, path):
    peers = [start("nothing") for _ in range(6)]
    for peer in peers:
        peer.begin("""
for i in range(20):
    with ringbell.produce(path) as producer:
        producer.send(b"%d" % i)
""")
    wait_until_listening(path)
    with ringbell.gather(path) as logs:
        taken = take_some(logs, 120)
    for peer in peers:
        peer.reply()
        assert sorted(numbers_of(taken, peer.pid)) == list(range(20)), (
            "each was a stream of its own"
        )


def test_a_producer_behind_one_that_is_killed_goes_on(start, gather, path):
    first = start("producer")
    wait_until_listening(path)
    second = start("producer")
    first.stop()
    first.kill()
    logs = gather()
    second.run("producer.send(b'1')") if logs.producers else meet(logs, 1)
    if not second.process.stdout.closed and logs.producers[0].entries == 0:
        second.run("producer.send(b'2')")
    assert logs.take()[0].pid == second.pid


def test_a_producer_that_waits_behind_another_is_taken_by_the_next_consumer(start, path):
    peers = [start("producer") for _ in range(3)]
    met = []
    for _ in peers:
        with ringbell.consume(path) as consumer:
            met.append(consumer.peer_pid)
    assert sorted(met) == sorted(peer.pid for peer in peers)


def test_producers_have_turns_of_a_bounded_length(gather, producers):
    logs = gather()
    peers = producers(3)
    meet(logs, 3)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(400)])")
    taken = take_some(logs, 1200)
    turns = [(pid, len(list(turn))) for pid, turn in groupby(pid for pid, _ in taken)]
    assert max(length for _, length in turns) <= 64
    for start in range(0, len(turns) - 3, 3):
        assert len({pid for pid, _ in turns[start : start + 3]}) == 3


def test_one_who_floods_does_not_keep_another_one_waiting(gather, start, producers):
    logs = gather()
    (quiet,) = producers(1)
    meet(logs, 1)
    flood = start("producer", ring_size=1 << 16)
    meet(logs, 2)
    flood.begin("while True: producer.send_many([b'0'] * 500)")
    take_some(logs, 1000)
    for number in range(20):
        quiet.run(f"producer.send(b'{number}')")
        others = 0
        while logs.take()[0].pid != quiet.pid:
            others += 1
        assert others <= 128


def test_records_come_as_arrays_of_at_most_a_mebibyte(gather, producers):
    logs = gather()
    (peer,) = producers(1, dtype="'V64'", ring_size=4 << 20)
    meet(logs, 1)
    peer.run("import numpy as np")
    peer.run("producer.write(np.zeros(60000, 'V64'))")
    lengths = []
    while sum(lengths) < 60000:
        lengths.append(len(logs.take()[1]))
    assert max(lengths) == (1 << 20) // 64


def test_a_producer_says_who_it_is_and_how_much_came_from_it(gather, producers):
    came, gone = [], []
    logs = gather(arrived=came.append, left=gone.append)
    before = time.time()
    (peer,) = producers(1)
    meet(logs, 1)
    peer.run("producer.send_many([b'12', b'345'])")
    producer, payload = logs.take()
    assert bytes(payload) == b"12"
    assert logs.take()[0] is producer
    take_nothing(logs)
    assert (producer.pid, producer.entries, producer.bytes) == (peer.pid, 2, 5)
    assert before <= producer.since <= time.time()
    assert str(peer.pid) in repr(producer)
    assert repr(logs).endswith(", 1 producers>")
    assert came == [producer] == logs.producers
    peer.run("producer.close()")
    part(logs, 0)
    assert gone == [producer]
    assert not producer.lost
    assert (producer.entries, producer.bytes) == (2, 5), "also when it has gone"
