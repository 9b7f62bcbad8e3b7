# SPDX-License-Identifier: MIT
"""A side may be stopped (SIGSTOP) and continued at any moment: nothing is lost, nobody gives up."""

import os
import random
import select
import signal
import time
from pathlib import Path

import pytest
from processes import wait_until

pytestmark = pytest.mark.proof

# The sum over all cases; `make verify` asks for more.
STOPS = 2000 if os.environ.get("RINGBELL_VERIFY") else 200
PARTS = 10  # between two parts each side must make progress
LONGEST = 0.002  # seconds

# Both sides run this. They write now and then how far they are; the driver ends when told to.
REPORTING = """
from pathlib import Path
import numbered

class Reported(numbered.Progress):
    def look(self):
        Path(path + "." + self.side).write_text(str(self.taken))

def exchange(kind, size):
    side = "driver" if "driver" in globals() else "device"
    progress = Reported(numbered.Traffic(kind=kind, size=size, window=5), side)
    if side == "driver":
        numbered.drive(driver, progress, lambda: Path(path + ".end").exists())
    else:
        numbered.serve(device, progress)
    return progress.sent, progress.taken
"""


def taken_by(path, side) -> int:
    try:
        return int(Path(f"{path}.{side}").read_text() or 0)
    except FileNotFoundError:
        return 0


def has_replied(peers) -> bool:
    """Whether one of them has failed: no peer replies before it is told to end."""
    return bool(select.select([peer.process.stdout for peer in peers], [], [], 0)[0])


def stop_and_continue(peers, chance):
    """Stop one side, or both, and let them go on in any order."""
    stopped = chance.sample(peers, chance.choice((1, 1, 1, 2)))
    for peer in stopped:
        peer.stop()
    if len(stopped) == 1 and chance.random() < 1 / 4:
        # Soon the other side has nothing to do, as this one stands still.
        (other,) = (peer for peer in peers if peer not in stopped)
        wait_until(lambda: other.state() in "SZ")
    # The pauses spread the stops over all moments; nothing waits for them.
    time.sleep(chance.uniform(0, LONGEST))
    for peer in chance.sample(stopped, len(stopped)):
        peer.signal(signal.SIGCONT)
        assert peer.state() != "Z"
    time.sleep(chance.uniform(0, LONGEST))


@pytest.mark.parametrize("polling", ["never", "adaptive"])
@pytest.mark.parametrize(("kind", "size"), [("messages", 200), ("requests", 9000)])
def test_sides_that_are_stopped_and_continued_lose_nothing(start, path, polling, kind, size):
    device = start("device", polling=polling)
    driver = start("driver", polling=polling, ring_size=4096)
    peers = [driver, device]
    for peer in peers:
        peer.run(REPORTING)
    for peer in peers:
        peer.begin(f"exchange({kind!r}, {size})")
    chance = random.Random(f"{polling} {kind}")
    for _ in range(PARTS):
        before = {side: taken_by(path, side) for side in ("driver", "device")}
        for _ in range(STOPS // PARTS // 4):
            stop_and_continue(peers, chance)
        wait_until(
            lambda before=before: (
                all(taken_by(path, side) > before[side] for side in before) or has_replied(peers)
            )
        )
    Path(f"{path}.end").touch()
    assert driver.reply() == device.reply()
