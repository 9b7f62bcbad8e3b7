# SPDX-License-Identifier: MIT
"""Functions that the tests of pipes have called in other processes."""

import os
import signal
import sys
import time
from multiprocessing import reduction

import ringbell


def echo(connection):
    """Send back what comes: bytes as bytes, until they are b"end"; then objects."""
    for message in iter(connection.recv_bytes, b"end"):
        connection.send_bytes(message)
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        connection.close()


def send_all(connection, items, closes=True):
    for item in items:
        connection.send(item)
    if closes:
        connection.close()


def send_slowly(connection, count):
    for number in range(count):
        if number % 7 == 0:
            time.sleep(0.0002)
        connection.send_bytes(b"%d" % number)


def send_and_die(connection, items):
    send_all(connection, items, closes=False)
    os.kill(os.getpid(), signal.SIGKILL)


def send_for_ever(connection):
    number = 0
    while True:
        connection.send((number, "x" * (number % 3000)))
        number += 1


def wait_for_ever(connection):
    while True:
        time.sleep(0.05)


def take_all(connection, count):
    """End with the number of objects that came in order."""
    sys.exit(sum(connection.recv() == number for number in range(count)))


def pass_around(one, other, result):
    one.send("round")
    result.send(other.recv())


def receive_until_interrupted(connection):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection.send("ready")
    try:
        connection.recv()
    except KeyboardInterrupt:
        connection.send("interrupted")
    connection.send(connection.recv())


def receive_one_and_wait(connection):
    connection.recv()
    while True:
        time.sleep(0.05)


def try_to(connection, what, *arguments, result):
    """Tell through `result`, a pipe of multiprocessing, what a call gives or raises."""
    try:
        result.send(getattr(connection, what)(*arguments))
    except BaseException as error:
        result.send((type(error), str(error)))


def try_when_told(connection, told, what, *, result):
    told.recv()
    try_to(connection, what, result=result)


def leave(connection, result):
    """Drop a copy without a use, and end."""
    del connection
    result.send("dropped")


def pass_back(connection):
    """Make a pipe, send one of its ends, and answer on the other."""
    here, there = ringbell.Pipe()
    connection.send(there)
    there.close()
    here.send(here.recv() * 2)
    here.close()


def use_what_comes(connection):
    other = connection.recv()
    other.send(other.recv() + ["seen"])
    other.close()


def write_to_passed(connection):
    """Take an object, then a descriptor, as many times as they come."""
    try:
        while True:
            text = connection.recv()
            fd = reduction.recv_handle(connection)
            os.write(fd, text)
            os.close(fd)
            connection.send(len(text))
    except EOFError:
        pass


def keep(queue):
    """Initialise the worker of a pool."""
    global kept
    kept = queue


def use_kept(item):
    kept.send(item)
    return os.getpid()
