"""Several ordered listings read as one, page by page, with memory bounded by the page."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence

from headrace.model.objects import Entry, Listing

Source = Callable[[str, int], Awaitable[Listing]]
"""`(after, limit) -> Listing`: a page of one ordered listing."""

LAST = "\U0010ffff"
"""Behind every key that begins with the text before it."""


async def merge_listings(sources: Sequence[Source], *, after: str, limit: int) -> Listing:
    """One page of the union of `sources`. Of entries with one key the earliest source's is kept.

    A failure of any source fails the page: a store that cannot be asked is not an empty one.
    """
    if len(sources) == 1:
        return await sources[0](after, limit)
    pages = await asyncio.gather(*(source(after, limit) for source in sources))
    # What lies behind the first page end is unknown, so nothing behind it may be listed yet.
    horizon = min((page.after for page in pages if page.after is not None), default=None)
    merged: list[Entry] = []
    for entry in heapq.merge(*(page.entries for page in pages), key=lambda e: e.key):
        if merged and merged[-1].key == entry.key:
            continue
        if len(merged) == limit:
            return Listing(tuple(merged), merged[-1].key)
        if horizon is not None and entry.key > horizon:
            break
        merged.append(entry)
    return Listing(tuple(merged), horizon)
