# SPDX-License-Identifier: MIT
"""Readers and writers that come, go, die, and are forked."""

import errno
import gc
import os

import numpy as np
import pytest
from processes import wait_until
from published import NUMBERED, every_keep, every_kind, put, take, wait_for_readers

import ringbell


def test_either_side_may_start_first(start):
    reader = start("subscriber")
    reader.begin("subscriber.recv()")
    writer = start("publisher")
    writer.run("publisher.send(b'x')")
    assert reader.reply() == "b'x'"


@every_keep
def test_a_subscriber_that_closed_is_told_that_and_nothing_else(publish, subscribe, keep):
    """Nobody waits for it any longer, so what it was lent may be overwritten."""
    publisher = publish(keep=keep, ring_size=4096, min_readers=0)
    subscriber = subscribe()
    publisher.send_many([b"1", b"2"])
    lent = subscriber.borrow()
    subscriber.close()
    wait_for_readers(publisher, 0)
    for _ in range(1000):
        publisher.send(bytes(100))
    for take_next in (subscriber.recv, subscriber.recv_many, subscriber.latest, subscriber.borrow):
        with pytest.raises(ringbell.ChannelClosed):
            take_next()
    del lent


@every_kind
@every_keep
def test_a_publication_that_is_closed_gives_all_that_was_sent(publish, subscribe, kind, keep):
    publisher = publish(NUMBERED[kind], keep=keep)
    subscriber = subscribe()
    for number in range(5):
        put(publisher, kind, number)
    publisher.close()
    for number in range(5):
        assert take(subscriber, kind) == number
    with pytest.raises(ringbell.EndOfStream):
        take(subscriber, kind)
    with pytest.raises(ringbell.ChannelClosed):
        put(publisher, kind, 5)


@every_keep
def test_readers_of_a_killed_writer_take_what_it_sent_and_are_told(start, subscribe, keep):
    writer = start("publisher", keep=keep)
    writer.run("publisher.path")
    subscriber = subscribe()
    writer.run("publisher.send(b'x')")
    writer.kill()
    assert subscriber.recv() == b"x"
    with pytest.raises(ringbell.PeerLost):
        subscriber.recv()


def test_an_exception_gives_the_publication_up(path):
    with pytest.raises(ZeroDivisionError), ringbell.publish(path) as publisher:
        subscriber = ringbell.subscribe(path)
        publisher.send(b"x")
        1 / 0  # noqa: B018
    with subscriber:
        assert subscriber.recv() == b"x"
        with pytest.raises(ringbell.PeerLost):
            subscriber.recv()


def test_a_writer_that_is_started_again_has_the_name(start, subscribe):
    for _ in range(3):
        writer = start("publisher")
        writer.begin("publisher.send(b'x')")
        subscriber = subscribe(timeout=60)
        assert subscriber.recv() == b"x"
        writer.reply()
        writer.kill()
        with pytest.raises(ringbell.PeerLost):
            subscriber.recv()


def test_readers_are_known_by_process_and_time(publish, start):
    publisher = publish()
    reader = start("subscriber")
    reader.run("subscriber.peer_pid")
    (known,) = publisher.readers
    assert known.pid == reader.pid
    assert known.since > 1e9
    assert str(reader.pid) in repr(known)
    assert "1 subscribers" in repr(publisher)
    assert reader.run("subscriber.peer_pid") == str(os.getpid())
    reader.kill()
    wait_for_readers(publisher, 0)


def test_64_readers_have_a_place_and_the_next_one_is_told(publish, subscribe, path):
    publisher = publish(min_readers=64)
    subscribers = [subscribe() for _ in range(64)]
    with pytest.raises(OSError, match="64") as error:
        ringbell.subscribe(path)
    assert error.value.errno == errno.EUSERS
    publisher.send(b"x", timeout=60)
    assert {subscriber.recv() for subscriber in subscribers} == {b"x"}
    subscribers[17].close()
    wait_for_readers(publisher, 63)
    assert subscribe() is not None


def test_readers_that_come_and_go_leave_nothing(publish, path):
    publisher = publish(min_readers=0)
    ringbell.subscribe(path).close()  # the first sleep of a thread makes descriptors of its own
    wait_for_readers(publisher, 0)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        with ringbell.subscribe(path) as subscriber:
            publisher.send(b"%d" % number)
            assert subscriber.recv(timeout=60) == b"%d" % number
    wait_for_readers(publisher, 0)
    assert len(os.listdir("/proc/self/fd")) == before


@every_keep
def test_readers_join_a_writer_at_full_speed(start, subscribe, path, keep):
    """Nothing between the first entry that a reader got and the last is lost."""
    writer = start("publisher", dtype="'u8'", keep=keep, min_readers=0)
    writer.begin("for i in range(10**9): publisher.write([i])")
    for _ in range(50):
        with ringbell.subscribe(path) as subscriber:
            rows = np.concatenate([subscriber.read() for _ in range(3)])
            jumps = int(rows[-1] - rows[0]) + 1 - len(rows)
            assert (np.diff(rows.astype("i8")) > 0).all()
            assert jumps == 0 if keep == "all" else jumps <= subscriber.missed


def test_a_publisher_that_is_dropped_frees_its_name(path):
    publisher = ringbell.publish(path, min_readers=0)
    subscriber = ringbell.subscribe(path)
    publisher.send(b"x")
    with pytest.warns(ResourceWarning):
        del publisher
        gc.collect()
    with subscriber:
        assert subscriber.recv() == b"x"
        with pytest.raises((ringbell.PeerLost, ringbell.EndOfStream)):
            subscriber.recv()
    wait_until(lambda: not path.exists())


def test_a_forked_child_of_a_writer_changes_nothing(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    child = os.fork()
    if not child:
        try:
            publisher.send(b"from the child")
        except ringbell.ChannelClosed:
            publisher.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    publisher.send(b"x")
    assert subscriber.recv() == b"x"
    assert len(publisher.readers) == 1


def test_a_forked_child_of_a_reader_changes_nothing(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    child = os.fork()
    if not child:
        try:
            subscriber.recv()
        except ringbell.ChannelClosed:
            subscriber.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    publisher.send(b"x")
    assert subscriber.recv() == b"x"
