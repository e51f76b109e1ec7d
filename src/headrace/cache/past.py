"""PastCache: a cached store's objects without its pages, for work that passes over everything once."""

from __future__ import annotations

from headrace.cache.store import CachedStore
from headrace.cache.writes import CacheUploads
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store


class PastCache(Store):
    """The store behind `cached`: nothing that is read or written here makes a page, or room for one.

    What is written voids what was known of its key, in every process of the node, before it is acknowledged. Closing this
    one closes nothing: the store is still `cached`'s.
    """

    def __init__(self, cached: CachedStore) -> None:
        self._cached = cached
        self._inner = cached.inner

    def replaced(self, key: str) -> None:
        """Somebody changed the object past this store, or may have: what was known of it is void."""
        self._cached.knowledge.replaced(key)

    async def info(self, key: str) -> ObjectInfo:
        return await self._inner.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return await self._inner.read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> Pairs:
        return await self._inner.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._inner.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        try:
            info = await self._inner.write(key, body, attributes, condition=condition)
        finally:
            self.replaced(key)
        self._cached.knowledge.wrote(key, info)
        return info

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        try:
            info = await self._inner.copy(source, key, attributes, condition=condition)
        finally:
            self.replaced(key)
        self._cached.knowledge.wrote(key, info)
        return info

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        try:
            await self._inner.delete(key, condition=condition)
        finally:
            self.replaced(key)
        self._cached.knowledge.wrote(key, None)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        try:
            await self._inner.set_tags(key, tags)
        finally:
            self.replaced(key)

    def multipart(self) -> Multipart:
        return CacheUploads(self._inner.multipart(), self._cached)
