"""Copies of the pages that one process reads most, in its own memory: such a read costs neither a system call nor a lock.

A copy is of verified bytes and never changes; its checksum is compared at every read all the same. What it was made from is
looked at again before a read that comes `_TRUST_S` after the last look. A copy that nobody has asked for in a while is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.cache.handles import CachedObject
from headrace.cache.layout import checksum
from headrace.cache.segment import Segment, SegmentGone
from headrace.model.events import PagesDropped
from headrace.model.objects import Emit
from headrace.model.reading import Piece

_TRUST_S = 0.5
_IDLE_S = 2.0
_SEEN_MAX = 2048

_Slot = tuple[bytes, int]


class Kept:
    """One page: the object's bytes `start` up to `end`, to be trusted until `due_s` (monotonic)."""

    __slots__ = ("data", "due_s", "end", "segment", "start", "sum")

    def __init__(self, data: bytes, start: int, segment: Segment, own_sum: int, due_s: float) -> None:
        self.data = data
        self.start = start
        self.end = start + len(data)
        self.segment = segment
        self.sum = own_sum
        self.due_s = due_s


class KeptPages:
    """At most `capacity` bytes in at most `limit` pages, of a length up to `largest` bytes. Belongs to one event loop."""

    def __init__(
        self,
        capacity: int,
        limit: int,
        *,
        page: int,
        largest: int,
        touch: Callable[[Segment, CachedObject, float], None],
        emit: Emit,
    ) -> None:
        self.find = (found := dict[_Slot, Kept]()).get
        """The page's copy, by object id and page; look at `due_s` and `sound` before use."""
        self._found = found
        self._capacity = capacity
        self._limit = limit
        self._page = page
        self._largest = largest
        self._touch = touch
        self._emit = emit
        self._bytes = 0
        self._seen: set[_Slot] = set()
        self.spoiled = 0
        """Copies that were not what had been copied."""

    def __len__(self) -> int:
        return len(self._found)

    def pieces(self, target: CachedObject, start: int, end: int, now_s: float) -> tuple[Piece, ...] | None:
        """The object's bytes `start` up to `end` when all of their pages are kept. What is due is looked at first.

        Raises `SegmentBad` or `OSError` when a file that a page was copied from is not what it was; then the page is dropped.
        """
        pieces: list[Piece] = []
        page = start // self._page
        while start < end:
            kept = self.find((target.object_id, page))
            if kept is None or not self.sound(kept, target, page):
                return None
            if now_s >= kept.due_s and not self._renew(kept, target, page, now_s):
                return None
            upto = min(end, kept.end)
            pieces.append(memoryview(kept.data)[start - kept.start : upto - kept.start])
            start, page = upto, page + 1
        return tuple(pieces)

    def sound(self, kept: Kept, target: CachedObject, page: int) -> bool:
        """Whether the copy is what was copied. One that is not is dropped and counted."""
        if checksum(kept.data, target.object_id, page) == kept.sum:
            return True
        self.drop((target.object_id, page))
        self.spoiled += 1
        self._emit(PagesDropped("memory", "corrupt", 1, len(kept.data)))
        return False

    def consider(self, segment: Segment, first: int, last: int, now_s: float) -> None:
        """Pages `first` up to `last` were read from their segment: copy what was read before, where there is room.

        Raises as `Segment.read`, but for what would have to wait.
        """
        if not self._capacity:
            return
        for page in range(first, last):
            slot = (segment.name.object_id, page)
            if slot in self._seen:
                try:
                    self._copy(segment, slot, now_s)
                except BlockingIOError:
                    return
            else:
                if len(self._seen) >= _SEEN_MAX:
                    self._seen.clear()
                self._seen.add(slot)

    def drop(self, slot: _Slot) -> None:
        """Let one page go."""
        kept = self._found.pop(slot, None)
        if kept is not None:
            self._bytes -= len(kept.data)

    def distrust(self, ids: Iterable[bytes]) -> None:
        """Look at every page of these objects again before it is used. May be called in any thread."""
        gone = frozenset(ids)
        for (object_id, _), kept in list(self._found.items()):
            if object_id in gone:
                kept.due_s = float("-inf")

    def sweep(self, now_s: float) -> None:
        """Let go of what is not read any more."""
        for slot in [slot for slot, kept in self._found.items() if now_s - kept.due_s > _IDLE_S]:
            self.drop(slot)

    def clear(self) -> None:
        self._found.clear()
        self._seen.clear()
        self._bytes = 0

    def _copy(self, segment: Segment, slot: _Slot, now_s: float) -> None:
        start = slot[1] * self._page
        end = min(start + self._page, segment.end)
        if end - start > self._largest or not self._make_room(end - start, now_s):
            return
        data = bytes(segment.read_anew(start, end, now=True))
        self._seen.discard(slot)
        self.drop(slot)
        self._found[slot] = Kept(data, start, segment, checksum(data, *slot), now_s + _TRUST_S)
        self._bytes += len(data)

    def _renew(self, kept: Kept, target: CachedObject, page: int, now_s: float) -> bool:
        right = False
        try:
            kept.segment.check()
            right = kept.segment.verified(kept.start, kept.end)  # the check forgets what it had verified otherwise
        except SegmentGone:
            return False
        finally:
            if not right:
                self.drop((target.object_id, page))
        if right:
            kept.due_s = now_s + _TRUST_S
            self._touch(kept.segment, target, now_s)
        return right

    def _make_room(self, length: int, now_s: float) -> bool:
        """Room for one more. A page in use never goes for it: what does not fit is read from its segment."""
        while self._bytes + length > self._capacity or len(self._found) >= self._limit:
            slot = next(iter(self._found), None)
            if slot is None:
                return False
            kept = self._found[slot]
            if kept.due_s > now_s:
                self._found[slot] = self._found.pop(slot)
                return False
            self.drop(slot)
        return True
