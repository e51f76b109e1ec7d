"""Which fills a read needs. Pure: sizes and what is there in, runs of pages out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.cache.layout import CHUNK_PAGES, Geometry, Kind, SegmentName

RUN_PAGES = 16
"""A fill of single pages covers at most this many."""

WINDOW_CHUNKS = 4
"""How many chunks a reader keeps in flight ahead of itself."""

ASK_BYTES = 1 << 20
"""What is asked for when nothing is known of an object yet: about what a fast long link carries in one round trip."""

_SMALL_BYTES = 128 * 1024
_AHEAD_START_BYTES = 256 * 1024


class Run(msgspec.Struct, frozen=True):
    """Consecutive pages `first` up to `last` to fetch by one request, kept as segments of one kind."""

    kind: Kind
    first: int
    last: int

    def extent(self, geometry: Geometry, size: int) -> tuple[int, int]:
        """The bytes of the object, from and up to, that the run holds."""
        return self.first * geometry.page, min(self.last * geometry.page, size)

    def names(self, object_id: bytes) -> tuple[SegmentName, ...]:
        """The segments that the run makes, in order."""
        if self.kind is Kind.PAGE:
            return tuple(SegmentName(object_id, Kind.PAGE, page) for page in range(self.first, self.last))
        return (SegmentName(object_id, self.kind, self.first // CHUNK_PAGES),)


def whole_fits(geometry: Geometry, size: int) -> bool:
    """Whether an object is small enough to be kept as one segment from the start."""
    return size <= geometry.chunk


def run_at(geometry: Geometry, size: int, first: int, last: int, present: Sequence[bool]) -> Run | None:
    """The first fill that pages `first` up to `last` (all of one chunk) need; None when all are there.

    `present` tells it page by page. A long run from the chunk's start, of which most is absent, takes the whole chunk.
    """
    absent = [page for page, there in zip(range(first, last), present, strict=True) if not there]
    if not absent:
        return None
    chunk_first = first - first % CHUNK_PAGES
    chunk_last = min(chunk_first + CHUNK_PAGES, geometry.pages(size))
    wanted, all_pages = len(absent), chunk_last - chunk_first
    if absent[0] == chunk_first and (wanted * 2 > all_pages or wanted == all_pages):
        kind = Kind.WHOLE if whole_fits(geometry, size) else Kind.CHUNK
        return Run(kind, chunk_first, chunk_last)
    end = absent[0] + 1
    while end < last and end - absent[0] < RUN_PAGES and not present[end - first]:
        end += 1
    if geometry.pages(size) == 1:
        return Run(Kind.WHOLE, 0, 1)
    return Run(Kind.PAGE, absent[0], end)


def first_ask(geometry: Geometry, start: int, end: int | None) -> tuple[int, int]:
    """The aligned bytes to ask for when the object's size is not known; `end` None means its end."""
    page, chunk = geometry.page, geometry.chunk
    low = start - start % page
    # No more than the first fill will take: what it cannot use would be fetched twice.
    fill = chunk if low % chunk == 0 else min(RUN_PAGES * page, chunk - low % chunk)
    high = low + min(max(page, ASK_BYTES), fill)
    return low, high if end is None else min(-(-end // page) * page, high)


class Streak(msgspec.Struct, frozen=True):
    """How sequentially an object is read: where the last read ended and how far to read ahead of the next."""

    end: int = -1
    ahead_bytes: int = 0

    def after(self, start: int, end: int, limit_bytes: int) -> Streak:
        """The streak once `start` up to `end` was read: the window doubles while reads follow each other."""
        if start != self.end:
            return Streak(end, 0)
        return Streak(end, min(max(self.ahead_bytes * 2, _AHEAD_START_BYTES), limit_bytes))


def passes_through(geometry: Geometry, start: int, end: int) -> bool:
    """Whether a cold read is so much smaller than its pages that it must not wait for them."""
    return geometry.page > _SMALL_BYTES and (end - start) * 4 <= geometry.page
