"""LimitStore: how much one mount asks of its store at once, and how fast it draws bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from headrace.model.clock import Clock
from headrace.model.errors import Unavailable
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.passing import PassingBody, PassingBuckets, PassingUploads
from headrace.stores.store import Store

T = TypeVar("T")

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

    More than `max_waiting` callers that wait for a place are refused at once. `bytes_per_s` bounds what bodies draw,
    and, apart from it, what they send.

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
        self._sending = TokenBucket(bytes_per_s, bytes_per_s * _BURST_S, clock.monotonic()) if bytes_per_s else None

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        return self._inner.peek(key, byte_range, files=files)

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

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        paced = _PacedBody(body, self)
        return await self.held(key, lambda: self._inner.write(key, paced, attributes, condition=condition))

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self.held(key, lambda: self._inner.copy(source, key, attributes, condition=condition))

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self.held(key, lambda: self._inner.delete(key, condition=condition))

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.held(key, lambda: self._inner.set_tags(key, tags))

    def multipart(self) -> Multipart:
        return _LimitedUploads(self._inner.multipart(), self)

    def buckets(self) -> Buckets:
        return _LimitedBuckets(self._inner.buckets(), self)

    async def close(self) -> None:
        await self._inner.close()

    async def pace(self, count: int) -> None:
        """Wait until `count` bytes that were drawn fit the bandwidth."""
        if self._bucket is not None:
            wait_s = self._bucket.take(count, self._clock.monotonic())
            if wait_s > 0:
                await self._sleep(wait_s)

    @property
    def paces_sending(self) -> bool:
        """Whether what is sent may have to wait."""
        return self._sending is not None

    async def pace_sending(self, count: int) -> None:
        """Wait until `count` bytes that are to be sent fit the bandwidth."""
        if self._sending is not None:
            wait_s = self._sending.take(count, self._clock.monotonic())
            if wait_s > 0:
                await self._sleep(wait_s)

    async def held(self, path: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that holds a place."""
        await self._enter(path)
        try:
            return await call()
        finally:
            self.leave()

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


class _PacedBody(PassingBody):
    def __init__(self, inner: Body, store: LimitStore) -> None:
        super().__init__(inner)
        self._store = store

    async def pass_on(self, piece: Buffer) -> None:
        await self._store.pace_sending(len(piece))

    def at_hand(self) -> Buffer | None:
        return None if self._store.paces_sending else self.inner.at_hand()


class _LimitedUploads(PassingUploads):
    def __init__(self, inner: Multipart, store: LimitStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  all hold a place
        return await self._store.held(key, call)

    def body(self, body: Body) -> Body:
        return _PacedBody(body, self._store)


class _LimitedBuckets(PassingBuckets):
    def __init__(self, inner: Buckets, store: LimitStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  all hold a place
        return await self._store.held(name, call)


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
