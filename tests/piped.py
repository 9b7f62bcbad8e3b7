# SPDX-License-Identifier: MIT
"""What the tests of pipes share, and functions that they have called in other processes."""

import os
import signal
import sys
import time
from multiprocessing import reduction

import numpy as np

import ringbell


def passed_on(pipe, run, function, *arguments, duplex=True, **options):
    """Give this end of a new pipe, and the process that has the other one."""
    mine, other = pipe(duplex, **options)
    process = run(function, other, *arguments)
    other.close()
    return mine, process


def end_of(connection):
    """Say whether everything has been taken, and nothing more will come."""
    try:
        connection.recv()
    except EOFError:
        return True
    return False


# ---- what other processes do ----


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


def hold_what_comes(connection):
    """Keep arrays, and do with them what the messages between say; answer each message."""
    held = {}
    while (message := connection.recv()) is not None:
        if isinstance(message, np.ndarray):
            held[int(message[0])] = message
            answer = message.flags.writeable
        else:
            what, *arguments = message
            if what == "drop":
                answer = [held.pop(number) is None for number in arguments]
            else:
                answer = [(held[n] == n).all().item() for n in sorted(held)]
        del message
        connection.send(answer)


def hold_and_answer_once(connection, count):
    """Keep so many arrays, say so, and wait for a kill."""
    held = [connection.recv() for _ in range(count)]
    connection.send(len(held))
    wait_for_ever(connection)


def send_arrays_and_die(connection, count, length):
    for number in range(count):
        connection.send(np.full(length, number, "u4"))
    os.kill(os.getpid(), signal.SIGKILL)


def answer_with_twice(connection):
    """Answer each array with one of twice its values."""
    try:
        while True:
            connection.send(connection.recv() * 2)
    except EOFError:
        pass


def send_one_back(one, other, result):
    """Have both ends; hold what came from one end, and tell what it is."""
    one.send(np.arange(LENGTH, dtype="u4"))
    got = other.recv()
    one.close()
    result.send((got.sum().item(), got.flags.writeable))


LENGTH = 1 << 16
"""Of the arrays, in numbers of 4 bytes."""
