"""The demo's result as one table and one chart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.model.units import format_size


@dataclass(frozen=True, slots=True)
class Run:
    """One asking of a query: how long it took, and how much came over the link for it."""

    seconds: float
    link_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One query three ways: straight over the link, through Headrace with nothing cached, and once more."""

    name: str
    direct: Run
    cold: Run
    warm: Run

    @property
    def speed_up(self) -> float:
        return self.direct.seconds / max(self.warm.seconds, 1e-9)


HEAD = ("query", "direct", "cold", "warm", "link direct", "link cold", "link warm", "speed-up")


def table_rows(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The table's lines, the sum of all queries last."""
    total = Measured(
        "all",
        Run(sum(m.direct.seconds for m in measured), sum(m.direct.link_bytes for m in measured)),
        Run(sum(m.cold.seconds for m in measured), sum(m.cold.link_bytes for m in measured)),
        Run(sum(m.warm.seconds for m in measured), sum(m.warm.link_bytes for m in measured)),
    )
    return [_row(m) for m in (*measured, total)]


def _row(m: Measured) -> tuple[str, ...]:
    runs = (m.direct, m.cold, m.warm)
    return (m.name, *(f"{r.seconds:.2f} s" for r in runs), *(format_size(r.link_bytes) for r in runs), f"{m.speed_up:.1f} ×")


def figures(measured: Sequence[Measured]) -> list[dict[str, object]]:
    """What `--json` tells of every query: seconds, and bytes that came over the link."""
    ways = [(m, {"direct": m.direct, "cold": m.cold, "warm": m.warm}) for m in measured]
    return [{"query": m.name, **runs, "speed_up": m.speed_up} for m, runs in ways]


def draw_chart(measured: Sequence[Measured], file: Path, *, link: str) -> None:
    """Seconds of every query three ways, as a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 (optional package)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 (optional package)

    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.62 * len(measured)), layout="constrained")
    middle = range(len(measured))
    series = (
        ("direct, over the link", -0.27, "#b0413e"),
        ("through Headrace, cold", 0.0, "#d9a441"),
        ("through Headrace, warm", 0.27, "#2f7f6f"),
    )
    for (label, shift, colour), runs in zip(
        series, ([m.direct for m in measured], [m.cold for m in measured], [m.warm for m in measured]), strict=True
    ):
        bars = axes.barh([at + shift for at in middle], [run.seconds for run in runs], height=0.25, label=label, color=colour)
        axes.bar_label(bars, [f"{run.seconds:.2f} s" for run in runs], padding=3, fontsize=8)
    axes.set_yticks(list(middle), [m.name for m in measured])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds (logarithmic)")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.09), ncols=3, frameon=False, fontsize=9)
    median = statistics.median(m.speed_up for m in measured)
    axes.set_title(f"A store behind {link}: warm reads are {median:.0f} × faster at the median", loc="left", fontsize=12)
    figure.savefig(file, dpi=130)
    plt.close(figure)
