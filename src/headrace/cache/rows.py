"""The table of what is kept: an entry is a dict slot and a row in flat arrays, for there may be millions."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

NONE = -1
"""Where no row is."""


class Rows:
    """Entries by their ids, each in one of `queues` first-in-first-out queues, or set aside in none (number `queues`).

    Rows are told by their place, which is free for another entry once they are dropped.
    """

    def __init__(self, queues: int) -> None:
        self._aside = queues
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._next = array("i")
        self._prev = array("i")
        self._tail = [NONE] * queues
        self.heads = [NONE] * queues
        self.bytes = [0] * (queues + 1)
        self.group_bytes: dict[int, int] = {}
        self.ids: list[int] = []
        self.sizes = array("Q")
        self.reads = array("B")
        self.queues = array("B")
        self.groups = array("H")
        self.touched_s = array("I")

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, ident: int) -> bool:
        return ident in self._places

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def find(self, ident: int) -> int:
        """The entry's row; `NONE` when it is not known."""
        return self._places.get(ident, NONE)

    def holds(self, row: int) -> bool:
        """Whether an entry is there."""
        return self._places.get(self.ids[row], NONE) == row

    def following(self, row: int) -> int:
        """The row behind it in its queue, or `NONE`."""
        return self._next[row]

    def add(self, ident: int, size: int, group: int, now: int) -> int:
        """A row for a new entry, which is in no queue yet: `push` it."""
        row = self._new_row(ident)
        self.sizes[row] = size
        self.groups[row] = group
        self.touched_s[row] = now
        self.reads[row] = 0
        self.group_bytes[group] = self.group_bytes.get(group, 0) + size
        return row

    def correct(self, row: int, size: int, group: int) -> None:
        """Its size or group is known better."""
        old_group, old_size = self.groups[row], self.sizes[row]
        self.group_bytes[old_group] -= old_size
        self.group_bytes[group] = self.group_bytes.get(group, 0) + size
        self.bytes[self.queues[row]] += size - old_size
        self.sizes[row] = size
        self.groups[row] = group

    def drop(self, row: int) -> int:
        """Forget an entry; its size."""
        size = self.sizes[row]
        self._unlink(row)
        self.group_bytes[self.groups[row]] -= size
        del self._places[self.ids[row]]
        self.ids[row] = 0
        self._free.append(row)
        return size

    def move(self, row: int, queue: int) -> None:
        """To the end of a queue."""
        self._unlink(row)
        self.push(row, queue)

    def push(self, row: int, queue: int) -> None:
        """Put a row that is in none at the end of a queue."""
        self.queues[row] = queue
        self.bytes[queue] += self.sizes[row]
        if queue == self._aside:
            return
        tail = self._tail[queue]
        self._next[row] = NONE
        self._prev[row] = tail
        self._tail[queue] = row
        if tail == NONE:
            self.heads[queue] = row
        else:
            self._next[tail] = row

    def _unlink(self, row: int) -> None:
        queue = self.queues[row]
        self.bytes[queue] -= self.sizes[row]
        if queue == self._aside:
            return
        before, after = self._prev[row], self._next[row]
        if before == NONE:
            self.heads[queue] = after
        else:
            self._next[before] = after
        if after == NONE:
            self._tail[queue] = before
        else:
            self._prev[after] = before

    def _new_row(self, ident: int) -> int:
        if self._free:
            row = self._free.pop()
            self.ids[row] = ident
        else:
            row = len(self.ids)
            self.ids.append(ident)
            self.sizes.append(0)
            self._next.append(NONE)
            self._prev.append(NONE)
            self.reads.append(0)
            self.queues.append(0)
            self.groups.append(0)
            self.touched_s.append(0)
        self._places[ident] = row
        return row
