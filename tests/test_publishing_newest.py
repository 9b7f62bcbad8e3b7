# SPDX-License-Identifier: MIT
"""A writer that keeps the newest entries waits for nobody, and overtakes slow readers."""

import numpy as np
import pytest
from published import (
    NUMBERED,
    RING,
    ROOM,
    TAKE_ALL,
    every_keep,
    every_kind,
    put,
    take_what_is_there,
    wait_for_readers,
)

import ringbell
from ringbell.meeting import segment


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
    with pytest.raises(ValueError, match=f"{most} bytes, what half the ring can hold") as refused:
        publisher.reserve(most + 1)
    assert "copies" not in str(refused.value)  # a call that copies has the same bound
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
