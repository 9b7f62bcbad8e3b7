# SPDX-License-Identifier: MIT
"""Guests that connect, and partners that meet who waits, in tests."""

import contextlib
import os
import socket

import ringbell

MEETS = {"producer": "produce", "consumer": "consume"}
PARTNER = {"serve": "connect", "producer": "consume", "consumer": "produce"}


@contextlib.contextmanager
def guest(path, *texts, descriptors=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.connect(os.fspath(path))
        with contextlib.suppress(BrokenPipeError):  # it may have been sent away at once
            for text in texts:
                socket.send_fds(control, [text], descriptors)
        yield control


def meet(path, who):
    """Meet the process that waits, and check that the channel works."""
    partner = getattr(ringbell, PARTNER[who])(path, timeout=None)
    with partner:
        if who == "serve":
            assert partner.call(b"x") == b"X"
