"""When what is known of an object may still be used. Pure: times are handed in."""

from __future__ import annotations

import re

_POINTER = re.compile(
    r"""(?:^|/)(?:
        _delta_log/.*                                   # Delta: which commits and checkpoints there are
        | metadata/(?:version-hint\.text|[^/]*\.metadata\.json)  # Iceberg: the table's current state
        | \.hoodie/.*                                   # Hudi: the timeline
    )$""",
    re.VERBOSE,
)


def bound_of(key: str, freshness_s: float) -> float:
    """The bound on what is known of a key: none is allowed for what points at a table's current state.

    Such files are small and tell readers which immutable data files to read: a stale one is a stale table. Formats: Delta Lake's
    transaction protocol, Apache Iceberg's table spec, Apache Hudi's timeline.
    """
    return 0.0 if _POINTER.search(key) is not None else freshness_s


def is_fresh(asked_s: float, now_s: float, bound_s: float) -> bool:
    """Whether an answer to a question put at `asked_s` may serve a read that starts now.

    Measured from when the store was asked, not from when it answered: it may have looked at once. A bound of 0
    (`verify`) is never met, an infinite one (`immutable`) always.
    """
    return bound_s > 0 and now_s - asked_s <= bound_s


def may_join(asked_s: float, arrived_s: float, bound_s: float) -> bool:
    """Whether the answer under way to a question put at `asked_s` may serve a read that arrived at `arrived_s`."""
    return asked_s >= arrived_s or is_fresh(asked_s, arrived_s, bound_s)
