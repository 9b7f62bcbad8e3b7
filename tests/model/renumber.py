# SPDX-License-Identifier: MIT
"""Puts the line numbers in the model's README right again; `make format` runs it.

A step whose text is gone, or stands in another function now, is left for a person to look at.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = Path(__file__).with_name("README.md")
PLACE = re.compile(r"`(csrc/\w+\.[ch]):(\d+)` \| `(\w+)` \| `(.+)` \|$", re.MULTILINE)


def lines_in(source: str, function: str, text: str) -> list[int]:
    """Give the numbers of the lines of a function, from its name on, that the text is on."""
    content = (ROOT / source).read_text()
    found = re.search(
        rf"^(?:\w[\w \*]*)?\b{function}\([^;{{}}]*\)\n{{\n.*?^}}", content, re.DOTALL | re.MULTILINE
    )
    if not found:
        return []
    first = content.count("\n", 0, found.start()) + 1
    return [
        number for number, line in enumerate(found[0].splitlines(), first) if text in line.strip()
    ]


def renumbered(place: re.Match[str]) -> str:
    source, line, function, text = place.groups()
    found = lines_in(source, function, text)
    return f"`{source}:{found[0] if len(found) == 1 else line}` | `{function}` | `{text}` |"


if __name__ == "__main__":
    README.write_text(PLACE.sub(renumbered, README.read_text()))
