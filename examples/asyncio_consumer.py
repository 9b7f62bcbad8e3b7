# SPDX-License-Identifier: MIT
"""Messages in an event loop: a consumer that does other things while it waits.

python examples/asyncio_consumer.py producer    in one terminal
python examples/asyncio_consumer.py consumer    in another; whichever starts first waits
"""

import asyncio
import sys

import ringbell

NAME = "events"


def producer() -> None:
    with ringbell.produce(NAME) as events:
        for number in range(1000):
            events.send(b"event %d" % number)


async def consume_all(events: ringbell.MessageConsumer) -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    received: list[bytes] = []

    def take() -> None:
        # The descriptor is readable while there is something to take: take until there is nothing.
        try:
            while True:
                received.extend(events.recv_many(timeout=0))
        except ringbell.RingEmpty:
            return
        except ringbell.EndOfStream:
            over.set_result(None)
        except ringbell.PeerLost as error:  # the producer died
            over.set_exception(error)
        loop.remove_reader(events.fileno())

    loop.add_reader(events.fileno(), take)
    await over  # other tasks run meanwhile
    print(f"{len(received)} events, the last is {received[-1].decode()!r}")


def consumer() -> None:
    # To meet the producer blocks, so it is done before the loop runs.
    with ringbell.consume(NAME) as events:
        asyncio.run(consume_all(events))


if __name__ == "__main__":
    side = {"producer": producer, "consumer": consumer}.get(sys.argv[-1])
    side() if side else sys.exit(__doc__)
