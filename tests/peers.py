# SPDX-License-Identifier: MIT
"""The other process of a test: opens one side of a channel, then does what the test says.

    python tests/peers.py ROLE PATH OPTIONS

ROLE is device, driver, serve, producer, consumer, publisher, subscriber or nothing.

OPTIONS is JSON; in it a dtype is text, as Python spells it, and `blocks` are a dict. Each line on
standard input is Python code as a JSON string, run where `device`, `driver`, `producer` and so on
is the side; each line of output is {"value": repr} or {"error": class, "text": message}.
The sides of a stream are ready before they have met.
"""

from __future__ import annotations

import ast
import json
import sys
import time

import ringbell
from ringbell.meeting import segment


def upper(payload):
    return bytes(payload).upper()


def long_answer(payload):
    return bytes(payload).ljust(1000)


class UnspeakableError(Exception):
    def __str__(self):
        raise ZeroDivisionError


def arrays(payload):
    """Answer with the array that the request describes."""
    import numpy as np

    return eval(bytes(payload), {"np": np})


def raises_on_bad(payload):
    if bytes(payload) == b"bad":
        raise ValueError("bad is not good")
    if bytes(payload) == b"junk":
        return 5
    if bytes(payload) == b"unspeakable":
        raise UnspeakableError
    if bytes(payload) == b"echo":
        return payload
    if bytes(payload) == b"part":
        return payload[1:3]
    if bytes(payload) == b"cast":
        return payload.cast("H")
    if bytes(payload) == b"array":
        import numpy as np  # only here, because it takes as long as the rest of a peer's start

        return np.frombuffer(payload, "u1")[1:]
    if bytes(payload) == b"released":
        payload.release()
        return payload
    return b"ok"


STREAMS = {
    "producer": ringbell.produce,
    "consumer": ringbell.consume,
    "publisher": ringbell.publish,
    "subscriber": ringbell.subscribe,
}


def say(**reply):
    print(json.dumps(reply), flush=True)


def run(code, names):
    try:
        try:
            compiled = compile(code, "<test>", "eval")
        except SyntaxError:
            exec(compile(code, "<test>", "exec"), names)
            say(value="None")
        else:
            say(value=repr(eval(compiled, names)))
    except BaseException as error:
        say(error=type(error).__name__, text=str(error))


def main():
    role, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if "blocks" in options:
        options["blocks"] = ringbell.Blocks(**options["blocks"])
    names = {"ringbell": ringbell, "time": time, "path": path, "options": options}
    segment.FIRST_INDEX = options.pop("indices_from", 0)
    if "codec" in options:
        import coded  # loads NumPy

        options["codec"] = coded.CODECS.get(options["codec"], options["codec"])
        names["coded"] = coded
    if role == "serve":
        name = options.pop("handler")
        handler = globals()[name] if name in globals() else getattr(names["coded"], name)
        with ringbell.listen(path, **options) as listener:
            say(value="ready")
            ringbell.calls.serving.serve_on(listener, handler)
    if role == "device":
        names["listener"] = ringbell.listen(path, **options)
        say(value="ready")
        names["device"] = names["listener"].accept()
    elif role == "driver":
        names["driver"] = ringbell.connect(path, **options)
        say(value="ready")
    elif role in STREAMS:
        if "dtype" in options:
            options["dtype"] = ast.literal_eval(options["dtype"])
        say(value="ready")
        names[role] = STREAMS[role](path, **options)
    else:
        say(value="ready")
    while line := sys.stdin.readline():
        run(json.loads(line), names)


if __name__ == "__main__":
    main()
