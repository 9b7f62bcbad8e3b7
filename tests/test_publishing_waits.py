# SPDX-License-Identifier: MIT
"""Who waits for whom: a writer for its readers, and one that stalls is let go."""

import signal
import threading

import pytest
from processes import PeerError, wait_until
from published import (
    NUMBERED,
    RING,
    ROOM,
    TAKE_ALL,
    every_keep,
    every_kind,
    fill,
    numbers,
    put,
    take,
    take_what_is_there,
    wait_for_readers,
)

import ringbell

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


def test_check_consumer_waits_for_nobody(publish):
    publisher = publish(min_readers=0)
    publisher.send(b"x")
    publisher.check_consumer()
    publisher.close()
    with pytest.raises(ringbell.ChannelClosed):
        publisher.check_consumer()


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
