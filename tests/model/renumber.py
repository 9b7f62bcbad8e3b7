# SPDX-License-Identifier: MIT
"""Puts the line numbers in the model's README right again; `make format` runs it.

A step whose text is gone, or stands in another file now, is left for a person to look at.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = Path(__file__).with_name("README.md")
PLACE = re.compile(r"`(csrc/\w+\.[ch]):(\d+)` \| `(.+)` \|$", re.MULTILINE)


def renumbered(place: re.Match[str]) -> str:
    source, line, text = place.groups()
    lines = (ROOT / source).read_text().splitlines()
    found = [number for number, there in enumerate(lines, 1) if text in there]
    nearest = min(found, key=lambda number: abs(number - int(line)), default=line)
    return f"`{source}:{nearest}` | `{text}` |"


if __name__ == "__main__":
    README.write_text(PLACE.sub(renumbered, README.read_text()))
