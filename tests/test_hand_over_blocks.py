# SPDX-License-Identifier: MIT
"""Blocks of user code that a signal handler leaves: what they hold is given back."""

import subprocess
import sys
from pathlib import Path

import pytest

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant

BLOCKS = """
import sys, threading
import ringbell
from storms import Alarms

path, kind = sys.argv[1:]
with ringbell.listen(path) as listener:
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
    thread.start()
    driver = ringbell.connect(path, ring_size=4096)
    thread.join()
device = accepted.pop()

def consume():
    consumed = []
    thread = threading.Thread(target=lambda: consumed.append(ringbell.consume(path + "2")))
    thread.start()
    producer = ringbell.produce(path + "2", "u8", ring_size=4096)
    thread.join()
    return producer, consumed.pop()

rows, taken = consume()
begun = ended = 0

def frame_of_a_request():
    global begun, ended
    for _ in range(3):
        begun += 1
        with driver.reserve(100) as frame:
            frame.payload[:1] = b"x"
        ended += 1

def frame_of_a_message():
    for _ in range(3):
        with driver.doorbell.reserve(100) as frame:
            frame.length = 5

def frame_that_is_abandoned():
    for _ in range(10):
        driver.reserve(100).abandon()

def block_of_records():
    for _ in range(3):
        with rows.reserve(5) as block:
            block[:] = 7

def coalescing():
    for _ in range(3):
        with driver.doorbell.coalesce(max_entries=2):
            driver.doorbell.send(b"x")

once = globals()[kind]

def drain():
    "The end is usable at once: RuntimeError if it is stuck."
    driver.doorbell.send(b"the end", timeout=5)
    while device.doorbell.recv(timeout=5) != b"the end":
        pass
    rows.write([1], timeout=5)
    taken.read(timeout=5)
    with driver.doorbell.coalesce():
        pass

def run():
    once()
    while True:
        pass

with Alarms(1e-6, 20e-6) as alarms:
    for _ in range(6000):
        alarms.interrupt(run, 1)
        if kind == "frame_of_a_request":
            sent = 0
            while True:
                try:
                    request = device.take(timeout=0)
                except ringbell.RingEmpty:
                    break
                request.complete()
                sent += 1
            for _ in range(sent):
                driver.reap(timeout=5)
            assert ended <= sent <= begun, (ended, sent, begun)
            assert driver.in_flight == 0
            begun = ended = 0
        drain()
for end in (driver, device, rows, taken):
    end.close()
print("done")
"""


@pytest.mark.parametrize(
    "kind",
    [
        "frame_of_a_request",
        "frame_of_a_message",
        "frame_that_is_abandoned",
        "block_of_records",
        "coalescing",
    ],
)
def test_a_block_that_a_handler_interrupts_leaves_the_end_usable(path, kind):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, str(path), kind],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""  # no "Exception ignored" either
    assert done.stdout == "done\n"
    assert done.returncode == 0
