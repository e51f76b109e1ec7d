"""An account of buckets in memory, as an account mount at `/` has them."""

from __future__ import annotations

import time

from headrace.model.errors import BucketExists, BucketNotEmpty, NotFound
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Bucket
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition
from headrace.stores.account import AccountStore
from headrace.stores.buckets import Buckets
from headrace.stores.memory import MemoryStore
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store


class MemoryAccount(AccountStore):
    """Buckets that are made and removed at will. With `min_part_bytes`, tests need no large parts."""

    def __init__(self, *names: str, min_part_bytes: int = 5 * 1024 * 1024) -> None:
        self.made = MemoryBuckets(min_part_bytes)
        for name in names:
            self.made.add(name)
        super().__init__(self.made, self.made.open)


class MemoryBuckets(Buckets):
    def __init__(self, min_part_bytes: int) -> None:
        self.stores: dict[str, MemoryStore] = {}
        self._created_s: dict[str, float] = {}
        self._min_part_bytes = min_part_bytes

    def add(self, name: str) -> MemoryStore:
        self._created_s[name] = time.time()
        self.stores[name] = MemoryStore(min_part_bytes=self._min_part_bytes)
        return self.stores[name]

    def open(self, name: str) -> Store:
        return _BucketOf(self, name)

    async def list(self) -> tuple[Bucket, ...]:
        return tuple(Bucket(name, self._created_s[name]) for name in sorted(self.stores))

    async def create(self, name: str) -> Bucket:
        if name in self.stores:
            raise BucketExists(f"{name} is there already", path=name)
        self.add(name)
        return Bucket(name, self._created_s[name])

    async def delete(self, name: str) -> None:
        if (await self.store(name).list(limit=1)).entries:
            raise BucketNotEmpty(f"{name} is not empty", path=name)
        del self.stores[name]

    def store(self, name: str) -> MemoryStore:
        if name not in self.stores:
            raise NotFound(f"there is no bucket {name}", path=name)
        return self.stores[name]


class _BucketOf(Store):
    """The store that a bucket's name leads to now."""

    def __init__(self, buckets: MemoryBuckets, name: str) -> None:
        self._buckets = buckets
        self._name = name

    @property
    def _store(self) -> MemoryStore:
        return self._buckets.store(self._name)

    async def info(self, key: str) -> ObjectInfo:
        return await self._store.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return await self._store.read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._store.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self._store.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._store.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self._store.write(key, body, attributes, condition=condition)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self._store.copy(source, key, attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._store.delete(key, condition=condition)

    async def set_tags(self, key: str, tags: tuple[tuple[str, str], ...]) -> None:
        await self._store.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return self._store.multipart()
