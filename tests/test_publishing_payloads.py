# SPDX-License-Identifier: MIT
"""What a publication carries: objects, long messages, files."""

import threading

import numpy as np
import pytest
from processes import wait_until
from published import every_keep, wait_for_readers


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
