"""Mappings of the files that are sent again and again, for the kernel alone to read: it copies to the socket from them.

Nothing here, and nobody who is handed a view, may look at its bytes: where a file was cut, that would end the process, while
a system call that is given them fails with `EFAULT`. What lies behind the cut in its last page reads as zeros, though, so
whoever sends from a view asks for the file's size afterwards.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from headrace.model.reading import FileSlice

WINDOW_BYTES = 4 * 1024 * 1024
_CAPACITY_BYTES = 128 * 1024 * 1024
_IDLE_S = 1.0
_SEEN_MAX = 1024

_Slot = tuple[int, int]


class _Window:
    __slots__ = ("owner", "used_s", "view")

    def __init__(self, view: memoryview, owner: object, used_s: float) -> None:
        self.view = view
        self.owner = owner
        """Keeps the file open, and its own id from being another's."""
        self.used_s = used_s


class Windows:
    """At most `capacity` bytes of mappings, each of an aligned run of one file. Belongs to one event loop."""

    __slots__ = ("_capacity", "_held_bytes", "_open", "_seen")

    def __init__(self, capacity: int = _CAPACITY_BYTES) -> None:
        self._capacity = capacity
        self._held_bytes = 0
        self._open: dict[_Slot, _Window] = {}
        self._seen: set[_Slot] = set()

    def __len__(self) -> int:
        return len(self._open)

    def view(self, piece: FileSlice, offset: int, most: int, now_s: float) -> memoryview | None:
        """The file's bytes from `offset` on, at most `most` and up to the window's end; None where they are not mapped.

        A run is mapped when a second slice needs it, and when no run that is in use has to go for it.
        """
        index = offset // WINDOW_BYTES
        slot = (id(piece.owner), index)
        window = self._open.get(slot)
        if window is None:
            if offset != max(piece.offset, index * WINDOW_BYTES):
                return None  # the rest of a run whose beginning went another way
            window = self._consider(slot, piece, now_s)
            if window is None:
                return None
        window.used_s = now_s
        start = offset - index * WINDOW_BYTES
        return window.view[start : start + most]

    def sweep(self, now_s: float) -> None:
        """Let go of what was not sent lately: its file may be gone, and its space is not free while it is held."""
        for slot in [slot for slot, window in self._open.items() if now_s - window.used_s > _IDLE_S]:
            self._drop(slot)

    def clear(self) -> None:
        self._open.clear()
        self._held_bytes = 0

    def _consider(self, slot: _Slot, piece: FileSlice, now_s: float) -> _Window | None:
        if slot not in self._seen:
            if len(self._seen) >= _SEEN_MAX:
                self._seen.clear()
            self._seen.add(slot)
            return None
        start = slot[1] * WINDOW_BYTES
        length = min(WINDOW_BYTES, os.fstat(piece.fd).st_size - start)
        if length <= 0 or not self._make_room(length, now_s) or _locks_memory():
            return None
        self._seen.discard(slot)
        try:
            mapped = mmap.mmap(piece.fd, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=start)
        except OSError:
            return None
        window = self._open[slot] = _Window(memoryview(mapped), piece.owner, now_s)
        self._held_bytes += length
        return window

    def _make_room(self, length: int, now_s: float) -> bool:
        while self._held_bytes + length > self._capacity:
            slot = next(iter(self._open), None)
            if slot is None:
                return False
            if now_s - self._open[slot].used_s <= _IDLE_S:
                self._open[slot] = self._open.pop(slot)
                return False
            self._drop(slot)
        return True

    def _drop(self, slot: _Slot) -> None:
        # The mapping itself ends with the last view of it.
        self._held_bytes -= len(self._open.pop(slot).view)


def _locks_memory() -> bool:
    """Whether this process locks its memory: then a mapping would lock the files' pages too."""
    with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
        return any(line.startswith("VmLck:") and int(line.split()[1]) > 0 for line in status)
