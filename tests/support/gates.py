"""A store whose writes can be held up, refused, or done without their answer arriving."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from headrace.model.errors import HeadraceError, Unavailable, Unsupported
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition, Pairs
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store


class GatedStore(Store):
    """`inner`; what it took in is remembered by key in `written` (None: a removal)."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._gate = asyncio.Event()
        self._gate.set()
        self._failure: HeadraceError | None = None
        self._answers_to_lose = 0
        self._reads_fail = True
        self.lost = 0
        self.refused = 0
        """Calls that were answered with the failure."""
        self.knows_conditions = True
        self.written: dict[str, list[bytes | None]] = defaultdict(list)

    def shut(self) -> None:
        """Writes wait."""
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def fail(self, error: HeadraceError) -> None:
        """Every call is answered so."""
        self._failure = error
        self._reads_fail = True

    def heal(self) -> None:
        self._failure = None
        self._reads_fail = True

    def heal_reads(self) -> None:
        """Only writes go on failing."""
        self._reads_fail = False

    def lose_answers(self, count: int) -> None:
        """The next writes take effect, and their callers are told that the answer did not come."""
        self._answers_to_lose = count

    async def info(self, key: str) -> ObjectInfo:
        self._check()
        return await self._inner.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        self._check()
        return await self._inner.read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self._check()
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> Pairs:
        return await self._inner.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._inner.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        await self._pass(condition)
        data = b"".join([bytes(piece) async for piece in body])
        if body.length not in (None, len(data)):
            body = BytesBody(data)
            body.length = -1
            return await self._inner.write(key, body, attributes, condition=condition)
        info = await self._inner.write(key, BytesBody(data, body.checksums()), attributes, condition=condition)
        self.written[key].append(data)
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            self.lost += 1
            raise Unavailable("the answer did not come")
        return info

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        await self._pass(condition)
        return await self._inner.copy(source, key, attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._pass(condition)
        await self._inner.delete(key, condition=condition)
        self.written[key].append(None)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self._inner.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return self._inner.multipart()

    def _check(self) -> None:
        if self._failure is not None and self._reads_fail:
            self.refused += 1
            raise self._failure

    async def _pass(self, condition: Condition) -> None:
        await self._gate.wait()
        if self._failure is not None:
            raise self._failure
        if condition and not self.knows_conditions:
            raise Unsupported("no conditions here")
