# SPDX-License-Identifier: MIT
"""Guests that connect and are no partner: they delay nobody, and end nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from guests import guest, meet
from processes import wait_until, wait_until_listening

import ringbell
from ringbell.channel.descriptors import Descriptors
from ringbell.meeting import datagrams, handshake, segment


@contextlib.contextmanager
def segment_descriptors():
    with segment.create(4096) as made, Descriptors(socket.socket()) as owned:
        yield [made.descriptor, *handshake.make_wake_fds(owned)]


def listening(start, path, who):
    """Start a process that waits for a partner: `serve`, or one side of a stream."""
    peer = start(who, **({"handler": "upper"} if who == "serve" else {}))
    wait_until_listening(path)
    return peer


ODD = {
    "silent": [],
    "empty": [b""],
    "garbage": [b"GET / HTTP/1.1\r\n\r\n"],
    "long": [b"x" * 5000],
    "half": [b"ringbell driv"],
    "old version": [b"ringbell driver 3"],
    "another version": [b"ringbell consumer 5"],
    "a driver that brings nothing": [b"ringbell driver 4"],
    "a producer that brings nothing": [b"ringbell producer 4"],
    "welcome": [b"ringbell welcome"],
    "refused": [b"ringbell refused because"],
    "failed": [b"ringbell failed 24 because"],
    "a silent consumer": [b"ringbell consumer 4"],
    "a consumer that refuses": [b"ringbell consumer 4", b"ringbell refused because"],
    "a consumer that fails": [b"ringbell consumer 4", b"ringbell failed 24 because"],
    "a consumer that says it twice": [b"ringbell consumer 4", b"ringbell consumer 4"],
}


@pytest.mark.parametrize("who", ["serve", "producer", "consumer"])
def test_odd_guests_hold_nobody_up_and_end_nothing(start, path, who):
    listening(start, path, who)
    with contextlib.ExitStack() as guests, segment_descriptors() as descriptors:
        reader, writer = os.pipe()
        guests.callback(os.close, reader)
        guests.callback(os.close, writer)
        for texts in ODD.values():
            with guest(path, *texts):
                pass  # this guest hangs up at once
            guests.enter_context(guest(path, *texts))
        for hello in (b"ringbell driver 4", b"ringbell producer 4", b"ringbell consumer 4"):
            for sent in (descriptors[:2], descriptors * 3, [reader] * 3, [descriptors[0]] * 3):
                guests.enter_context(guest(path, hello, descriptors=sent))
        meet(path, who)


@pytest.mark.parametrize("who", ["serve", "producer", "consumer"])
def test_more_silent_guests_than_there_is_room_for(start, path, who):
    peer = listening(start, path, who)
    text = [b"ringbell consumer 4"] if who == "producer" else []
    with contextlib.ExitStack() as guests:
        for _ in range(300):
            guests.enter_context(guest(path, *text))
        if who == "serve":
            # It has let all of them in, and has sent the first ones away.
            wait_until(lambda: len(os.listdir(f"/proc/{peer.pid}/fd")) > 90)
            assert len(os.listdir(f"/proc/{peer.pid}/fd")) < 130
        meet(path, who)


FLOOD = """
import random, socket, sys
path, count = sys.argv[1], int(sys.argv[2])
texts = [b"", b"garbage", b"ringbell driver 3", b"ringbell consumer 4", b"ringbell driver 4"]
held, rng = [], random.Random(1)
for i in range(count):
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(path)
    try:
        if i % 2:
            control.send(rng.choice(texts))
    except OSError:
        pass
    held.append(control)
    if len(held) > 500:
        held.pop(rng.randrange(500)).close()
"""


def test_honest_ones_get_in_while_others_storm(start, path):
    listening(start, path, "serve")
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(path), "2000"]) as flood:
        try:
            met = 0
            while flood.poll() is None or not met:
                meet(path, "serve")
                met += 1
            assert flood.wait() == 0
        finally:
            flood.kill()
    meet(path, "serve")


def test_the_command_tells_of_each_kind_of_guest_once(path):
    with subprocess.Popen(
        [sys.executable, "-m", "ringbell", "serve", str(path), "builtins:bytes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("listening on")
            for _ in range(20):
                with guest(path):
                    pass  # hangs up at once
                with guest(path, b"garbage") as control:
                    assert control.recv(100).startswith(b"ringbell refused")
        finally:
            process.terminate()
        shown = process.stderr.read()
    assert shown.count("garbage") == shown.count("guest") == 1


def test_a_consumer_that_says_nothing_more_does_not_get_the_stream(start, path):
    producer = listening(start, path, "producer")
    with offered(path) as silent:
        with ringbell.consume(path) as consumer:
            producer.run("producer.send(b'to the one that took it')")
            assert consumer.recv() == b"to the one that took it"
        assert silent.recv(100) == b""


def test_a_consumer_that_goes_before_it_is_told_that_the_stream_is_its_own(start, path):
    """The descriptors of the offer have gone with it, and another guest has that offer, too."""
    producer = listening(start, path, "producer")
    with contextlib.ExitStack() as guests:
        gone, slow = (guests.enter_context(offered(path)) for _ in range(2))
        producer.stop()
        for consumer in (gone, slow):
            consumer.send(b"ringbell welcome")
        gone.close()
        producer.signal(signal.SIGCONT)
        with pytest.raises(ConnectionResetError):
            slow.recv(100)
    with ringbell.consume(path) as consumer:
        producer.run("producer.send(b'to the one that stays')")
        assert consumer.recv() == b"to the one that stays"


@contextlib.contextmanager
def offered(path):
    """A consumer that has the producer's offer, and has not answered it."""
    with guest(path, b"ringbell consumer 4") as control:
        hello, descriptors, _, _ = socket.recv_fds(control, 100, 10)
        for descriptor in descriptors:
            os.close(descriptor)
        assert hello == b"ringbell producer 4"
        yield control


@pytest.mark.parametrize(("side", "other"), [("produce", "consume"), ("consume", "produce")])
def test_a_stream_of_other_records_is_still_an_error_for_both(path, side, other):
    errors = []

    def first():
        with pytest.raises(ringbell.LayoutMismatch, match="not records of") as caught:
            getattr(ringbell, side)(path, "f8")
        errors.append(caught.value)

    thread = threading.Thread(target=first)
    thread.start()
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match="not records of"):
        getattr(ringbell, other)(path, "i4")
    thread.join()
    assert errors


def test_a_failure_of_the_other_side_is_told_as_its_own(start, path):
    listening(start, path, "serve")
    with segment_descriptors() as (memory, *others):
        cannot_be_written = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
        try:
            sent = [cannot_be_written, *others]
            with guest(path, b"ringbell driver 4", descriptors=sent) as driver:
                assert driver.recv(1000).startswith(
                    b"ringbell failed 13 the device cannot open the channel: cannot map the segment"
                )
        finally:
            os.close(cannot_be_written)
    meet(path, "serve")


def test_a_peer_without_a_number_is_called_what_it_is(pair):
    driver, device = pair()
    driver._channel.peer_pid = device._channel.peer_pid = 0
    assert "a process of another PID namespace" in repr(driver)
    assert "process 0" not in repr(driver) + repr(device)
    device.close()
    with pytest.raises(ringbell.EndOfStream, match="a process of another PID namespace"):
        driver.doorbell.send(b"x")


def test_a_reason_is_heard_from_one_who_closed_before_it_heard_us():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"hello")
        theirs.send(b"ringbell refused: no")
        theirs.close()
        ours.setblocking(False)
        assert datagrams.hear(Descriptors(ours)) == b"ringbell refused: no"
        assert datagrams.hear(Descriptors(ours)) == b""


def test_a_silent_guest_is_forgotten_by_an_accept_that_does_not_wait(path, monkeypatch):
    monkeypatch.setattr("ringbell.meeting.reception._FIRST_WORDS", 0.01)
    with ringbell.listen(path) as listener, guest(path) as silent:
        while listener._silence_over() is None:
            with pytest.raises(TimeoutError):
                listener.accept(timeout=0)
        wait_until(lambda: time.monotonic() > listener._silence_over())
        with pytest.raises(TimeoutError):
            listener.accept(timeout=0)
        assert b"said nothing" in silent.recv(1000)
