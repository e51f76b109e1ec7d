"""TraceStore: an event for every call that reaches a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.events import StoreCall
from headrace.model.objects import ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.store import Store

T = TypeVar("T")

_MAX_MESSAGE = 300


class TraceStore(Store):
    """`inner`, with a `StoreCall` emitted when each call is over; a read is over when its body is."""

    def __init__(self, inner: Store, mount: str, emit: Emit, clock: Clock) -> None:
        self._inner = inner
        self._mount = mount
        self._emit = emit
        self._clock = clock

    def peek(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        return self._inner.peek(key, byte_range)

    async def info(self, key: str) -> ObjectInfo:
        return await self._traced("info", lambda: self._inner.info(key))

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        started = self._clock.monotonic()
        try:
            reading = await self._inner.read(key, byte_range, version=version)
        except BaseException as error:  # whatever it is: tidied up here, raised on
            self.note("read", started, 0, error)
            raise
        if reading.ready is not None:
            self.note("read", started, reading.range.length)
            return reading
        return _TracedReading(reading, self, started)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._traced("list", lambda: self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit))

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self._traced("tags", lambda: self._inner.tags(key))

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._traced("part", lambda: self._inner.part(info, number))

    async def close(self) -> None:
        await self._inner.close()

    def note(self, verb: str, started: float, count: int, error: BaseException | None = None) -> None:
        """Emit that a call is over."""
        took_s = self._clock.monotonic() - started
        if error is None:
            self._emit(StoreCall(self._mount, verb, took_s, count))
        else:
            self._emit(StoreCall(self._mount, verb, took_s, count, type(error).__name__, _words(error)))

    async def _traced(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        started = self._clock.monotonic()
        try:
            answer = await call()
        except BaseException as error:  # whatever it is: tidied up here, raised on
            self.note(verb, started, 0, error)
            raise
        self.note(verb, started, 0)
        return answer


class _TracedReading(Reading):
    """A body whose end is told once, however it ends."""

    __slots__ = ("_count", "_inner", "_is_noted", "_started", "_store")

    def __init__(self, inner: Reading, store: TraceStore, started: float) -> None:
        super().__init__(inner.info, inner.range, served=inner.served, age_s=inner.age_s)
        self._inner = inner
        self._store = store
        self._started = started
        self._count = 0
        self._is_noted = False

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        try:
            async for piece in self._inner:
                self._count += len(piece)
                yield piece
        except Exception as error:  # whatever it is: tidied up here, raised on
            self._note(error)
            raise
        self._note()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._note()

    def _note(self, error: Exception | None = None) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._store.note("read", self._started, self._count, error)


def _words(error: BaseException) -> str:
    # Only our own errors are known to carry no secret.
    return str(error)[:_MAX_MESSAGE] if isinstance(error, HeadraceError) else ""
