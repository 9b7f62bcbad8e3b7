# SPDX-License-Identifier: MIT
"""Everything in one script: it starts the other processes itself.

python examples/one_script.py
"""

import numpy as np

import ringbell

TICK = np.dtype([("price", "f8"), ("size", "i4")])
LINES = [b"to send is to copy", b"to wait is to sleep", b"a kick wakes"]


def count_words(payload: memoryview) -> bytes:
    """Answer in the device's process. The payload is lent: valid until this function returns."""
    return b"%d" % len(bytes(payload).split())


def prices(ticks: ringbell.RecordProducer) -> None:
    """Write in the producer's process. The stream ends when this function returns."""
    for minute in range(100):
        with ticks.reserve(1000) as rows:
            rows["price"] = np.linspace(minute, minute + 1, 1000)
            rows["size"] = 1


def average(ticks: ringbell.RecordConsumer) -> float:
    """Read in the consumer's process. `pipeline` gives what this function returns."""
    count, total = 0, 0.0
    for rows in ticks:
        count += len(rows)
        total += float(rows["price"].sum())
    return total / count


def main() -> None:
    # Requests and answers: the device ends with the block.
    with ringbell.launch(count_words) as words:
        counts = [int(answer) for answer in words.map(LINES * 1000)]
    print(f"{len(counts)} lines: {sum(counts)} words")

    # A stream between two more processes, each on a CPU of its own.
    print(f"{ringbell.pipeline(prices, average, dtype=TICK):.1f} on average")


# A new process imports this script to find its function, and must not start processes, too.
if __name__ == "__main__":
    main()
