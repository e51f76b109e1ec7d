"""Engines that have environments of their own, in groups, and which groups' turn it is.

    python tests/support/engines.py all | today | GROUP…

prints the groups meant, for `scripts/engines.sh`.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    "frames": ("dask", "daft", "datafusion", "opendal"),
    "clickhouse": ("chdb",),
    "notebook": ("jupyter",),
    "ray": ("ray",),
    "sail": ("sail",),
    "spark": ("spark",),
    "torch": ("torch", "jax"),
}
"""The how-to pages of each group, by name."""

TURNS = (("frames",), ("spark",), ("torch",), ("ray",), ("clickhouse", "notebook"), ("sail",))
"""What one run of `make test-rest` takes on; each set is set up and run within about four minutes."""

OWN_PAGES = frozenset(page for pages in PAGES.values() for page in pages)
"""Pages whose lines need an environment of their own."""


def of_day(day: datetime.date) -> tuple[str, ...]:
    """The groups whose turn it is: one set after the other, day by day of the year."""
    return TURNS[day.timetuple().tm_yday % len(TURNS)]


def meant(words: list[str], today: datetime.date) -> tuple[str, ...]:
    """The groups that `words` mean. Raises `ValueError` for one that there is not."""
    if words == ["all"]:
        return tuple(PAGES)
    if words == ["today"]:
        return of_day(today)
    unknown = [word for word in words if word not in PAGES]
    if unknown or not words:
        raise ValueError(f"no group of engines is called {unknown}; there are: all, today, {', '.join(PAGES)}")
    return tuple(words)


def chosen() -> tuple[str, ...]:
    """The groups of this test run: `$ENGINES`, else all."""
    return meant(os.environ.get("ENGINES", "all").split(), datetime.datetime.now(datetime.UTC).date())


def python_of(group: str) -> str:
    """The interpreter of a group's environment."""
    return str(ROOT / ".servers" / "engines" / group / "bin" / "python")


def s3a_jars() -> str:
    """A class path with the S3A connector and the SDK that it needs."""
    return str(ROOT / ".servers" / "engines" / "spark" / "s3a" / "*")


if __name__ == "__main__":
    print(*meant(sys.argv[1:] or ["all"], datetime.datetime.now(datetime.UTC).date()))
