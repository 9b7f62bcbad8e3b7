# SPDX-License-Identifier: MIT
"""A stream of records: one process writes prices, another averages them.

python examples/records.py producer    in one terminal
python examples/records.py consumer    in another; whichever starts first waits
"""

import sys

import numpy as np

import ringbell

NAME = "prices"
TICK = np.dtype([("price", "f8"), ("size", "i4")])


def producer() -> None:
    with ringbell.produce(NAME, dtype=TICK) as ticks:
        for minute in range(100):
            # Written where the consumer will read it, and sent at the end of the block.
            with ticks.reserve(1000) as rows:
                rows["price"] = np.linspace(minute, minute + 1, 1000)
                rows["size"] = 1


def consumer() -> None:
    count, total, dearest = 0, 0.0, np.zeros(0, TICK)
    with ringbell.consume(NAME, dtype=TICK) as ticks:
        for rows in ticks:  # all that has arrived, as one array, until the producer closes
            count += len(rows)
            total += float(rows["price"].sum())
            # `rows` is valid in this step only, as the producer writes there again afterwards.
            # Copy what you keep.
            dearest = rows[-1:].copy()
    print(f"{count} ticks, {total / count:.1f} on average, {dearest['price'][0]:.0f} at the end")


if __name__ == "__main__":
    side = {"producer": producer, "consumer": consumer}.get(sys.argv[-1])
    side() if side else sys.exit(__doc__)
