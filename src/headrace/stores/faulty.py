"""FaultyStore: a store that fails on purpose, by a schedule. It ships, so that users can test with it too.

    store = FaultyStore(inner, [Fault(on=2, verb="read", error=Unavailable("no")), Fault(on=3, verb="read", cut_at=100)])

`random_faults` makes a schedule from a seed. `store.injected` says which faults happened: a test
of a fault that never struck proves nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from headrace.model.errors import HeadraceError, Throttled, Unavailable
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.passing import PassingBody, PassingBuckets, PassingUploads
from headrace.stores.store import Store

T = TypeVar("T")

_SLOW_PIECE = 16 * 1024


class Fault(msgspec.Struct, frozen=True):
    """What goes wrong, once, with the `on`-th call (from 1) of `verb` that is about a key beginning with `key`.

    `times` lets it strike on that many calls in a row; -1 for ever. Several effects may be
    combined: an error or a hang comes before any body.
    """

    verb: str = "read"
    """A verb of `Store`, one of its uploads' or buckets' (`put_part`, `complete_upload`, `create_bucket`, …), or `*` for all of

    them (counted together).
    """
    on: int = 1
    times: int = 1
    key: str = ""
    error: HeadraceError | None = None
    """Raised by the call itself."""
    hang: bool = False
    """The call never returns (until it is cancelled)."""
    delay_s: float = 0.0
    """The call waits so long before anything happens."""
    piece_delay_s: float = 0.0
    """Each piece of the body, 16 KiB at most, is waited for so long."""
    cut_at: int | None = None
    """The body's iteration raises `cut_error` after so many bytes."""
    cut_error: HeadraceError = Unavailable("injected: the connection ended in the middle of the body")
    hang_at: int | None = None
    """The body's iteration never goes on after so many bytes."""
    silent_cut_at: int | None = None
    """The body ends after so many bytes as if it were whole: what no store may do."""
    lost_answer: HeadraceError | None = None
    """Raised when the call has taken effect: nobody knows whether it did."""
    wrong_from: int | None = None
    """From this byte of the body on, every byte is another one; the length is right."""
    extra: bytes = b""
    """More bytes behind the body."""
    wrong_version: str = ""
    """The answer claims to be of this version (and ETag)."""
    wrong_size: int | None = None
    """The answer claims that the object has so many bytes."""
    whole_object: bool = False
    """A read of a range is answered with the whole object, as by a server that ignores Range."""


class FaultyStore(Store):
    """`inner`, with faults. `calls` counts the calls by verb, `injected` lists the faults that struck, in order."""

    def __init__(self, inner: Store, faults: Iterable[Fault] = ()) -> None:
        self._inner = inner
        self._faults = list(faults)
        self._seen: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.injected: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Schedule one more; it counts calls from now on."""
        self._faults.append(fault)

    def heal(self) -> None:
        """Take away all faults."""
        self._faults.clear()
        self._seen.clear()

    async def info(self, key: str) -> ObjectInfo:
        faults = await self._strike("info", key)
        return _claimed(await self._inner.info(key), faults)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        faults = await self._strike("read", key)
        asked = None if any(fault.whole_object for fault in faults) else byte_range
        reading = await self._inner.read(key, asked, version=version)
        return _FaultyReading(reading, faults) if faults else reading

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        await self._strike("list", prefix)
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        await self._strike("tags", key)
        return await self._inner.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        await self._strike("part", info.key)
        return await self._inner.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self.struck("write", key, lambda b: self._inner.write(key, b, attributes, condition=condition), body)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self.struck("copy", key, lambda _: self._inner.copy(source, key, attributes, condition=condition))

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self.struck("delete", key, lambda _: self._inner.delete(key, condition=condition))

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.struck("set_tags", key, lambda _: self._inner.set_tags(key, tags))

    def multipart(self) -> Multipart:
        return _FaultyUploads(self._inner.multipart(), self)

    def buckets(self) -> Buckets:
        return _FaultyBuckets(self._inner.buckets(), self)

    async def close(self) -> None:
        await self._inner.close()

    async def struck(self, verb: str, key: str, call: Callable[[Body], Awaitable[T]], body: Body | None = None) -> T:
        """Make a call that changes something, with its faults before, within its body, and behind it."""
        faults = await self._strike(verb, key)
        answer = await call(_FaultyBody(body or BytesBody(b""), faults))
        for fault in faults:
            if fault.lost_answer is not None:
                raise fault.lost_answer
        return answer

    async def _strike(self, verb: str, key: str) -> Sequence[Fault]:
        """The faults of this call, after those that belong before the answer."""
        self.calls[verb] += 1
        faults = [fault for position, fault in enumerate(self._faults) if self._is_due(position, fault, verb, key)]
        self.injected.extend(faults)
        for fault in faults:
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            if fault.hang:
                await asyncio.Event().wait()
            if fault.error is not None:
                raise fault.error
        return faults

    def _is_due(self, position: int, fault: Fault, verb: str, key: str) -> bool:
        if fault.verb not in ("*", verb) or not key.startswith(fault.key):
            return False
        self._seen[position] += 1
        turn = self._seen[position]
        return turn >= fault.on and (fault.times < 0 or turn < fault.on + fault.times)


def random_faults(seed: int, *, calls: int, share: float = 0.2, size: int = 1 << 20) -> list[Fault]:
    """Faults that striking stores really have, for about `share` of the first `calls` reads. The same for the same seed."""
    draw = random.Random(seed)  # noqa: S311 - a schedule for tests, no secret
    faults = []
    for on in range(1, calls + 1):
        if draw.random() < share:
            kind, place = draw.randrange(6), draw.randrange(size)
            faults.append(
                (
                    Fault(on=on, error=Unavailable("injected: no answer")),
                    Fault(on=on, error=Throttled("injected: slow down", retry_after_s=0.0)),
                    Fault(on=on, cut_at=place),
                    Fault(on=on, wrong_version="etag:injected"),
                    Fault(on=on, delay_s=0.01),
                    Fault(on=on, extra=b"injected"),
                )[kind]
            )
    return faults


class _FaultyBody(PassingBody):
    """Breaks as a connection to the store does: the store has a part of the bytes, and knows that it is a part."""

    def __init__(self, inner: Body, faults: Sequence[Fault]) -> None:
        super().__init__(inner)
        self._faults = faults
        self._passed = 0

    async def pass_on(self, piece: Buffer) -> None:
        self._passed += len(piece)
        for fault in self._faults:
            if fault.piece_delay_s:
                await asyncio.sleep(fault.piece_delay_s)
            if _stop(fault, self._passed):
                if fault.hang_at is not None:
                    await asyncio.Event().wait()
                raise fault.cut_error


class _FaultyUploads(PassingUploads):
    def __init__(self, inner: Multipart, store: FaultyStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, key: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._store.struck(verb, key, lambda _: call())

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        return await self._store.struck("put_part", upload.key, lambda b: self.inner.put(upload, number, b), body)


class _FaultyBuckets(PassingBuckets):
    def __init__(self, inner: Buckets, store: FaultyStore) -> None:
        super().__init__(inner)
        self._store = store

    async def around(self, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._store.struck(verb, name, lambda _: call())


class _FaultyReading(Reading):
    __slots__ = ("_faults", "_inner")

    def __init__(self, inner: Reading, faults: Sequence[Fault]) -> None:
        super().__init__(_claimed(inner.info, faults), inner.range, served=inner.served, age_s=inner.age_s)
        self._inner = inner
        self._faults = faults

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        position = 0
        async for whole in self._inner:
            for start in range(0, len(whole), _SLOW_PIECE):
                piece = bytes(whole[start : start + _SLOW_PIECE])
                for fault in self._faults:
                    piece = await _bend(piece, position, fault)
                ends = [fault.silent_cut_at for fault in self._faults if fault.silent_cut_at is not None]
                if ends and position + len(piece) >= min(ends):
                    yield piece[: max(0, min(ends) - position)]
                    await self.aclose()
                    return
                stops = [fault for fault in self._faults if _stop(fault, position + len(piece))]
                if stops:
                    yield piece[: _stop_at(stops[0]) - position]
                    await self.aclose()
                    if stops[0].hang_at is not None:
                        await asyncio.Event().wait()
                    raise stops[0].cut_error
                yield piece
                position += len(piece)
        for fault in self._faults:
            if fault.extra:
                yield fault.extra

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bend(piece: bytes, position: int, fault: Fault) -> bytes:
    if fault.piece_delay_s:
        await asyncio.sleep(fault.piece_delay_s)
    if fault.wrong_from is None or position + len(piece) <= fault.wrong_from:
        return piece
    right = max(0, fault.wrong_from - position)
    return piece[:right] + bytes(byte ^ 0xFF for byte in piece[right:])


def _stop_at(fault: Fault) -> int:
    place = fault.cut_at if fault.cut_at is not None else fault.hang_at
    return -1 if place is None else place


def _stop(fault: Fault, position: int) -> bool:
    """Whether the body stops before `position` bytes are out."""
    return 0 <= _stop_at(fault) <= position


def _claimed(info: ObjectInfo, faults: Sequence[Fault]) -> ObjectInfo:
    for fault in faults:
        if fault.wrong_version:
            etag = fault.wrong_version.partition(":")[2]
            info = msgspec.structs.replace(info, version=Version(fault.wrong_version), etag=etag, version_id="")
        if fault.wrong_size is not None:
            info = msgspec.structs.replace(info, size=fault.wrong_size)
    return info
