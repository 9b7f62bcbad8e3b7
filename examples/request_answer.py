# SPDX-License-Identifier: MIT
"""Requests and answers: one process counts words for another.

python examples/request_answer.py device    in one terminal
python examples/request_answer.py driver    in another
"""

import contextlib
import sys

import ringbell

NAME = "words"
LINES = [b"to send is to copy", b"to wait is to sleep", b"a kick wakes"]


def count_words(payload: memoryview) -> bytes:
    """Answer in the device. The payload is lent: it is valid until this function returns."""
    return b"%d" % len(bytes(payload).split())


def device() -> None:
    # Answers one driver after the other, until Ctrl-C.
    with contextlib.suppress(KeyboardInterrupt):
        ringbell.serve(NAME, count_words)


def driver() -> None:
    with ringbell.connect(NAME) as words:
        # One at a time: each call waits for its answer.
        print("one line:", words.call(LINES[0]).decode())
        # Many at a time: the answers come in the order of the requests.
        counts = [int(answer) for answer in words.map(LINES * 1000, depth=64)]
        print(f"{len(counts)} lines: {sum(counts)} words")


if __name__ == "__main__":
    side = {"device": device, "driver": driver}.get(sys.argv[-1])
    side() if side else sys.exit(__doc__)
