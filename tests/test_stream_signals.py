# SPDX-License-Identifier: MIT
"""A stream, threads and signals."""

import signal

import pytest
from kinds import KINDS, PUT, TAKE, put, take_all
from processes import PeerError, wait_until, wait_until_blocked, wait_until_listening

import ringbell


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_thread_in_the_same_end_gets_an_error(start, path, kind):
    peer = start("nothing")
    peer.run("import threading")
    # A thread waits in the producer; this side does not wait.
    peer.begin(f"producer = ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r})")
    with ringbell.consume(path) as consumer:
        peer.reply()
        fill = "[producer.send(b'x') for _ in range(65)]"
        if kind == "records":
            fill = "producer.write(range(1025))"
        peer.run(f"thread = threading.Thread(target=lambda: {fill}); thread.start()")
        wait_until(lambda: consumer.stats().driver.producer.sleeps >= 1)
        for use in (PUT[kind] % 1, "producer.reserve(1)"):
            with pytest.raises(PeerError, match="RuntimeError: .*one thread at a time"):
                peer.run(use)
        consumer.borrow()
        consumer.borrow()
        peer.run("thread.join()")
        peer.run("producer.close()")
    peer.begin("consumer = ringbell.consume(path)")
    with ringbell.produce(path, **KINDS[kind]) as producer:
        peer.reply()
        peer.run("thread = threading.Thread(target=lambda: consumer.borrow()); thread.start()")
        wait_until(lambda: producer.stats().device.consumer.sleeps >= 1)
        other = "consumer.recv()" if kind == "messages" else "consumer.read()"
        for use in ("consumer.borrow()", "next(iter(consumer))", other):
            with pytest.raises(PeerError, match="RuntimeError: .*one thread at a time"):
                peer.run(use)
        put(producer, kind, 1)
        peer.run("thread.join()")


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_ctrl_c_ends_meeting(start, produce, consume, path, side):
    peer = start("nothing")
    meet = {"producer": "produce", "consumer": "consume"}[side]
    for _ in range(3):
        peer.begin(f"{side} = ringbell.{meet}(path)")
        wait_until_listening(path)
        wait_until(lambda: peer.state() == "S")
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        assert not list(path.parent.iterdir())
    peer.begin(f"{side} = ringbell.{meet}(path)")
    assert (consume() if side == "producer" else produce()).peer_pid == peer.pid
    peer.reply()


INTERRUPTED_FOR_ROOM = {
    "messages": [
        "while True: producer.send(b'%d' % sent); sent += 1",
        "while True: sent += producer.send_many([b'%d' % i for i in range(sent, sent + 5)])",
        "producer.send(b'%d' % sent * 5000)",
        "while True:\n with producer.reserve(4) as frame: frame.payload[:] = b'%4d' % sent\n"
        " sent += 1",
    ],
    "records": [
        "while True: producer.write(sent); sent += 1",
        "while True:\n with producer.reserve(8) as rows: rows[:] = range(sent, sent + 8)\n"
        " sent += 8",
    ],
}


@pytest.mark.parametrize("polling", ["adaptive", "always"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_ends_a_wait_for_room_and_loses_nothing(start, path, kind, polling):
    peer = start("nothing")
    for code in INTERRUPTED_FOR_ROOM[kind]:
        peer.begin(
            f"sent = 0; producer = ringbell.produce(path, ring_size=4096, polling={polling!r}, "
            f"**{KINDS[kind]!r})"
        )
        with ringbell.consume(path) as consumer:
            peer.reply()
            peer.begin(code)
            wait_until_blocked(consumer, "driver", polling)
            peer.signal(signal.SIGINT)
            with pytest.raises(PeerError, match="KeyboardInterrupt"):
                peer.reply()
            sent = int(peer.run("sent"))
            # What send_many or write sent before it was interrupted has arrived as well.
            taken = take_all(consumer, kind)
            assert taken == list(range(len(taken)))
            assert sent <= len(taken) <= sent + 5
            peer.run(PUT[kind] % 1000)
            assert TAKE[kind](consumer) == 1000
            peer.run("producer.close()")


INTERRUPTED_FOR_DATA = {
    "messages": [
        "int(consumer.recv())",
        "int(consumer.recv_many()[0])",
        "int(bytes(consumer.borrow()))",
        "int(bytes(next(iter(consumer))))",
    ],
    "records": [
        "int(consumer.read()[0])",
        "int(consumer.borrow()[0])",
        "int(next(iter(consumer))[0])",
    ],
}


@pytest.mark.parametrize("polling", ["adaptive", "always"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_ends_a_wait_for_data_and_loses_nothing(start, produce, kind, polling):
    peer = start("consumer", polling=polling)
    producer = produce(**KINDS[kind])
    for number, code in enumerate(INTERRUPTED_FOR_DATA[kind]):
        before = producer.stats().device.consumer
        peer.begin(code)
        wait_until(lambda b=before: waits_again(producer, b, polling))
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        put(producer, kind, number)
        assert peer.run(code) == str(number)


def waits_again(producer, before, polling):
    now = producer.stats().device.consumer
    if polling == "always":
        return now.times_empty > before.times_empty
    return now.sleeps > before.sleeps
