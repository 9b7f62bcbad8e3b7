# SPDX-License-Identifier: MIT
"""Many frames that are held at once: which slots are given back, and what noting them costs."""

import errno
import os
import random
import subprocess
from collections import deque
from pathlib import Path

import pytest
from indices import indices_from

import ringbell

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
RING = 1 << 20
SLOTS = RING // 64


class Model:
    """What a device holds of its doorbell ring, in order: [number of slots, whether it is held]."""

    def __init__(self):
        self.frames = deque()
        self.read = 0

    def add(self, size, held):
        self.frames.append([(16 + size + 63) // 64, held])
        self.give_back()
        return self.frames[-1] if held else None

    def release(self, frame):
        frame[1] = False
        self.give_back()

    def give_back(self):
        while self.frames and not self.frames[0][1]:
            self.read += self.frames.popleft()[0]

    def used(self):
        return sum(slots for slots, _ in self.frames)


class Holder:
    """A driver and a device of one process, and the requests that the device holds."""

    def __init__(self, driver, device, start):
        self.driver, self.device, self.start = driver, device, start
        self.model, self.held, self.count = Model(), [], 0
        self.chance = random.Random(start)

    def payload(self):
        self.count += 1
        return b"%d" % self.count + bytes(self.chance.choice((0, 0, 20, 100)))

    def take(self):
        payload = self.payload()
        token = self.driver.submit(payload)
        request = self.device.take(timeout=0)
        assert (request.token, request.payload) == (token, payload)
        self.held.append((request, payload, self.model.add(len(payload), True)))

    def complete(self, place):
        self.held[place], self.held[-1] = self.held[-1], self.held[place]
        request, payload, frame = self.held.pop()
        request.complete(payload[::-1])
        self.model.release(frame)
        completion = self.driver.reap(timeout=0)
        assert (completion.token, completion.payload) == (request.token, payload[::-1])
        with pytest.raises(RuntimeError, match="answered before"):
            request.complete(b"")

    def receive(self):
        """Take messages that need no answer, behind what is held."""
        payloads = [self.payload() for _ in range(self.chance.randint(1, 3))]
        self.driver.doorbell.send_many(payloads)
        doorbell = self.device.doorbell
        assert doorbell.recv(timeout=0) == payloads[0]
        for payload in payloads[1:]:
            assert doorbell.borrow(timeout=0) == payload
        with pytest.raises(ringbell.RingEmpty):
            doorbell.recv(timeout=0)  # which takes back what was borrowed
        for payload in payloads:
            self.model.add(len(payload), False)

    def check(self):
        assert (self.driver.stats().dri - self.start) % 2**64 == self.model.read


# Above each of these but the first the indices wrap in the middle of the test.
@pytest.mark.parametrize("start", [0, 2**32 - 5000, 2**64 - 5000])
def test_thousands_of_requests_are_held_and_completed_in_any_order(pair, start):
    with indices_from(start):
        driver, device = pair(ring_size=RING)
    holder = Holder(driver, device, start)
    chance = holder.chance
    for most in (3000, 40, 2000):
        while len(holder.held) < most:
            holder.take()
            if chance.random() < 0.1:
                holder.receive()
            if chance.random() < 0.3:
                holder.complete(chance.choice((0, -1, chance.randrange(len(holder.held)))))
            holder.check()
        assert all(request.payload == payload for request, payload, _ in holder.held)
        while holder.held:
            holder.complete(chance.randrange(len(holder.held)))
            holder.check()
    assert driver.stats().dwi == driver.stats().dri


def test_every_slot_can_be_held_and_no_other_request_comes_then(pair):
    driver, device = pair(ring_size=RING)
    tokens = [driver.submit(b"") for _ in range(SLOTS)]
    requests = [device.take(timeout=0) for _ in tokens]
    with pytest.raises(RuntimeError, match="every slot of the doorbell ring is held"):
        device.take(timeout=0)
    chance = random.Random(1)
    order = list(range(SLOTS))
    chance.shuffle(order)
    for place in order:
        requests[place].complete(b"%d" % place)
    got = {completion.token: completion.payload for completion in (driver.reap(0) for _ in tokens)}
    assert got == {token: b"%d" % place for place, token in enumerate(tokens)}
    assert driver.stats().dri == SLOTS


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    program = tmp_path_factory.mktemp("held") / "held"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-pthread"]
    sources = [TESTS / "c/held.c", *sorted(CSRC.glob("*.c"))]
    subprocess.run(
        [*command, f"-I{CSRC}", "-Wl,--wrap=malloc", "-o", program, *sources],
        check=True,
        timeout=60,
    )
    return program


def test_a_frame_that_no_memory_can_note_stays_in_the_ring(held):
    subprocess.run([held, "memory"], check=True, timeout=60)


def test_what_is_released_behind_a_slow_request_takes_no_memory(held):
    subprocess.run([held, "slow"], check=True, timeout=60)


def test_a_lack_of_memory_is_a_memory_error(pair):
    driver, _ = pair()
    with pytest.raises(MemoryError, match="nothing was taken"):
        driver._channel.fail(-errno.ENOMEM)


CHANNELS = 20
TAKEN = 1500  # of each channel; they go round the ring several times
DEVICES = rf"""
import re

def private():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) * 1000

listener = ringbell.listen(path)
devices = []

def answer():
    device = listener.accept()
    devices.append(device)
    for _ in range({TAKEN}):
        first, second = device.take(), device.take()
        second.complete(b"2")
        first.complete(b"1")
        device.doorbell.borrow()
"""


def test_a_channel_that_has_gone_round_its_rings_has_little_private_memory(start, connect):
    peer = start("nothing")
    peer.run(DEVICES)

    def use_one():
        peer.begin("answer()")
        driver = connect()
        payload = bytes(3000)
        for _ in range(TAKEN):
            tokens = [driver.submit(payload) for _ in range(2)]
            driver.doorbell.send(payload)
            assert {driver.reap().token for _ in tokens} == set(tokens)
        peer.reply()

    use_one()  # which also loads all that is loaded once
    before = int(peer.run("private()"))
    for _ in range(CHANNELS):
        use_one()
    each = (int(peer.run("private()")) - before) / CHANNELS
    assert each < 100_000
