# SPDX-License-Identifier: MIT
"""Waiting for a pipe: poll, descriptors, threads and signals. Both ends are in this process."""

import asyncio
import decimal
import math
import os
import selectors
import signal
import threading
from multiprocessing.connection import wait

import numpy as np
import pytest
from processes import interruption, wait_until

import ringbell

RING = 4096


def test_poll_looks_and_takes_nothing(pipe):
    one, other = pipe()
    for used in (False, True):
        for timeout in (0, -1, 0.0, 0.001, np.int64(-1), -math.inf):
            assert other.poll(timeout) is False
        one.send(1)
        assert [other.poll(), other.poll(5), other.poll(None)] == [True] * 3
        assert other.recv() == 1
        for wrong in ("1", [], 1j, math.nan, decimal.Decimal("nan"), np.arange(2.0)):
            with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
                other.poll(wrong)
        assert (other.poll(), used) == (False, used)
    one.close()
    assert other.poll() is True
    assert other.poll(None) is True


def test_poll_sees_the_end_of_a_pipe_that_nobody_used(pipe):
    one, other = pipe()
    other.send(1)
    assert not other.poll()
    one.close()
    assert other.poll()


def test_wait_gives_exactly_those_with_something_to_take(pipe):
    pairs = [pipe() for _ in range(3)]
    readers = [reader for _, reader in pairs]
    assert wait(readers, 0) == []
    for _ in range(3):
        for writer, reader in pairs:
            for count in (1, 2, 40):
                for number in range(count):
                    writer.send_bytes(b"%d" % number)
                for number in range(count):
                    assert wait(readers, 0) == [reader]
                    assert reader.recv_bytes() == b"%d" % number
                assert wait(readers, 0) == []
    for writer, reader in pairs:
        writer.close()
        assert wait([reader], 0) == [reader]


@pytest.mark.parametrize("used", [False, True])
def test_a_selector_that_knows_the_descriptor_once_is_exact(pipe, used):
    one, other = pipe()
    if used:
        one.send_bytes(b"before")
        assert other.recv_bytes() == b"before"
    with selectors.DefaultSelector() as selector:
        selector.register(other, selectors.EVENT_READ)
        for length in (1, 5000, 1 << 21, 1):
            assert selector.select(0) == []
            thread = threading.Thread(target=one.send_bytes, args=(b"x" * length,))
            thread.start()
            assert len(selector.select()) == 1
            assert len(other.recv_bytes()) == length
            thread.join()
        assert selector.select(0) == []


def test_an_event_loop_watches_it(pipe):
    one, other = pipe()
    got = []

    async def main():
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def readable():
            got.append(other.recv())
            if got[-1] == 99:
                done.set()

        loop.add_reader(other.fileno(), readable)
        for number in range(100):
            one.send(number)
            await asyncio.sleep(0)
        await done.wait()
        loop.remove_reader(other.fileno())

    asyncio.run(main())
    assert got == list(range(100))


def test_ringbell_waits_for_it_too(pipe):
    one, other = pipe()
    assert ringbell.wait([other], 0) == []
    one.send(1)
    assert ringbell.wait([one, other], 5) == [other]


# ---- threads and signals ----


def test_one_thread_sends_while_another_receives(pipe):
    one, other = pipe(ring_size=RING)

    def send(connection):
        for number in range(2000):
            connection.send(number)

    threads = [threading.Thread(target=send, args=(end,)) for end in (one, other)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        one.recv()
    assert [other.recv() for _ in range(2000)] == list(range(2000))
    for thread in threads:
        thread.join()


def blocked_receiver(connection, found):
    def receive():
        try:
            connection.recv()
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    wait_until(lambda: connection._channel and sleeps(connection._channel.stats()))
    return thread


def sleeps(stats):
    return stats.driver.consumer.sleeps + stats.device.consumer.sleeps


def test_a_second_thread_that_receives_gets_an_error(pipe):
    one, other = pipe()
    thread = blocked_receiver(other, [])
    with pytest.raises(RuntimeError, match="one thread at a time"):
        other.recv()
    one.send(None)
    thread.join()


def test_another_thread_may_close(pipe):
    _, other = pipe()
    found = []
    thread = blocked_receiver(other, found)
    other.close()
    thread.join()
    assert [str(error) for error in found] == ["handle is closed"]


@pytest.mark.parametrize("watched", [False, True])
def test_an_interrupt_at_any_place_loses_no_message(pipe, watched):
    one, other = pipe()
    one.send_bytes(b"0")
    assert other.recv_bytes() == b"0"
    if watched:
        other.fileno()
    taken, sent = [], 0
    for place in range(1, 20):
        for _ in range(2):
            sent += 1
            one.send_bytes(b"%d" % sent)
        with interruption(place) as step:
            taken.append(int(other.recv_bytes()))
        if not step.happened:
            break
    assert place > 1
    while other.poll():
        taken.append(int(other.recv_bytes()))
    assert taken == list(range(1, sent + 1))
    assert not watched or wait([other], 0) == []


@pytest.mark.parametrize("blocks", [None, ringbell.Blocks()])
@pytest.mark.parametrize("use", ["send", "receive", "receive, watched"])
def test_an_interrupt_at_any_place_of_the_first_use_leaves_the_end_usable(pipe, use, blocks):
    for place in range(1, 200):
        one, other = pipe(blocks=blocks)
        other.send_bytes(b"hello")
        if use == "receive, watched":
            one.fileno()  # it has to be told what is watched
        with interruption(place) as step:
            if use == "send":
                one.send_bytes(b"lost if it was interrupted")
            else:
                assert one.recv_bytes() == b"hello"
        if not step.happened:
            break
        one.send_bytes(b"works")
        while other.recv_bytes() != b"works":
            pass
        other.send_bytes(b"this, too")
        while one.recv_bytes() != b"this, too":
            pass
        one.close()
        with pytest.raises(EOFError):
            other.recv_bytes()
        other.close()
    assert place > 20


def test_a_signal_handler_ends_a_wait(pipe):
    one, other = pipe()

    def interrupt(*_):
        raise InterruptedError("by the handler")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for call in (other.recv, lambda: other.poll(None)):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(InterruptedError):
                call()
    finally:
        signal.signal(signal.SIGUSR1, before)
        wait_until(lambda: threading.active_count() == 1)
    one.send("after")
    assert other.recv() == "after"
