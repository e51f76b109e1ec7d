"""A fill: a run of pages that grows in memory, feeds its readers from there, and is written to `.part` files meanwhile.

Local readers share one `Fill`. Where another process leads the same segment, the fill's bytes come from that process's
growing file instead of the store; when the leader dies, this process takes over at the byte it has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import partial
from typing import Any

from headrace.cache.buffers import Buffers
from headrace.cache.directory import PageDirectory
from headrace.cache.handles import CachedObject
from headrace.cache.layout import SegmentName
from headrace.cache.parts import Claim, Part, claim_run, keep_run
from headrace.cache.plan import Run
from headrace.model.errors import CorruptData, HeadraceError, Unavailable, VersionChanged
from headrace.model.objects import Version
from headrace.model.reading import Reading

_WRITE_BYTES = 1 << 20
_AT_ONCE_BYTES = 128 * 1024
_CLAIM_BUDGET_S = 0.1
_CLAIM_LATE_S = 5.0
_POLL_MIN_S = 0.0005
_POLL_MAX_S = 0.02
_LOCK_CHECK_S = 0.05
_STALL_S = 5.0
_TURNS_MAX = 8


class FillAbandoned(HeadraceError):
    """The last reader left, so the fill was given up; who comes late plans anew."""


class Source(ABC):
    """Where the bytes of one version of one object come from."""

    version: Version

    @abstractmethod
    async def open(self, start: int, end: int) -> Reading:
        """A reading of exactly these bytes of the version. Raises as `Store.read`."""


class Fill:
    """Bytes `start` up to `end` of one object, growing. Touched on the event loop only."""

    def __init__(self, target: CachedObject, run: Run, buffers: Buffers) -> None:
        self.target = target
        self.run = run
        self.start, self.end = run.extent(target.geometry, target.size)
        self.buffer = buffers.take(self.end - self.start)
        self.filled = self.start
        """Bytes of the object before this offset are in `buffer`."""
        self.error: HeadraceError | None = None
        self.published = False
        """All pages are in a tier: readers can let go of the buffer."""
        self.over = False
        """Nothing will change any more."""
        self.abandoned = False
        """It was given up: nobody may join."""
        self.holders = 0
        self.begun = False
        """Its task runs. One that never ran must not be cancelled: nothing would settle it."""
        self.fetched = 0
        """Bytes that came from the store, not from another process."""
        self.task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def view(self, start: int, end: int) -> memoryview:
        """Filled bytes; never written again."""
        return self.buffer[start - self.start : end - self.start]

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes. Raises `CorruptData` when there are too many."""
        length = len(data)
        if self.filled + length > self.end:
            raise CorruptData(f"the store sent more than the {self.end - self.start} bytes asked for", path=self.target.key)
        offset = self.filled - self.start
        self.buffer[offset : offset + length] = data
        self.filled += length
        self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def grown(self, beyond: int) -> None:
        """Return once bytes behind offset `beyond` are there, or none will come. Raises the fill's error."""
        while self.filled <= beyond:
            if self.error is not None:
                raise self.error
            if self.over:
                return
            await self.changed()

    async def changed(self) -> None:
        """Return after the next change."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def hold(self) -> None:
        self.holders += 1

    def release(self) -> None:
        """A reader leaves. A fill that nobody wants ends, unless it has more than half."""
        self.holders -= 1
        if self.holders <= 0 and not self.over and (self.filled - self.start) * 2 < self.end - self.start and self.task:
            self.abandoned = True
            if self.begun:
                self.task.cancel()


class Filler:
    """Runs one fill to its end. `adopted` is a reading of its first bytes that is already open."""

    def __init__(self, fill: Fill, source: Source, *, adopted: Reading | None, pinned: bool) -> None:
        self._fill = fill
        self._source = source
        self._adopted = adopted
        self._pinned = pinned
        self._parts: list[Part] = []
        self._writer: asyncio.Task[None] | None = None
        self._rest: asyncio.Task[Reading] | None = None
        self._sound = fill.start
        """Bytes before this offset came in bodies that ended where they should: they may be published."""
        self.kept = True
        """Whether every page so far went to a segment file."""

    async def run(self) -> None:
        """Fill everything. Raises what the source raises; files and tasks are settled either way."""
        try:
            if self._fill.abandoned:
                raise FillAbandoned("the fill was given up", path=self._fill.target.key)
            await self._fill_all()
        finally:
            if self._writer is not None or self._rest is not None or self._adopted is not None or self._parts:
                await _whole(self._settle())

    async def _fill_all(self) -> None:
        fill = self._fill
        names = fill.run.names(fill.target.object_id)
        directory = fill.target.directory
        if self._adopted is not None and self._adopted.range.end >= fill.end and fill.end - fill.start <= _AT_ONCE_BYTES:
            await self._fetch(fill.end)
            await self._keep(directory, names)
            return
        done = 0
        for _ in range(_TURNS_MAX + len(names)):
            if done == len(names):
                return
            if directory is None or not directory.usable():
                break
            try:
                how, parts = await self._claim(directory, names[done:])
            except (OSError, TimeoutError) as error:
                directory.fault("fill", error)
                break
            self._parts += parts
            if how is Claim.PRESENT:
                if fill.filled < fill.end:
                    raise FillAbandoned("another process has just filled these pages", path=fill.target.key)
                done += 1
            elif how is Claim.LEAD:
                await self._lead(parts)
                done += len(parts)
            elif await self._follow(parts[0]):
                done += 1
        if fill.filled < fill.end:
            self.kept = False
            await self._fetch(fill.end)

    async def _keep(self, directory: PageDirectory | None, names: tuple[SegmentName, ...]) -> None:
        """Make the segments behind the readers' backs.

        A small run whose bytes were on their way before it began is claimed only when they are here: its readers do not wait
        for files, nothing more is asked of the store than before, and a body that breaks has left no file behind.
        """
        fill = self._fill
        self.kept = directory is not None and directory.usable()
        if directory is None or not self.kept:
            return
        data = fill.view(fill.start, fill.end)
        try:
            made = await directory.run(partial(keep_run, directory, names, fill.target.size, data, pinned=self._pinned))
        except OSError as error:
            self.kept = False
            directory.fault("write", error)
            return
        directory.health.success()
        for name, size in made:
            directory.touches.created(name.path[4:], size, fill.target.group)

    async def _claim(self, directory: PageDirectory, names: tuple[SegmentName, ...]) -> tuple[Claim, list[Part]]:
        """`claim_run` in a thread. Readers do not wait for a slow device: the bytes come to memory meanwhile.

        Raises `OSError`, `TimeoutError`. A claim that nobody waits for any more is given back.
        """
        future = directory.start_claim(partial(claim_run, directory, names, self._fill.target.size))
        try:
            done, _ = await asyncio.wait((future,), timeout=_CLAIM_BUDGET_S)
            if not done:
                await self._fetch(self._fill.end)
                done, _ = await asyncio.wait((future,), timeout=_CLAIM_LATE_S)
            if not done:
                raise TimeoutError(f"no answer within {_CLAIM_LATE_S:.0f} s")
        except BaseException:  # whatever it is: tidied up here, raised on
            future.add_done_callback(_give_back)
            raise
        return future.result()

    async def _lead(self, parts: list[Part]) -> None:
        writer = self._writer = asyncio.ensure_future(self._write(parts))
        await self._fetch(parts[-1].extent[1])
        await writer

    async def _fetch(self, end: int) -> None:
        """Bytes from the store up to `end`; the reading that was adopted first, and what follows it opened meanwhile."""
        fill = self._fill
        adopted, self._adopted = self._adopted, None
        if adopted is not None and adopted.range.start != fill.filled:
            await adopted.aclose()
            adopted = None
        if adopted is not None:
            if adopted.range.end < end:
                self._rest = asyncio.ensure_future(self._source.open(adopted.range.end, end))
            await self._drain(adopted, min(adopted.range.end, fill.end))
        if fill.filled < end:
            rest, self._rest = self._rest, None
            reading = await (rest or self._source.open(fill.filled, end))
            await self._drain(reading, end)

    async def _drain(self, reading: Reading, end: int) -> None:
        fill = self._fill
        try:
            if reading.info.version != self._source.version or reading.info.size != fill.target.size:
                raise VersionChanged(f"{fill.target.key!r} changed while it was read", path=fill.target.key)
            if reading.range.start != fill.filled or reading.range.end < end:
                raise CorruptData(f"the store answered other bytes of {fill.target.key!r} than asked for", path=fill.target.key)
            async for data in reading:
                room = end - fill.filled
                extra = len(data) > room
                if extra and reading.range.end <= end:
                    raise CorruptData(f"the store sent more of {fill.target.key!r} than was asked for", path=fill.target.key)
                fill.fetched += min(len(data), room)
                fill.put(memoryview(data)[:room])
                if extra:
                    break
            if fill.filled != end:
                raise CorruptData(f"{fill.target.key!r} ended at byte {fill.filled}, before {end}", path=fill.target.key)
            self._sound = end
            fill.wake()
        finally:
            await reading.aclose()

    async def _write(self, parts: list[Part]) -> None:
        """Write and publish the parts as the bytes come. A failing disk costs the pages, never the reader."""
        fill = self._fill
        directory = parts[0].directory
        try:
            for part in parts:
                first, last = part.extent
                while fill.filled < last or (last - first > _WRITE_BYTES and part.written < last - first):
                    upto = min(fill.filled, last, first + part.written + _WRITE_BYTES)
                    # In large blocks: a file that was written in small ones is read from the system's memory more slowly.
                    if upto < last and upto < first + part.written + _WRITE_BYTES:
                        await fill.changed()
                        continue
                    await directory.run(partial(part.write, fill.view(first + part.written, upto)))
                while self._sound < last:
                    await fill.changed()
                await self._publish(part, fill.view(first, last))
        except (OSError, TimeoutError) as error:
            self.kept = False
            directory.fault("write", error)

    async def _publish(self, part: Part, data: memoryview) -> None:
        directory = part.directory
        size = await directory.run(partial(part.finish, data, pinned=self._pinned))
        directory.health.success()
        directory.touches.created(part.name.path[4:], size, self._fill.target.group)

    async def _follow(self, part: Part) -> bool:
        """Copy what another process writes. False when its leader is gone and the lead is to be taken."""
        fill, wait = self._fill, _POLL_MIN_S
        first, last = part.extent
        clock = asyncio.get_running_loop().time
        moved_at = clock()
        checked_at = moved_at
        try:
            while True:
                there, named = part.grown()
                if first + there > fill.filled:
                    have = fill.filled - first
                    fill.put(await part.directory.run(partial(part.read, have, there - have)))
                    wait, moved_at = _POLL_MIN_S, clock()
                    continue
                if fill.filled >= last:
                    self._sound = max(self._sound, last)
                    return True
                if not named:
                    return False
                if clock() - moved_at > _STALL_S:
                    self.kept = False
                    await self._fetch(fill.end)
                    return True
                if clock() - checked_at > _LOCK_CHECK_S:
                    checked_at = clock()
                    if part.leaderless():
                        return False
                await asyncio.sleep(wait)
                wait = min(wait * 2, _POLL_MAX_S)
        finally:
            part.close()

    async def _settle(self) -> None:
        """Nothing stays behind: no task, lock, descriptor or half page."""
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait((self._writer,))
        if self._rest is not None:
            self._rest.cancel()
            await asyncio.wait((self._rest,))
            if not self._rest.cancelled() and self._rest.exception() is None:
                await self._rest.result().aclose()
        if self._adopted is not None:
            await self._adopted.aclose()
        left = [part for part in self._parts if part.fd >= 0]
        if left:
            left[0].directory.submit(partial(_abandon, left))


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """`work` to its end, however often whoever waits for it is cancelled meanwhile: then that is raised behind it.

    The fills of one read fail together, and the reader that leaves gives each up once more while it is being settled.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    failure = task.exception()
    if cancelled is not None:
        raise cancelled
    if failure is not None:
        raise failure


def _abandon(parts: list[Part]) -> None:
    for part in parts:
        part.abandon()


def _give_back(future: asyncio.Future[tuple[Claim, list[Part]]]) -> None:
    if future.cancelled() or future.exception() is not None:
        return
    how, parts = future.result()
    for part in parts:
        if how is Claim.LEAD:
            part.abandon()
        else:
            part.close()


def as_headrace_error(error: BaseException, target: CachedObject) -> HeadraceError:
    """What readers of a failed fill are told."""
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return FillAbandoned("the fill was given up", path=target.key)
    return Unavailable(f"reading {target.key!r} failed: {type(error).__name__}: {error}", path=target.key)
