"""Loading objects into the cache, as a plan without IO: listing pages in, steps out, a cursor that never lies."""

from __future__ import annotations

from collections import deque

import msgspec

from headrace.ledger.records import JobProgress
from headrace.model.objects import Listing, ObjectInfo

MAX_FAILURES = 100
"""A load gives up after this many failed objects."""

_LOW_WATER = 500
"""The next page is listed when fewer steps than this wait."""

_MAX_OPEN = 10_000
"""Steps taken at once beyond the oldest one that is not done."""


class LoadStep(msgspec.Struct, frozen=True):
    """Load one object."""

    path: str
    size: int


class LoadPlan:
    """Turns listing pages into steps and keeps the cursor behind everything that is not done.

    After a crash, a plan made from the saved progress lists behind its cursor: every object is loaded, and
    only those that were in flight are loaded again. An object that failed holds the cursor where it is, so
    that a resumed job tries it again.
    """

    def __init__(self, saved: JobProgress = JobProgress()) -> None:  # noqa: B008 - a frozen value
        self._cursor = saved.cursor
        self._at_cursor = (saved.objects_at_cursor, saved.bytes_at_cursor)
        self._done = self._known = self._at_cursor
        self._failed = 0
        self._waiting: deque[LoadStep] = deque()
        self._order: deque[str] = deque()
        self._finished: dict[str, int] = {}
        self._in_flight = 0
        self._list_after: str | None = saved.cursor
        self._listing = False
        self.first_error = ""

    @property
    def gave_up(self) -> bool:
        return self._failed >= MAX_FAILURES

    @property
    def over(self) -> bool:
        """Nothing is in flight and nothing will be."""
        if self._in_flight or self._listing:
            return False
        return self.gave_up or (self._list_after is None and not self._waiting)

    @property
    def failed(self) -> int:
        return self._failed

    def next_listing(self) -> str | None:
        """Where the next page is to be listed from, when one is due and none is under way."""
        if self._list_after is None or self._listing or self.gave_up or len(self._waiting) >= _LOW_WATER:
            return None
        self._listing = True
        return self._list_after

    def listed(self, page: Listing) -> None:
        """The page that `next_listing` asked for."""
        self._listing = False
        self._list_after = page.after
        for entry in page.entries:
            if isinstance(entry, ObjectInfo):
                self._waiting.append(LoadStep(entry.key, entry.size))
                self._known = (self._known[0] + 1, self._known[1] + entry.size)

    def next_step(self) -> LoadStep | None:
        """The next object to load, if one waits."""
        if not self._waiting or self.gave_up or (len(self._order) >= _MAX_OPEN and not self._failed):
            return None
        step = self._waiting.popleft()
        self._in_flight += 1
        if not self._failed:
            self._order.append(step.path)
        return step

    def done(self, step: LoadStep, loaded_bytes: int) -> None:
        """`step` is in the cache."""
        self._in_flight -= 1
        self._done = (self._done[0] + 1, self._done[1] + loaded_bytes)
        self._finished[step.path] = loaded_bytes
        self._advance()

    def fail(self, error: str) -> None:
        """A step could not be loaded."""
        self._in_flight -= 1
        self._failed += 1
        if not self.first_error:
            self.first_error = error

    def progress(self) -> JobProgress:
        return JobProgress(
            cursor=self._cursor,
            objects_done=self._done[0],
            bytes_done=self._done[1],
            objects_failed=self._failed,
            objects_known=self._known[0],
            bytes_known=self._known[1],
            objects_at_cursor=self._at_cursor[0],
            bytes_at_cursor=self._at_cursor[1],
            all_known=self._list_after is None and not self._listing,
        )

    def _advance(self) -> None:
        while self._order and self._order[0] in self._finished:
            self._cursor = self._order.popleft()
            self._at_cursor = (self._at_cursor[0] + 1, self._at_cursor[1] + self._finished.pop(self._cursor))
        if self._failed:
            # The cursor stays at the first failure: what ends behind it need not be remembered.
            self._finished.clear()
