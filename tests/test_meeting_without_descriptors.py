# SPDX-License-Identifier: MIT
"""Meeting without a descriptor left: each side says so, and lives on."""

import contextlib
import errno
import os
import resource
import time

import pytest
from guests import MEETS, guest, meet
from processes import PeerError

import ringbell


@contextlib.contextmanager
def so_many_more(count):
    """Let this process open that many more descriptors, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir("/proc/self/fd")}
    limit = max(used) + 1
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit + count, hard))
    try:
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)


def test_a_driver_without_descriptors_says_so(start, path):
    start("serve", handler="upper")
    for count in range(4):
        with so_many_more(count), pytest.raises(OSError, match="channel takes 4 of them") as caught:
            ringbell.connect(path)
        assert caught.value.errno == errno.EMFILE
    meet(path, "serve")


LACKS = """
import os, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
def lack(count):
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    global held
    held = []
    try:
        while True: held.append(os.dup(0))
    except OSError: pass
    for _ in range(count): os.close(held.pop())
def have():
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    while held: os.close(held.pop())
"""


def test_a_device_without_descriptors_says_so_and_tells_the_driver(start, path):
    device = start("nothing")
    device.run(LACKS)
    device.run("listener = ringbell.listen(path)")
    for count in (0, 1, 2, 3):
        device.run(f"lack({count})")
        device.begin("listener.accept()")
        with pytest.raises(ConnectionRefusedError, match="the device has no file descriptor left"):
            ringbell.connect(path)
        with pytest.raises(PeerError, match="OSError: .*no file descriptor left.*channel takes 4"):
            device.reply()
        device.run("have()")
    device.begin("device = listener.accept()")
    ringbell.connect(path).close()
    device.reply()


def test_serve_lives_on_without_descriptors_and_does_not_spin(start, path):
    device = start("nothing")
    device.run(LACKS)
    device.run(
        "import threading\n"
        "server = ringbell.Server(path, bytes)\n"
        "lack(0)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()"
    )
    with guest(path) as silent:
        assert silent.recv(1000).startswith(b"ringbell failed 111 the device has no file")
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError, match="the device has no file descriptor left"):
            ringbell.connect(path)
    before = float(device.run("time.process_time()"))
    time.sleep(0.2)
    assert float(device.run("time.process_time()")) - before < 0.1
    device.run("have()")
    with ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"x"


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_side_of_a_stream_without_descriptors_says_so(start, path, side):
    peer = start("nothing")
    peer.run(LACKS)
    peer.run("lack(2)")
    with pytest.raises(PeerError, match="OSError: .*no file descriptor left.*channel takes 4"):
        peer.run(f"ringbell.{MEETS[side]}(path)")
    peer.run("have()")
    assert not list(path.parent.iterdir())
