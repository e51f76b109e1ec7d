"""CacheWrites: a cached store that takes writes, which go to the store past the cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from headrace.cache.past import PastCache
from headrace.cache.store import CachedStore
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store

_KEEP_MAX_BYTES = 4 << 20
_KEEPING_MAX = 4
"""So many bodies become pages at once. In a storm of small writes most do not: files would take half of its time."""


class CacheWrites(Store):
    """`cached` with the writes of `PastCache`. Small bodies are kept as pages of the new version."""

    def __init__(self, cached: CachedStore) -> None:
        self.cached = cached
        self._inner = cached.inner
        self._keeping: set[asyncio.Future[None]] = set()
        self.peek = cached.peek  # type: ignore[method-assign]  # one call less on the path of every warm read
        self._past = PastCache(cached)

    async def info(self, key: str) -> ObjectInfo:
        return await self.cached.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return await self.cached.read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self.cached.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> Pairs:
        return await self.cached.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self.cached.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        kept = _KeptBody(body)
        info = await self._past.write(key, kept, attributes, condition=condition)
        self._keep(info, kept)
        return info

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self._past.copy(source, key, attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._past.delete(key, condition=condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self._past.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return self._past.multipart()

    def buckets(self) -> Buckets:
        return self._inner.buckets()

    async def close(self) -> None:
        if self._keeping:
            await asyncio.sleep(0)  # let those just made begin: a task that never ran settles nothing
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await self.cached.close()

    def _keep(self, info: ObjectInfo, kept: _KeptBody) -> None:
        data = kept.data
        if data is None or not data or len(data) != info.size or len(self._keeping) >= _KEEPING_MAX:
            return
        task = self.cached.keep(info, data)
        if task is not None:
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)


class _KeptBody(Body):
    """A body whose bytes are at hand afterwards, when there are few."""

    def __init__(self, inner: Body) -> None:
        self.length = inner.length
        self.rewindable = inner.rewindable
        self._inner = inner
        self._pieces: list[Buffer] | None = None

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._passed_on()

    async def _passed_on(self) -> AsyncIterator[Buffer]:
        size = 0
        pieces: list[Buffer] | None = [] if (self.length or 0) <= _KEEP_MAX_BYTES else None
        self._pieces = None
        async for piece in self._inner:
            size += len(piece)
            if pieces is not None:
                pieces.append(piece)
                if size > _KEEP_MAX_BYTES:
                    pieces = None
            yield piece
        self._pieces = pieces

    def at_hand(self) -> Buffer | None:
        data = self._inner.at_hand()
        if data is not None:
            self._pieces = [data] if len(data) <= _KEEP_MAX_BYTES else None
        return data

    @property
    def data(self) -> bytes | None:
        """All of the body; None when it was too long or did not end."""
        return None if self._pieces is None else b"".join(self._pieces)

    def checksums(self) -> Pairs:
        return self._inner.checksums()
