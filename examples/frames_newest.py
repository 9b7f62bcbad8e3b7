# SPDX-License-Identifier: MIT
"""A camera that waits for nobody, and viewers that always get its newest frame.

python examples/frames_newest.py camera     in one terminal
python examples/frames_newest.py viewer     in another, or in several, at any time
"""

import sys
import time

import numpy as np

import ringbell

NAME = "newest-frames"
FRAME = np.dtype([("number", "i8"), ("pixels", "u1", (480, 640))])
FRAMES = 300
# Some frames, so that a viewer has time to copy one before it is overwritten.
RING_SIZE = 8 << 20


def camera() -> None:
    with ringbell.publish(NAME, FRAME, keep="newest", min_readers=1, ring_size=RING_SIZE) as stream:
        for number in range(1, FRAMES + 1):
            with stream.reserve(1) as frames:  # waits for the first viewer, and then never
                frames[0]["number"] = number
                frames[0]["pixels"][:] = number % 256
            time.sleep(1 / 600)


def viewer() -> None:
    seen = number = 0
    with ringbell.subscribe(NAME, FRAME) as stream:
        while True:
            try:
                frame = stream.latest()  # a copy; waits for one that is newer than the last
            except ringbell.EndOfStream:
                break
            number = int(frame["number"])
            assert (frame["pixels"] == number % 256).all()
            seen += 1
            time.sleep(0.05)  # slow work: meanwhile the camera goes on
    print(f"looked at {seen} frames, missed {stream.missed}; the last is {number}")


if __name__ == "__main__":
    side = {"camera": camera, "viewer": viewer}.get(sys.argv[-1])
    side() if side else sys.exit(__doc__)
