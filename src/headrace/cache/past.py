"""PastCache: a cached store's objects without its pages, for work that passes over everything once."""

from __future__ import annotations

from headrace.cache.store import CachedStore
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store


class PastCache(Store):
    """The store behind `cached`: nothing that is read or written here makes a page, or room for one.

    Whether a write succeeded, failed or has an unknown outcome, what was known of its key is void in every process of the node
    before it is acknowledged: the key's mark is set, the next read asks. Closing this one closes nothing: the store is still
    `cached`'s.
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
        return PastCacheUploads(self._inner.multipart(), self._cached)


class PastCacheUploads(Multipart):
    """Uploads of the store behind `cached`. Only what makes an object seen concerns the cache."""

    def __init__(self, inner: Multipart, cached: CachedStore) -> None:
        self._inner = inner
        self._cached = cached

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        return await self._inner.begin(key, attributes, checksum=checksum, checksum_type=checksum_type)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        return await self._inner.put(upload, number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        return await self._inner.copy(upload, number, source, byte_range)

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self._inner.parts(upload, after=after, limit=limit)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        return await self._inner.parts_of(info, after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            info = await self._inner.complete(upload, parts, condition=condition, checksums=checksums)
        finally:
            self._cached.knowledge.replaced(upload.key)
        self._cached.knowledge.wrote(upload.key, info)
        return info

    async def abort(self, upload: Upload) -> None:
        await self._inner.abort(upload)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        return await self._inner.list(prefix, after=after, limit=limit)
