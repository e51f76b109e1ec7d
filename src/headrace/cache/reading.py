"""Readings that the cache answers with: ready ones, and ones that stream while pages fill."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from headrace.cache.fill import Fill, FillAbandoned, Source
from headrace.cache.handles import CachedObject
from headrace.cache.layout import CHUNK_PAGES
from headrace.cache.pages import PageCache, TierFailed
from headrace.cache.plan import WINDOW_CHUNKS, run_at
from headrace.model.errors import CorruptData, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, FileSlice, Piece, Reading, Served

_PIECE_BYTES = 256 * 1024
_SLICE_STEP_BYTES = 1 << 20
_ATTEMPTS = 6


class ReadyReading(Reading):
    """Everything is at hand."""

    __slots__ = ()

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, served: Served, age_s: float, ready: tuple[Piece, ...]) -> None:
        self.info = info
        self.range = byte_range
        self.served = served
        self.age_s = age_s
        self.ready = ready

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        for piece in self.ready or ():
            if not isinstance(piece, FileSlice):
                yield piece
                continue
            position, end = piece.offset, piece.offset + piece.length
            while position < end:
                data = await asyncio.to_thread(os.pread, piece.fd, min(_SLICE_STEP_BYTES, end - position), position)
                if not data:
                    raise CorruptData(f"the pages of {self.info.key!r} were cut while they were read", path=self.info.key)
                position += len(data)
                yield data

    async def aclose(self) -> None:
        self.ready = ()


class CachedReading(Reading):
    """Streams pages that are there and fills those that are not, a window of chunks ahead of its reader."""

    __slots__ = (
        "_direct",
        "_direct_bytes",
        "_first",
        "_held",
        "_pages",
        "_planned",
        "_position",
        "_saw_present",
        "_source",
        "_target",
        "mount",
    )

    def __init__(
        self, pages: PageCache, target: CachedObject, source: Source, info: ObjectInfo, byte_range: ByteRange, *, mount: str
    ) -> None:
        super().__init__(info, byte_range, served=Served.HIT)
        self.mount = mount
        self._pages = pages
        self._target = target
        self._source = source
        self._position = byte_range.start
        self._planned = byte_range.start // target.geometry.page
        self._held: list[Fill] = []
        self._direct: Reading | None = None
        self._direct_bytes: AsyncIterator[Buffer] | None = None
        self._first: Buffer | None = None
        self._saw_present = False

    def adopt(self, reading: Reading) -> bool:
        """Let a reading that is already open be the start of the first fill. False when it is of no use."""
        first = self._planned
        geometry, size = self._target.geometry, self._target.size
        last = min(-(-self.range.end // geometry.page), first - first % CHUNK_PAGES + CHUNK_PAGES)
        if self._pages.fills.find(self._target.object_id, first) is not None:
            return False
        run = run_at(geometry, size, first, last, self._presence(first, last))
        if run is None or run.first * geometry.page != reading.range.start:
            return False
        fill = self._pages.fills.start(self._target, run, self._source, mount=self.mount, adopted=reading)
        if fill is None:
            return False
        self._hold(fill)
        return True

    async def prime(self, *, direct: bool = False) -> None:
        """Wait for the first bytes, so that what goes wrong is raised before anything was promised."""
        try:
            if direct:
                await self._go_direct()
            self._first = await self._next()
        except BaseException:  # whatever it is: tidied up here, raised on
            await self.aclose()
            raise
        if self.served is Served.HIT and self._held:
            self.served = Served.PARTIAL if self._saw_present else Served.MISS
        if self._first is not None and len(self._first) == self.range.length:
            self.ready = (self._first,)

    def adopt_direct(self, reading: Reading) -> bool:
        """Let a reading of exactly this range be passed through, and fill its pages behind it."""
        if reading.range != self.range:
            return False
        self._direct, self._direct_bytes, self.served = reading, aiter(reading), Served.BYPASS
        self.fill_behind()
        return True

    def fill_behind(self) -> None:
        """Fill the pages of the range although nobody waits for them."""
        page = self._target.geometry.page
        self._start_for_good(self.range.start // page, -(-self.range.end // page))

    def ahead(self, upto: int) -> None:
        """Fill up to offset `upto` behind the reading's end, for the read that is likely to follow. Never waits."""
        page = self._target.geometry.page
        first, last = -(-self.range.end // page), min(-(-upto // page), self._target.geometry.pages(self._target.size))
        self._start_for_good(first, last)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        try:
            if self._first is not None:
                first, self._first = self._first, None
                yield first
            while self._position < self.range.end:
                yield await self._next()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        held, self._held = self._held, []
        for fill in held:
            fill.release()
        self._first = None
        direct, self._direct = self._direct, None
        self._position = self.range.end
        if direct is not None:
            await direct.aclose()

    def _start_for_good(self, first: int, last: int) -> None:
        while first < last:
            chunk_end = min(last, first - first % CHUNK_PAGES + CHUNK_PAGES)
            for fill in self._ensure(first, chunk_end):
                fill.hold()  # never released: such a page is worth keeping when its readers have left
            first = chunk_end

    async def _next(self) -> Buffer:
        for _ in range(_ATTEMPTS):
            data = await self._attempt()
            if data is not None and len(data):
                self._position += len(data)
                return data
        await self._go_direct()
        data = await self._from_direct()
        self._position += len(data)
        return data

    async def _attempt(self) -> Buffer | None:
        if self._direct_bytes is not None:
            return await self._from_direct()
        self._look_ahead()
        position = self._position
        fill = self._fill_at(position)
        if fill is not None:
            try:
                await fill.grown(position)
            except FillAbandoned:
                self._let_go(fill)
                return None
            if fill.filled > position:
                return fill.view(position, min(fill.filled, self.range.end, position + _PIECE_BYTES))
            self._let_go(fill)
            return None
        try:
            data = await self._pages.read(self._target, position, self.range.end)
        except TierFailed:
            await self._go_direct()
            return None
        if data is None:
            page = position // self._target.geometry.page
            self._planned = page
            if not self._hold_all(self._ensure(page, self._chunk_end(page))):
                await self._go_direct()
        return data

    def _fill_at(self, position: int) -> Fill | None:
        for fill in list(self._held):
            if fill.end <= position or fill.published or (fill.error is not None and fill.start > position):
                self._let_go(fill)
            elif fill.start <= position:
                return fill
        return None

    def _look_ahead(self) -> None:
        """Keep the window full; called before each piece, works once a chunk."""
        size = self._target.geometry.page
        last = -(-self.range.end // size)
        goal = min(last, self._position // size + WINDOW_CHUNKS * CHUNK_PAGES)
        while self._planned < goal:
            chunk_end = self._chunk_end(self._planned)
            # A chunk that the window only touches is planned when all of it is inside.
            if chunk_end > goal and goal < last:
                return
            self._hold_all(self._ensure(self._planned, chunk_end))
            self._planned = chunk_end

    def _chunk_end(self, page: int) -> int:
        last = -(-self.range.end // self._target.geometry.page)
        return min(last, page - page % CHUNK_PAGES + CHUNK_PAGES)

    def _ensure(self, first: int, last: int) -> list[Fill]:
        """The fills that pages `first` up to `last`, all of one chunk, come from; begun where needed."""
        target, fills = self._target, self._pages.fills
        found: list[Fill] = []
        while first < last:
            growing = fills.find(target.object_id, first)
            if growing is None:
                run = run_at(target.geometry, target.size, first, last, self._presence(first, last))
                if run is None:
                    break
                growing = fills.find(target.object_id, run.first)
                growing = growing or fills.start(target, run, self._source, mount=self.mount)
                if growing is None:
                    break
            found.append(growing)
            first = growing.run.last
        return found

    def _presence(self, first: int, last: int) -> list[bool]:
        """Which pages are in a tier. Of a run that begins a chunk with an absent page, all count as absent."""
        there: list[bool] = []
        page = first
        while page < last:
            count = min(self._pages.holds(self._target, page), last - page)
            if not count and page == first and first % CHUNK_PAGES == 0 and (last - first) * 2 > CHUNK_PAGES:
                return [False] * (last - first)
            self._saw_present = self._saw_present or count > 0
            there += [True] * count if count else [False]
            page += count or 1
        return there

    def _hold_all(self, fills: list[Fill]) -> bool:
        for fill in fills:
            if fill not in self._held:
                self._hold(fill)
        return bool(fills)

    def _hold(self, fill: Fill) -> None:
        fill.hold()
        self._held.append(fill)

    def _let_go(self, fill: Fill) -> None:
        self._held.remove(fill)
        fill.release()

    async def _go_direct(self) -> None:
        """Read the rest past the cache: a slower answer, never a wrong or failed one."""
        if self._direct is not None:
            return
        reading = await self._source.open(self._position, self.range.end)
        if reading.info.version != self.info.version:
            await reading.aclose()
            raise VersionChanged(f"{self.info.key!r} changed while it was read", path=self.info.key)
        self._direct = reading
        self._direct_bytes = aiter(reading)
        self.served = Served.BYPASS

    async def _from_direct(self) -> Buffer:
        assert self._direct_bytes is not None  # noqa: S101 - set together with _direct
        async for data in self._direct_bytes:
            if self._position + len(data) > self.range.end:
                break
            return data
        raise CorruptData(f"{self.info.key!r} did not have the length asked for", path=self.info.key)
