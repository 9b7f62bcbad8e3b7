# SPDX-License-Identifier: MIT
"""One thread that waits for many ends at once."""

import errno
import math
import os
import resource
import selectors
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell import Moderation

NEVER = {"polling": "never"}


class Raised(Exception):  # noqa: N818
    pass


class interrupting:  # noqa: N801
    """Raise `Raised` from a signal handler after a while, as long as the block runs."""

    def __init__(self, handler=None):
        self.handler = handler or self.raises

    @staticmethod
    def raises(_number, _frame):
        raise Raised

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class Listener:
    """Anything with a fileno()."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def sleeps(waiter):
    return waiter._counts()[0]


def wait_until_asleep(waiter, since=0):
    wait_until(lambda: sleeps(waiter) > since)


@pytest.fixture
def pairs(path):
    """Make many pairs: drivers and devices, all in this process."""
    with ExitStack() as guard:

        def make(count, **options):
            drivers, devices = [], []
            with ringbell.listen(path, **options) as listener:
                for _ in range(count):
                    thread = threading.Thread(target=lambda: devices.append(listener.accept()))
                    thread.start()
                    drivers.append(guard.enter_context(ringbell.connect(path, **options)))
                    thread.join()
                    guard.enter_context(devices[-1])
            return drivers, devices

        yield make


@pytest.fixture
def sockets():
    with ExitStack() as guard:
        yield lambda: [guard.enter_context(one) for one in socket.socketpair()]


# ---- what is ready ----


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


# ---- how it ends ----


def test_members_whose_peer_has_gone_are_ready_until_they_are_removed(start, path):
    with ringbell.listen(path, **NEVER) as listener:
        peers, devices = [], []
        for _ in range(2):
            peers.append(start("driver", wait=False, **NEVER))
            devices.append(listener.accept())
            peers[-1].reply()
    with devices[0], devices[1], ringbell.Waiter(devices, **NEVER) as waiter:
        threading.Thread(target=peers[0].kill).start()
        for _ in range(3):
            assert waiter.wait() == [devices[0]]
        with pytest.raises(ringbell.PeerLost):
            devices[0].take()
        waiter.remove(devices[0])
        wait_until(lambda: threading.active_count() == 1)
        peers[1].run("driver.submit(b'last')")
        peers[1].run("driver.close()")
        assert waiter.wait() == [devices[1]]
        devices[1].take().complete(b"")
        assert waiter.wait() == [devices[1]]
        with pytest.raises(ringbell.EndOfStream):
            devices[1].take()


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_a_member_that_another_thread_closes_is_ready(pairs, polling):
    _, devices = pairs(2)
    with ringbell.Waiter(devices, polling=polling) as waiter:
        closer = threading.Timer(0.02, devices[1].close)
        closer.start()
        assert waiter.wait() == [devices[1]]
        closer.join()
        assert waiter.wait() == [devices[1]]
        with pytest.raises(ringbell.ChannelClosed):
            devices[1].take()
        waiter.remove(devices[1])
        assert waiter.wait(0.001) == []


def test_a_member_that_a_signal_handler_closes_is_ready(pairs):
    _, devices = pairs(2)
    with (
        ringbell.Waiter(devices) as waiter,
        interrupting(lambda *_: devices[0].close()),
    ):
        assert waiter.wait() == [devices[0]]


def test_the_peer_of_a_closed_and_removed_member_may_kick_on(pairs):
    """The peer has the same open file, so the kernel would go on to tell of its kicks."""
    (driver,), devices = pairs(1, **NEVER)
    with ringbell.Waiter(devices, **NEVER) as waiter:
        assert waiter.wait(0.001) == []
        devices[0].close()
        assert waiter.wait() == devices
        waiter.remove(devices[0])
        woken = waiter._counts()[2]
        for _ in range(10):
            os.eventfd_write(driver._channel._owned.wake_fds[1].fileno(), 1)
            assert waiter.wait(0.001) == []
        assert waiter._counts()[2] == woken


def test_a_removed_member_is_not_given_and_may_be_added_again(pairs):
    drivers, devices = pairs(2)
    with ringbell.Waiter(devices) as waiter:
        drivers[0].submit(b"x")
        assert waiter.wait() == [devices[0]]
        waiter.remove(devices[0])
        assert waiter.wait(0.001) == []
        assert len(waiter) == 1
        with pytest.raises(KeyError, match="does not wait"):
            waiter.remove(devices[0])
        assert devices[0].take().payload.tobytes() == b"x"
        drivers[0].submit(b"y")
        waiter.add(devices[0])
        assert waiter.wait() == [devices[0]]
    assert devices[0].take().payload.tobytes() == b"y"
    drivers[0].submit(b"z")
    assert ringbell.wait(devices) == [devices[0]]


# ---- what is refused ----


def test_a_closed_waiter_says_so(pairs):
    _, devices = pairs(1)
    waiter = ringbell.Waiter(devices)
    waiter.close()
    waiter.close()
    for use in (waiter.wait, lambda: waiter.add(devices[0]), lambda: waiter.remove(devices[0])):
        with pytest.raises(ringbell.ChannelClosed, match="make another one"):
            use()
    assert len(waiter) == 0


def test_nothing_would_end_a_wait_for_nobody():
    with pytest.raises(RuntimeError, match="add some, or give a timeout"):
        ringbell.wait([])
    assert ringbell.wait([], 0) == []
    assert ringbell.wait([], 0.001) == []


@pytest.mark.parametrize("bad", [math.nan, -1, "1"])
def test_a_timeout_is_a_number_of_seconds(pairs, bad):
    _, devices = pairs(1)
    with pytest.raises((TypeError, ValueError)):
        ringbell.wait(devices, bad)
    assert ringbell.wait(devices, 0) == []


def test_an_end_is_in_one_waiter_once(pairs):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device]) as waiter:
        for same in (device, device.doorbell):
            with pytest.raises(ValueError, match="already"):
                waiter.add(same)
            with pytest.raises(ValueError, match="already"):
                ringbell.Waiter([same])
        driver.submit(b"x")
        assert waiter.wait() == [device]
    assert ringbell.wait([device.doorbell]) == [device.doorbell]


def test_a_producer_has_nothing_to_take(pairs, stream):
    (driver,), _ = pairs(1)
    with ringbell.Waiter() as waiter:
        with pytest.raises(TypeError, match="a producer has nothing to take"):
            waiter.add(driver.doorbell)
        for bad in (None, "x", object()):
            with pytest.raises(TypeError):
                waiter.add(bad)
        with pytest.raises((OSError, ValueError)):
            waiter.add(-1)
        with open(__file__) as file, pytest.raises(OSError, match="plain file"):
            waiter.add(file)
        assert len(waiter) == 0


def test_a_closed_end_is_refused_and_harms_no_other(pairs):
    """The numbers of its descriptors may be those of others by now."""
    _, closed = pairs(1)
    closed[0].close()
    drivers, devices = pairs(4, **NEVER)
    with ringbell.Waiter(devices, **NEVER) as waiter:
        with pytest.raises(ringbell.ChannelClosed):
            waiter.add(closed[0])
        for driver, device in zip(drivers, devices, strict=True):
            assert waiter.wait(0.001) == []
            driver.submit(b"x")
            assert waiter.wait() == [device]
            device.take().complete(b"")


def test_a_descriptor_that_was_closed_too_early_harms_nobody(sockets):
    (one, other), (third, _) = sockets(), sockets()
    with ringbell.Waiter([one]) as waiter:
        number, copy = one.fileno(), os.dup(one.fileno())
        one.close()
        os.dup2(third.fileno(), number)
        try:
            with pytest.raises(ValueError, match="before its descriptor is closed"):
                waiter.add(number)
            waiter.remove(one)
            waiter.add(number)
            other.send(b"the kernel tells of this, because of the copy")
            assert waiter.wait(0.001) == []
            waiter.remove(number)
        finally:
            os.close(number)
            os.close(copy)


def test_a_waiter_is_for_one_thread_at_a_time(pairs):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device], **NEVER) as waiter:
        given = []
        thread = threading.Thread(target=lambda: given.append(waiter.wait()))
        thread.start()
        wait_until_asleep(waiter)
        for use in (
            lambda: waiter.wait(0),
            lambda: waiter.add(driver),
            lambda: waiter.remove(device),
            waiter.close,
        ):
            with pytest.raises(RuntimeError, match="one thread at a time"):
                use()
        driver.submit(b"x")
        thread.join()
        assert given == [[device]]


def test_a_signal_handler_cannot_use_the_waiter_that_it_interrupted(pairs):
    _, (device,) = pairs(1)
    with ringbell.Waiter([device]) as waiter:
        for use in (lambda: waiter.remove(device), waiter.close, lambda: waiter.wait(0)):
            with (
                interrupting(lambda *_, use=use: use()),
                pytest.raises(RuntimeError, match="one thread at a time"),
            ):
                waiter.wait()
        assert len(waiter) == 1


def test_without_a_descriptor_left_a_waiter_is_refused_and_nothing_is_lost(pairs):
    drivers, devices = pairs(2, **NEVER)
    with ringbell.Waiter(devices[:1], **NEVER) as waiter:
        assert waiter.wait(0.001) == []  # it has the pipe for signals now
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        top = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        try:
            with pytest.raises(OSError) as raised:
                while True:
                    held.append(os.dup(0))
            assert raised.value.errno == errno.EMFILE
            with pytest.raises(OSError) as raised:
                ringbell.Waiter()
            assert raised.value.errno == errno.EMFILE
            waiter.add(devices[1])  # which takes none
            drivers[0].submit(b"x")
            assert waiter.wait() == [devices[0]]
            drivers[1].submit(b"x")
            assert set(waiter.wait() + waiter.wait()) == set(devices)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)


def test_entries_come_in_time_though_there_was_no_descriptor_for_the_timer(start, path):
    with ringbell.listen(path, moderation=Moderation(100, 0.001), **NEVER) as listener:
        peer = start("driver", wait=False, **NEVER)
        device = listener.accept()
        peer.reply()
    with device, ringbell.Waiter([device], **NEVER) as waiter:
        assert waiter.wait(0.001) == []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        top = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        try:
            try:
                while True:
                    held.append(os.dup(0))
            except OSError:
                pass
            for _ in range(3):
                peer.begin("driver.submit(b'x')")
                assert waiter.wait() == [device]
                device.take().complete(b"")
                peer.reply()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)


def test_a_forked_child_has_no_part_in_the_waiter(pairs):
    (driver,), (device,) = pairs(1, **NEVER)
    with ringbell.Waiter([device], **NEVER) as waiter:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for use in (waiter.wait, lambda: waiter.add(device), lambda: waiter.remove(device)):
                    with pytest.raises(ringbell.ChannelClosed, match="in this process"):
                        use()
                waiter.close()
                with pytest.raises(ringbell.ChannelClosed):
                    ringbell.Waiter([device])
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert waiter.wait(0.001) == []
        driver.submit(b"x")
        assert waiter.wait() == [device]


def test_a_cycle_with_a_waiter_is_collected():
    import gc
    import weakref

    member = Listener(os.eventfd(0, os.EFD_CLOEXEC))
    fd = member.fd
    member.waiter = ringbell.Waiter([member])
    gone = weakref.ref(member)
    del member
    gc.collect()
    assert gone() is None
    os.close(fd)


def test_a_thousand_opens_and_closes_leave_no_descriptor(pairs):
    drivers, devices = pairs(2)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        with ringbell.Waiter(devices) as waiter:
            if number % 10 == 0:
                drivers[0].submit(b"x")
                assert waiter.wait() == [devices[0]]
                devices[0].take().complete(b"")
    assert len(os.listdir("/proc/self/fd")) == before


# ---- signals ----


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_a_signal_handler_that_raises_ends_a_wait_and_nothing_is_lost(pairs, polling):
    (driver,), (device,) = pairs(1)
    with ringbell.Waiter([device], polling=polling) as waiter:
        for _ in range(3):
            with interrupting(), pytest.raises(Raised):
                waiter.wait()
        driver.submit(b"x")
        assert waiter.wait() == [device]


def test_signals_at_random_moments_lose_nothing(start, path):
    with ringbell.listen(path, **NEVER) as listener:
        peer = start("driver", wait=False, **NEVER)
        device = listener.accept()
        peer.reply()
    waits, taken, raised = [], 0, 0

    def handler(_number, _frame):
        if waits:  # not in the code of the test
            waits.clear()
            raise Raised

    before = signal.signal(signal.SIGALRM, handler)
    with device, ringbell.Waiter([device]) as waiter:
        peer.begin("sum(driver.call(b'%d' % i) == b'%d' % i for i in range(3000))")
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        try:
            while taken < 3000:
                try:
                    waits.append(True)
                    assert waiter.wait() == [device]
                    waits.clear()
                except Raised:
                    raised += 1
                    continue
                request = device.take(timeout=0)
                request.complete(request.payload)
                taken += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert peer.reply() == "3000"
    assert raised


def test_ctrl_c_ends_a_wait(start):
    peer = start("nothing")
    peer.begin("""
import os, threading
waiter = ringbell.Waiter([os.eventfd(0)], polling="never")
def tell():
    while not waiter._counts()[0]:
        time.sleep(0.001)
    print('{"value": "asleep"}', flush=True)
threading.Thread(target=tell).start()
waiter.wait()
""")
    assert peer.reply() == "asleep"
    peer.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        peer.reply()


# ---- kicks that come later ----


def test_moderation_and_coalesce_wake_a_waiter_in_time(start, path):
    moderation = Moderation(3, 0.002)
    with ringbell.listen(path, moderation=moderation, **NEVER) as listener:
        peer = start("driver", wait=False, **NEVER)
        device = listener.accept()
        peer.reply()
    with device, ringbell.Waiter([device], **NEVER) as waiter:
        for count in (1, 2, 3, 5) * 3:
            assert waiter.wait(0.001) == []
            peer.begin(f"for _ in range({count}): driver.submit(b'x')")
            left = count
            while left:
                assert waiter.wait() == [device]
                device.take().complete(b"")
                left -= 1
            peer.reply()
        assert waiter.wait(0.001) == []
        peer.run("for _ in range(33): driver.reap()")
        peer.begin("""
with driver.doorbell.coalesce(max_delay=0.001):
    driver.submit(b"x")
    while True:
        try:
            driver.reap(timeout=0)
            break
        except ringbell.RingEmpty:
            pass
""")
        assert waiter.wait() == [device]
        device.take().complete(b"")
        peer.reply()


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
@pytest.mark.parametrize("before", [True, False])
def test_who_waits_owes_no_kick(start, path, polling, before):
    peer = start("device", **NEVER)
    with ringbell.connect(path) as driver:
        peer.begin("device.take().complete(b'')")
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        if before:
            with driver.doorbell.coalesce(), ringbell.Waiter([driver], polling=polling) as waiter:
                driver.submit(b"x")
                assert waiter.wait() == [driver]
        else:
            with ringbell.Waiter([driver], polling=polling) as waiter:
                assert waiter.wait(0.001) == []
                with driver.doorbell.coalesce():
                    driver.submit(b"x")
                    assert waiter.wait() == [driver]
        peer.reply()


# ---- calls on members between waits ----


@pytest.mark.parametrize("polling", ["never", "adaptive"])
def test_blocking_calls_on_members_between_waits_lose_nothing(start, path, polling):
    with ringbell.listen(path, polling=polling) as listener:
        peers, devices = [], []
        for _ in range(2):
            peers.append(start("driver", wait=False, polling=polling))
            devices.append(listener.accept())
            peers[-1].reply()
    with devices[0], devices[1], ringbell.Waiter(devices, polling=polling) as waiter:
        for round_ in range(200):
            for peer in peers:
                peer.begin("for i in range(4): driver.submit(b'%d' % i)")
            left = dict.fromkeys(devices, 4)
            if round_ % 3 == 0:  # asleep, and less than there is
                devices[0].take(timeout=10).complete(b"")
                left[devices[0]] -= 1
            elif round_ % 3 == 1:  # its time is over
                try:
                    devices[1].take(timeout=0.0001).complete(b"")
                    left[devices[1]] -= 1
                except ringbell.RingEmpty:
                    pass
            while any(left.values()):
                for device in waiter.wait():
                    device.take(timeout=0).complete(b"")
                    left[device] -= 1
            for peer in peers:
                peer.reply()
                peer.run("for i in range(4): driver.reap()")


def test_a_thread_that_waits_for_room_takes_no_kick_from_the_waiter(start, path):
    """Also when it was asleep before the channel was added."""
    with ringbell.listen(path, **NEVER) as listener:
        peer = start("driver", wait=False, ring_size=4096, **NEVER)
        device = listener.accept()
        peer.reply()
    with device:
        with pytest.raises(ringbell.RingFull):
            while True:
                device.interrupt.send(b"x" * 40, timeout=0)
        sent = []

        def send():
            for _ in range(300):
                device.interrupt.send(b"y" * 40)
                sent.append(1)

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: device.stats().device.producer.sleeps)
        for _ in range(300):  # one kick may be for both
            with ringbell.Waiter([device], **NEVER) as waiter:
                peer.begin("driver.doorbell.send(b'x'); driver.interrupt.recv()")
                assert waiter.wait() == [device]
                assert device.doorbell.recv(timeout=0) == b"x"
                peer.reply()
        thread.join()


def test_a_soak_of_sleeps_with_several_producers(start, path):
    with ringbell.listen(path, **NEVER) as listener:
        peers, devices = [], []
        for _ in range(4):
            peers.append(start("driver", wait=False, **NEVER))
            devices.append(listener.accept())
            peers[-1].reply()
    with ExitStack() as guard:
        for device in devices:
            guard.enter_context(device)
        waiter = guard.enter_context(ringbell.Waiter(devices, **NEVER))
        for peer in peers:
            peer.begin("sum(int(driver.call(b'%d' % i)) for i in range(3000)); driver.close()")
        counts, open_ = dict.fromkeys(devices, 0), set(devices)
        while open_:
            for device in waiter.wait():
                try:
                    while True:
                        request = device.take(timeout=0)
                        assert bytes(request.payload) == b"%d" % counts[device]
                        request.complete(request.payload)
                        counts[device] += 1
                except ringbell.RingEmpty:
                    pass
                except ringbell.EndOfStream:
                    waiter.remove(device)
                    open_.remove(device)
        for peer in peers:
            peer.reply()
        assert list(counts.values()) == [3000] * 4


def test_a_waiter_in_a_selector(start, path):
    """Its descriptor is readable when a member may be ready, and no kick is lost."""
    with ringbell.listen(path) as listener:
        peers, devices = [], []
        for _ in range(3):
            peers.append(start("driver", wait=False))
            devices.append(listener.accept())
            peers[-1].reply()
    with ExitStack() as guard:
        for device in devices:
            guard.enter_context(device)
        waiter = guard.enter_context(ringbell.Waiter(devices))
        selector = guard.enter_context(selectors.DefaultSelector())
        selector.register(waiter, selectors.EVENT_READ)
        assert waiter.wait(0) == []
        assert selector.select(0) == []
        for number, peer in enumerate(peers):
            peer.begin(
                f"for i in range(2000):\n time.sleep(0.001 * (i % 97 == {number}))\n"
                " driver.submit(b'%d' % i)"
            )
        counts = dict.fromkeys(devices, 0)
        while sum(counts.values()) < 6000:
            selector.select()
            while ready := waiter.wait(0):
                for device in ready:
                    with suppress(ringbell.RingEmpty):
                        request = device.take(timeout=0)
                        assert bytes(request.payload) == b"%d" % counts[device]
                        request.complete()
                        counts[device] += 1
        assert list(counts.values()) == [2000] * 3
        for peer in peers:
            peer.reply()
    with pytest.raises(ringbell.ChannelClosed):
        waiter.fileno()


def test_a_new_member_makes_the_descriptor_readable(pairs):
    """It has not armed yet, so nobody kicks for what has come already."""
    (driver, other), (device, another) = pairs(2, **NEVER)
    with ringbell.Waiter([device]) as waiter, selectors.DefaultSelector() as selector:
        driver.submit(b"1")
        selector.register(waiter, selectors.EVENT_READ)
        assert selector.select(30)
        assert waiter.wait(0) == [device]
        device.take(timeout=0).complete()
        assert waiter.wait(0) == []
        assert selector.select(0) == []
        other.submit(b"2")
        waiter.add(another)
        assert selector.select(30)
        assert waiter.wait(0) == [another]


def test_max_share_bounds_the_polling_of_a_waiter(pair):
    """With no share at all each wait sleeps at once."""
    driver, device = pair()
    with ringbell.Waiter([device], max_share=0) as waiter:
        waiter.wait(timeout=0.001)
        begun = time.thread_time()
        for _ in range(20):
            waiter.wait(timeout=0.005)
        assert time.thread_time() - begun < 0.05
    with pytest.raises(ValueError, match="max_share is from 0 to 1"):
        ringbell.Waiter(max_share=2)
