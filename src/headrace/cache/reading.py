"""Readings that the cache answers with: ready ones, and ones that stream while pages fill."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from headrace.cache.fill import FillAbandoned, Source
from headrace.cache.handles import CachedObject
from headrace.cache.held import HeldFills
from headrace.cache.layout import CHUNK_PAGES
from headrace.cache.pages import PageCache, TierFailed
from headrace.cache.plan import WINDOW_CHUNKS
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
        "_fills",
        "_first",
        "_pages",
        "_planned",
        "_position",
        "_source",
        "_target",
    )

    def __init__(
        self, pages: PageCache, target: CachedObject, source: Source, info: ObjectInfo, byte_range: ByteRange, *, mount: str
    ) -> None:
        super().__init__(info, byte_range, served=Served.HIT)
        self._pages = pages
        self._target = target
        self._source = source
        self._position = byte_range.start
        self._planned = byte_range.start // target.geometry.page
        self._fills = HeldFills(pages, target, source, mount)
        self._direct: Reading | None = None
        self._direct_bytes: AsyncIterator[Buffer] | None = None
        self._first: Buffer | None = None

    def adopt(self, reading: Reading) -> bool:
        """Let a reading that is already open be the start of the first fill. False when it is of no use."""
        first, page = self._planned, self._target.geometry.page
        last = min(-(-self.range.end // page), first - first % CHUNK_PAGES + CHUNK_PAGES)
        return self._fills.adopt(first, last, reading)

    async def prime(self, *, direct: bool = False) -> None:
        """Wait for the first bytes, so that what goes wrong is raised before anything was promised."""
        try:
            if direct:
                await self._go_direct()
            self._first = await self._next()
        except BaseException:  # whatever it is: tidied up here, raised on
            await self.aclose()
            raise
        if self.served is Served.HIT and self._fills:
            self.served = Served.PARTIAL if self._fills.saw_present else Served.MISS
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
        self._fills.start_for_good(self.range.start // page, -(-self.range.end // page))

    def ahead(self, upto: int) -> None:
        """Fill up to offset `upto` behind the reading's end, for the read that is likely to follow. Never waits."""
        page = self._target.geometry.page
        first, last = -(-self.range.end // page), min(-(-upto // page), self._target.geometry.pages(self._target.size))
        self._fills.start_for_good(first, last)

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
        self._fills.release()
        self._first = None
        direct, self._direct = self._direct, None
        self._position = self.range.end
        if direct is not None:
            await direct.aclose()

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
        fill = self._fills.at(position)
        if fill is not None:
            try:
                await fill.grown(position)
            except FillAbandoned:
                self._fills.let_go(fill)
                return None
            if fill.filled > position:
                return fill.view(position, min(fill.filled, self.range.end, position + _PIECE_BYTES))
            self._fills.let_go(fill)
            return None
        try:
            data = await self._pages.read(self._target, position, self.range.end)
        except TierFailed:
            await self._go_direct()
            return None
        if data is None:
            page = position // self._target.geometry.page
            self._planned = page
            if not self._fills.draw(page, self._chunk_end(page)):
                await self._go_direct()
        return data

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
            self._fills.draw(self._planned, chunk_end)
            self._planned = chunk_end

    def _chunk_end(self, page: int) -> int:
        last = -(-self.range.end // self._target.geometry.page)
        return min(last, page - page % CHUNK_PAGES + CHUNK_PAGES)

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
