# SPDX-License-Identifier: MIT
"""One device for many drivers: `serve` and `Server`."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import PeerError, wait_until

import ringbell


def upper(payload):
    return bytes(payload).upper()


class Serving:
    """A server in a thread of this process, until the block ends."""

    def __init__(self, path, handler=upper, **options):
        self.server = ringbell.Server(path, handler, **options)
        self.error = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.server.serve_forever()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.close()


@pytest.fixture
def drivers(path):
    opened = []

    def connect(count, **options):
        new = [ringbell.connect(path, **options) for _ in range(count)]
        opened.extend(new)
        return new

    yield connect
    for driver in opened:
        driver.close()


# ---- many drivers ----


def test_many_drivers_are_served_at_once(start, path, drivers):
    start("serve", handler="upper")
    eight = drivers(8)
    for turn in range(3):
        tokens = [driver.submit(b"%d of %d" % (turn, i)) for i, driver in enumerate(eight)]
        for i, driver in reversed(list(enumerate(eight))):
            answer = driver.reap()
            assert (answer.token, answer.payload) == (tokens[i], b"%d OF %d" % (turn, i))


def test_drivers_come_and_go_and_are_known(path):
    seen = []
    with Serving(
        path,
        arrived=lambda driver: seen.append(("arrived", driver.pid)),
        left=lambda driver: seen.append(("left", driver.requests)),
    ) as serving:
        assert serving.server.drivers == []
        with ringbell.connect(path) as one, ringbell.connect(path) as other:
            assert [one.call(b"a"), other.call(b"b"), other.call(b"c")] == [b"A", b"B", b"C"]
            first, second = serving.server.drivers
            assert first.pid == second.pid == os.getpid()
            assert 0 < first.since <= second.since <= time.time()
            assert (first.requests, second.requests) == (1, 2)
            assert second.device.stats().dwi == other.stats().dwi
        wait_until(lambda: len(seen) == 4)
        assert sorted(seen) == [("arrived", os.getpid())] * 2 + [("left", 1), ("left", 2)]
        assert serving.server.drivers == []
    assert serving.error is None


def test_a_driver_that_floods_does_not_starve_another(start, path):
    """A flood of a thousand requests in flight; the others' answers come between its answers."""
    start("serve", handler="upper")
    floods = [start("driver") for _ in range(3)]
    for flood in floods:
        flood.begin("len([1 for _ in driver.map([b'x'] * 30_000, depth=1000)])")
    with ringbell.connect(path) as driver:
        for _ in range(200):
            assert driver.call(b"y") == b"Y"
    for flood in floods:
        assert flood.reply() == "30000"


def test_a_driver_that_takes_no_answers_holds_nobody_up(start, path):
    """Its answers fill its ring, and the device answers the others meanwhile."""
    start("serve", handler="long_answer")
    with ringbell.connect(path, ring_size=4096) as slow, ringbell.connect(path) as other:
        tokens = [slow.submit(b"%d" % i) for i in range(12)]  # of which three answers fit
        for _ in range(20):
            assert other.call(b"x") == b"x".ljust(1000)
        answers = [slow.reap() for _ in tokens]
        assert [a.token for a in answers] == tokens
        assert [a.payload for a in answers] == [(b"%d" % i).ljust(1000) for i in range(12)]


def test_a_long_answer_to_a_driver_that_takes_none_holds_nobody_up(path):
    """Larger than the ring, so it goes out in pieces whenever there is room."""
    with (
        Serving(path, lambda payload: bytes(payload) * 100_000),
        ringbell.connect(path, ring_size=4096) as slow,
        ringbell.connect(path) as other,
    ):
        token = slow.submit(b"abc")
        for _ in range(20):
            assert other.call(b"x") == b"x" * 100_000
        answer = slow.reap()
        assert (answer.token, answer.payload) == (token, b"abc" * 100_000)
        assert slow.call(b"z") == b"z" * 100_000


def test_a_request_that_comes_in_pieces_holds_nobody_up(start, path):
    start("serve", handler="upper")
    slow = start("driver", ring_size=4096)
    with ringbell.connect(path) as other:
        slow.begin("driver.call(b'x' * 200_000) == b'X' * 200_000")
        for i in range(50):
            if i == 5:
                slow.stop()
            assert other.call(b"y") == b"Y"
        slow.signal(signal.SIGCONT)
        assert slow.reply() == "True"


@pytest.mark.parametrize("moment", ["idle", "asleep in call", "with requests in flight"])
def test_a_driver_that_is_killed_harms_nobody(start, path, moment):
    start("serve", handler="upper")
    with ringbell.connect(path) as other:
        for _ in range(5):
            victim = start("driver", polling="never")
            if moment == "asleep in call":
                victim.begin("[driver.call(b'x') for _ in range(10**9)]")
            elif moment == "with requests in flight":
                victim.run("[driver.submit(b'x') for _ in range(100)]")
            assert other.call(b"a") == b"A"
            victim.kill()
            assert other.call(b"b") == b"B"


def test_a_driver_that_breaks_the_format_harms_nobody(start, path):
    start("serve", handler="upper")
    with ringbell.connect(path) as other:
        odd = ringbell.connect(path)
        page = os.sysconf("SC_PAGESIZE")
        mine = ringbell._ffi.lib.rb_channel_mine(odd._channel.handle)
        ringbell._ffi.ffi.buffer(mine - page, 8)[:] = b"\xff" * 8  # dwi
        os.eventfd_write(odd._channel._descriptors[1], 1)
        for _ in range(100):
            assert other.call(b"a") == b"A"
        with pytest.raises((ringbell.EndOfStream, ringbell.PeerLost)):
            odd.interrupt.recv()
        odd.close()


def test_one_driver_is_answered_while_others_are_idle_and_asleep(start, path, drivers):
    device = start("serve", handler="upper")
    idle = drivers(100, ring_size=4096)
    with ringbell.connect(path) as busy:
        for _ in range(1000):
            assert busy.call(b"x") == b"X"
    wait_until(lambda: idle[0].stats().device.consumer.sleeps)
    before = cpu_time(device.pid)
    time.sleep(0.3)
    assert cpu_time(device.pid) - before < 0.05
    for driver in idle:
        assert driver.call(b"y") == b"Y"


def test_a_guest_that_says_nothing_is_forgotten_and_costs_no_cpu(start, path):
    device = start("serve", handler="upper")
    with (
        ringbell.connect(path) as driver,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest,
    ):
        assert driver.call(b"x") == b"X"
        before = cpu_time(device.pid)
        guest.connect(os.fspath(path))
        assert b"said nothing for too long" in guest.recv(1000)
        time.sleep(0.2)
        assert cpu_time(device.pid) - before < 0.1
        assert driver.call(b"y") == b"Y"


def cpu_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- ending ----


def test_shutdown_keeps_the_drivers_and_serving_goes_on(path):
    server = ringbell.Server(path, upper)
    with server:
        threads = [threading.Thread(target=server.serve_forever) for _ in range(2)]
        threads[0].start()
        with ringbell.connect(path) as driver:
            assert driver.call(b"a") == b"A"
            server.shutdown()
            threads[0].join()
            token = driver.submit(b"b")
            threads[1].start()
            assert driver.reap().token == token
            assert len(server.drivers) == 1
        server.shutdown()
        threads[1].join()


def test_shutdown_from_the_handler_and_from_a_signal_handler(path):
    program = """
import os, signal, sys, ringbell
def handler(payload):
    if payload == b"handler": server.shutdown()
    if payload == b"signal": os.kill(os.getpid(), signal.SIGUSR1)
    return payload
signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
with ringbell.Server(sys.argv[1], handler) as server:
    for _ in range(3):
        print("serves", flush=True)
        server.serve_forever()
print("over", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "serves\n"
            with ringbell.connect(path) as driver:
                for word in (b"handler", b"signal"):
                    assert driver.call(word) == word
                    assert process.stdout.readline() == "serves\n"
                process.send_signal(signal.SIGUSR1)  # while it sleeps
                assert process.stdout.readline() == "over\n"
                with pytest.raises(ringbell.EndOfStream):
                    driver.call(b"x")
        finally:
            process.kill()


def test_close_from_another_thread_ends_it(path):
    serving = Serving(path)
    with serving, ringbell.connect(path) as driver:
        assert driver.call(b"a") == b"A"
        serving.server.close()
        serving.thread.join()
        assert isinstance(serving.error, ringbell.ChannelClosed)
        with pytest.raises(ringbell.EndOfStream):
            driver.call(b"b")
        with pytest.raises(ConnectionRefusedError):
            ringbell.connect(path)
    with pytest.raises(ringbell.ChannelClosed):
        serving.server.serve_forever()
    serving.server.close()


def test_a_handler_that_ends_the_process_is_told_to_those_in_flight_only(path):
    """The others get a polite end."""
    started = threading.Event()

    def handler(payload):
        if payload == b"exit":
            started.wait()
            raise SystemExit(3)
        return payload

    serving = Serving(path, handler)
    with serving.server:
        serving.thread.start()
        one, other, idle = (ringbell.connect(path) for _ in range(3))
        assert idle.call(b"x") == b"x"
        one.submit(b"exit")
        other.submit(b"x")
        started.set()
        serving.thread.join()
        assert isinstance(serving.error, SystemExit)
    with pytest.raises(ringbell.PeerLost):
        one.reap()
    with pytest.raises(ringbell.EndOfStream):
        idle.interrupt.recv()
    for driver in (one, other, idle):
        driver.close()


def test_a_driver_that_the_server_closes_is_told(path):
    with Serving(path) as serving, ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"X"
        (served,) = serving.server.drivers
        served.device.close()
        with pytest.raises(ringbell.EndOfStream):
            driver.call(b"y")
        wait_until(lambda: not serving.server.drivers)
        with ringbell.connect(path) as other:
            assert other.call(b"z") == b"Z"


def test_two_threads_do_not_serve_at_once(path):
    with Serving(path) as serving:
        with ringbell.connect(path) as driver:
            driver.call(b"x")
        with pytest.raises(RuntimeError, match="serves already"):
            serving.server.serve_forever()


def test_an_exception_of_arrived_ends_the_server_and_the_driver_is_told(path):
    def arrived(_):
        raise ValueError("no")

    with Serving(path, arrived=arrived) as serving:
        with ringbell.connect(path) as driver, pytest.raises(ringbell.PeerLost):
            driver.call(b"x")
        serving.thread.join()
        assert isinstance(serving.error, ValueError)


@pytest.mark.parametrize("handler", [5, None])
def test_a_server_without_a_function_is_refused(path, handler):
    with pytest.raises(TypeError, match="the handler is a function"):
        ringbell.Server(path, handler)
    assert not list(path.parent.iterdir())


def test_a_server_is_not_copied(path):
    import copy

    with ringbell.Server(path, upper) as server, pytest.raises(TypeError, match="make another"):
        copy.copy(server)


def test_a_thousand_drivers_leave_no_descriptor(path):
    with Serving(path):
        with ringbell.connect(path) as driver:
            driver.call(b"x")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(1000):
            with ringbell.connect(path, ring_size=4096) as driver:
                assert driver.call(b"x") == b"X"
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_server_without_descriptors_refuses_and_goes_on(start, path):
    device = start("nothing")
    device.run(
        "import resource, threading, os\n"
        "server = ringbell.Server(path, bytes)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "limit = len(os.listdir('/proc/self/fd')) + 10\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))"
    )
    opened = []
    with pytest.raises(ConnectionRefusedError, match="the device has no file descriptor left"):
        opened.extend(ringbell.connect(path) for _ in range(20))
    for driver in opened:
        assert driver.call(b"x") == b"x"
        driver.close()
    wait_until(lambda: device.run("len(server.drivers)") == "0")
    with ringbell.connect(path) as driver:
        assert driver.call(b"y") == b"y"


def test_a_server_in_a_forked_child_says_whose_it_is(start, path):
    device = start("nothing")
    device.run("server = ringbell.Server(path, bytes)")
    with pytest.raises(PeerError, match="forked|closed"):
        device.run(
            "import os\n"
            "reader, writer = os.pipe()\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    try: server.serve_forever()\n"
            "    except Exception as error: os.write(writer, str(error).encode())\n"
            "    os._exit(0)\n"
            "os.waitpid(child, 0)\n"
            "raise RuntimeError(os.read(reader, 1000).decode())"
        )
