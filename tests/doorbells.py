# SPDX-License-Identifier: MIT
"""Devices in other processes that sleep over a doorbell ring, and the kicks that they got."""

import signal

from processes import wait_until


def begin_to_receive(driver, device, sleeps=1):
    """Have the device receive one message, and wait until it has gone to sleep `sleeps` times."""
    device.begin("device.doorbell.recv()")
    wait_until(lambda: driver.stats().device.consumer.sleeps >= sleeps)


def finish(driver, device):
    """Everything sent is taken, up to the empty message that ends the loop."""
    device.signal(signal.SIGCONT)
    driver.doorbell.send(b"")
    device.reply()
    stats = driver.stats()
    assert stats.dwi == stats.dri
    return stats


def kicks(driver):
    producer = driver.stats().driver.producer
    return producer.kicks_sent, producer.kicks_late
