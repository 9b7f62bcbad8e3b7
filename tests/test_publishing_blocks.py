# SPDX-License-Identifier: MIT
"""Large payloads of a publication: a block is lent to many readers, and returns with the last."""

import gc
import os
import signal
import socket
import threading
from functools import partialmethod

import numpy as np
import pytest
from processes import PeerError, wait_until
from published import every_keep, wait_for_readers

import ringbell
from ringbell.publishing.meeting import SubscriberMeeting

SIZE = 64 << 10  # bytes of a payload
ROOM = 4  # such payloads in the pool
BLOCKS = ringbell.Blocks(pool=ROOM * SIZE, least=SIZE, when_lent="wait")


def payload(number):
    return np.full(SIZE, number % 251, "u1")


def number_of(taken):
    values = np.frombuffer(taken, "u1")
    assert (values == values[0]).all()
    return int(values[0])


def lent(publisher):
    return publisher.stats().driver.blocks.lent


def with_a_full_pool(publish, start, held):
    """The whole pool is lent, and a reader holds so many blocks."""
    publisher = publish(blocks=BLOCKS, polling="never")
    reader = start("subscriber")
    reader.run("subscriber.peer_pid")
    for number in range(ROOM):
        publisher.send(payload(number))
    reader.run(f"held = [subscriber.hold() for _ in range({held})]")
    return publisher, reader


def held_by_one_that_closed(publish, start):
    """A reader holds the whole pool, and has closed."""
    publisher, reader = with_a_full_pool(publish, start, held=4)
    reader.run("subscriber.close()")
    return publisher, reader


@every_keep
def test_a_payload_in_a_block_is_held_by_each_reader(publish, subscribe, keep):
    publisher = publish(blocks=BLOCKS, keep=keep)
    readers = [subscribe() for _ in range(3)]
    publisher.send(payload(7))
    held = [reader.hold() for reader in readers]
    assert [number_of(view) for view in held] == [7, 7, 7]
    assert all(isinstance(view, memoryview) and view.readonly for view in held)
    assert publisher.stats().driver.blocks.sent == 1


def test_a_block_returns_when_the_last_reader_has_dropped_it(publish, subscribe):
    publisher = publish(blocks=BLOCKS)
    one, other = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    for number in range(ROOM):
        publisher.send(payload(number))
    held = [reader.hold() for reader in (one, other) for _ in range(ROOM)]
    with pytest.raises(ringbell.RingFull):
        publisher.send(payload(4), timeout=0)
    del held[0]  # of the first reader
    with pytest.raises(ringbell.RingFull):
        publisher.send(payload(4), timeout=0)
    del held[ROOM - 1]  # the same of the other
    publisher.send(payload(4), timeout=0)
    assert [number_of(view) for view in held] == [1, 2, 3, 1, 2, 3]
    assert number_of(one.hold()) == number_of(other.hold()) == 4


@pytest.mark.parametrize("way", ["drops", "dies", "closes"])
def test_a_writer_that_waits_for_a_block_goes_on_when_the_reader(publish, start, way):
    publisher, reader = with_a_full_pool(publish, start, held=3)
    thread = threading.Thread(target=publisher.send, args=(payload(9),))
    thread.start()
    wait_until(lambda: publisher.stats().driver.producer.sleeps)
    if way == "drops":
        reader.run("held.clear()")
    elif way == "dies":
        reader.kill()
    else:
        reader.run("subscriber.close()")  # it had not taken the last one
    thread.join()


def test_what_is_held_stays_readable_after_the_reader_has_closed(publish, start):
    publisher = publish(blocks=BLOCKS, min_readers=0)
    reader = start("subscriber")
    reader.run("subscriber.peer_pid")
    publisher.send(payload(1))
    reader.run("held = subscriber.hold()")
    reader.run("subscriber.close()")
    wait_for_readers(publisher, 0)
    for number in range(2, 20):
        publisher.send(payload(number))
    assert reader.run("set(held)") == "{1}"
    assert lent(publisher) >= 1
    reader.run("del held")
    for number in range(20, 24):
        publisher.send(payload(number))
    wait_until(lambda: publisher.send(payload(0)) or lent(publisher) <= 1)


def test_blocks_of_a_process_that_closed_and_then_ends_return(publish, start):
    publisher, reader = held_by_one_that_closed(publish, start)
    wait_for_readers(publisher, 0)
    with pytest.raises(ringbell.RingFull):
        publisher.send(payload(9), timeout=0)
    reader.kill()
    publisher.send(payload(9), timeout=60)


def test_a_reader_that_returns_its_last_block_after_its_close_lets_the_writer_go_on(publish, start):
    publisher, reader = held_by_one_that_closed(publish, start)
    thread = threading.Thread(target=publisher.send, args=(payload(9),))
    thread.start()
    wait_until(lambda: publisher.stats().driver.producer.sleeps)
    reader.run("held.clear()")
    thread.join()


def test_the_newest_overtakes_what_nobody_has_taken(publish, subscribe):
    publisher = publish(blocks=BLOCKS, keep="newest")
    subscriber = subscribe()
    for number in range(100):
        publisher.send(payload(number), timeout=0)
    assert number_of(subscriber.latest(0)) == 99
    assert subscriber.missed == 99
    with pytest.raises(ringbell.RingEmpty):
        subscriber.recv(0)


def test_the_newest_overtakes_nothing_while_the_pool_has_room(publish, subscribe):
    publisher = publish(blocks=BLOCKS, keep="newest")
    subscriber = subscribe()
    for number in range(ROOM):
        publisher.send(payload(number))
    assert [number_of(subscriber.recv(0)) for _ in range(ROOM)] == list(range(ROOM))
    assert subscriber.missed == 0


def test_the_newest_leaves_alone_what_is_held(publish, subscribe):
    publisher = publish(blocks=BLOCKS, keep="newest")
    subscriber = subscribe()
    publisher.send(payload(1))
    held = [subscriber.hold()]
    publisher.send(payload(2))
    held.append(subscriber.latest())
    for number in range(3, 100):
        publisher.send(payload(number), timeout=0)
    assert [number_of(view) for view in held] == [1, 2]
    assert number_of(subscriber.latest()) == 99
    assert subscriber.missed == 99 - 3


def test_the_newest_waits_only_when_readers_hold_the_whole_pool(publish, subscribe):
    publisher = publish(blocks=BLOCKS, keep="newest", ring_size=4096)
    subscriber = subscribe()
    held = []
    for number in range(ROOM):
        publisher.send(payload(number))
        held.append(subscriber.latest())
    with pytest.raises(ringbell.RingFull):
        publisher.send(payload(9), timeout=0)
    del held[1]
    publisher.send(payload(9), timeout=0)
    assert number_of(subscriber.latest()) == 9


def test_a_reader_of_the_newest_sleeps_while_nothing_can_be_taken(publish, start):
    """A pool with room for one payload: its message is overtaken before the next is written."""
    pool = ringbell.Blocks(pool=SIZE, least=SIZE, when_lent="wait")
    publisher = publish(blocks=pool, keep="newest")
    reader = start("subscriber", polling="never")
    reader.run("subscriber.peer_pid")
    for number in range(3):
        publisher.send(payload(number))
    with publisher.reserve(SIZE) as frame:  # takes the only block back
        with pytest.raises(PeerError, match="RingEmpty"):
            reader.run("subscriber.recv(timeout=0.05)")
        reader.begin("subscriber.recv()[0]")
        wait_until(lambda: publisher.readers[0].counters().sleeps >= 2)
        frame.payload[:] = bytes([9]) * SIZE
    assert reader.reply() == "9"
    assert reader.run("subscriber.missed") == "3"


def test_a_reader_that_stalls_with_the_pool_is_let_go_and_keeps_what_it_holds(publish, start):
    publisher = publish(blocks=BLOCKS, stall=0.2, min_readers=1)
    reader = start("subscriber")
    reader.run("subscriber.peer_pid")
    publisher.send(payload(1))
    reader.run("held = subscriber.hold()")
    reader.stop()
    for number in range(2, 20):
        publisher.send(payload(number), timeout=60)
    wait_for_readers(publisher, 0)
    reader.signal(signal.SIGCONT)
    assert reader.run("set(held)") == "{1}"
    with pytest.raises(PeerError) as error:
        reader.run("[subscriber.hold() for _ in range(50)]")
    assert error.value.name == "LetGo"
    assert reader.run("set(held)") == "{1}"


def test_latest_gives_back_the_blocks_that_it_passes_over(publish, subscribe):
    publisher = publish(blocks=BLOCKS)
    subscriber = subscribe()
    for number in range(200):
        publisher.send(payload(number), timeout=0)
        if number % 4 == 3:
            assert number_of(subscriber.latest(0)) == number % 251
    assert subscriber.missed == 150


def test_a_reader_that_comes_later_gets_the_pool(publish, subscribe):
    publisher = publish(blocks=BLOCKS)
    first = subscribe()
    publisher.send(payload(1))
    assert number_of(first.hold()) == 1
    second = subscribe()
    publisher.send(payload(2))
    assert number_of(first.hold()) == number_of(second.hold()) == 2
    assert number_of(first.recv(0) if not publisher.send(payload(3)) else b"") == 3
    assert number_of(second.recv()) == 3


def test_the_word_that_admits_a_reader_has_the_pool_with_it(publish, subscribe, path):
    """The reader may find a message in a block before the writer can say another word."""
    publisher = publish(blocks=BLOCKS, keep="newest", min_readers=0)
    publisher.send(payload(1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
        guest.connect(str(path))
        guest.send(b"ringbell subscriber 4")
        guest.recv(100)
        guest.send(b"ringbell welcome")
        text, came, _, _ = socket.recv_fds(guest, 100, 9)
        for descriptor in came:
            os.close(descriptor)
    assert (text, len(came)) == (b"ringbell yours", 1)
    assert number_of(subscribe().latest()) == 1


def test_what_is_no_pool_is_refused(publish, path, monkeypatch):
    publisher = publish(min_readers=0)
    accept = SubscriberMeeting._accept_offer

    def accept_and_spoil(meeting, pools, owned):
        accept(meeting, owned)
        del owned.wake_fds[2:]
        owned.wake_fds += owned.wake_fds[:1] * pools

    for pools, complaint in [(1, "something else than"), (2, "more than one")]:
        spoilt = partialmethod(accept_and_spoil, pools)
        monkeypatch.setattr(SubscriberMeeting, "_accept_offer", spoilt)
        with pytest.raises(ringbell.LayoutMismatch, match=complaint):
            ringbell.subscribe(path, timeout=60)
    wait_for_readers(publisher, 0)


def test_objects_in_blocks(publish, subscribe):
    publisher = publish(blocks=BLOCKS, codec="pickle")
    one, other = subscribe(codec="pickle"), subscribe(codec="pickle")
    publisher.send({"a": payload(5)})
    got = one.hold()["a"]
    assert not got.flags.writeable
    assert not got.flags.owndata
    assert (got == 5).all()
    assert (other.latest()["a"] == 5).all()


def test_what_is_written_in_place_lies_in_a_block(publish, subscribe):
    publisher = publish(blocks=BLOCKS)
    subscriber = subscribe()
    with publisher.reserve(SIZE) as frame:
        frame.payload[:] = bytes([3]) * SIZE
    assert number_of(subscriber.hold()) == 3
    assert publisher.stats().driver.blocks.sent == 1


@every_keep
def test_holders_that_are_killed_at_random_lose_no_block(publish, start, keep):
    publisher = publish(blocks=BLOCKS, keep=keep, min_readers=0)
    readers = []
    for number in range(40):
        if number % 8 == 0:
            readers.append(start("subscriber"))
            readers[-1].run("subscriber.peer_pid")
            readers[-1].run("held = []")
        if number % 8 == 5:
            readers.pop(0).kill()
        publisher.send(payload(number), timeout=60)
        for reader in readers:
            reader.run("held.append(subscriber.hold())")
            reader.run("held.__delitem__(slice(0, -1))")
    for reader in readers:
        reader.kill()
    wait_for_readers(publisher, 0)
    for number in range(ROOM):
        publisher.send(payload(number), timeout=60)


def test_ten_thousand_blocks_leave_memory_and_descriptors_as_they_were(publish, subscribe):
    publisher = publish(blocks=BLOCKS)
    readers = [subscribe() for _ in range(2)]
    publisher.send(payload(0))
    assert [number_of(reader.hold()) for reader in readers] == [0, 0]
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5000):
        publisher.send(payload(number), timeout=60)
        for reader in readers:
            assert reader.hold()[0] == number % 251
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert publisher.stats().driver.blocks.lent <= 2


def test_records_have_no_blocks(path):
    with pytest.raises(ValueError, match="blocks are for messages"):
        ringbell.publish(path, "i4", blocks=BLOCKS)


def test_what_is_held_in_a_block_is_whole_after_its_block_closed_the_subscriber(publish, subscribe):
    blocks = ringbell.Blocks(pool=1 << 20, least=1000)
    publisher = publish(keep="newest", ring_size=4096, blocks=blocks)
    subscriber = subscribe()
    publisher.send(b"x" * 5000)
    with subscriber.borrow() as view:
        for _ in range(200):
            publisher.send(b"in the ring")
        subscriber.close()
        assert bytes(view) == b"x" * 5000
