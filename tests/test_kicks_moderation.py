# SPDX-License-Identifier: MIT
"""When a side that sleeps is woken: moderation, by entries and by time."""

import signal
import time

import pytest
from doorbells import begin_to_receive, finish, kicks
from kinds import SMALL_RING, SMALL_RING_MESSAGES
from processes import wait_until

import ringbell
from ringbell import Moderation


def test_moderation_counts_entries(asleep):
    driver, device = asleep(moderation=Moderation(32, 1.0))
    for i in range(31):
        assert kicks(driver) == (0, min(i, 1))
        driver.doorbell.send(b"x" * 100)  # two slots each: entries are counted, not slots
    assert kicks(driver) == (0, 1)
    driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_device_that_has_woken_up_is_not_kicked_for_what_it_wanted_before(both):
    driver, device = both(Moderation(3, 0.001))
    begin_to_receive(driver, device)
    driver.doorbell.send(b"x")
    device.reply()
    for _ in range(5):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1)


def test_moderation_waits_for_a_bounded_time(both):
    driver, device = both(Moderation(1000, 0.001))
    for i in range(1, 4):
        begin_to_receive(driver, device, sleeps=i)
        driver.doorbell.send(b"x")
        device.reply()
    assert kicks(driver) == (0, 3)


def test_moderation_does_not_hold_up_a_full_ring(asleep):
    driver, device = asleep(ring_size=SMALL_RING, moderation=Moderation(1000, 1.0))
    for _ in range(SMALL_RING_MESSAGES):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1)
    with pytest.raises(ringbell.RingFull):
        driver.doorbell.send(b"x", timeout=0)
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_moderated_device_inside_a_coalescing_block(asleep):
    driver, device = asleep(moderation=Moderation(32, 1.0))
    with driver.doorbell.coalesce():
        for _ in range(31):
            driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1), "it wants no kick yet"
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 1)
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_block_leaves_the_timer_of_a_moderated_device_alone(both):
    driver, device = both(Moderation(1000, 0.001))
    begin_to_receive(driver, device)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
    assert device.reply() == "b'x'"


def test_a_timer_that_is_over_is_over_once(both):
    driver, device = both(Moderation(1000, 0.001))
    begin_to_receive(driver, device)
    driver.doorbell.send(b"x")
    device.reply()
    begin_to_receive(driver, device, sleeps=2)
    time.sleep(0.05)  # if its sleeps ended at once, there would be many by now
    assert driver.stats().device.consumer.sleeps == 2
    driver.doorbell.send(b"x")
    device.reply()


def test_the_bound_of_a_block_holds_for_a_moderated_device(asleep):
    driver, device = asleep(moderation=Moderation(2, 1.0))
    with driver.doorbell.coalesce(max_delay=0.001):
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 1)
        driver.doorbell.send(b"x")
        begin = time.monotonic()
        device.signal(signal.SIGCONT)
        wait_until(lambda: driver.stats().device.consumer.entries == 2)
        assert time.monotonic() - begin < 0.5, "it was woken by its own timer"
    finish(driver, device)


def test_moderation_is_an_option_and_changes_while_running(start, connect):
    start("serve", handler="upper", polling="never")
    driver = connect(polling="never", moderation=Moderation(2, 0.001))
    interrupt = driver.interrupt
    assert interrupt.moderation == Moderation(2, 0.001)

    def is_woken_late():
        assert driver.call(b"x") == b"X"
        return driver.stats().device.producer.kicks_late > 0

    wait_until(is_woken_late)  # answers may come before the driver sleeps; then try again
    interrupt.moderation = None
    before = driver.stats().device.producer.kicks_late
    assert [driver.call(b"%d" % i) for i in range(20)] == [b"%d" % i for i in range(20)]
    assert driver.stats().device.producer.kicks_late == before


@pytest.mark.parametrize(
    ("entries", "delay"),
    [
        (1, 1e-3),
        (0, 1e-3),
        (-5, 1e-3),
        (2**33, 1e-3),
        (32, 0),
        (32, -1),
        (32, 2),
        (32, float("nan")),
    ],
)
def test_nonsense_moderation_is_refused(entries, delay):
    with pytest.raises(ValueError, match="entries is from|delay is above"):
        Moderation(entries, delay)


def test_moderation_is_no_number(pair, path):
    driver, _ = pair()
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        driver.interrupt.moderation = 32
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        ringbell.listen(path, moderation=50e-6)
