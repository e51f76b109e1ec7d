"""What a benchmark found: one table on the terminal, one JSON file that `headrace bench` turns into docs/PERFORMANCE.md."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load import ROUNDS, conditions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure: what, the value found, the bound wanted (`at least` or `at most`), and the rounds behind it."""

    what: str
    value: float
    wanted: float | None = None
    sense: str = "at least"
    ours: Sequence[float] = field(default=())
    theirs: Sequence[float] = field(default=())

    @property
    def held(self) -> bool | None:
        if self.wanted is None:
            return None
        return self.value >= self.wanted if self.sense == "at least" else self.value <= self.wanted


def emit(name: str, title: str, rows: Sequence[Row], *, rounds: int = ROUNDS) -> None:
    """Print the table and keep it under results/."""
    found = conditions(rounds)
    lines = [
        f"## {title}",
        "",
        found + ".",
        "",
        "| What | Found | Wanted | Holds | Medians (ours / theirs) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        wanted = f"{row.sense} {row.wanted:g}" if row.wanted is not None else "—"
        held = {True: "yes", False: "**no**", None: ""}[row.held]
        medians = " / ".join(f"{statistics.median(values):,.4g}" for values in (row.ours, row.theirs) if values)
        lines.append(f"| {row.what} | {row.value:.3g} | {wanted} | {held} | {medians} |")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps([row.__dict__ for row in rows], default=list))
