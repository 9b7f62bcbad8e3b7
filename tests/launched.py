# SPDX-License-Identifier: MIT
"""Functions that the tests of launching have called in new processes, and what they ask of them."""

import collections
import hashlib
import itertools
import logging
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

import ringbell

log = logging.getLogger("launched")


def wait_for_ever():
    while True:
        time.sleep(0.05)  # not signal.pause, which misses a signal that comes just before it


def upper(payload):
    return bytes(payload).upper()


def digest(payload):
    return hashlib.sha256(payload).digest()


def echo(payload):
    return payload


def meets(count, which, folder):
    """Answer when as many processes have come as `count` says."""
    Path(folder, which).touch()
    while len(os.listdir(folder)) < int(count):
        time.sleep(0.001)
    return which.encode()


def pid_of(driver):
    """Ask `does` for its process."""
    return int(driver.call(b"pid"))


def does(payload):
    """Do what the request says."""
    if payload[:5] == b"echo ":
        return bytes(payload[5:])
    what, _, argument = bytes(payload).decode().partition(" ")
    if what == "pid":
        return b"%d" % os.getpid()
    if what == "meet":
        return meets(*argument.split())
    if what == "until":
        Path(f"{argument}.begun").touch()
        while not Path(argument).exists():
            time.sleep(0.001)
        return b""
    if what == "once":
        if Path(argument).exists():
            return b"survived"
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "cpus":
        return repr(sorted(os.sched_getaffinity(0))).encode()
    if what == "log":
        log.debug("a debug line of %s", argument)
        log.info("an info line of %s", argument)
        return b""
    if what == "raise":
        raise ValueError(argument)
    if what == "keep":
        globals()["kept"] = payload.cast("B")
        return b""
    if what == "exit":
        os._exit(int(argument))
    if what == "append":
        time.sleep(0.01)
        with Path(argument).open("a") as file:
            file.write("x")
        return b""
    if what == "begin":
        Path(argument).touch()
        wait_for_ever()
    if what == "hog":  # never gives the GIL back, and looks at no signal
        Path(argument).touch()
        collections.deque(itertools.repeat(0), maxlen=0)
    if what == "fork":
        child = os.fork()
        if not child:
            wait_for_ever()
        return b"%d" % child
    if what == "system":  # it gets all descriptors that are inheritable
        os.system(f"sleep 1000 >/dev/null 2>&1 & echo $! >{argument}")
        return Path(argument).read_bytes()
    if what == "stay":
        threading.Thread(target=wait_for_ever).start()
        return b""
    if what == "cleanup":
        Path(argument).touch()
        try:
            wait_for_ever()
        finally:
            Path(argument).unlink()
    raise AssertionError(what)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


class OddError(Exception):
    """Can be pickled, but not restored."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


# ---- producers ----


def counts(stream):
    for first in range(0, 10_000, 100):
        stream.write(np.arange(first, first + 100))


def writes_and_raises(stream):
    stream.write(np.arange(100))
    raise ZeroDivisionError("after 100")


def waits(stream):
    wait_for_ever()


def writes_for_ever(stream):
    while True:
        stream.write(np.arange(100))


def is_killed(stream):
    stream.write(np.arange(100))
    os.kill(os.getpid(), signal.SIGKILL)


def sends_lines(stream):
    stream.send_many([b"one", b"two", b"three"])
    log.warning("sent %d", 3)


def raises_oddly(stream):
    raise OddError(1, 2)


def exits(stream):
    raise SystemExit(7)


def tells_cpus(stream):
    stream.send(repr(sorted(os.sched_getaffinity(0))).encode())


# ---- consumers ----


def total(stream):
    return sum(int(rows.sum()) for rows in stream)


def joined(stream):
    return [bytes(line).decode() for line in stream]


def joined_with_cpus(stream):
    return joined(stream), sorted(os.sched_getaffinity(0))


def raises(stream):
    raise KeyError("not wanted")


def takes_one(stream):
    return int(stream.read(1)[0])


def returns_unpicklable(stream):
    list(stream)
    return Unpicklable()


def counts_what_came(stream):
    """Say on the standard error how much came before the producer failed."""
    came = 0
    try:
        for rows in stream:
            came += len(rows)
    finally:
        log.warning("%d came", came)


def raises_at_the_end(stream):
    try:
        list(stream)
    finally:
        raise KeyError("at the end")


def kills_itself(stream):
    os.kill(os.getpid(), signal.SIGKILL)


class Told:
    def __init__(self, connection):
        self.connection = connection

    def __call__(self, payload):
        self.connection.send(bytes(payload))
        return b""


def killed_while_it_listens(_inside, _handler, path):
    with ringbell.listen(path):
        os.kill(os.getpid(), signal.SIGKILL)
