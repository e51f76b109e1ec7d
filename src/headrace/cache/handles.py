"""Open segments of this process, least recently used out first. There is no index: an open that succeeds is a hit."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from headrace.cache.directory import PageDirectory
from headrace.cache.layout import CHUNK_PAGES, Geometry, Kind, SegmentName
from headrace.cache.segment import Segment, SegmentBad, SegmentGone, Slot, open_segment
from headrace.cache.touches import Group


@dataclass(slots=True)
class CachedObject:
    """One version of one object as the tiers know it. `directory` is None where no disk may hold it."""

    object_id: bytes
    size: int
    group: Group
    directory: PageDirectory | None
    geometry: Geometry
    in_memory: bool = False
    """Pages go to the memory tier only."""
    key: str = ""
    pinned: bool = False


class Handles:
    """At most `limit` open segments."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[Slot, Segment] = OrderedDict()
        self._unswept: list[Slot] = []

    def __len__(self) -> int:
        return len(self._open)

    def find(self, target: CachedObject, page: int, *, now: bool) -> Segment | None:
        """The segment that holds the page, checked for changes; None when no file has it.

        Raises `SegmentBad`, `OSError`, and with `now` `BlockingIOError` rather than wait for the device.
        """
        object_id = target.object_id
        opened = self._open
        while True:
            segment = (
                opened.get((object_id, "w", 0))
                or opened.get((object_id, "c", page // CHUNK_PAGES))
                or opened.get((object_id, "p", page))
            )
            if segment is None:
                break
            try:
                segment.check()
            except SegmentGone:
                self.drop(segment.name)
                continue
            return segment
        return self._open_first(target, page, now=now)

    def drop(self, name: SegmentName) -> None:
        """Let go of a segment."""
        self._open.pop((name.object_id, name.kind.value, name.index), None)

    def drop_object(self, object_id: bytes) -> None:
        """Let go of every segment of an object."""
        for slot in [slot for slot in list(self._open) if slot[0] == object_id]:
            self._open.pop(slot, None)

    def touch(self, segment: Segment, group: Group, directory: PageDirectory, now: float) -> None:
        """The segment was read: tell the keeper and move it behind the others, once a second at most."""
        segment.touched_at = now
        if segment.slot in self._open:
            self._open.move_to_end(segment.slot)
        directory.touches.touched(segment.file_name, group)

    def sweep(self, count: int) -> bool:
        """Look at the next `count` open segments and let go of those that are gone or bad; False when none is open."""
        if not self._unswept:
            self._unswept = list(self._open)
        for slot in self._unswept[-count:]:
            segment = self._open.get(slot)
            try:
                if segment is not None:
                    segment.check()
            except (SegmentGone, SegmentBad, OSError):
                self._open.pop(slot, None)
        del self._unswept[-count:]
        return bool(self._open)

    def clear(self) -> None:
        self._open.clear()

    def _open_first(self, target: CachedObject, page: int, *, now: bool) -> Segment | None:
        directory = target.directory
        if directory is None:
            return None
        geometry = target.geometry
        names = [SegmentName(target.object_id, Kind.WHOLE)]
        if target.size > geometry.chunk:
            names.append(SegmentName(target.object_id, Kind.CHUNK, page // CHUNK_PAGES))
        if target.size > geometry.page:
            names.append(SegmentName(target.object_id, Kind.PAGE, page))
        for name in names:
            segment = open_segment(directory.disk, directory.root, name, geometry, size=target.size, now=now)
            if segment is not None:
                self._open[segment.slot] = segment
                while len(self._open) > self._limit:
                    self._open.popitem(last=False)
                return segment
        return None
