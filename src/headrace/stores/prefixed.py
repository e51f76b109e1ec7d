"""PrefixedStore: the part of a store whose keys begin with a prefix, seen without it."""

from __future__ import annotations

from headrace.model.objects import ByteRange, CommonPrefix, Entry, Listing, ObjectInfo, Version, with_key
from headrace.model.reading import Reading
from headrace.stores.keys import check_key, check_text
from headrace.stores.store import Store


class PrefixedStore(Store):
    """Keys of `inner` that begin with `prefix`, with it taken away."""

    def __init__(self, inner: Store, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    def peek(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        reading = self._inner.peek(self._full(key), byte_range)
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
