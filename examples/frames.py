# SPDX-License-Identifier: MIT
"""A camera: frames of 640 x 480 pixels, drawn in place and looked at without a copy.

python examples/frames.py camera    in one terminal
python examples/frames.py viewer    in another; whichever starts first waits
"""

import sys

import numpy as np

import ringbell

NAME = "camera"
# A record is a whole frame: its number, and its pixels as a sub-array.
FRAME = np.dtype([("number", "i8"), ("pixels", "u1", (480, 640))])
FRAMES = 200
# The ring has to have room for some frames, so that neither side waits for the other at each.
RING_SIZE = 8 << 20


def camera() -> None:
    with ringbell.produce(NAME, dtype=FRAME, ring_size=RING_SIZE) as stream:
        for number in range(FRAMES):
            with stream.reserve(1) as frames:
                frames[0]["number"] = number
                frames[0]["pixels"][:] = number % 256


def viewer() -> None:
    seen = late = 0
    with ringbell.consume(NAME, dtype=FRAME) as stream:
        for frames in stream:
            # A viewer that is slow gets several frames at a time, and may look at the last only.
            newest = frames[-1]
            assert int(newest["pixels"][0, 0]) == int(newest["number"]) % 256
            seen += 1
            late += len(frames) - 1
    print(f"looked at {seen} frames, passed over {late}, {seen + late} came")


if __name__ == "__main__":
    side = {"camera": camera, "viewer": viewer}.get(sys.argv[-1])
    side() if side else sys.exit(__doc__)
