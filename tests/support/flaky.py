"""A store that fails as a test says, and a clock whose sleeping moves it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store


class SteppedClock:
    """Time that passes only when somebody sleeps. `slept` records the waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class FlakyStore(Store):
    """`MemoryStore` in front of which `errors` are raised first, one per call; `hang` makes calls wait for ever.

    `broken_bodies` counts readings that break after `break_after` pieces with `body_error`.
    """

    def __init__(self, *errors: Exception) -> None:
        self.memory = MemoryStore()
        self.errors = list(errors)
        self.hang = False
        self.broken_bodies = 0
        self.break_after = 0
        self.body_error: Exception = ConnectionError()
        self.calls = 0
        self.versions: list[Version | None] = []

    async def _fail(self) -> None:
        self.calls += 1
        if self.hang:
            await asyncio.Event().wait()
        if self.errors:
            raise self.errors.pop(0)

    async def info(self, key: str) -> ObjectInfo:
        await self._fail()
        return await self.memory.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        await self._fail()
        self.versions.append(version)
        reading = await self.memory.read(key, byte_range, version=version)
        if self.broken_bodies:
            self.broken_bodies -= 1
            return _Broken(reading, self.break_after, self.body_error)
        return reading

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        await self._fail()
        return await self.memory.list(prefix, delimiter=delimiter, after=after, limit=limit)


class _Broken(Reading):
    __slots__ = ("_error", "_inner", "_pieces")

    def __init__(self, inner: Reading, pieces: int, error: Exception) -> None:
        super().__init__(inner.info, inner.range)
        self._inner = inner
        self._pieces = pieces
        self._error = error

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        async for piece in self._inner:
            if not self._pieces:
                break
            self._pieces -= 1
            yield piece
        raise self._error

    async def aclose(self) -> None:
        await self._inner.aclose()
