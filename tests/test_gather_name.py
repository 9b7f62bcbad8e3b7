# SPDX-License-Identifier: MIT
"""The name of a gather: kept, in use, handed over, and who connects to it."""

import errno
import os
import resource
import signal
import socket
import time
from contextlib import suppress

import pytest
from gathered import meet, take_some
from processes import PeerError, wait_until_listening

import ringbell
from ringbell.meeting import reception


def test_a_gather_keeps_its_name(gather, start, path):
    logs = gather()
    peer = start("nothing")
    for other in ("gather", "consume"):
        peer.begin(f"ringbell.{other}(path)")
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.3)
        with pytest.raises(PeerError, match="OSError: .*another consumer"):
            peer.reply()
    peer.begin("ringbell.connect(path)")
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=0.3)
    with pytest.raises(PeerError, match="LayoutMismatch"):
        peer.reply()
    assert logs.path == path
    logs.close()
    assert not list(path.parent.iterdir()), "the name is free again"


def test_a_gather_of_a_name_that_is_in_use_is_refused(start, path):
    consumer = start("consumer")
    wait_until_listening(path)
    with pytest.raises(OSError, match="another consumer") as caught:
        ringbell.gather(path)
    assert caught.value.errno == errno.EADDRINUSE
    consumer.kill()
    device = start("nothing")
    device.run("listener = ringbell.listen(path)")
    device.begin("listener.accept()")
    with pytest.raises(ringbell.LayoutMismatch):
        ringbell.gather(path)


def test_a_producer_that_does_not_hand_its_name_over_is_a_timeout(start, path):
    peer = start("producer")
    wait_until_listening(path)
    peer.stop()
    with pytest.raises(TimeoutError, match="does not answer"):
        ringbell.gather(path, timeout=0.1)
    peer.signal(signal.SIGCONT)
    with ringbell.gather(path) as logs:
        peer.run("producer.send(b'1')")
        assert take_some(logs, 1) == [(peer.pid, 1)]


def test_one_who_connects_and_says_nothing_takes_no_time(gather, producers, path, monkeypatch):
    monkeypatch.setattr(reception, "_FIRST_WORDS", 0.5)
    logs = gather()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(path))
        (peer,) = producers(1)
        meet(logs, 1)
        used = time.process_time()
        silent.setblocking(False)
        told = b""
        while not told:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.2)
            with suppress(BlockingIOError):
                told = silent.recv(1000)
        assert time.process_time() - used < 0.3
        assert b"said nothing" in told
    peer.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(peer.pid, 1)]


def test_a_lack_of_descriptors_refuses_one_and_harms_nobody(start, path):
    peer, first, other = start("nothing"), start("nothing"), start("nothing")
    peer.run("logs = ringbell.gather(path)")
    first.begin("producer = ringbell.produce(path)")
    peer.run("while not logs.producers:\n try: logs.take(0.01)\n except ringbell.RingEmpty: pass")
    first.reply()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{peer.pid}/fd")))
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
    peer.run(
        "files = []\nwhile True:\n try: files.append(open('/dev/null'))\n except OSError: break"
    )
    other.begin("producer = ringbell.produce(path)")
    peer.begin("bytes(logs.take()[1])")
    with pytest.raises(PeerError, match="no file descriptor left"):
        other.reply()
    first.run("producer.send(b'1')")
    assert peer.reply() == "b'1'"
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, (1000, hard))
    other.begin("producer = ringbell.produce(path); producer.send(b'2')")
    assert peer.run("bytes(logs.take()[1])") == "b'2'"
