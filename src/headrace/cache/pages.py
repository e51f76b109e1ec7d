"""PageCache: what this process knows of the node's pages, over all tiers."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from headrace.cache.directory import NoTouches, PageDirectory, Touching
from headrace.cache.fills import Fills
from headrace.cache.handles import CachedObject, Handles
from headrace.cache.kept import KeptPages
from headrace.cache.layout import SegmentName
from headrace.cache.moves import Moves, PageTier
from headrace.cache.segment import Segment, SegmentBad, SegmentGone
from headrace.cache.settings import CacheSettings
from headrace.cache.touches import Touches
from headrace.cache.wholes import Wholes
from headrace.model.clock import Clock
from headrace.model.disk import Disk, SystemDisk
from headrace.model.errors import HeadraceError
from headrace.model.events import PagesDropped
from headrace.model.objects import Emit
from headrace.model.reading import Buffer, FileSlice, Piece

SMALL_BYTES = 128 * 1024
"""Answers up to this long are handed on as bytes, longer ones as file slices."""

MEMORY_READY_BYTES = 8 * 1024 * 1024
"""Answers up to this long are copied out of the memory tier at once; longer ones stream."""

_READ_BYTES = 1 << 20
_VERIFY_NOW_BYTES = 1 << 20
_SLICED_BYTES = 16 * 1024
_PROBE_STEP_BYTES = 256 * 1024
_SLICES_MAX = 256
_SLOW_S = 0.1
_TOUCH_EVERY_S = 1.0
_FLUSH_EVERY_S = 0.1
_SWEEP_EVERY_S = 0.5
_SWEEP_FILES = 1024
_HANDLES_MAX = 8192
_KEPT_MAX_BYTES = 16 * 1024 * 1024
_KEPT_PART = 8
_FILLING_BYTES = 128 * 1024 * 1024
_WALK_ERRORS = (SegmentBad, OSError)


class TierFailed(HeadraceError):
    """Pages are there, but their device does not give them: read past it."""


class CacheStats(msgspec.Struct, frozen=True):
    """One process's view of the page cache, in bytes and counts since it started."""

    hits: int
    misses: int
    hit_bytes: int
    fetched_bytes: int
    """Bytes that fills took from stores."""
    corrupt: int
    """Segments found bad and dropped."""
    open_segments: int
    filling: int
    filling_bytes: int
    disks_out: int
    disk_faults: int
    promoted: int
    """Pages copied from disk to memory."""
    demoted: int
    """Pages written to disk because they had to leave memory."""


class PageCache:
    """Tiers, open segments and growing fills of one process. Made by `open`; belongs to one event loop."""

    def __init__(
        self,
        settings: CacheSettings,
        directories: tuple[PageDirectory, ...],
        *,
        clock: Clock,
        emit: Emit,
        memory_tier: PageTier | None = None,
        filling_bytes: int = _FILLING_BYTES,
    ) -> None:
        self.geometry = settings.geometry
        self.directories = directories
        self.memory = memory_tier
        self.clock = clock
        self._moves = Moves(memory_tier) if memory_tier is not None else None
        self.fills = Fills(budget_bytes=filling_bytes, clock=clock, emit=emit, moves=self._moves)
        self.wholes = Wholes(self.fills, clock=clock, emit=emit)
        handles = _handles_limit()
        self._handles = Handles(handles)
        self._page = settings.geometry.page
        kept_bytes = min(_KEPT_MAX_BYTES, settings.memory_bytes // _KEPT_PART) if memory_tier is not None else 0
        self._kept = KeptPages(kept_bytes, handles // 4, page=self._page, largest=SMALL_BYTES, touch=self._touch, emit=emit)
        self._emit = emit
        self._weights = tuple(max(disk.capacity_bytes, 1) for disk in settings.disk) if directories else ()
        self._flush: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self.hits = self.misses = self.hit_bytes = self.corrupt = 0

    @classmethod
    def open(
        cls,
        settings: CacheSettings,
        home: Path,
        *,
        clock: Clock,
        emit: Emit,
        disk: Disk | None = None,
        memory_tier: PageTier | None = None,
        touches: Callable[[str], Touching] | None = None,
    ) -> PageCache:
        """Join the page directories under `home`. Nothing is read: names are computed. Raises `SettingsError`."""
        seam = disk or SystemDisk()
        geometry = settings.geometry
        directories = tuple(
            PageDirectory.open(os.fspath(one.root(home)), geometry, disk=seam, clock=clock, emit=emit, touches=touches or Touches)
            for one in settings.disk
        )
        return cls(settings, directories, clock=clock, emit=emit, memory_tier=memory_tier)

    def directory_of(self, object_id: bytes) -> PageDirectory | None:
        """Where the object's segments lie: by its id, in proportion to capacity."""
        if len(self.directories) <= 1:
            return self.directories[0] if self.directories else None
        point = int.from_bytes(object_id[:8], "big") * sum(self._weights) >> 64
        for directory, weight in zip(self.directories, self._weights, strict=True):
            if point < weight:
                return directory
            point -= weight
        return self.directories[-1]

    def at_hand(self, target: CachedObject, start: int, end: int, now_s: float) -> tuple[Piece, ...] | None:
        """The bytes if they can be had without waiting, else None. Never raises for the tiers' sake."""
        directory = target.directory
        if directory is None or directory.health.out:
            return self._from_memory(target, start, end)
        page = start // self._page
        kept = self._kept.find((target.object_id, page))
        if kept is not None and end <= kept.end and now_s < kept.due_s and self._kept.sound(kept, target, page):
            low, high = start - kept.start, end - kept.start
            return (kept.data[low:high] if high - low <= _SLICED_BYTES else memoryview(kept.data)[low:high],)
        try:
            if kept is not None and end - start <= SMALL_BYTES:
                pieces = self._kept.pieces(target, start, end, now_s)
                if pieces is not None:
                    return pieces
            segment = self._handles.find(target, page, now=True)
            if segment is not None:
                if end <= segment.end and end - start <= SMALL_BYTES:
                    data = segment.read(start, end, now=True)
                    if now_s - segment.touched_at > _TOUCH_EVERY_S:
                        self._touch(segment, target, now_s)
                    self._kept.consider(segment, page, -(-end // self._page), now_s)
                    return (data,)
                pieces = self._walk(target, segment, start, end, now_s)
                if pieces is not None:
                    return pieces
        except BlockingIOError:
            pass  # the device would have to be asked
        except _WALK_ERRORS as error:
            self._complain(target, "read", error)
        return self._from_memory(target, start, end)

    def files_at_hand(self, target: CachedObject, start: int, end: int, now_s: float) -> tuple[Piece, ...] | None:
        """The bytes as slices of the segments' files if those can be read without waiting, else None. Never raises."""
        directory = target.directory
        if directory is None or directory.health.out:
            return None
        try:
            segment = self._handles.find(target, start // self._page, now=True)
            return None if segment is None else self._walk(target, segment, start, end, now_s, as_files=True)
        except BlockingIOError:
            return None
        except _WALK_ERRORS as error:
            self._complain(target, "read", error)
            return None

    def _walk(
        self, target: CachedObject, segment: Segment, start: int, end: int, now_s: float, *, as_files: bool = False
    ) -> tuple[Piece, ...] | None:
        """Over several segments, or as slices of the files."""
        small = end - start <= SMALL_BYTES and not as_files
        # What this process reads for the first time is verified on the spot where that takes some 0.1 ms, else in a stream.
        short = end - start <= _VERIFY_NOW_BYTES
        pieces: list[Piece] = []
        found: Segment | None = segment
        while found is not None and len(pieces) < _SLICES_MAX:
            upto = min(end, found.end)
            if small:
                pieces.append(found.read(start, upto, now=True))
            elif (found.verified(start, upto) and found.resident(start, upto, _PROBE_STEP_BYTES)) or (
                short and found.verify_now(start, upto)
            ):
                pieces.append(FileSlice(found.fd, start - found.start, upto - start, found))
            else:
                return None
            if now_s - found.touched_at > _TOUCH_EVERY_S:
                self._touch(found, target, now_s)
            if upto == end:
                return tuple(pieces)
            start = upto
            found = self._handles.find(target, start // target.geometry.page, now=True)
        return None

    async def read(self, target: CachedObject, start: int, end: int) -> Buffer | None:
        """Verified bytes from `start` on, at least one and at most up to `end`; None when the page is in no tier.

        Raises `TierFailed` when a device does not answer within its budget.
        """
        directory = target.directory
        if directory is None or not directory.usable():
            return self._memory_bytes(target, start, end)
        end = min(end, start + _READ_BYTES)
        try:
            try:
                data = self._read(target, start, end, now=True)
            except BlockingIOError:
                data = self._memory_bytes(target, start, end)
                if data is None:
                    data = await self._from_device(directory, target, start, end)
        except TimeoutError as error:
            raise TierFailed(f"{directory.root} does not answer in time", path=target.key) from error
        except _WALK_ERRORS as error:
            self._complain(target, "read", error)
            if isinstance(error, SegmentBad):
                return None
            raise TierFailed(f"{directory.root} does not answer", path=target.key) from error
        return data if data is not None else self._memory_bytes(target, start, end)

    def holds(self, target: CachedObject, page: int) -> int:
        """How many pages from this one on are in a tier in one piece; 0 when it is in none."""
        directory = target.directory
        if directory is not None and not directory.health.out:
            try:
                segment = self._handles.find(target, page, now=True)
            except BlockingIOError:
                return 1
            except _WALK_ERRORS as error:
                self._complain(target, "open", error)
                segment = None
            if segment is not None:
                return target.geometry.pages(segment.end) - page
        return 1 if self.memory is not None and self.memory.get(target.object_id, page) is not None else 0

    def drop(self, target: CachedObject, reason: str) -> tuple[int, int]:
        """Remove every page of one object; segments and bytes. Blocks. Raises `OSError`."""
        removed = freed = 0
        directory = target.directory
        if directory is not None:
            for _ in range(2):  # what was being merged at the first look has its new name at the second
                for name in directory.segments(target.object_id):
                    start, end = target.geometry.extent(name, target.size)
                    directory.remove(name, target.group)
                    removed, freed = removed + 1, freed + max(end - start, 0)
        self._handles.drop_object(target.object_id)
        self._kept.distrust((target.object_id,))
        if self._moves is not None:
            self._moves.drop(target.object_id)
        if removed:
            self._emit(PagesDropped("disk", reason, removed, freed))
        return removed, freed

    def drop_mount_in_memory(self, tag: bytes) -> int:
        """Let every page of a mount leave the memory tier; how many there were."""
        return self._moves.drop_mount(tag) if self._moves is not None else 0

    def forget(self, names: list[SegmentName]) -> None:
        """Let go of open segments whose files were removed."""
        for name in names:
            self._handles.drop(name)
        self._kept.distrust(name.object_id for name in names)

    def stats(self) -> CacheStats:
        """What happened so far."""
        return CacheStats(
            hits=self.hits,
            misses=self.misses,
            hit_bytes=self.hit_bytes,
            fetched_bytes=self.fills.fetched_bytes,
            corrupt=self.corrupt + self._kept.spoiled,
            open_segments=len(self._handles),
            filling=len(self.fills),
            filling_bytes=self.fills.held_bytes,
            disks_out=sum(one.health.out for one in self.directories),
            disk_faults=sum(one.health.total_faults for one in self.directories),
            promoted=self._moves.promoted if self._moves is not None else 0,
            demoted=self._moves.demoted if self._moves is not None else 0,
        )

    async def close(self) -> None:
        """End the fills, close the files. Pages stay for the next start."""
        await self.fills.close()
        await self.wholes.close()
        if self._moves is not None:
            await self._moves.close()
        for timer in (self._flush, self._sweep):
            if timer is not None:
                timer.cancel()
        self._flush = self._sweep = None
        self._handles.clear()
        self._kept.clear()
        for directory in self.directories:
            directory.close()

    def _read(self, target: CachedObject, start: int, end: int, *, now: bool, anew: bool = False) -> Buffer | None:
        try:
            segment = self._handles.find(target, start // target.geometry.page, now=now)
            if segment is None:
                return None
            end = min(end, segment.end)
            data = segment.read_anew(start, end, now=now) if anew else segment.read(start, end, now=now)
        except SegmentGone:
            return None
        now_s = self.clock.monotonic()
        if now and now_s - segment.touched_at > _TOUCH_EVERY_S:
            self._touch(segment, target, now_s)
        return data

    async def _from_device(self, directory: PageDirectory, target: CachedObject, start: int, end: int) -> Buffer | None:
        """As `_read`, in a thread. A page that was asked for repeatedly is read whole, and kept in memory."""
        size = target.geometry.page
        page = start // size
        low, high = page * size, min((page + 1) * size, target.size)
        moves = self._moves
        promoted = moves is not None and end - start <= SMALL_BYTES and moves.worth(target, page, self.clock.monotonic())
        if moves is None or not promoted:
            data = await directory.run(partial(self._read, target, start, end, now=False), budget_s=_SLOW_S)
            directory.health.success()
            return data
        whole = await directory.run(partial(self._read, target, low, high, now=False, anew=True), budget_s=_SLOW_S)
        directory.health.success()
        if whole is None:
            return None
        if len(whole) == high - low and moves.put(target, page, whole):
            moves.promoted += 1
        return memoryview(whole)[start - low : end - low]

    def _from_memory(self, target: CachedObject, start: int, end: int) -> tuple[Piece, ...] | None:
        if self._moves is None or end - start > MEMORY_READY_BYTES:
            return None
        pieces: list[Piece] = []
        while start < end:
            data = self._memory_bytes(target, start, end)
            if data is None:
                return None
            pieces.append(data)
            start += len(data)
        return tuple(pieces)

    def _memory_bytes(self, target: CachedObject, start: int, end: int) -> Buffer | None:
        if self._moves is None:
            return None
        size = target.geometry.page
        page = start // size
        data = self._moves.get(target, page)
        if data is None:
            return None
        low, high = start - page * size, min(end - page * size, len(data))
        return data if high - low == len(data) else memoryview(data)[low:high]

    def _touch(self, segment: Segment, target: CachedObject, now_s: float) -> None:
        directory = target.directory
        if directory is None or now_s - segment.touched_at <= _TOUCH_EVERY_S:
            return
        self._handles.touch(segment, target.group, directory, now_s)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_EVERY_S, self._flush_touches)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep_handles)

    def _sweep_handles(self) -> None:
        """Let go of files that were evicted: while they are open their space is not free."""
        self._sweep = None
        self._kept.sweep(self.clock.monotonic())
        if self._handles.sweep(_SWEEP_FILES):
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep_handles)

    def _flush_touches(self) -> None:
        self._flush = None
        for directory in self.directories:
            directory.touches.flush()

    def _complain(self, target: CachedObject, operation: str, error: Exception) -> None:
        """A bad segment is dropped and refilled; any other error counts against the device."""
        directory = target.directory
        if directory is None:
            return
        if not isinstance(error, SegmentBad):
            directory.fault(operation, error)
            return
        name = error.name
        self._handles.drop(name)
        self._kept.distrust((name.object_id,))
        start, end = target.geometry.extent(name, target.size)
        try:
            directory.remove(name, target.group)
        except OSError as failure:
            directory.fault("unlink", failure)
        self.corrupt += 1
        self._emit(PagesDropped("disk", "corrupt", target.geometry.pages(end - start), end - start))


def no_touches(_root: str) -> Touching:
    """For processes that tell no keeper."""
    return NoTouches()


def _handles_limit() -> int:
    """A quarter of the descriptors this process may open: the rest is for connections."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(_HANDLES_MAX, soft // 4)) if soft > 0 else _HANDLES_MAX
