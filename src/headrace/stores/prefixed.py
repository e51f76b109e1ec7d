"""PrefixedStore: the part of a store whose keys begin with a prefix, seen without it."""

from __future__ import annotations

from headrace.model.objects import ByteRange, CommonPrefix, Entry, Listing, ObjectInfo, Version, with_key
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.keys import check_key, check_text
from headrace.stores.prefixed_uploads import PrefixedUploads
from headrace.stores.store import Store


class PrefixedStore(Store):
    """Keys of `inner` that begin with `prefix`, with it taken away."""

    def __init__(self, inner: Store, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        reading = self._inner.peek(self._full(key), byte_range, files=files)
        return None if reading is None else _renamed(reading, key)

    async def info(self, key: str) -> ObjectInfo:
        return with_key(await self._inner.info(self._full(key)), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return _renamed(await self._inner.read(self._full(key), byte_range, version=version), key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        page = await self._inner.list(self._prefix + prefix, delimiter=delimiter, after=self._prefix + after, limit=limit)
        # An object whose key is the prefix itself has no name here; it never sorts behind `after`.
        entries = tuple([self._short(entry) for entry in page.entries])
        return Listing(entries, None if page.after is None else page.after[len(self._prefix) :])

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self._inner.tags(self._full(key))

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._inner.part(with_key(info, self._full(info.key)), number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return with_key(await self._inner.write(self._full(key), body, attributes, condition=condition), key)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        origin = with_key(source, self._full(source.key))
        return with_key(await self._inner.copy(origin, self._full(key), attributes, condition=condition), key)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._inner.delete(self._full(key), condition=condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self._inner.set_tags(self._full(key), tags)

    def multipart(self) -> PrefixedUploads:
        return PrefixedUploads(self._inner.multipart(), self._prefix)

    async def close(self) -> None:
        await self._inner.close()

    def _full(self, key: str) -> str:
        # Only emptiness is judged here: how long a key may be is for the store that holds it to say.
        if not key:
            check_key(key)
        return self._prefix + key

    def _short(self, entry: Entry) -> Entry:
        key = entry.key[len(self._prefix) :]
        return CommonPrefix(key) if isinstance(entry, CommonPrefix) else with_key(entry, key)


def _renamed(reading: Reading, key: str) -> Reading:
    reading.info = with_key(reading.info, key)
    return reading
