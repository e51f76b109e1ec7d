"""Objects in one plain file each, every byte proved: for who reads such a file past this process.

That is the kernel, for a mounted directory. Joined on demand, where all pages are on a disk already; no store is asked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import msgspec

from headrace.cache.directory import PageDirectory
from headrace.cache.fills import Fills
from headrace.cache.handles import CachedObject
from headrace.cache.layout import Kind, SegmentName, tag_of
from headrace.cache.merge import Allowance, has_room, merge, plan, remove_parts
from headrace.cache.segment import SegmentBad, SegmentGone, open_segment
from headrace.model.clock import Clock
from headrace.model.disk import Disk
from headrace.model.events import PagesDropped
from headrace.model.objects import Emit
from headrace.model.reading import FileSlice

_PROVED_MAX = 16_384
_TRIES = 3
_BYTES_PER_S = 256 << 20
_BURST_BYTES = 4 << 30


class Proof(msgspec.Struct, frozen=True):
    """Which file was proved: another one, or the same one changed, is none."""

    inode: int
    ctime_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Proof:
        return cls(status.st_ino, status.st_ctime_ns, status.st_size)


class _Descriptor:
    """Closed when nobody holds it any more."""

    __slots__ = ("_disk", "_fd")

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk = disk
        self._fd = fd

    def __del__(self) -> None:
        self._disk.close(self._fd)


class Wholes:
    """One process's proofs, and the thread that makes them: one object at a time. Belongs to one event loop."""

    def __init__(self, fills: Fills, *, clock: Clock, emit: Emit) -> None:
        self._fills = fills
        self._now = clock.monotonic
        self._emit = emit
        self._proved: OrderedDict[bytes, Proof] = OrderedDict()
        self._allowance = Allowance(_BYTES_PER_S, _BURST_BYTES)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-whole")
        self._stop = threading.Event()
        self._running: dict[bytes, asyncio.Future[Proof | None]] = {}

    def find(self, target: CachedObject) -> FileSlice | None:
        """All of the object as one file that was proved here. Waits for nothing but the opening of a file."""
        proof = self._proved.get(target.object_id)
        directory = target.directory
        if proof is None or directory is None or directory.health.out:
            return None
        name = SegmentName(target.object_id, Kind.WHOLE)
        try:
            fd = directory.disk.open(f"{directory.root}/{name.path}", os.O_RDONLY)
        except OSError:
            self._proved.pop(target.object_id, None)
            return None
        owner = _Descriptor(directory.disk, fd)
        if Proof.of(directory.disk.fstat(fd)) != proof:
            self._proved.pop(target.object_id, None)
            return None
        directory.touches.touched(name.path[4:], target.group)
        return FileSlice(fd, 0, target.size, owner)

    async def join(self, target: CachedObject) -> bool:
        """Make the object one file where all of its pages are on a disk, and prove it; whether `find` has it now.

        Never raises for the tier's sake. An object of one page is none: its file holds more than its bytes.
        """
        directory = target.directory
        if directory is None or not directory.usable() or target.size <= target.geometry.page:
            return False
        await self._fills.settled(target.object_id)
        if self._stop.is_set():
            return False
        running = self._running.get(target.object_id)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._work, directory, target)
            self._running[target.object_id] = running
            running.add_done_callback(lambda _: self._running.pop(target.object_id, None))
        proof = await asyncio.shield(running)
        if proof is None:
            return False
        self._proved[target.object_id] = proof
        while len(self._proved) > _PROVED_MAX:
            self._proved.popitem(last=False)
        return True

    async def ended(self, tag: bytes) -> None:
        """Return once no object of the mount is being joined."""
        running = [future for object_id, future in self._running.items() if tag_of(object_id) == tag]
        if running:
            await asyncio.wait(running)

    async def close(self) -> None:
        """Let what runs come to its end, soon."""
        self._stop.set()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _work(self, directory: PageDirectory, target: CachedObject) -> Proof | None:
        try:
            proof = self._prove(directory, target) if self._make(directory, target) else None
            if proof is not None:
                self._tidy(directory, target)
            return proof
        except SegmentGone:
            return None
        except SegmentBad as error:
            directory.remove(error.name, target.group)
            self._emit(PagesDropped("disk", "corrupt", target.geometry.pages(target.size), target.size))
            return None
        except OSError as error:
            directory.fault("read", error)
            return None

    def _make(self, directory: PageDirectory, target: CachedObject) -> bool:
        """Whether there is one file. Another process may be merging the same pages: then they are looked at again."""
        geometry, root = target.geometry, directory.root
        for _ in range(_TRIES):
            lengths = {}
            for name in directory.segments(target.object_id):
                start, end = geometry.extent(name, target.size)
                lengths[name] = end - start
            whole = SegmentName(target.object_id, Kind.WHOLE)
            if whole in lengths:
                return True
            planned = dict(plan(lengths, geometry, target.size)).get(whole)
            if planned is None or self._stop.is_set() or not has_room(root, target.size):
                return False
            if not self._allowance.take(target.size, self._now()):
                return False
            size = merge(root, geometry, whole, planned, stop=self._stop)
            if size and remove_parts(root, whole, planned):
                directory.touches.created(whole.path[4:], size, target.group)
                for part in planned:
                    directory.touches.removed(part.path[4:], target.group)
                directory.touches.flush()
                return True
        return False

    def _tidy(self, directory: PageDirectory, target: CachedObject) -> None:
        """What a process that was killed behind a merge left of the parts is not needed beside a proved whole."""
        for name in directory.segments(target.object_id):
            if name.kind is not Kind.WHOLE:
                directory.remove(name, target.group)

    def _prove(self, directory: PageDirectory, target: CachedObject) -> Proof | None:
        name, page = SegmentName(target.object_id, Kind.WHOLE), target.geometry.page
        segment = open_segment(directory.disk, directory.root, name, target.geometry, size=target.size, now=False)
        if segment is None:
            return None
        proof = Proof.of(directory.disk.fstat(segment.fd))
        for position in range(0, target.size, page):
            if self._stop.is_set():
                return None
            segment.read_anew(position, min(position + page, target.size), now=False)
        segment.check()
        return proof if Proof.of(directory.disk.fstat(segment.fd)) == proof else None
