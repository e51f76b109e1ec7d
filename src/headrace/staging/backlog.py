"""The backlog: which writes the store does not have yet, in what order it gets them, and what readers see. Pure."""

from __future__ import annotations

import bisect
import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from headrace.staging.records import UNKNOWN, Delete, Done, Put, Record

Place = tuple[int, int]
"""A log's number and an offset in it: the order in which writes were acknowledged."""


class Staged(msgspec.Struct, frozen=True):
    """A write that the store does not have yet."""

    place: Place
    entry: Put | Delete
    record: Record


class Look:
    """What one listing sees: what is staged, and what has been since it began, for what the store listed may be older."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._gone: dict[str, Staged] = {}
        self._names: list[bytes] = []

    def left(self, staged: Staged) -> None:
        """The last write of a key has reached the store."""
        key = staged.entry.key
        if key not in self._gone:
            bisect.insort(self._names, key.encode())
        self._gone[key] = staged

    def visible(self, key: str) -> Staged | None:
        """`Backlog.visible`."""
        return self._backlog.visible(key) or self._gone.get(key)

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """`Backlog.keys`; some come twice."""
        return heapq.merge(self._backlog.keys(prefix, after), _keys(self._names, prefix, after), key=str.encode)


class Backlog:
    """Staged writes by key, oldest first. Fed with records in the journal's order; several may feed the same one twice."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Staged]] = {}
        self._names: list[bytes] = []
        # Its first place is found at once, however many were removed before it; a plain dict's is not.
        self._places: OrderedDict[Place, Staged] = OrderedDict()
        self._left: dict[str, str] = {}
        self._looks: list[Look] = []
        self.bytes = 0
        """Of the bodies that are staged."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._queues

    def add(self, log: int, record: Record) -> None:
        """The next record of log number `log`."""
        entry = record.entry
        if isinstance(entry, Done):
            self._done(entry)
            return
        place = (log, record.offset)
        if place in self._places:
            return
        staged = Staged(place, entry, record)
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = deque()
            bisect.insort(self._names, entry.key.encode())
        queue.append(staged)
        self._places[place] = staged
        self.bytes += _size(entry)

    def visible(self, key: str) -> Staged | None:
        """The write of `key` that readers see: the last."""
        queue = self._queues.get(key)
        return queue[-1] if queue else None

    def replaces(self, staged: Staged) -> str:
        """What the store must have in the place of a key's first staged write: as it was told, or as its predecessor left it."""
        return self._left.get(staged.entry.key, staged.entry.replaces)

    def heads(self) -> Iterator[Staged]:
        """The writes that may go to the store now, one a key, those acknowledged first in front. Nothing is changed meanwhile."""
        for staged in self._places.values():
            if self._queues[staged.entry.key][0] is staged:
                yield staged

    def oldest_s(self) -> float | None:
        """When the oldest staged write was acknowledged, in seconds since 1970 UTC."""
        first = next(iter(self._places.values()), None)
        return None if first is None else first.entry.staged_s

    def oldest_log(self) -> int | None:
        """The first log that still holds a staged write."""
        return next((log for log, _ in self._places), None)

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """Keys with staged writes that begin with `prefix` and sort behind `after`, in the order of their bytes.

        Nothing may be added or removed while they are iterated.
        """
        return _keys(self._names, prefix, after)

    @contextmanager
    def look(self) -> Iterator[Look]:
        """For as long as a listing of the store goes on."""
        look = Look(self)
        self._looks.append(look)
        try:
            yield look
        finally:
            self._looks.remove(look)

    def below(self, key: str) -> Iterator[Staged]:
        """All staged writes of `key` and of keys that go on behind it with a slash, those of one key in their order."""
        names = [name for name in (key,) if name in self._queues] if key else []
        for name in (*names, *self.keys(f"{key}/" if key else "", "")):
            yield from self._queues[name]

    def forget_before(self, log: int) -> None:
        """Logs before this one are gone: every write in them had reached the store."""
        for place in [place for place in self._places if place[0] < log]:
            self._remove(self._places[place], UNKNOWN)

    def _done(self, done: Done) -> None:
        staged = self._places.get((done.log, done.offset))
        if staged is not None:
            self._remove(staged, done.left)
        elif done.key in self._queues:
            # Its own record was dropped with an older log; what it left behind is what the key's next write replaces.
            self._left[done.key] = done.left

    def _remove(self, staged: Staged, left: str) -> None:
        key = staged.entry.key
        queue = self._queues[key]
        queue.remove(staged)
        del self._places[staged.place]
        self.bytes -= _size(staged.entry)
        if queue:
            self._left[key] = left
            return
        del self._queues[key]
        self._left.pop(key, None)
        del self._names[bisect.bisect_left(self._names, key.encode())]
        for look in self._looks:
            look.left(staged)


def _keys(names: list[bytes], prefix: str, after: str) -> Iterator[str]:
    start = max(bisect.bisect_left(names, prefix.encode()), bisect.bisect_right(names, after.encode()))
    for position in range(start, len(names)):
        key = names[position].decode()
        if not key.startswith(prefix):
            return
        yield key


def _size(entry: Put | Delete) -> int:
    return entry.size if isinstance(entry, Put) else 0
