"""Drawing both listings and the agreed pairs, a page ahead, through the merge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import msgspec

from headrace.control.node_view import NodeView
from headrace.control.sync.planner import Decision, Merge, Source
from headrace.control.sync.steps import Seen
from headrace.control.work import Pause, patiently
from headrace.ledger.sync_records import SyncPair, SyncSpec
from headrace.ledger.syncs import SyncTable
from headrace.stores.keys import PAGE_KEYS

PAIRS_LIMIT = 2000


class _Page(msgspec.Struct, frozen=True):
    items: Sequence[Seen] | Sequence[SyncPair]
    after: str | None


_Ask = Callable[[str], Awaitable[_Page]]


class _Pages:
    """The pages of one source, the next one asked for while this one is worked on."""

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask
        self._next: asyncio.Task[_Page] | None = asyncio.ensure_future(self._asked(""))

    async def next(self) -> tuple[Sequence[Seen] | Sequence[SyncPair], bool]:
        """A page, and whether it is the last."""
        if self._next is None:
            return (), True
        page = await self._next
        self._next = None if page.after is None else asyncio.ensure_future(self._asked(page.after))
        return page.items, page.after is None

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)

    async def _asked(self, after: str) -> _Page:
        return await self._ask(after)


async def decisions(
    merge: Merge, spec: SyncSpec, node: NodeView, table: SyncTable, pause: Pause
) -> AsyncGenerator[tuple[Decision, ...]]:
    """All decisions, some at a time, in the order of keys. Raises what listing a side raises: nothing more is concluded then."""

    def side(path: str) -> _Ask:
        async def ask(after: str) -> _Page:
            page = await patiently(lambda: node.side_page(path, after=after, limit=PAGE_KEYS), pause)
            return _Page(page.objects, page.after)

        return ask

    async def pairs(after: str) -> _Page:
        # The empty text is no key: what sorts behind it is everything.
        found = await asyncio.to_thread(table.pairs, spec.name, after=after, limit=PAIRS_LIMIT)
        return _Page(found, found[-1].key if len(found) == PAIRS_LIMIT else None)

    sources = {Source.PAIRS: _Pages(pairs), Source.A: _Pages(side(spec.a)), Source.B: _Pages(side(spec.b))}
    try:
        while not merge.is_over:
            for source in merge.wants():
                items, ended = await sources[source].next()
                merge.feed(source, items, ended=ended)
            yield tuple(merge.take())
    finally:
        for pages in sources.values():
            await pages.close()
