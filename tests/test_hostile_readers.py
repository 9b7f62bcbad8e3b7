# SPDX-License-Identifier: MIT
"""A reader of a publication can do the writer, and the other readers, no harm."""

import mmap
import os
import signal
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest
from memory import READ_INDEX, control_words
from processes import wait_until
from published import wait_for_readers

import ringbell
from ringbell._ffi import ffi, lib
from ringbell.channel.channel import Channel
from ringbell.meeting import segment

DATA_EVENT = 384 // 8
NONSENSE = [1, 63, 2**31, 2**63, 2**64 - 1]


def words_of(subscriber):
    """Give the words of a reader's own page, which it may write."""
    return control_words(subscriber)


@pytest.mark.parametrize("index", NONSENSE[:-1])
def test_a_reader_whose_index_makes_no_sense_is_let_go(publish, subscribe, index):
    publisher = publish("u8", ring_size=4096)
    bad, good = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    publisher.write(np.arange(publisher.capacity, dtype="u8"))
    words_of(bad)[READ_INDEX] = 2**64 - index
    good.read()
    publisher.write([5], timeout=60)
    assert good.read().tolist() == [5]
    wait_for_readers(publisher, 1)
    with pytest.raises(ringbell.LetGo):
        for _ in range(100):
            bad.read(1)
            publisher.write([6])


def test_a_reader_that_goes_back_is_let_go(publish, subscribe):
    publisher = publish("u8", ring_size=4096)
    bad = subscribe()
    wait_for_readers(publisher, 1)
    publisher.write(np.arange(publisher.capacity, dtype="u8"))
    bad.read()
    publisher.write([1])  # looks how far the reader is
    words_of(bad)[READ_INDEX] = 3
    for _ in range(2):
        publisher.write(np.arange(publisher.capacity - 1, dtype="u8"), timeout=60)
    wait_for_readers(publisher, 0)


def test_a_reader_that_only_claims_to_read_hurts_itself(publish, subscribe):
    publisher = publish("u8", ring_size=4096)
    bad, good = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    for start in range(0, 5000, 100):
        publisher.write(np.arange(start, start + 100, dtype="u8"), timeout=60)
        assert good.read().tolist() == list(range(start, start + 100))
        words_of(bad)[READ_INDEX] = start + 100  # without having read anything
    with pytest.raises(ringbell.LetGo):
        bad.read()


@pytest.mark.parametrize("event", NONSENSE)
def test_any_event_only_costs_kicks(publish, subscribe, event):
    publisher = publish()
    bad, good = subscribe(), subscribe()
    for number in range(10):
        words_of(bad)[DATA_EVENT] = event
        publisher.send(b"%d" % number)
        assert good.recv() == b"%d" % number


def test_a_full_eventfd_that_blocks_keeps_nobody(publish, subscribe):
    publisher = publish()
    bad, good = subscribe(polling="never"), subscribe()
    wait_for_readers(publisher, 2)
    mine = bad._channel._descriptors[1]
    os.set_blocking(mine, True)
    os.eventfd_write(mine, 2**64 - 2)
    for number in range(10):
        words_of(bad)[DATA_EVENT] = number
        publisher.send(b"x")
    assert good.recv_many() == [b"x"] * 10


def test_kicks_without_a_reason_do_not_keep_the_writer_from_sleeping(publish, subscribe):
    publisher = publish(min_readers=2, polling="never")
    bad = subscribe()
    for _ in range(50):
        os.eventfd_write(bad._channel._descriptors[0], 1)
        with pytest.raises(ringbell.RingFull):
            publisher.send(b"x", timeout=0.001)


def test_a_reader_that_takes_the_kicks_of_others_only_delays_the_writer(publish, subscribe):
    publisher = publish("u8", ring_size=4096, polling="never")
    bad, slow = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    publisher.write(np.arange(publisher.capacity, dtype="u8"))
    bad.read()
    over = threading.Event()

    def take_kicks():
        while not over.is_set():
            with suppress(BlockingIOError):
                os.eventfd_read(bad._channel._descriptors[0])

    thief = threading.Thread(target=take_kicks)
    writer = threading.Thread(target=publisher.write, args=([7],))
    thief.start()
    writer.start()
    try:
        wait_until(lambda: publisher.stats().driver.producer.sleeps)
        assert len(slow.read()) == publisher.capacity
        writer.join()
    finally:
        over.set()
        thief.join()
    assert slow.read().tolist() == [7]


def test_a_writer_whose_kick_was_taken_looks_again(start, subscribe):
    """The kick is gone before the writer runs: nothing but its own look can end its sleep."""
    writer = start("publisher", dtype="'u8'", ring_size=4096, min_readers=2, polling="never")
    bad, slow = subscribe(), subscribe()
    writer.run("import threading")
    writer.run("publisher.write(list(range(publisher.capacity)))")
    writer.run("thread = threading.Thread(target=publisher.write, args=([7],))")
    bad.read()
    before = slow.stats().driver.producer.sleeps
    writer.run("thread.start()")
    # The first sleep is for a good part of the ring, and short.
    wait_until(lambda: slow.stats().driver.producer.sleeps >= before + 2)
    writer.stop()
    taken = len(slow.read())
    with suppress(BlockingIOError):
        os.eventfd_read(bad._channel._descriptors[0])
    writer.signal(signal.SIGCONT)
    writer.run("thread.join()")
    assert slow.read().tolist() == [7]
    assert taken > 1


def test_a_writer_that_waits_for_readers_takes_no_cpu(publish, subscribe):
    publisher = publish(min_readers=2, polling="never")
    first = subscribe()
    writer = threading.Thread(target=publisher.send, args=(b"x",))
    writer.start()
    wait_until(lambda: publisher.stats().driver.producer.sleeps)
    before = publisher.stats().driver.producer.sleeps
    with pytest.raises(ringbell.RingEmpty):
        first.recv(timeout=0.5)
    assert publisher.stats().driver.producer.sleeps - before < 50
    other = subscribe()
    writer.join()
    assert first.recv() == other.recv() == b"x"


def test_a_reader_that_talks_on_its_socket_is_dropped(publish, subscribe):
    publisher = publish(min_readers=0)
    bad, good = subscribe(), subscribe()
    wait_for_readers(publisher, 2)
    talks = socket.socket(fileno=os.dup(bad._channel._owned.control.fileno()))
    with talks:
        talks.send(b"hello?")
        wait_for_readers(publisher, 1)
    publisher.send(b"x")
    assert good.recv() == b"x"


def test_the_memory_with_the_slots_cannot_be_written_by_a_reader(publish, monkeypatch, path):
    """Not even by one that asks the kernel for it."""
    came = []
    opened = Channel.__init__

    def look(self, *args, **options):
        if options.get("page") is not None:
            came.append(os.dup(options["segment"]))
            came.append(os.dup(options["page"]))
        opened(self, *args, **options)

    monkeypatch.setattr(Channel, "__init__", look)
    publisher = publish()
    with ringbell.subscribe(path) as subscriber:
        memory, page = came
        size = os.fstat(memory).st_size
        with pytest.raises(PermissionError):
            mmap.mmap(memory, size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            os.pwrite(memory, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(page, 0)
        publisher.send(b"x")
        assert subscriber.recv() == b"x"
    for descriptor in came:
        os.close(descriptor)


def test_what_says_it_has_a_page_and_has_none_is_refused(publish):
    """A publisher that sends something else where a control page belongs."""
    publish()
    made = segment.Segment()
    made.make(None, 4096, b"")
    with made, pytest.raises(ringbell.LayoutMismatch, match="control page"):
        segment.check_page(made.descriptor)
    reading, writing = os.pipe()
    try:
        with pytest.raises(ringbell.LayoutMismatch, match="control page"):
            segment.check_page(reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_guests_that_say_welcome_and_go_leave_no_place(publish, subscribe, path):
    publisher = publish(min_readers=0)
    for _ in range(100):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
            guest.connect(str(path))
            guest.send(b"ringbell subscriber 4")
            guest.recv(100)
            guest.send(b"ringbell welcome")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
        guest.connect(str(path))
        guest.send(b"ringbell subscriber 4")
        guest.recv(100)
        guest.send(b"ringbell nonsense")
        assert b"refused" in guest.recv(1000)
    subscriber = subscribe()
    wait_for_readers(publisher, 1)
    publisher.send(b"x")
    assert subscriber.recv() == b"x"


def test_guests_that_say_nothing_keep_nobody_out(publish, subscribe, path):
    publish(min_readers=0)
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for guest in silent:
        guest.connect(str(path))
    assert subscribe(timeout=60).missed == 0
    for guest in silent:
        guest.close()


def test_a_writer_that_writes_nonsense_is_found_out(publish, subscribe):
    """The indices of the writer's page, spoilt by a writer that means it."""
    publisher = publish(keep="newest")
    subscriber = subscribe()
    words = control_words(publisher)
    publisher.send(b"x")
    words[1] = words[2] = 2**63  # newest_index, resume_index
    words[17] = 2**40  # claim_index: all counts as overwritten
    with pytest.raises(ringbell.RingEmpty):
        subscriber.recv(timeout=0.05)
    with pytest.raises(ringbell.RingEmpty):
        subscriber.latest(timeout=0.05)


def test_a_frame_longer_than_what_was_written_is_corrupt(publish, subscribe):
    publisher = publish()
    subscriber = subscribe()
    publisher.send(b"x")
    slots = lib.rb_channel_mine(publisher._channel.handle)
    ffi.buffer(slots, 4)[:] = (2**31).to_bytes(4, "little")
    with pytest.raises(ringbell.CorruptRing):
        subscriber.recv(timeout=0)
    wait_until(lambda: len(publisher.readers) <= 1)
