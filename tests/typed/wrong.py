# SPDX-License-Identifier: MIT
"""What type checkers must not accept: one that finds no error on a line says so.

Nobody runs this: `make types` reads it.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

import numpy as np

import ringbell


def handles_text(payload: str) -> bytes:
    return payload.encode()


ringbell.conect("x")  # type: ignore[attr-defined]
ringbell.connect("x", polling="sometimes")  # type: ignore[call-overload]
ringbell.connect("x", timeout="1")  # type: ignore[call-overload]
ringbell.serve("x", 5)  # type: ignore[call-overload]
ringbell.serve("x", handles_text)  # type: ignore[arg-type]
ringbell.Moderation(entries="3")  # type: ignore[arg-type]

driver = ringbell.connect("x")
driver.call("text")  # type: ignore[arg-type]
driver.call(["x"])  # type: ignore[arg-type]
driver.max_payload = 3  # type: ignore[misc]
driver.map([b"abc"], depht=3)  # type: ignore[call-arg]

records = ringbell.produce("x", "f8")
records.dtype = np.dtype("i4")  # type: ignore[misc]
records.send(b"x")  # type: ignore[attr-defined]

messages = ringbell.produce("x")
messages.write([1])  # type: ignore[attr-defined]

consumer = ringbell.consume("x")
consumer.nothing()  # type: ignore[attr-defined]
consumer.max_message = 1.5  # type: ignore[attr-defined]

ringbell.connect("x", codec="json")  # type: ignore[call-overload]
ringbell.connect("x", codec=(str, 5))  # type: ignore[arg-type]
ringbell.produce("x", "f8", codec="pickle")  # type: ignore[call-overload]
ringbell.pipeline("m:f", "m:g", "f8", codec="pickle")  # type: ignore[call-overload]
driver.call_and_hold(b"x").tolist()  # type: ignore[union-attr]
with ringbell.Pool(bytes) as pool:
    pool.submit(["x"])  # type: ignore[arg-type]
connection, _ = ringbell.Pipe()
connection.send_bytes("text")  # type: ignore[arg-type]
connection.recv_bytes_into(bytearray(3), offset="1")  # type: ignore[arg-type]
connection.closed = True  # type: ignore[misc]

publisher = ringbell.publish("x", keep="newest")
publisher.write([1])  # type: ignore[attr-defined]
publisher.readers = []  # type: ignore[misc]
ringbell.publish("x", keep="latest")  # type: ignore[call-overload]

subscriber = ringbell.subscribe("x", "f8")
subscriber.recv()  # type: ignore[attr-defined]
subscriber.borrow().sum()  # type: ignore[attr-defined]
subscriber.missed = 3  # type: ignore[misc]
