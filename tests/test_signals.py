# SPDX-License-Identifier: MIT
"""Ctrl-C and other signals: they end or leave alone every wait, and lose nothing."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from processes import (
    RAISES_INSIDE_RINGBELL,
    PeerError,
    Storm,
    sleeps_without_end,
    wait_until,
    wait_until_blocked,
)

import ringbell

WAITS = {
    "call": ("driver", "driver.call(b'x')"),
    "call with a timeout": ("driver", "driver.call(b'x', timeout=1000)"),
    "reap": ("driver", "driver.submit(b'x'), driver.reap()"),
    "interrupt.recv": ("driver", "driver.interrupt.recv()"),
    "submit": ("driver", "[driver.submit(b'x' * 100) for _ in range(100)]"),
    "submit in pieces": ("driver", "driver.submit(b'x' * 100_000)"),
    "map": ("driver", "list(driver.map([b'x'] * 10, depth=3))"),
    "reserve": ("driver", "[driver.submit(b'') for _ in range(64)], driver.reserve(1)"),
    "doorbell.send": ("driver", "[driver.doorbell.send(b'x' * 100) for _ in range(100)]"),
    "take": ("device", "device.take()"),
    "iteration": ("device", "[r for r in device]"),
    "doorbell.recv": ("device", "device.doorbell.recv()"),
    "interrupt.send": ("device", "[device.interrupt.send(b'x' * 100) for _ in range(100)]"),
}


@pytest.mark.parametrize("polling", ["adaptive", "never", "always"])
@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_any_wait_and_leaves_the_channel_usable(start, path, wait, polling):
    side, code = WAITS[wait]
    if side == "driver":
        with ringbell.listen(path) as listener:
            peer = start("driver", wait=False, ring_size=4096, polling=polling)
            mine = listener.accept()
        peer.reply()
    else:
        peer = start("device", polling=polling)
        mine = ringbell.connect(path, ring_size=4096)
    with mine:
        peer.begin(code)
        wait_until_blocked(mine, side, polling)
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        # The channel is usable: the ring can be emptied, and one more exchange works.
        if side == "driver":
            drain(mine.take)
            peer.begin("driver.call(b'again')")
            request = take_last(mine)
            request.complete(b"answer")
            assert peer.reply() == "b'answer'"
        else:
            drain(mine.interrupt.recv)
            token = mine.submit(b"again")
            peer.begin("device.take().complete(b'answer')")
            completion = mine.reap()
            assert (completion.token, completion.payload) == (token, b"answer")
            peer.reply()


def drain(take):
    try:
        while True:
            taken = take(timeout=0)
            if isinstance(taken, ringbell.Request):
                taken.complete(b"drained")
    except ringbell.RingEmpty:
        return


def take_last(device):
    while True:
        request = device.take()
        if request.payload == b"again":
            return request
        request.complete(b"drained")


@pytest.mark.parametrize("blocking", ["listener.accept()", "ringbell.connect(path + '2')"])
def test_ctrl_c_ends_meeting(start, path, blocking):
    peer = start("nothing")
    if "connect" in blocking:
        listener = ringbell.listen(f"{path}2")
        peer.begin(f'print(\'{{"value": "now"}}\', flush=True) or {blocking}')
    else:
        listener = None
        peer.run("listener = ringbell.listen(path)")
        peer.begin(f'print(\'{{"value": "now"}}\', flush=True) or {blocking}')
    try:
        assert peer.reply() == "now"
        wait_until(lambda: Path(f"/proc/{peer.pid}/stat").read_text().split()[2] == "S")
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        assert peer.run("1 + 1") == "2"
    finally:
        if listener:
            listener.close()


def test_a_signal_whose_handler_returns_does_not_end_a_wait(start, connect):
    device = start("device")
    driver = connect()
    device.run("import signal; seen = []; signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))")
    device.begin("bytes(device.take().payload)")
    wait_until(lambda: driver.stats().device.consumer.sleeps)
    for _ in range(19):
        wait_until(lambda: device.state() == "S")
        device.signal(signal.SIGUSR1)
    driver.submit(b"after all")
    assert device.reply() == "b'after all'"
    assert int(device.run("len(seen)")) >= 1


def test_a_handler_may_close_the_channel(start, connect):
    device = start("device")
    driver = connect()
    device.run("""
import select
import signal
def stop(*_):
    raise SystemExit("stop")
signal.signal(signal.SIGTERM, stop)
""")
    device.begin("for request in device: pass")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    device.signal(signal.SIGTERM)
    with pytest.raises(PeerError, match="SystemExit"):
        device.reply()
    device.run("device.close()")
    with pytest.raises(ringbell.EndOfStream):
        driver.interrupt.recv()


@pytest.mark.parametrize("watched", [False, True])
def test_a_signal_that_another_thread_takes_ends_a_wait(start, connect, watched):
    device = start("device")
    driver = connect()
    device.run("""
import signal, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()  # takes it
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def stop(*_):
    raise SystemExit("stop")
signal.signal(signal.SIGUSR1, stop)
""")
    device.begin("device.take()")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    if watched:
        wait_until(lambda: sleeps_without_end(device.pid))
    device.signal(signal.SIGUSR1)
    with pytest.raises(PeerError, match="SystemExit"):
        device.reply()
    assert driver.stats().device.consumer.sleeps == 1, "a long sleep is counted once"


@pytest.mark.parametrize("watched", [False, True])
def test_an_event_loops_wakeup_descriptor_is_put_back_and_told(start, connect, watched):
    device = start("device")
    driver = connect()
    device.run("""
import os, signal
reader, writer = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGUSR1, lambda *_: None)
""")
    device.begin("bytes(device.take().payload)")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    if watched:
        wait_until(lambda: sleeps_without_end(device.pid))
    device.signal(signal.SIGUSR1)
    wait_until(lambda: driver.stats().device.consumer.sleeps == 2)
    driver.submit(b"x")
    device.reply()
    assert device.run("os.read(reader, 100)") == repr(bytes([signal.SIGUSR1]))
    assert device.run("signal.set_wakeup_fd(-1) == writer") == "True"


@pytest.mark.parametrize("polling", ["adaptive", "never"])
@pytest.mark.parametrize("size", [8, 6000])
def test_no_message_is_lost_or_repeated_by_interrupts_of_recv(start, connect, polling, size):
    device = start("device", polling=polling)
    driver = connect(polling=polling, ring_size=16384)
    device.run(RAISES_INSIDE_RINGBELL)
    device.begin("""
got = []
while not got or got[-1] != 2**32:
    try:
        message = device.doorbell.recv()
        got.append(int.from_bytes(message[:8], "little"))
    except KeyboardInterrupt:
        pass
""")
    with Storm(device.pid) as storm:
        count = 0
        while storm.sent < 400:
            for _ in range(10):
                driver.doorbell.send(count.to_bytes(8, "little").ljust(size))
                count += 1
    driver.doorbell.send((2**32).to_bytes(8, "little"))
    device.reply()
    assert device.run(f"got[:-1] == list(range({count}))") == "True"
    assert int(device.run("raised")) > 10


def test_no_request_and_no_answer_is_lost_by_interrupts(start, path):
    with ringbell.listen(path) as listener:
        driver = start("driver", wait=False, ring_size=4096)
        device = listener.accept()
    with device:
        driver.reply()
        driver.run(RAISES_INSIDE_RINGBELL)
        driver.begin(
            """
tokens, completions, unknown = set(), [], 0
while not ended:
    try:
        tokens.add(driver.submit(b"x" * (len(tokens) % 300)))
    except KeyboardInterrupt:
        unknown += 1
    try:
        if driver.in_flight > 20:
            completions.append(driver.reap())
    except KeyboardInterrupt:
        pass
    ended = len(tokens) >= 20_000 and raised > 100
while True:
    try:
        if not driver.in_flight:
            break
        completions.append(driver.reap())
    except KeyboardInterrupt:
        pass
""".replace("\ntokens,", "\nended = False\ntokens,", 1)
        )
        with Storm(driver.pid):
            served = serve_until_closed(device, driver)
    assert served > 0
    assert driver.run("len({c.token for c in completions}) == len(completions)") == "True"
    assert driver.run("tokens <= {c.token for c in completions}") == "True"
    assert driver.run("len(completions) - len(tokens) <= unknown") == "True"


def serve_until_closed(device, driver):
    done = threading.Event()

    def wait():
        try:
            driver.reply()
        finally:
            done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    served = 0
    while not done.is_set():
        try:
            device.take(timeout=0.05).complete(b"answer")
            served += 1
        except ringbell.RingEmpty:
            time.sleep(0)
    thread.join()
    return served


def test_a_signal_just_before_the_sleep_ends_it(pair, monkeypatch):
    driver, device = pair(polling="never")
    seen = []
    set_wakeup_fd = signal.set_wakeup_fd

    def set_and_be_hit(*arguments, **options):
        before = set_wakeup_fd(*arguments, **options)
        if not seen:
            # The signal is handled before the sleep begins, so it does not interrupt the sleep.
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: seen)
        return before

    def send_after_the_second_sleep():
        wait_until(lambda: driver.stats().driver.consumer.sleeps == 2)
        device.interrupt.send(b"awake")

    handler = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    monkeypatch.setattr(signal, "set_wakeup_fd", set_and_be_hit)
    sender = threading.Thread(target=send_after_the_second_sleep)
    sender.start()
    try:
        assert driver.interrupt.recv() == b"awake"
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, handler)
    assert set_wakeup_fd(-1) == -1


class Struck(Exception):  # noqa: N818
    pass


def test_a_signal_in_the_poll_before_a_sleep_ends_the_wait(pair):
    driver, _ = pair(max_poll=0.05)

    def strike(*_):
        raise Struck

    def strike_in_the_poll():
        wait_until(lambda: driver.stats().driver.consumer.times_empty)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, strike)
    thread = threading.Thread(target=strike_in_the_poll)
    thread.start()
    try:
        with pytest.raises(Struck):
            driver.interrupt.recv()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
