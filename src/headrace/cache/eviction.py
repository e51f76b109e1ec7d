"""Which segments to let go: S3-FIFO over bytes, with pins, groups and expiry. Pure: no IO and no clock.

New segments wait in a small queue that is emptied first, so a scan passes through without touching what is
read again; those read again move to the main queue, and a ghost queue of fingerprints remembers what left
the small one too early.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from headrace.cache.rows import NONE, Rows

_SMALL_SHARE = 0.02
"""Part of all bytes that the small queue may hold before it is emptied first."""
_READS_TO_MAIN = 1
"""Reads, beside the first one, that carry a segment from the small queue to the main one."""
_MAX_READS = 5
"""Measured with benchmarks/eviction_traces.py, as are the two above: within 1 point of the better of S3-FIFO and W-TinyLFU."""
_GHOST_WAYS = 4

_SMALL, _MAIN, _PINNED = 0, 1, 2


class Ghost:
    """Fingerprints of the last `span` ids added: a set that forgets in order, in 8 bytes a place."""

    def __init__(self, places: int = 1 << 12) -> None:
        self._table = array("Q", bytes(8 * places))
        self._clock = 1

    def add(self, ident: int, span: int) -> None:
        """Remember `ident`; room is made for `span` of them."""
        if span * 2 > len(self._table):
            self._grow(span)
        self._place(hash(ident), self._clock)
        self._clock += 1

    def take(self, ident: int, span: int) -> bool:
        """Whether `ident` is among the last `span` added; forgets it. One in some 10^9 answers is wrong."""
        table, mixed = self._table, hash(ident)
        bucket = mixed % (len(table) // _GHOST_WAYS) * _GHOST_WAYS
        mark = (mixed >> 29) & 0xFFFFFFFF
        for place in range(bucket, bucket + _GHOST_WAYS):
            if table[place] >> 32 == mark and table[place]:
                age = (self._clock - table[place]) & 0xFFFFFFFF
                table[place] = 0
                return age <= span
        return False

    def _place(self, mixed: int, stamp: int) -> None:
        table = self._table
        bucket = mixed % (len(table) // _GHOST_WAYS) * _GHOST_WAYS
        oldest = max(
            range(bucket, bucket + _GHOST_WAYS),
            key=lambda place: (stamp - table[place]) & 0xFFFFFFFF if table[place] else 1 << 32,
        )
        table[oldest] = ((mixed >> 29) & 0xFFFFFFFF) << 32 | (stamp & 0xFFFFFFFF)

    def _grow(self, span: int) -> None:
        # What it held is forgotten: a fingerprint does not tell its bucket in a larger table. Rare, and costs a few misses.
        self._table = array("Q", bytes(8 * 4 * max(span, 1)))


class Eviction:
    """What is kept, how often it was read, and what goes first.

    Ids are opaque ints of well-mixed bits. Sizes are bytes. `now` is in whole seconds of any one clock. Ids that
    `evict`, `evict_group` and `expired` answer have left the accounts; hand those that could not be unlinked in again.
    """

    def __init__(self) -> None:
        self._rows = Rows(queues=2)
        self._ghost = Ghost()
        self._sweep = 0
        self._asked = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, ident: int) -> bool:
        return ident in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    @property
    def bytes(self) -> int:
        """All bytes accounted for, pinned ones included."""
        return sum(self._rows.bytes)

    @property
    def pinned_bytes(self) -> int:
        """Bytes that no call will ever answer."""
        return self._rows.bytes[_PINNED]

    def group_bytes(self, group: int) -> int:
        """Bytes of one group, pinned ones included."""
        return self._rows.group_bytes.get(group, 0)

    def size(self, ident: int) -> int:
        """Bytes of one entry, 0 when unknown."""
        row = self._rows.find(ident)
        return 0 if row == NONE else self._rows.sizes[row]

    def inserted(self, ident: int, size: int, *, group: int = 0, now: int = 0, settled: bool = False) -> None:
        """A segment appeared, or its size or group is known better. `settled`: it was here before we started to watch."""
        rows = self._rows
        row = rows.find(ident)
        if row != NONE:
            rows.correct(row, size, group)
            return
        row = rows.add(ident, size, group, now)
        rows.push(row, _MAIN if settled or self._ghost.take(ident, len(rows)) else _SMALL)

    def touched(self, ident: int, *, group: int | None = None, now: int = 0) -> bool:
        """A segment was read. False when it is not known."""
        rows = self._rows
        row = rows.find(ident)
        if row == NONE:
            return False
        if rows.reads[row] < _MAX_READS:
            rows.reads[row] += 1
        rows.touched_s[row] = now
        if group is not None and group != rows.groups[row]:
            rows.correct(row, rows.sizes[row], group)
        return True

    def removed(self, ident: int) -> int:
        """A segment is gone for another reason. Answers its size, 0 when it was not known."""
        row = self._rows.find(ident)
        return 0 if row == NONE else self._rows.drop(row)

    def pinned(self, ident: int, *, pinned: bool) -> None:
        """Keep a segment whatever happens, or no longer. Unknown ids are passed over."""
        row = self._rows.find(ident)
        if row != NONE and (self._rows.queues[row] == _PINNED) != pinned:
            self._rows.move(row, _PINNED if pinned else _MAIN)

    def evict(self, need_bytes: int) -> list[int]:
        """The ids to let go, so that at least `need_bytes` are freed; fewer when all that is left is pinned."""
        victims: list[int] = []
        freed = 0
        while freed < need_bytes:
            row = self._victim()
            if row == NONE:
                break
            victims.append(self._rows.ids[row])
            freed += self._rows.drop(row)
        return victims

    def evict_group(self, group: int, need_bytes: int) -> list[int]:
        """As `evict`, from one group only: first those not read since they came, then the rest in order."""
        rows = self._rows
        victims: list[int] = []
        freed = 0
        for spare_read in (True, False):
            for queue in (_SMALL, _MAIN):
                row = rows.heads[queue]
                while row != NONE and freed < need_bytes:
                    following = rows.following(row)
                    if rows.groups[row] == group and not (spare_read and rows.reads[row]):
                        victims.append(rows.ids[row])
                        freed += rows.drop(row)
                    row = following
        return victims

    def expired(self, before_s: dict[int, int], *, steps: int) -> list[int]:
        """Ids last read before their group's `before_s`, among the next `steps` entries; calls go round and round."""
        rows = self._rows
        victims: list[int] = []
        for _ in range(min(steps, len(rows.ids))):
            self._sweep = row = (self._sweep + 1) % len(rows.ids)
            limit = before_s.get(rows.groups[row])
            if limit is None or rows.touched_s[row] >= limit or rows.queues[row] == _PINNED:
                continue
            if rows.holds(row):
                victims.append(rows.ids[row])
                rows.drop(row)
        return victims

    def sample(self, steps: int) -> list[int]:
        """The next `steps` places' ids, to be asked after; calls go round and round."""
        rows = self._rows
        found: list[int] = []
        for _ in range(min(steps, len(rows.ids))):
            self._asked = (self._asked + 1) % len(rows.ids)
            if rows.holds(self._asked):
                found.append(rows.ids[self._asked])
        return found

    def _victim(self) -> int:
        """The row that S3-FIFO lets go next. Each round takes a read from an entry or moves one, so it ends."""
        rows = self._rows
        while True:
            small, main = rows.heads[_SMALL], rows.heads[_MAIN]
            if small != NONE and (main == NONE or rows.bytes[_SMALL] > _SMALL_SHARE * (rows.bytes[_SMALL] + rows.bytes[_MAIN])):
                if rows.reads[small] < _READS_TO_MAIN:
                    self._ghost.add(rows.ids[small], len(rows))
                    return small
                rows.move(small, _MAIN)
                continue
            if main == NONE or not rows.reads[main]:
                return main
            rows.reads[main] -= 1
            rows.move(main, _MAIN)
