# SPDX-License-Identifier: MIT
"""Requests from many tasks at once, to a device whose handler is a coroutine.

python examples/asyncio_requests.py device    in one terminal
python examples/asyncio_requests.py driver    in another
"""

import asyncio
import sys
from contextlib import suppress

from ringbell import aio

NAME = "squares"


async def square(payload: memoryview) -> bytes:
    number = int(bytes(payload))
    await asyncio.sleep(0.01)  # ask a database, say; other requests are in work meanwhile
    return b"%d" % number**2


async def driver() -> None:
    async with aio.connect(NAME) as squares:
        answers = await asyncio.gather(*(squares.call(b"%d" % number) for number in range(1000)))
    print(f"{len(answers)} answers, the last is {answers[-1].decode()}")


if __name__ == "__main__":
    side = sys.argv[-1]
    if side not in ("device", "driver"):
        sys.exit(__doc__)
    with suppress(KeyboardInterrupt):
        asyncio.run(aio.serve(NAME, square) if side == "device" else driver())
