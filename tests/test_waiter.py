# SPDX-License-Identifier: MIT
"""One thread that waits for many ends at once: what is ready, and whose turn it is."""

import os
import resource
import threading
from contextlib import ExitStack, suppress

import pytest
from processes import wait_until
from waiting import Listener, sleeps

import ringbell


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_a_waiter_gives_the_members_that_have_something(pairs, polling):
    drivers, devices = pairs(3)
    with ringbell.Waiter(devices, polling=polling) as waiter:
        assert len(waiter) == 3
        assert waiter.wait(0) == []
        assert waiter.wait(0.001) == []
        drivers[1].submit(b"x")
        assert waiter.wait() == [devices[1]]
        drivers[0].submit(b"y")
        assert set(waiter.wait(0)) == {devices[0], devices[1]}
        for device in devices[:2]:
            device.take().complete(b"")
        assert waiter.wait(0) == []
        assert ringbell.wait(drivers, 0) == drivers[:2]
        assert ringbell.wait(drivers[2:], 0) == []


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_what_came_before_a_wait_is_found_however_short_the_wait_is(pairs, polling):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device], polling=polling) as waiter:
        for timeout in (0, 1e-9, 0.0, 1e-6) * 50:
            assert waiter.wait(1e-4) == []  # it has armed, and has just asked the kernel
            driver.submit(b"x")
            assert waiter.wait(timeout) == [device]
            device.take().complete(b"")
            driver.reap()


def test_streams_and_both_kinds_of_rings_are_waited_for(path, tmp_path):
    with ExitStack() as guard:
        ends = []
        for number, dtype in enumerate((None, "i8")):
            name = tmp_path / f"{number}.sock"
            consumed = []
            thread = threading.Thread(
                target=lambda name=name, consumed=consumed: consumed.append(ringbell.consume(name))
            )
            thread.start()
            producer = guard.enter_context(ringbell.produce(name, dtype))
            thread.join()
            ends.append((producer, guard.enter_context(consumed[0])))
        (messages, lines), (records, rows) = ends
        with ringbell.Waiter([lines, rows]) as waiter:
            messages.send(b"line")
            assert waiter.wait() == [lines]
            assert lines.recv() == b"line"
            records.write([1, 2, 3])
            assert waiter.wait() == [rows]
            for taken in rows:
                assert list(taken) == [1, 2, 3]
                break
            assert waiter.wait(0) == []
            messages.close()
            records.close()
            assert set(waiter.wait()) | set(waiter.wait()) == {lines, rows}
            with pytest.raises(ringbell.EndOfStream):
                lines.recv()


def test_completions_set_aside_are_something_to_take(pairs):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([driver]) as waiter:
        first = driver.submit(b"first")
        thread = threading.Thread(
            target=lambda: [device.take().complete(b"answer") for _ in range(2)]
        )
        thread.start()
        assert driver.call(b"second") == b"answer"
        thread.join()
        for _ in range(3):
            assert waiter.wait() == [driver]
        assert driver.reap().token == first
        assert waiter.wait(0) == []


def test_what_has_a_fileno_is_waited_for(sockets, pairs):
    one, other = sockets()
    _, (device,) = pairs(1)
    member = Listener(one.fileno())
    with ringbell.Waiter([member, device]) as waiter:
        assert waiter.wait(0) == []
        other.send(b"x")
        for _ in range(3):
            assert waiter.wait() == [member]
        one.recv(1)
        assert waiter.wait(0.001) == []
        other.close()
        assert waiter.wait() == [member]
        waiter.remove(member)


def test_a_listener_is_ready_when_somebody_connects(start, path):
    with ringbell.listen(path) as listener, ringbell.Waiter([listener]) as waiter:
        assert waiter.wait(0) == []
        peer = start("driver", wait=False)
        accepted = None
        while not accepted:
            assert waiter.wait() == [listener]
            with suppress(TimeoutError):
                accepted = listener.accept(timeout=0)
        with accepted:
            assert peer.reply() == "ready"
            waiter.add(accepted)
            peer.run("driver.submit(b'x')")
            assert accepted in waiter.wait()


def test_an_idle_member_is_in_the_list_while_others_are_always_ready(pairs):
    drivers, devices = pairs(3)
    for driver in drivers[:2]:
        driver.submit(b"never taken")
    with ringbell.Waiter(devices) as waiter:
        for _ in range(200):  # the third one has cooled
            assert waiter.wait() == devices[:2]
        drivers[2].submit(b"x")
        wait_until(lambda: devices[2] in waiter.wait())


def test_those_that_are_always_ready_come_in_turn(sockets):
    """A list has 256 members at most."""
    with ExitStack() as guard:
        members = []
        for _ in range(300):
            member = Listener(os.eventfd(1, os.EFD_CLOEXEC))
            guard.callback(os.close, member.fd)
            members.append(member)
        with ringbell.Waiter(members) as waiter:
            counts = dict.fromkeys(members, 0)
            for _ in range(200):
                for member in waiter.wait():
                    counts[member] += 1
        assert min(counts.values()) > 0
        assert max(counts.values()) <= 200


def test_300_idle_channels_and_a_busy_one(start, path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as guard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        guard.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        listener = guard.enter_context(ringbell.listen(path))
        peer = start("nothing")
        peer.begin("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
drivers = [ringbell.connect(path, ring_size=4096) for _ in range(301)]
""")
        devices = [guard.enter_context(listener.accept()) for _ in range(301)]
        peer.reply()
        with ringbell.Waiter(devices) as waiter:
            assert waiter.wait(0.001) == []
            before = sleeps(waiter)
            peer.begin("[drivers[150].call(b'%d' % i) for i in range(2000)] == [b''] * 2000")
            for _ in range(2000):
                assert waiter.wait() == [devices[150]]
                devices[150].take().complete(b"")
            assert peer.reply() == "True"
            assert sleeps(waiter) - before <= 2000
            peer.run("for driver in drivers: driver.submit(b'x')")
            ready = set()
            while len(ready) < 301:
                some = waiter.wait()
                assert 0 < len(some) <= 256
                ready |= set(some)
                for device in some:
                    device.take().complete(b"")
            assert waiter.wait(0) == []
