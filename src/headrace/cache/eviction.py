"""Which segments to let go: S3-FIFO over bytes, with pins, groups and expiry. Pure: no IO and no clock.

New segments wait in a small queue that is emptied first, so a scan passes through without touching what is
read again; those read again move to the main queue, and a ghost queue of fingerprints remembers what left
the small one too early. An entry costs a dict slot and a row in flat arrays, for there may be millions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_SMALL_SHARE = 0.02
"""Part of all bytes that the small queue may hold before it is emptied first."""
_READS_TO_MAIN = 1
"""Reads, beside the first one, that carry a segment from the small queue to the main one."""
_MAX_READS = 5
"""Measured with benchmarks/eviction_traces.py, as are the two above: within 1 point of the better of S3-FIFO and W-TinyLFU."""
_GHOST_WAYS = 4

_SMALL, _MAIN, _PINNED = 0, 1, 2
_NONE = -1


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
        self._slots: dict[int, int] = {}
        self._ids: list[int] = []
        self._free: list[int] = []
        self._sizes = array("Q")
        self._next = array("i")
        self._prev = array("i")
        self._reads = array("B")
        self._queue = array("B")
        self._group = array("H")
        self._touched_s = array("I")
        self._head = [_NONE, _NONE]
        self._tail = [_NONE, _NONE]
        self._bytes = [0, 0, 0]
        self._group_bytes: dict[int, int] = {}
        self._ghost = Ghost()
        self._sweep = 0
        self._asked = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, ident: int) -> bool:
        return ident in self._slots

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    @property
    def bytes(self) -> int:
        """All bytes accounted for, pinned ones included."""
        return sum(self._bytes)

    @property
    def pinned_bytes(self) -> int:
        """Bytes that no call will ever answer."""
        return self._bytes[_PINNED]

    def group_bytes(self, group: int) -> int:
        """Bytes of one group, pinned ones included."""
        return self._group_bytes.get(group, 0)

    def size(self, ident: int) -> int:
        """Bytes of one entry, 0 when unknown."""
        slot = self._slots.get(ident, _NONE)
        return 0 if slot == _NONE else self._sizes[slot]

    def inserted(self, ident: int, size: int, *, group: int = 0, now: int = 0, settled: bool = False) -> None:
        """A segment appeared, or its size or group is known better. `settled`: it was here before we started to watch."""
        slot = self._slots.get(ident, _NONE)
        if slot != _NONE:
            self._correct(slot, size, group)
            return
        slot = self._new_slot(ident)
        self._sizes[slot] = size
        self._group[slot] = group
        self._touched_s[slot] = now
        self._reads[slot] = 0
        self._group_bytes[group] = self._group_bytes.get(group, 0) + size
        self._push(slot, _MAIN if settled or self._ghost.take(ident, len(self._slots)) else _SMALL)

    def touched(self, ident: int, *, group: int | None = None, now: int = 0) -> bool:
        """A segment was read. False when it is not known."""
        slot = self._slots.get(ident, _NONE)
        if slot == _NONE:
            return False
        if self._reads[slot] < _MAX_READS:
            self._reads[slot] += 1
        self._touched_s[slot] = now
        if group is not None and group != self._group[slot]:
            self._correct(slot, self._sizes[slot], group)
        return True

    def removed(self, ident: int) -> int:
        """A segment is gone for another reason. Answers its size, 0 when it was not known."""
        slot = self._slots.get(ident, _NONE)
        return 0 if slot == _NONE else self._drop(slot)

    def pinned(self, ident: int, *, pinned: bool) -> None:
        """Keep a segment whatever happens, or no longer. Unknown ids are passed over."""
        slot = self._slots.get(ident, _NONE)
        if slot == _NONE or (self._queue[slot] == _PINNED) == pinned:
            return
        self._unlink(slot)
        self._push(slot, _PINNED if pinned else _MAIN)

    def evict(self, need_bytes: int) -> list[int]:
        """The ids to let go, so that at least `need_bytes` are freed; fewer when all that is left is pinned."""
        victims: list[int] = []
        freed = 0
        while freed < need_bytes:
            slot = self._victim()
            if slot == _NONE:
                break
            victims.append(self._ids[slot])
            freed += self._drop(slot)
        return victims

    def evict_group(self, group: int, need_bytes: int) -> list[int]:
        """As `evict`, from one group only: first those not read since they came, then the rest in order."""
        victims: list[int] = []
        freed = 0
        for spare_read in (True, False):
            for queue in (_SMALL, _MAIN):
                slot = self._head[queue]
                while slot != _NONE and freed < need_bytes:
                    following = self._next[slot]
                    if self._group[slot] == group and not (spare_read and self._reads[slot]):
                        victims.append(self._ids[slot])
                        freed += self._drop(slot)
                    slot = following
        return victims

    def expired(self, before_s: dict[int, int], *, steps: int) -> list[int]:
        """Ids last read before their group's `before_s`, among the next `steps` entries; calls go round and round."""
        victims: list[int] = []
        for _ in range(min(steps, len(self._ids))):
            self._sweep = (self._sweep + 1) % len(self._ids)
            slot = self._sweep
            limit = before_s.get(self._group[slot])
            if limit is None or self._touched_s[slot] >= limit or self._queue[slot] == _PINNED:
                continue
            if self._slots.get(self._ids[slot]) == slot:
                victims.append(self._ids[slot])
                self._drop(slot)
        return victims

    def sample(self, steps: int) -> list[int]:
        """The next `steps` places' ids, to be asked after; calls go round and round."""
        found: list[int] = []
        for _ in range(min(steps, len(self._ids))):
            self._asked = (self._asked + 1) % len(self._ids)
            ident = self._ids[self._asked]
            if self._slots.get(ident) == self._asked:
                found.append(ident)
        return found

    def _victim(self) -> int:
        """The slot that S3-FIFO lets go next. Each round takes a read from an entry or moves one, so it ends."""
        while True:
            small = self._head[_SMALL]
            if small != _NONE and (
                self._head[_MAIN] == _NONE or self._bytes[_SMALL] > _SMALL_SHARE * (self._bytes[_SMALL] + self._bytes[_MAIN])
            ):
                if self._reads[small] < _READS_TO_MAIN:
                    self._ghost.add(self._ids[small], len(self._slots))
                    return small
                self._unlink(small)
                self._push(small, _MAIN)
                continue
            main = self._head[_MAIN]
            if main == _NONE or not self._reads[main]:
                return main
            self._unlink(main)
            self._reads[main] -= 1
            self._push(main, _MAIN)

    def _correct(self, slot: int, size: int, group: int) -> None:
        old_group, old_size = self._group[slot], self._sizes[slot]
        self._group_bytes[old_group] -= old_size
        self._group_bytes[group] = self._group_bytes.get(group, 0) + size
        self._bytes[self._queue[slot]] += size - old_size
        self._sizes[slot] = size
        self._group[slot] = group

    def _new_slot(self, ident: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._ids[slot] = ident
        else:
            slot = len(self._ids)
            self._ids.append(ident)
            self._sizes.append(0)
            self._next.append(_NONE)
            self._prev.append(_NONE)
            self._reads.append(0)
            self._queue.append(_SMALL)
            self._group.append(0)
            self._touched_s.append(0)
        self._slots[ident] = slot
        return slot

    def _drop(self, slot: int) -> int:
        size = self._sizes[slot]
        self._unlink(slot)
        self._group_bytes[self._group[slot]] -= size
        del self._slots[self._ids[slot]]
        self._ids[slot] = 0
        self._free.append(slot)
        return size

    def _push(self, slot: int, queue: int) -> None:
        self._queue[slot] = queue
        self._bytes[queue] += self._sizes[slot]
        if queue == _PINNED:
            return
        tail = self._tail[queue]
        self._next[slot] = _NONE
        self._prev[slot] = tail
        self._tail[queue] = slot
        if tail == _NONE:
            self._head[queue] = slot
        else:
            self._next[tail] = slot

    def _unlink(self, slot: int) -> None:
        queue = self._queue[slot]
        self._bytes[queue] -= self._sizes[slot]
        if queue == _PINNED:
            return
        before, after = self._prev[slot], self._next[slot]
        if before == _NONE:
            self._head[queue] = after
        else:
            self._next[before] = after
        if after == _NONE:
            self._tail[queue] = before
        else:
            self._prev[after] = before
