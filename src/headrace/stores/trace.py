"""TraceStore: an event for every call that reaches a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.events import StoreCall
from headrace.model.objects import ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.passing import PassingBody, PassingBuckets, PassingUploads
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

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        return self._inner.peek(key, byte_range, files=files)

    async def info(self, key: str) -> ObjectInfo:
        return await self.traced("info", lambda: self._inner.info(key))

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
        return await self.traced("list", lambda: self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit))

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self.traced("tags", lambda: self._inner.tags(key))

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self.traced("part", lambda: self._inner.part(info, number))

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        counted = _CountedBody(body)
        return await self.traced("write", lambda: self._inner.write(key, counted, attributes, condition=condition), counted)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self.traced("copy", lambda: self._inner.copy(source, key, attributes, condition=condition))

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self.traced("delete", lambda: self._inner.delete(key, condition=condition))

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.traced("set_tags", lambda: self._inner.set_tags(key, tags))

    def multipart(self) -> Multipart:
        return _TracedUploads(self._inner.multipart(), self)

    def buckets(self) -> Buckets:
        return _TracedBuckets(self._inner.buckets(), self)

    async def close(self) -> None:
        await self._inner.close()

    def note(self, verb: str, started: float, count: int, error: BaseException | None = None) -> None:
        """Emit that a call is over."""
        took_s = self._clock.monotonic() - started
        if error is None:
            self._emit(StoreCall(self._mount, verb, took_s, count))
        else:
            self._emit(StoreCall(self._mount, verb, took_s, count, type(error).__name__, _words(error)))

    async def traced(self, verb: str, call: Callable[[], Awaitable[T]], body: _CountedBody | None = None) -> T:
        """Make the call, and emit that it is over; `body` knows how many bytes it sent."""
        started = self._clock.monotonic()
        try:
            answer = await call()
        except BaseException as error:  # whatever it is: tidied up here, raised on
            self.note(verb, started, body.count if body else 0, error)
            raise
        self.note(verb, started, body.count if body else 0)
        return answer


class _CountedBody(PassingBody):
    """Counts the bytes that were taken out of it, those of tries included."""

    def __init__(self, inner: Body) -> None:
        super().__init__(inner)
        self.count = 0

    async def pass_on(self, piece: Buffer) -> None:
        self.count += len(piece)

    def at_hand(self) -> Buffer | None:
        data = self.inner.at_hand()
        if data is not None:
            self.count += len(data)
        return data


class _TracedUploads(PassingUploads):
    def __init__(self, inner: Multipart, store: TraceStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  keys are not told
        return await self._store.traced(verb, call)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        counted = _CountedBody(body)
        return await self._store.traced("put_part", lambda: self.inner.put(upload, number, counted), counted)


class _TracedBuckets(PassingBuckets):
    def __init__(self, inner: Buckets, store: TraceStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  names are not told
        return await self._store.traced(verb, call)


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
