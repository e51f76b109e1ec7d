"""LimitStore: how much one mount asks of its store at once, and how fast it draws bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from headrace.model.clock import Clock
from headrace.model.errors import Unavailable
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.store import Store

_MAX_WAITING = 1024
_BURST_S = 0.25


class TokenBucket:
    """Bytes per second, with a burst. Pure: who takes is told how long to wait."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_at = now

    def take(self, count: int, now: float) -> float:
        """Take `count`, also into debt; answers the seconds to wait until the debt is paid."""
        elapsed = max(0.0, now - self._filled_at)
        self._level = min(self._burst, self._level + elapsed * self._rate)
        self._filled_at = now
        self._level -= count
        return max(0.0, -self._level / self._rate)


class LimitStore(Store):
    """`inner` with at most `max_concurrent` calls at once; an open body holds its place until it is read or closed.

    More than `max_waiting` callers that wait for a place are refused at once. `bytes_per_s` bounds what bodies draw.

    Each mount has its own, so that a slow store cannot take the places of another.
    """

    def __init__(
        self,
        inner: Store,
        clock: Clock,
        *,
        max_concurrent: int,
        bytes_per_s: int | None = None,
        max_waiting: int = _MAX_WAITING,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._max_waiting = max_waiting
        self._clock = clock
        self._sleep = sleep
        self._places = asyncio.Semaphore(max_concurrent)
        self._waiting = 0
        self._bucket = TokenBucket(bytes_per_s, bytes_per_s * _BURST_S, clock.monotonic()) if bytes_per_s else None

    def peek(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        return self._inner.peek(key, byte_range)

    async def info(self, key: str) -> ObjectInfo:
        await self._enter(key)
        try:
            return await self._inner.info(key)
        finally:
            self.leave()

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        await self._enter(key)
        try:
            reading = await self._inner.read(key, byte_range, version=version)
        except BaseException:  # whatever it is: tidied up here, raised on
            self.leave()
            raise
        if reading.ready is not None:
            self.leave()
            return reading
        return _LimitedReading(reading, self)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        await self._enter(prefix)
        try:
            return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)
        finally:
            self.leave()

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        await self._enter(key)
        try:
            return await self._inner.tags(key)
        finally:
            self.leave()

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        await self._enter(info.key)
        try:
            return await self._inner.part(info, number)
        finally:
            self.leave()

    async def close(self) -> None:
        await self._inner.close()

    async def pace(self, count: int) -> None:
        """Wait until `count` bytes that were drawn fit the bandwidth."""
        if self._bucket is not None:
            wait_s = self._bucket.take(count, self._clock.monotonic())
            if wait_s > 0:
                await self._sleep(wait_s)

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()

    async def _enter(self, path: str) -> None:
        if self._places.locked() and self._waiting >= self._max_waiting:
            message = f"{self._waiting} calls wait for this store already: raise max_connections, or ask less at once"
            raise Unavailable(message, path=path, retry_after_s=1.0)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1


class _LimitedReading(Reading):
    """A body that holds a place and is paced."""

    __slots__ = ("_holds", "_inner", "_store")

    def __init__(self, inner: Reading, store: LimitStore) -> None:
        super().__init__(inner.info, inner.range, served=inner.served, age_s=inner.age_s)
        self._inner = inner
        self._store = store
        self._holds = True

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        try:
            async for piece in self._inner:
                await self._store.pace(len(piece))
                yield piece
        finally:
            self._leave()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._holds:
            self._holds = False
            self._store.leave()
