# SPDX-License-Identifier: MIT
"""One writer, many readers: who gets what, who waits for whom, who comes and goes."""

import copy
import errno
import gc
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from processes import PeerError, wait_until, wait_until_listening
from published import (
    NUMBERED,
    TAKE_ALL,
    entry,
    latest,
    put,
    take,
    take_what_is_there,
    wait_for_readers,
)

import ringbell
from ringbell.meeting import segment

KINDS = ["messages", "records"]
RING = 8192  # bytes: 42 messages of three slots, or 64 records
ROOM = {"messages": 42, "records": 64}

every_kind = pytest.mark.parametrize("kind", KINDS)
every_keep = pytest.mark.parametrize("keep", ["all", "newest"])


def numbers(count):
    return np.arange(count, dtype="u8")


def fill(publisher, kind, first=0):
    """Put until the ring is full; give the number that found no room."""
    number = first
    while True:
        try:
            put(publisher, kind, number, timeout=0)
        except ringbell.RingFull:
            return number
        number += 1


# ---- who gets what ----


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


# ---- the newest only ----


@every_kind
def test_a_writer_of_the_newest_never_waits(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], keep="newest", ring_size=RING)
    subscriber = subscribe()
    for number in range(1000):
        put(publisher, kind, number, timeout=0)
    numbers = take_what_is_there(subscriber, kind)
    assert numbers == list(range(numbers[0], 1000))
    assert 0 < len(numbers) <= ROOM[kind] // 2 + 1, "half the ring, at most, is left to it"
    assert len(numbers) + subscriber.missed == 1000
    assert publisher.stats().driver.producer.times_full <= 1


@every_kind
def test_what_was_borrowed_and_overwritten_raises_at_the_end_of_its_block(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], keep="newest", ring_size=RING)
    subscriber = subscribe()
    put(publisher, kind, 0)
    with pytest.raises(ringbell.Overwritten, match="larger ring"), subscriber.borrow() as lent:
        assert np.frombuffer(lent, "u8")[0] == 0
        del lent
        for number in range(1, 200):
            put(publisher, kind, number)
    numbers = take_what_is_there(subscriber, kind)
    assert numbers[-1] == 199
    assert len(numbers) + subscriber.missed == 200


def take_in_a_block(publisher, subscriber, take, overwrite):
    """Give the number of a record before and after the block takes another one."""
    put(publisher, "records", 0)
    with subscriber.borrow() as lent:
        before = int(lent["number"][0])
        put(publisher, "records", 1)
        take(subscriber)
        for number in range(100 if overwrite else 0):
            put(publisher, "records", 2 + number)
            if overwrite == "slowly":
                subscriber.read()
        return before, int(lent["number"][0])


TAKES = {
    "read": lambda subscriber: subscriber.read(),
    "latest": lambda subscriber: subscriber.latest(),
    "a loop": lambda subscriber: next(iter(subscriber)),
    "another block": lambda subscriber: subscriber.borrow().__exit__(None, None, None),
}


@pytest.mark.parametrize("way", TAKES)
@every_keep
def test_what_a_block_gave_back_itself_and_was_overwritten_is_told(publish, subscribe, keep, way):
    """A take in the block gives back what it was lent, and the array is readable still."""
    publisher = publish(NUMBERED["records"], keep=keep, ring_size=RING)
    subscriber = subscribe()
    assert take_in_a_block(publisher, subscriber, TAKES[way], "") == (0, 0)
    overwrite = "slowly" if keep == "all" else "at once"
    with pytest.raises(ringbell.Overwritten):
        take_in_a_block(publisher, subscriber, TAKES[way], overwrite)


@every_kind
def test_an_error_in_the_block_gives_way_to_overwritten(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], keep="newest", ring_size=RING)
    subscriber = subscribe()

    def borrow_and_raise(error, overwrite):
        put(publisher, kind, 0)
        with subscriber.borrow():
            for number in range(200 if overwrite else 0):
                put(publisher, kind, number)
            raise error

    with pytest.raises(ringbell.Overwritten):
        borrow_and_raise(ValueError("made of what was overwritten"), True)
    with pytest.raises(KeyboardInterrupt):
        borrow_and_raise(KeyboardInterrupt(), True)
    with pytest.raises(ValueError, match="mine"):
        borrow_and_raise(ValueError("mine"), False)


def test_an_error_that_keeps_what_was_overwritten_gives_way_to_overwritten(publish, subscribe):
    """Its traceback has an array made from the view, so the view cannot be released."""
    publisher = publish(keep="newest", ring_size=RING)
    subscriber = subscribe()

    def use(view):
        words = np.frombuffer(view, "u8")
        for number in range(1, 200):
            put(publisher, "messages", number)
        raise ValueError(words)

    put(publisher, "messages", 0)
    with pytest.raises(ringbell.Overwritten) as error, subscriber.borrow() as view:
        use(view)
    assert isinstance(error.value.__context__, ValueError)
    numbers = take_what_is_there(subscriber, "messages")
    assert numbers[-1] == 199
    assert len(numbers) + subscriber.missed == 200


@every_kind
@every_keep
def test_what_was_overwritten_after_a_close_in_the_block_is_told(publish, subscribe, kind, keep):
    """Nobody waits for a subscriber that a signal handler has closed."""
    publisher = publish(NUMBERED[kind], keep=keep, ring_size=RING, min_readers=0)
    subscriber = subscribe()
    put(publisher, kind, 0)
    with pytest.raises(ringbell.Overwritten), subscriber.borrow():
        subscriber.close()
        wait_for_readers(publisher, 0)
        for number in range(1, 200):
            put(publisher, kind, number)
    other = subscribe()
    put(publisher, kind, 0)
    with other.borrow():
        other.close()


def test_a_loan_is_for_one_block(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    publisher.send(b"x")
    lent = subscriber.borrow()
    with lent:
        pass
    with pytest.raises(RuntimeError, match="borrow again"), lent:
        pass


def test_a_slice_that_lives_on_keeps_the_loan(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    publisher.send(b"xyz")
    with pytest.raises(BufferError), subscriber.borrow() as view:
        part = view[1:]
    del part
    publisher.send(b"next")
    assert subscriber.recv() == b"next"


def test_iteration_over_the_newest_gives_copies(publish, subscribe):
    publisher = publish("i4", keep="newest")
    subscriber = subscribe()
    publisher.write([1, 2])
    rows = next(iter(subscriber))
    assert rows.flags.owndata
    messages = ringbell.publish(str(publisher.path) + "2", keep="newest")
    with messages, ringbell.subscribe(messages.path) as readers:
        messages.send(b"x")
        assert next(iter(readers)) == b"x"


@every_kind
def test_readers_of_the_newest_see_nothing_torn_and_count_exactly(publish, start, kind):
    """Real processes at full speed: each way of taking, with a ring of a few entries."""
    ways = {
        "messages": ["subscriber.recv", "subscriber.latest", "iterate(subscriber)"],
        "records": ["subscriber.read", "subscriber.latest", "iterate(subscriber)"],
    }[kind]
    readers = [start("subscriber", polling="never") for _ in ways]
    publisher = publish(NUMBERED[kind], keep="newest", min_readers=len(ways), ring_size=4096)
    for reader, way in zip(readers, ways, strict=True):
        reader.run(TAKE_ALL)
        reader.begin(f"take_all(subscriber, {way})")
    for number in range(30_000):
        put(publisher, kind, number)
    publisher.close()
    for reader in readers:
        got, missed, last = eval(reader.reply())
        assert got + missed == 30_000
        assert last == 29_999


def test_an_entry_of_the_newest_takes_half_the_ring_at_most(publish, subscribe):
    publisher = publish(keep="newest", ring_size=4096)
    subscriber = subscribe()
    most = publisher.max_payload
    assert 1900 < most < 2048
    publisher.send(b"x" * most)
    assert len(subscriber.recv(0)) == most
    with pytest.raises(ValueError, match=str(most)):
        publisher.send(b"x" * (most + 1))
    with pytest.raises(ValueError, match=str(most)):
        publisher.reserve(most + 1)
    publisher.send(b"y" * most)
    assert len(subscriber.recv(0)) == most


def test_a_ring_of_the_newest_has_room_for_four_records(publish, subscribe):
    publisher = publish(("u1", 3_000_000), keep="newest", ring_size=1 << 20)
    assert publisher.capacity >= 4
    subscriber = subscribe()
    publisher.write(np.full(3_000_000, 7, "u1"))
    assert (subscriber.latest(0) == 7).all()
    with pytest.raises(ValueError, match="4 records"):
        ringbell.publish("other", ("u1", 300 << 20), keep="newest")


# ---- who waits for whom ----


@every_kind
def test_the_first_entry_waits_for_as_many_readers_as_wanted(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], min_readers=2)
    with pytest.raises(ringbell.RingFull):
        put(publisher, kind, 0, timeout=0)
    subscriber = subscribe()
    wait_for_readers(publisher, 1)
    with pytest.raises(ringbell.RingFull):
        put(publisher, kind, 0, timeout=0)
    other = subscribe()
    put(publisher, kind, 0, timeout=60)
    other.close()
    wait_for_readers(publisher, 1)
    put(publisher, kind, 1, timeout=60)  # only the first entry waits
    assert take_what_is_there(subscriber, kind) == [0, 1]


@every_keep
def test_a_writer_that_sleeps_is_woken_by_the_last_reader_that_it_waits_for(start, keep):
    writer = start("publisher", keep=keep, min_readers=2, polling="never")
    writer.begin("publisher.send(b'x')")
    wait_until(lambda: writer.state() == "S")
    readers = [start("subscriber") for _ in range(2)]
    assert writer.reply() == "None"
    assert [reader.run("subscriber.recv()") for reader in readers] == ["b'x'"] * 2


def test_without_readers_entries_go_to_nobody(publish, subscribe):
    publisher = publish(min_readers=0, ring_size=4096)
    for _ in range(1000):
        publisher.send(b"x" * 100)
    subscriber = subscribe()
    publisher.send(b"for you")
    assert subscriber.recv() == b"for you"


@every_kind
def test_the_slowest_reader_holds_the_writer_back(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], ring_size=RING)
    slow, quick = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    count = fill(publisher, kind)
    assert count == ROOM[kind]
    assert take_what_is_there(quick, kind) == list(range(count))
    with pytest.raises(ringbell.RingFull):
        put(publisher, kind, count, timeout=0)
    assert take(slow, kind) == 0
    put(publisher, kind, count, timeout=0)
    assert take_what_is_there(slow, kind) == list(range(1, count + 1))
    assert take_what_is_there(quick, kind) == [count]


@pytest.mark.parametrize("way", ["takes", "closes", "dies"])
def test_a_writer_that_sleeps_goes_on_when_the_slowest_reader(publish, start, subscribe, way):
    publisher = publish("u8", ring_size=4096, polling="never")
    slow = start("subscriber", dtype="'u8'")
    quick = subscribe()
    wait_for_readers(publisher, 2)
    publisher.write(numbers(publisher.capacity))
    thread = threading.Thread(target=publisher.write, args=([99],))
    thread.start()
    quick.read()
    wait_until(lambda: publisher.stats().driver.producer.sleeps)
    if way == "takes":
        slow.run("len(subscriber.read())")
    elif way == "closes":
        slow.run("subscriber.close()")
    else:
        slow.kill()
    thread.join()
    assert quick.read().tolist() == [99]
    wait_for_readers(publisher, 2 if way == "takes" else 1)


@every_kind
def test_a_killed_reader_costs_the_others_nothing(publish, start, kind):
    readers = [start("subscriber") for _ in range(3)]
    publisher = publish(NUMBERED[kind], min_readers=3, ring_size=RING)
    victim, *others = readers
    for reader in others:
        reader.run(TAKE_ALL)
        reader.begin(f"take_all(subscriber, subscriber.{'recv' if kind == 'messages' else 'read'})")
    victim.run("subscriber.peer_pid")
    for number in range(2000):
        put(publisher, kind, number, timeout=60)
        if number == ROOM[kind] // 2:
            victim.kill()
    publisher.close()
    for reader in others:
        assert reader.reply() == "(2000, 0, 1999)"


# ---- who stalls ----


@every_kind
def test_a_reader_that_stalls_is_let_go_and_told(publish, start, kind, caplog):
    publisher = publish(NUMBERED[kind], min_readers=2, stall=0.3, ring_size=RING)
    stuck, other = start("subscriber"), start("subscriber")
    take_one = "recv" if kind == "messages" else "read"
    stuck.run("subscriber.peer_pid")
    other.run(TAKE_ALL)
    other.begin(f"take_all(subscriber, subscriber.{take_one})")
    wait_for_readers(publisher, 2)
    stuck.stop()
    for number in range(1000):
        put(publisher, kind, number, timeout=60)
    wait_for_readers(publisher, 1)
    assert f"process {stuck.pid}: it held the writer back" in caplog.text
    publisher.close()
    assert other.reply() == "(1000, 0, 999)"
    stuck.signal(signal.SIGCONT)
    with pytest.raises(PeerError) as error:
        stuck.run(f"[subscriber.{take_one}() for _ in range(100)]")
    assert error.value.name == "LetGo"
    assert "stall" in str(error.value)


@every_kind
def test_what_a_reader_lent_when_it_was_let_go_is_worth_nothing(publish, subscribe, kind):
    publisher = publish(NUMBERED[kind], stall=0.1, ring_size=RING)
    subscriber = subscribe()
    put(publisher, kind, 0)
    with pytest.raises(ringbell.LetGo), subscriber.borrow():
        for number in range(1, 1000):
            put(publisher, kind, number, timeout=60)
    with pytest.raises(ringbell.LetGo):
        take(subscriber, kind)


def test_a_reader_that_is_let_go_takes_no_kick_to_learn_it(publish, start):
    publisher = publish("u8", stall=0.1, ring_size=4096)
    stuck = start("subscriber", dtype="'u8'", polling="never")
    stuck.run("subscriber.peer_pid")
    stuck.stop()
    stuck.begin("subscriber.borrow().__enter__() and None")
    for _ in range(3):
        publisher.write(numbers(publisher.capacity), timeout=60)
    stuck.signal(signal.SIGCONT)
    with pytest.raises(PeerError) as error:
        stuck.reply()
        stuck.run("subscriber.read()")
    assert error.value.name == "LetGo"


def test_a_reader_that_has_taken_everything_does_not_stall(publish, subscribe, monkeypatch):
    """Time alone is no stall: the ring has to be full because of this reader."""
    publisher = publish("u8", stall=0.05, ring_size=4096)
    subscriber = subscribe()
    publisher.write(numbers(10))
    subscriber.read()
    over = threading.Event()
    over.wait(0.2)  # longer than `stall`
    publisher.write(numbers(publisher.capacity))
    with pytest.raises(ringbell.RingFull):
        publisher.write([1], timeout=0)
    assert len(subscriber.read()) == publisher.capacity
    assert len(publisher.readers) == 1


# ---- who comes and goes ----


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


# ---- kicks ----


def wait_until_asleep(publisher, count=0, times=1):
    """Wait until readers sleep in ringbell, each for so many times: the first `count`, or all."""
    readers = publisher.readers[: count or None]
    wait_until(lambda: all(reader.counters().sleeps >= times for reader in readers))


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


# ---- objects, long messages, files ----


@every_keep
def test_objects(publish, subscribe, keep):
    publisher = publish(codec="pickle", keep=keep)
    subscriber = subscribe(codec="pickle")
    sent = {"a": np.arange(100), "b": [1, 2]}
    publisher.send(sent)
    got = subscriber.recv()
    assert got["b"] == [1, 2]
    assert (got["a"] == sent["a"]).all()
    publisher.send_many([1, 2, 3])
    assert subscriber.latest() == 3
    publisher.send("borrowed")
    with subscriber.borrow() as lent:
        assert lent == "borrowed"


def test_a_message_longer_than_the_ring_reaches_every_reader(publish, start):
    publisher = publish(ring_size=4096, min_readers=2)
    readers = [start("subscriber") for _ in range(2)]
    for reader in readers:
        reader.begin("[len(subscriber.recv()) for _ in range(3)]")
    for _ in range(3):
        publisher.send(bytes(100_000), timeout=60)
    assert {reader.reply() for reader in readers} == {"[100000, 100000, 100000]"}


def test_who_comes_while_a_long_message_is_sent_begins_at_the_next_one(publish, start):
    publisher = publish(ring_size=4096, polling="never")
    first = start("subscriber")
    first.run("subscriber.peer_pid")
    thread = threading.Thread(target=publisher.send, args=(bytes(100_000),))
    thread.start()
    wait_until(lambda: publisher.stats().driver.producer.sleeps)
    second = start("subscriber")
    second.begin("subscriber.recv(), subscriber.recv(), subscriber.missed")
    wait_for_readers(publisher, 2)
    assert first.run("len(subscriber.recv())") == "100000"
    thread.join()
    for message in (b"next", b"last"):
        publisher.send(message)
        assert first.run("subscriber.recv()") == str(message)
    assert second.reply() == str((b"next", b"last", 0))


def test_a_file_has_every_byte_or_is_refused(publish, subscribe):
    publisher = publish()
    subscriber = subscribe()
    with publisher.as_file() as out:
        out.write(b"abc")
        out.write(b"def")
    publisher.close()
    assert subscriber.as_file().read() == b"abcdef"


def test_the_newest_are_no_file(publish, subscribe):
    publish(keep="newest")
    with pytest.raises(ValueError, match="keep='all'"):
        subscribe().as_file()


def test_a_message_has_its_number(publish):
    with pytest.raises(ValueError, match="number"):
        publish(min_readers=0).send(b"x", token=5)


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


def test_an_overtaken_reader_goes_on_across_the_end_of_the_indices(publish, subscribe, monkeypatch):
    monkeypatch.setattr(segment, "FIRST_INDEX", 2**64 - 40)
    publisher = publish("u8", keep="newest", ring_size=4096)
    subscriber = subscribe()
    for number in range(3000):
        publisher.write([number])
        if number % 700 == 0:
            rows = subscriber.read()
            assert int(rows[-1]) == number
    rows = subscriber.read()
    assert int(rows[-1]) == 2999


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keep": "oldest"}, ValueError, "'all' or 'newest'"),
        ({"keep": 1}, TypeError, "'all' or 'newest'"),
        ({"min_readers": 65}, ValueError, "64"),
        ({"min_readers": -1}, ValueError, "64"),
        ({"min_readers": "2"}, TypeError, "64"),
        ({"stall": 0}, ValueError, "above 0"),
        ({"stall": float("nan")}, ValueError, "above 0"),
        ({"stall": "1"}, TypeError, "seconds"),
        ({"stall": 1, "keep": "newest"}, ValueError, "nobody holds the writer back"),
        ({"ring_size": 5}, ValueError, "power of two"),
        ({"dtype": "O"}, ValueError, "object"),
        ({"dtype": "i4", "codec": "pickle"}, ValueError, "not both"),
    ],
)
def test_bad_options_are_refused(path, options, error, text):
    with pytest.raises(error, match=text):
        ringbell.publish(path, **options)


def test_nobody_published_in_time(path):
    with pytest.raises(TimeoutError, match="nobody published"):
        ringbell.subscribe(path, timeout=0.05)
    with pytest.raises(TimeoutError, match="nobody published"):
        ringbell.subscribe(path, timeout=0)


def test_a_name_has_one_publisher(publish, path):
    publish()
    with pytest.raises(OSError, match="already") as error:
        ringbell.publish(path)
    assert error.value.errno == errno.EADDRINUSE


def test_other_roles_under_the_name_are_told_what_to_use(publish, path):
    publish()
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.consume(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.produce(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.connect(path)


@pytest.mark.parametrize("role", ["producer", "consumer", "device"])
def test_a_subscriber_under_another_name_is_told_what_to_use(start, path, role):
    start(role)
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.(consume|produce|connect)"):
        ringbell.subscribe(path, timeout=60)


def test_what_does_not_fit_is_refused_and_the_publication_goes_on(publish, subscribe, path):
    publisher = publish("i4", min_readers=0)
    with pytest.raises(ringbell.LayoutMismatch, match="records of int32"):
        ringbell.subscribe(path, "f8")
    with pytest.raises(ringbell.LayoutMismatch, match="codec"):
        ringbell.subscribe(path, codec="pickle")
    subscriber = subscribe("i4")
    publisher.write([1])
    assert subscriber.read().tolist() == [1]


def test_a_publisher_and_a_subscriber_are_there_once(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    for end in (publisher, subscriber):
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.copy(end)
        with pytest.raises(TypeError, match="cannot be copied"):
            pickle.dumps(end)


def test_check_consumer_waits_for_nobody(publish):
    publisher = publish(min_readers=0)
    publisher.send(b"x")
    publisher.check_consumer()
    publisher.close()
    with pytest.raises(ringbell.ChannelClosed):
        publisher.check_consumer()


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


def test_another_thread_may_close_a_writer_that_waits(publish):
    publisher = publish(polling="never")
    closer = threading.Timer(0.1, publisher.close)
    closer.start()
    with pytest.raises(ringbell.ChannelClosed):
        publisher.send(b"x")
    closer.join()


def test_ctrl_c_ends_a_wait_for_readers(start, subscribe):
    writer = start("publisher", polling="never", min_readers=2)
    watcher = subscribe()
    writer.begin("publisher.send(b'x')")
    wait_until(lambda: watcher.stats().driver.producer.sleeps)
    writer.signal(signal.SIGINT)
    with pytest.raises(PeerError) as error:
        writer.reply()
    assert error.value.name == "KeyboardInterrupt"
    reader = start("subscriber")
    writer.run("publisher.send(b'y')")
    assert reader.run("subscriber.recv()") == watcher.recv().__repr__() == "b'y'"


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
