# SPDX-License-Identifier: MIT
"""One writer, many readers: who gets what."""

import numpy as np
import pytest
from published import (
    NUMBERED,
    RING,
    ROOM,
    TAKE_ALL,
    entry,
    every_keep,
    every_kind,
    fill,
    latest,
    put,
    take,
    take_what_is_there,
    wait_until_asleep,
)

import ringbell
from ringbell.meeting import segment


@every_kind
@every_keep
def test_each_reader_gets_the_entries_from_its_coming_on(publish, subscribe, kind, keep):
    publisher = publish(NUMBERED[kind], keep=keep, min_readers=0, ring_size=RING)
    put(publisher, kind, 0)
    first = subscribe()
    # What keeps the newest shows the newest entry to who comes.
    assert take_what_is_there(first, kind) == ([] if keep == "all" else [0])
    put(publisher, kind, 1)
    second = subscribe()
    put(publisher, kind, 2)
    assert take_what_is_there(first, kind) == [1, 2]
    assert take_what_is_there(second, kind) == ([2] if keep == "all" else [1, 2])
    assert first.missed == second.missed == 0


@every_kind
def test_all_of_many_readers_in_other_processes_get_every_entry(publish, start, kind):
    readers = [start("subscriber") for _ in range(4)]
    publisher = publish(NUMBERED[kind], min_readers=4, ring_size=RING)
    for reader in readers:
        reader.run(TAKE_ALL)
    ways = [["recv", "borrow", "iterate", "recv"], ["read", "borrow", "iterate", "read"]]
    for reader, way in zip(readers, ways[kind == "records"], strict=True):
        reader.begin(TAKING[way])
    for number in range(5000):
        put(publisher, kind, number)
    publisher.close()
    for reader in readers:
        assert reader.reply() == "(5000, 0, 4999)"


# What raises EndOfStream at its end, not StopIteration.
TAKING = {
    "recv": "take_all(subscriber, subscriber.recv)",
    "read": "take_all(subscriber, subscriber.read)",
    "borrow": "take_all(subscriber, lambda: subscriber.borrow().__enter__())",
    "iterate": "take_all(subscriber, iterate(subscriber))",
}


def test_iteration_ends_with_the_publication(publish, subscribe):
    publisher = publish()
    subscriber = subscribe()
    publisher.send_many([b"1", b"2"])
    publisher.close()
    assert [bytes(message) for message in subscriber] == [b"1", b"2"]
    with pytest.raises(ringbell.EndOfStream):
        subscriber.recv(timeout=0)


@every_keep
def test_many_messages_at_once(publish, subscribe, keep):
    publisher = publish(keep=keep)
    subscriber = subscribe()
    messages = [bytes([i]) * i for i in range(200)]
    publisher.send_many(messages)
    assert subscriber.recv_many() == messages
    publisher.send_many(messages)
    assert subscriber.latest(0) == messages[-1]
    assert subscriber.missed == 199


@every_keep
def test_what_is_written_in_place(publish, subscribe, keep):
    messages = publish(keep=keep)
    subscriber = subscribe()
    with messages.reserve(1000) as frame:
        frame.payload[:3] = b"abc"
        frame.length = 3
    assert subscriber.recv(0) == b"abc"
    with subscriber.borrow(0) if frame.length == 0 else _one(messages, subscriber) as view:
        assert bytes(view) == b"next"


def _one(publisher, subscriber):
    publisher.send(b"next")
    return subscriber.borrow(0)


@every_keep
def test_records_written_in_place(publish, subscribe, keep):
    publisher = publish("i4", keep=keep)
    subscriber = subscribe("i4")
    with publisher.reserve(10) as rows:
        rows[:] = range(10)
    with pytest.raises(ZeroDivisionError), publisher.reserve(10) as rows:
        1 / 0  # noqa: B018  (nothing of it is published)
    publisher.write([10, 11])
    with subscriber.borrow(timeout=0) as rows:
        assert rows.tolist() == list(range(12))
        assert not rows.flags.writeable


def test_a_reservation_that_was_published_in_part_overtakes_nobody_silently(publish, subscribe):
    """What a writer wrote into room that it did not publish may lie over older entries."""
    publisher = publish("u8", keep="newest", ring_size=4096)
    capacity = publisher.capacity
    subscriber = subscribe()
    publisher.write(np.arange(capacity, dtype="u8"))
    block = publisher.reserve(capacity // 2)
    with block as rows:
        rows[:] = 99999
        block.count = 1
    # Half of the entries are gone, though only one was published since.
    rows = subscriber.read(timeout=0)
    assert 99999 not in rows[:-1].tolist()
    assert rows.tolist() == [*range(int(rows[0]), capacity), 99999]
    assert len(rows) + subscriber.missed == capacity + 1


@every_kind
def test_missed_counts_what_latest_passed_over(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind])
    subscriber = subscribe()
    for number in range(10):
        put(publisher, kind, number)
    assert latest(subscriber) == 9
    assert subscriber.missed == 9
    with pytest.raises(ringbell.RingEmpty):
        latest(subscriber)
    put(publisher, kind, 10)
    assert take(subscriber, kind) == 10
    assert subscriber.missed == 9


@every_kind
@every_keep
def test_latest_waits_for_an_entry_that_is_newer(publish, start, kind, keep):
    publisher = publish(NUMBERED[kind], keep=keep)
    reader = start("subscriber", polling="never")
    reader.run("import numpy as np")
    reader.run("number = lambda: int(np.frombuffer(subscriber.latest(), 'u8')[0])")
    put(publisher, kind, 1)
    assert reader.run("number()") == "1"
    reader.begin("number()")
    wait_until_asleep(publisher)
    put(publisher, kind, 2)
    assert reader.reply() == "2"


@every_kind
def test_latest_frees_what_it_passes_over(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], ring_size=RING)
    subscriber = subscribe()
    last = fill(publisher, kind) - 1
    assert latest(subscriber) == last
    assert fill(publisher, kind, last + 1) > last + ROOM[kind] // 2


@every_kind
@every_keep
def test_indices_run_around_their_end(publish, subscribe, monkeypatch, kind, keep):
    monkeypatch.setattr(segment, "FIRST_INDEX", 2**64 - 100)
    publisher = publish(NUMBERED[kind], keep=keep, ring_size=RING)
    subscriber = subscribe()
    for number in range(150):
        put(publisher, kind, number)
        assert take(subscriber, kind) == number
    if keep == "newest":
        for number in range(150, 1000):
            put(publisher, kind, number)
        numbers = take_what_is_there(subscriber, kind)
        assert numbers[-1] == 999
        assert 150 + len(numbers) + subscriber.missed == 1000


def test_an_entry_in_this_process_and_its_checked_arrays(publish, subscribe):
    publisher = publish("i4")
    subscriber = subscribe(checked=True)
    publisher.write([1, 2])
    with subscriber.borrow() as rows:
        assert rows.tolist() == [1, 2]
    with pytest.raises(RuntimeError):
        rows.tolist()


def test_the_entries_are_what_was_meant(publish, subscribe):
    """These tests see what is torn."""
    publisher, subscriber = publish(), subscribe()
    publisher.send(entry("messages", 1)[:-8] + entry("messages", 2)[:8])
    with pytest.raises(AssertionError):
        take(subscriber, "messages")
