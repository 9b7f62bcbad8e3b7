# SPDX-License-Identifier: MIT
"""Signals that come while a waiter waits."""

import signal

import pytest
from processes import PeerError
from waiting import NEVER, Raised, interrupting

import ringbell


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
