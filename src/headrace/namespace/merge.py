"""Several ordered listings read as one, page by page, with memory bounded by the page."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headrace.model.objects import Entry, Listing

LAST = "\U0010ffff"
"""Behind every key that begins with the text before it."""


class Source(msgspec.Struct, frozen=True):
    """One ordered listing."""

    page: Callable[[str, int], Awaitable[Listing]]
    """`(after, limit) -> Listing`"""
    low: str = ""
    """Nothing of it sorts before this text."""


async def merge_listings(sources: Sequence[Source], *, after: str, limit: int) -> Listing:
    """One page of the union of `sources`. Of entries with one key the earliest source's is kept.

    A source that begins behind the end of the page is not asked. A failure of any that is asked fails the page: a store
    that cannot be asked is not an empty one.
    """
    if not sources:
        return Listing(())
    if len(sources) == 1:
        return await sources[0].page(after, limit)
    pages: list[Listing | None] = [None] * len(sources)
    bound: str | None = max(after, min(source.low for source in sources))
    merged: tuple[Entry, ...] = ()
    while due := [n for n, page in enumerate(pages) if page is None and (bound is None or sources[n].low <= bound)]:
        for n, page in zip(due, await asyncio.gather(*(sources[n].page(after, limit) for n in due)), strict=True):
            pages[n] = page
        merged, bound = _merged([page for page in pages if page is not None], limit)
    return Listing(merged, bound)


def _merged(pages: Sequence[Listing], limit: int) -> tuple[tuple[Entry, ...], str | None]:
    """The first entries of all that these pages tell for certain, and where to go on; None when nothing follows."""
    # What lies behind the first page end is unknown, so nothing behind it may be listed yet.
    horizon = min((page.after for page in pages if page.after is not None), default=None)
    merged: list[Entry] = []
    for entry in heapq.merge(*(page.entries for page in pages), key=lambda e: e.key):
        if merged and merged[-1].key == entry.key:
            continue
        if len(merged) == limit:
            return tuple(merged), merged[-1].key
        if horizon is not None and entry.key > horizon:
            break
        merged.append(entry)
    return tuple(merged), horizon
