# SPDX-License-Identifier: MIT
"""One claim on the page: what was claimed, what was measured, and what is the case."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from claims.verdicts import Verdict


@dataclass(frozen=True)
class Section:
    number: int
    claim: str
    how: str
    verdict: Verdict
    figure: str
    tables: list[list[list[str]]] = field(default_factory=list)
    """Rows of cells; the first row is the heading."""

    def as_markdown(self) -> str:
        tables = "\n\n".join(_table(rows) for rows in self.tables)
        verdict = fill(f"**{self.verdict.word.capitalize()}.** {self.verdict.text}")
        how = fill(f"How: {self.how} `python bench/claims --only {self.number}`")
        return (
            f"## {self.number}. {self.verdict.title}\n\n"
            f"Claimed: {self.claim}.\n\n"
            f"{verdict}\n\n"
            f"![{self.verdict.title}](figures/{self.figure})\n\n"
            f"{tables}\n\n"
            f"{how}\n"
        )


def fill(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{' --- |' * len(rows[0])}")
    return "\n".join(lines)
