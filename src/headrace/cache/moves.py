"""Pages on their way between the memory tier and the disk tier of one process, by the decisions of `tiering.py`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Protocol

from headrace.cache.directory import PageDirectory
from headrace.cache.handles import CachedObject
from headrace.cache.layout import CHUNK_PAGES, Kind, SegmentName
from headrace.cache.parts import Claim, claim
from headrace.cache.tiering import Evicted, Promotion, demote
from headrace.model.reading import Buffer

_WRITING_MAX = 32
"""Pages that wait to be written, or are: more than these are let go unwritten."""
_OBJECTS_MAX = 8192
_PROMOTED_MAX_BYTES = 128 * 1024
_CLOSE_S = 5.0


class PageTier(Protocol):
    """Pages in memory, as `arena.MemoryTier` keeps them. No call blocks."""

    on_evicted: Callable[[bytes, int, bytes], None] | None
    """Called with object id, page index and bytes of each page that makes room for another."""

    def get(self, object_id: bytes, page: int) -> bytes | None: ...

    def put(self, object_id: bytes, page: int, data: Buffer) -> bool:
        """False when it was not admitted."""

    def drop(self, object_id: bytes) -> int:
        """How many pages were dropped."""

    def drop_mount(self, tag: bytes) -> int:
        """The same for all of a mount's."""


class Moves:
    """Takes pages into memory, and writes those that must leave it to disk where they may lie there.

    A page that leaves tells only its object's id. What this process neither put nor read is not written: another process may
    know it to be of a mount whose pages must never touch a disk. Belongs to one event loop.
    """

    def __init__(self, memory: PageTier) -> None:
        self.memory = memory
        self.promoted = self.demoted = 0
        self._promotion = Promotion(largest=_PROMOTED_MAX_BYTES)
        self._objects: OrderedDict[bytes, CachedObject] = OrderedDict()
        self._writing: set[asyncio.Future[int]] = set()
        memory.on_evicted = self._leaves

    def worth(self, target: CachedObject, page: int, now_s: float) -> bool:
        """Whether a page that the device must be asked for should be put into memory when it was read."""
        return self._promotion.read(target.object_id, page, self._length(target, page), now_s)

    def put(self, target: CachedObject, page: int, data: Buffer) -> bool:
        """Keep a whole, verified page in memory. False when the tier did not take it."""
        self._know(target)
        return self.memory.put(target.object_id, page, data)

    def get(self, target: CachedObject, page: int) -> bytes | None:
        """A page's verified bytes."""
        data = self.memory.get(target.object_id, page)
        if data is None or len(data) != self._length(target, page):
            return None
        self._know(target)
        return data

    def drop(self, object_id: bytes) -> int:
        """Let an object's pages go, unwritten; how many there were."""
        self._objects.pop(object_id, None)
        return self.memory.drop(object_id)

    def drop_mount(self, tag: bytes) -> int:
        """The same for all objects whose id ends with the tag."""
        for object_id in [object_id for object_id in list(self._objects) if object_id.endswith(tag)]:
            del self._objects[object_id]
        return self.memory.drop_mount(tag)

    async def close(self) -> None:
        """Write no more, and wait a little for what is being written."""
        self.memory.on_evicted = None
        self._objects.clear()
        if self._writing:
            await asyncio.wait(self._writing, timeout=_CLOSE_S)

    def _know(self, target: CachedObject) -> None:
        if target.directory is None or target.in_memory:
            return
        known = self._objects
        known[target.object_id] = target
        if len(known) > _OBJECTS_MAX:
            known.popitem(last=False)

    def _length(self, target: CachedObject, page: int) -> int:
        size = target.geometry.page
        return min(size, target.size - page * size)

    def _leaves(self, object_id: bytes, page: int, data: bytes) -> None:
        target = self._objects.get(object_id)
        if target is None or target.directory is None or len(data) != self._length(target, page):
            return
        evicted = Evicted(
            len(data), on_disk=False, disk_allowed=not target.in_memory, disk_in_service=not target.directory.health.out
        )
        if not demote(evicted) or len(self._writing) >= _WRITING_MAX:
            return
        future = target.directory.start(partial(self._write, target, target.directory, page, data))
        self._writing.add(future)
        future.add_done_callback(partial(self._written, target, target.directory, page))

    def _write(self, target: CachedObject, directory: PageDirectory, page: int, data: bytes) -> int:
        """In a thread: make the page's segment; the length of its file, 0 where it is on disk or not wanted any more."""
        if target.object_id not in self._objects or _on_disk(directory, target, page):
            return 0
        how, part = claim(directory, _name(target, page), target.size)
        if part is None:
            return 0
        if how is not Claim.LEAD:
            part.close()
            return 0
        try:
            return part.finish(memoryview(data), pinned=target.pinned)
        except BaseException:  # whatever it is: tidied up here, raised on
            part.abandon()
            raise

    def _written(self, target: CachedObject, directory: PageDirectory, page: int, future: asyncio.Future[int]) -> None:
        self._writing.discard(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            directory.fault("demote", error)
        elif future.result():
            self.demoted += 1
            directory.health.success()
            directory.touches.created(_name(target, page).path[4:], future.result(), target.group)


def _name(target: CachedObject, page: int) -> SegmentName:
    return (
        SegmentName(target.object_id, Kind.PAGE, page)
        if target.size > target.geometry.page
        else SegmentName(target.object_id, Kind.WHOLE)
    )


def _on_disk(directory: PageDirectory, target: CachedObject, page: int) -> bool:
    names = (
        SegmentName(target.object_id, Kind.WHOLE),
        SegmentName(target.object_id, Kind.CHUNK, page // CHUNK_PAGES),
        SegmentName(target.object_id, Kind.PAGE, page),
    )
    for name in names:
        try:
            directory.disk.stat(f"{directory.root}/{name.path}")
        except FileNotFoundError:
            continue
        return True
    return False
