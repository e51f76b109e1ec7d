"""CachedStore: a Store over a Store, whose bytes come from pages wherever they can."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from headrace.cache import manage
from headrace.cache.fill import Source
from headrace.cache.handles import CachedObject
from headrace.cache.knowledge import Knowledge, described
from headrace.cache.layout import Kind, mount_tag, object_id
from headrace.cache.manage import Freed, Loaded
from headrace.cache.marks import Marks
from headrace.cache.metadata import Known
from headrace.cache.pages import PageCache
from headrace.cache.pins import Pins
from headrace.cache.plan import Run, first_ask, passes_through, whole_fits
from headrace.cache.reading import CachedReading, ReadyReading
from headrace.cache.refresh import Refresher
from headrace.cache.touches import Group
from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, HeadraceError, InvalidRange, NotFound, Unavailable, VersionChanged
from headrace.model.mounts import Freshness, Residency
from headrace.model.objects import ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import FileSlice, Reading, Served
from headrace.stores.keys import cut_range
from headrace.stores.memory import BytesReading
from headrace.stores.store import Store

_ATTEMPTS = 3
_AHEAD_MAX_BYTES = 8 * 1024 * 1024


class CacheOptions(msgspec.Struct, frozen=True):
    """What a mount wants of the cache. `identity` is what must be equal to share pages."""

    mount: str
    identity: str
    freshness: Freshness = Freshness(30.0)
    residency: Residency = Residency.DISK
    serve_stale: bool = False
    quota_bytes: int | None = None
    ttl_s: float | None = None
    place: str = ""
    """The store's address up to where keys begin: what another mount of the same store writes concerns this one."""
    pages_at_once: int = 1
    """Of a listing that are asked for at the same time; more only where the store can begin anywhere as well as at the front."""


class _StoreSource(Source):
    """One version of one key of the store behind. `disproved` is told when the store has another one, or none, by now."""

    __slots__ = ("_disproved", "_key", "_store", "version")

    def __init__(self, store: Store, key: str, version: Version, disproved: Callable[[str], None]) -> None:
        self._store = store
        self._key = key
        self.version = version
        self._disproved = disproved

    async def open(self, start: int, end: int) -> Reading:
        try:
            reading = await self._store.read(self._key, ByteRange(start, end), version=self.version)
        except (VersionChanged, NotFound):
            self._disproved(self._key)
            raise
        if reading.info.version != self.version:
            self._disproved(self._key)
        return reading


class _BytesSource(Source):
    """A version whose bytes are at hand."""

    __slots__ = ("_data", "_info", "version")

    def __init__(self, info: ObjectInfo, data: bytes) -> None:
        self._info = info
        self._data = data
        self.version = info.version

    async def open(self, start: int, end: int) -> Reading:
        return BytesReading(self._info, ByteRange(start, end), memoryview(self._data)[start:end])


_FIRST_BYTE = ByteRange(0, 1)


class CachedStore(Store):
    """`inner` with its objects' versions remembered for `freshness` and its bytes kept as pages.

    Caching fails open: whatever breaks on a tier, the bytes come from `inner`. What `inner` raises passes on; only
    with `serve_stale` an unreachable store is answered for from the pages, marked `Served.STALE`.
    """

    def __init__(
        self, inner: Store, pages: PageCache, options: CacheOptions, *, clock: Clock, emit: Emit, marks: Marks | None = None
    ) -> None:
        self._inner = inner
        self._pages = pages
        self._options = options
        self._now = clock.monotonic
        self._emit = emit
        self._refresher = Refresher(
            lambda key: self.knowledge.single(key, partial(self.knowledge.ask, key)),
            mount=options.mount,
            now=self._now,
            emit=emit,
        )
        self.knowledge = Knowledge(
            inner,
            place=options.place,
            freshness=options.freshness,
            marks=marks or Marks(),
            now=self._now,
            target_of=self.target,
            refresh=self._refresher.wish,
        )
        self._known = self.knowledge.known
        self._mark_of = self.knowledge.mark_of
        self._era_slot = self.knowledge.era_slot
        self._keeps = options.residency is not Residency.NONE
        self._tag = mount_tag(options.identity)
        self._group = Group(self._tag, options.quota_bytes or 0, options.ttl_s or 0.0)
        self._pins = Pins(pages.directories, self._tag)

    @property
    def inner(self) -> Store:
        return self._inner

    @property
    def options(self) -> CacheOptions:
        """As they are now."""
        return self._options

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        if files:
            return self._peek_files(key, byte_range)
        known = self._known.get(key)
        if known is None:
            return None
        now_s = self._now()
        age_s = now_s - known.asked_s
        bound_s = known.bound_s
        mark_of = self._mark_of
        if age_s > bound_s or not bound_s or known.mark != mark_of[known.slot] or known.era != mark_of[self._era_slot]:
            return None
        info, target = known.info, known.target
        if info is None or target is None:
            raise NotFound(f"{key!r} is not in the store", path=key)
        if byte_range is None or byte_range.end > info.size or not 0 <= byte_range.start < byte_range.end:
            byte_range = cut_range(byte_range, info.size, key)
            if not info.size:
                return ReadyReading(info, byte_range, Served.HIT, age_s, ())
        if not self._keeps:
            return None
        ready = self._pages.at_hand(target, byte_range.start, byte_range.end, now_s)
        if ready is None:
            return None
        self._pages.hits += 1
        self._pages.hit_bytes += byte_range.end - byte_range.start
        if age_s > known.soon_s:
            self.knowledge.read_late(key, known)
        for piece in ready:
            if isinstance(piece, FileSlice):
                # Who reads on by itself comes back while there is still time to ask in the background.
                piece.until = known.asked_s + (known.soon_s if age_s <= known.soon_s else bound_s)
        return ReadyReading(info, byte_range, Served.HIT, age_s, ready)

    def _peek_files(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        fresh = self.peek(key, _FIRST_BYTE)
        known = self._known.get(key)
        if fresh is None or known is None or known.target is None:
            return None
        wanted = cut_range(byte_range, fresh.info.size, key)
        ready = self._pages.files_at_hand(known.target, wanted.start, wanted.end, self._now())
        if ready is None:
            return None
        self._pages.hit_bytes += wanted.length - _FIRST_BYTE.length
        for piece in ready:
            if isinstance(piece, FileSlice):
                piece.until = known.asked_s + known.bound_s
        return ReadyReading(fresh.info, wanted, Served.HIT, fresh.age_s, ready)

    async def info(self, key: str) -> ObjectInfo:
        for _ in range(_ATTEMPTS):
            known = self.knowledge.fresh(key)
            if known is not None and (known.complete or known.info is None):
                return described(known, key)
            try:
                asked = await self.knowledge.single(key, partial(self.knowledge.ask, key))
            except (Unavailable, AccessDenied):
                stale = self.knowledge.standing(key)
                if stale is None or stale.info is None or not (self._options.serve_stale or known is not None):
                    raise
                return stale.info
            answer = asked or self.knowledge.standing(key)
            if answer is not None and (asked is not None or answer.complete):
                return described(answer, key)
        return described(await self.knowledge.ask(key, self._now()), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._read(key, byte_range, version, first=attempt == 0)
            except VersionChanged:
                self.knowledge.forget(key)
                if attempt == _ATTEMPTS - 1 or (version is not None and attempt > 0):
                    raise
        raise VersionChanged(f"{key!r} changes faster than it can be read: try again", path=key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self._inner.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._inner.part(info, number)

    async def close(self) -> None:
        await self._refresher.close()
        await self._inner.close()

    async def load(self, key: str) -> Loaded:
        """Bring all pages of the object into a tier. Raises as `read`."""
        info = await self.info(key)
        if not self._keeps:
            return Loaded(0, 0)
        source = _StoreSource(self._inner, key, info.version, self.knowledge.replaced)
        return await manage.load(self._pages, self.target(info), source, mount=self._options.mount)

    async def free(self, prefix: str) -> Freed:
        """Remove the pages of what lies at or below `prefix`; of the whole mount, every version, when it is empty."""
        self._known.clear()
        if not prefix:
            return await manage.free_mount(self._pages, self._tag, self._group)
        return await manage.free_prefix(self._inner, self._pages, prefix, self.target)

    async def leave_disks(self) -> Freed:
        """Put nothing on a disk from now on, and remove what lies there of this mount, of all versions. Raises `OSError`."""
        self._options = msgspec.structs.replace(self._options, residency=Residency.NONE)
        for known in self._known.values():
            if known.target is not None:
                known.target.directory = None
        await self._pages.fills.ended(self._tag)
        await self._pages.wholes.ended(self._tag)
        return await manage.free_mount(self._pages, self._tag, self._group)

    async def pin(self, prefix: str, on: bool) -> None:
        """Keep what lies at or below `prefix` from being evicted, now and when it is filled later; or no more."""
        await self._pins.set(prefix, on)
        for known in self._known.values():
            if known.target is not None:
                known.target.pinned = self._pins.covers(known.target.key)
        await manage.mark_pins(self._inner, prefix, self.target, on=on)

    def has_pin(self, prefix: str) -> bool:
        """Whether that very prefix was pinned."""
        return self._pins.has(prefix)

    async def cached_bytes(self, info: ObjectInfo) -> int:
        """How many bytes of this version are in segments."""
        return await manage.cached_bytes(self.target(info))

    def target(self, info: ObjectInfo) -> CachedObject:
        """How the tiers know a version of an object."""
        named = object_id(self._options.identity, info.key, info.version.token)
        disk = self._options.residency is Residency.DISK
        return CachedObject(
            object_id=named,
            size=info.size,
            group=self._group,
            directory=self._pages.directory_of(named) if disk else None,
            geometry=self._pages.geometry,
            in_memory=self._options.residency is Residency.MEMORY,
            key=info.key,
            pinned=self._pins.covers(info.key),
        )

    def keep(self, info: ObjectInfo, data: bytes) -> asyncio.Future[None] | None:
        """Begin to make pages of a body that was just written. What goes wrong costs the pages, nothing else.

        None where a tier has them in one piece, where none is to have any, and where they are being made.
        """
        target = self.target(info)
        count = target.geometry.pages(info.size)
        if not self._keeps or self._pages.holds(target, 0) >= count or self._pages.fills.find(target.object_id, 0) is not None:
            return None
        source, mount = _BytesSource(info, data), self._options.mount
        if not whole_fits(target.geometry, info.size):
            return asyncio.ensure_future(_kept(manage.load(self._pages, target, source, mount=mount)))
        whole = BytesReading(info, ByteRange(0, info.size), memoryview(data))
        fill = self._pages.fills.start(target, Run(Kind.WHOLE, 0, count), source, mount=mount, adopted=whole)
        return None if fill is None else fill.task

    async def _read(self, key: str, byte_range: ByteRange | None, version: Version | None, *, first: bool) -> Reading:
        known = self.knowledge.fresh(key)
        served = Served.HIT
        if known is None or (version is not None and known.info is not None and known.info.version != version and first):
            if known is not None:
                self.knowledge.forget(key)
            try:
                known, opened = await self._revalidate(key, byte_range, version)
            except (Unavailable, AccessDenied):
                stale = self.knowledge.standing(key)
                if not self._options.serve_stale or stale is None or stale.info is None:
                    raise
                known, opened, served = stale, None, Served.STALE
            if opened is not None:
                await opened.prime()
                return opened
        info = described(known, key)
        if version is not None and info.version != version:
            raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
        return await self._open(known, info, cut_range(byte_range, info.size, key), served)

    async def _revalidate(
        self, key: str, byte_range: ByteRange | None, version: Version | None
    ) -> tuple[Known, CachedReading | None]:
        """Learn the version: by asking where pages of the known one are at hand, else by reading at once."""
        opened: CachedReading | None = None

        async def ask(asked_s: float) -> Known:
            nonlocal opened
            stale = self._known.get(key)
            start = byte_range.start if byte_range is not None else 0
            worth = stale is None or stale.target is None or not self._at_start(stale.target, start)
            if not (self._keeps and worth):
                return await self.knowledge.ask(key, asked_s)
            stand = self.knowledge.stand(key)
            try:
                known, opened = await self._read_cold(key, byte_range, version, asked_s)
            except NotFound:
                return self.knowledge.absent(key, asked_s, stand)
            return known

        answer = await self.knowledge.single(key, ask)
        known = answer or self.knowledge.standing(key)
        if known is None:
            known = await self.knowledge.ask(key, self._now())
        return known, opened

    def _at_start(self, target: CachedObject, start: int) -> bool:
        if target.size == 0 or start >= target.size:
            return True
        page = start // target.geometry.page
        return self._pages.holds(target, page) > 0 or self._pages.fills.find(target.object_id, page) is not None

    async def _read_cold(
        self, key: str, byte_range: ByteRange | None, version: Version | None, asked_s: float
    ) -> tuple[Known, CachedReading | None]:
        """One round trip: the first bytes tell the version. They become the start of the first fill."""
        start = byte_range.start if byte_range is not None else 0
        if byte_range is not None and byte_range.end <= start:
            return await self.knowledge.ask(key, asked_s), None
        geometry, end = self._pages.geometry, byte_range.end if byte_range is not None else None
        low, high = first_ask(geometry, start, end)
        through = end is not None and passes_through(geometry, start, end)
        if through and end is not None:
            low, high = start, end
        stand = self.knowledge.stand(key)
        try:
            asked = await self._inner.read(key, ByteRange(low, high), version=version)
        except InvalidRange:
            return await self.knowledge.ask(key, asked_s), None
        info = asked.info
        known = self.knowledge.learn(key, info, asked_s, stand, complete=False)
        # Pages of that very version may be at hand, from before a restart or from another process: then no more is drawn.
        if known.target is not None and start < info.size and not self._at_start(known.target, start):
            reading = self._reading(known.target, info, cut_range(byte_range, info.size, key))
            if reading.adopt_direct(asked) if through else reading.adopt(asked):
                self._pages.misses += 1
                return known, reading
        await asked.aclose()
        return known, None

    def _reading(self, target: CachedObject, info: ObjectInfo, cut: ByteRange) -> CachedReading:
        source = _StoreSource(self._inner, info.key, info.version, self.knowledge.replaced)
        return CachedReading(self._pages, target, source, info, cut, mount=self._options.mount)

    async def _open(self, known: Known, info: ObjectInfo, cut: ByteRange, served: Served) -> Reading:
        target = known.target
        now_s = self._now()
        age_s = max(0.0, now_s - known.asked_s)
        if target is None or not cut.length:
            return ReadyReading(info, cut, served, age_s, ())
        if not self._keeps:
            reading = await self._inner.read(info.key, cut, version=info.version)
            reading.served = Served.BYPASS
            return reading
        ready = self._pages.at_hand(target, cut.start, cut.end, now_s)
        if ready is not None:
            self._pages.hits += 1
            self._pages.hit_bytes += cut.length
            return ReadyReading(info, cut, served, age_s, ready)
        reading = self._reading(target, info, cut)
        await self._prime(reading, known, cut)
        if served is Served.STALE:
            reading.served = Served.STALE
        reading.age_s = age_s
        return reading

    async def _prime(self, reading: CachedReading, known: Known, cut: ByteRange) -> None:
        geometry = self._pages.geometry
        target = known.target
        direct = target is not None and passes_through(geometry, cut.start, cut.end) and not self._at_start(target, cut.start)
        known.streak = known.streak.after(cut.start, cut.end, _AHEAD_MAX_BYTES)
        await reading.prime(direct=direct)
        if direct:
            reading.fill_behind()
        elif known.streak.ahead_bytes:
            reading.ahead(cut.end + known.streak.ahead_bytes)
        if reading.served is Served.HIT:
            self._pages.hits += 1
            self._pages.hit_bytes += cut.length
        else:
            self._pages.misses += 1


async def _kept(load: Awaitable[Loaded]) -> None:
    with contextlib.suppress(HeadraceError):
        await load
