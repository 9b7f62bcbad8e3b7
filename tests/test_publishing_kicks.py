# SPDX-License-Identifier: MIT
"""Which readers a publication kicks, and when."""

from published import wait_until_asleep


def test_each_reader_that_sleeps_takes_one_kick_and_those_awake_none(publish, start, subscribe):
    publisher = publish()
    sleepers = [start("subscriber", polling="never") for _ in range(3)]
    for sleeper in sleepers:
        sleeper.run("subscriber.peer_pid")
    awake = subscribe()
    for round_ in range(1, 4):
        for sleeper in sleepers:
            sleeper.begin("subscriber.recv()")
        wait_until_asleep(publisher, 3, round_)
        before = publisher.stats().driver.producer.kicks_sent
        publisher.send(b"x")
        assert publisher.stats().driver.producer.kicks_sent == before + 3, round_
        assert {sleeper.reply() for sleeper in sleepers} == {"b'x'"}
        awake.recv()
    saved = publisher.stats().driver.producer.kicks_saved
    publisher.send(b"y")  # nobody sleeps in ringbell
    assert publisher.stats().driver.producer.kicks_saved == saved + 1


def test_a_coalesced_batch_is_one_kick_for_each_sleeper(publish, start):
    publisher = publish()
    sleepers = [start("subscriber", polling="never") for _ in range(2)]
    for sleeper in sleepers:
        sleeper.run("subscriber.peer_pid")
        sleeper.begin("[subscriber.recv() for _ in range(10)]")
    wait_until_asleep(publisher)
    before = publisher.stats().driver.producer.kicks_sent
    with publisher.coalesce():
        for _ in range(10):
            publisher.send(b"x")
        assert publisher.stats().driver.producer.kicks_sent == before
    assert publisher.stats().driver.producer.kicks_sent == before + 2
    assert {sleeper.reply() for sleeper in sleepers} == {str([b"x"] * 10)}


def test_moderation_is_each_readers_own(publish, start):
    publisher = publish()
    patient, quick = start("subscriber", polling="never"), start("subscriber", polling="never")
    patient.run("subscriber.moderation = None or ringbell.Moderation(entries=3, delay=1.0)")
    quick.run("subscriber.peer_pid")
    patient.begin("len(subscriber.recv_many())")
    quick.begin("len(subscriber.recv_many())")
    wait_until_asleep(publisher)
    publisher.send(b"1")
    assert quick.reply() == "1"
    publisher.send(b"2")
    publisher.send(b"3")
    assert patient.reply() == "3"


def test_moderation_by_time_uses_a_timer_of_each_reader(publish, start):
    publisher = publish()
    readers = [start("subscriber", polling="never") for _ in range(2)]
    for reader in readers:
        reader.run("subscriber.moderation = ringbell.Moderation(entries=99, delay=0.05)")
        reader.begin("subscriber.recv()")
    wait_until_asleep(publisher)
    publisher.send(b"x")
    assert {reader.reply() for reader in readers} == {"b'x'"}
    assert publisher.stats().driver.producer.kicks_late == 2
