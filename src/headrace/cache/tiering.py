"""Which pages move between memory and disk. Pure: no IO and no clock."""

from __future__ import annotations

import msgspec

_WINDOW_S = 60.0
_READS = 2
_WATCHED_MAX = 8192


class Evicted(msgspec.Struct, frozen=True):
    """A page that left memory to make room, and what may be done with it."""

    bytes: int
    on_disk: bool
    disk_allowed: bool
    """The mount's residency lets the page lie on disk."""
    disk_in_service: bool


class Promotion:
    """Says when a page that was read from disk belongs in memory too: short, and read often enough within a window.

    Whether a colder page makes room is the memory tier's own business. What is watched is bounded: two generations
    of names, the older one forgotten when the newer is full or the window is over.
    """

    def __init__(self, *, largest: int, window_s: float = _WINDOW_S, watched: int = _WATCHED_MAX) -> None:
        self._largest = largest
        self._window_s = window_s
        self._watched = watched
        self._new: dict[tuple[bytes, int], int] = {}
        self._old: dict[tuple[bytes, int], int] = {}
        self._turn_at = float("-inf")

    def read(self, object_id: bytes, page: int, length: int, now: float) -> bool:
        """A page of `length` bytes was read from disk. True when it should be put into memory, once in a while."""
        if length > self._largest:
            return False
        if now >= self._turn_at or len(self._new) >= self._watched:
            idle = now - self._turn_at >= self._window_s
            self._old, self._new = ({} if idle else self._new), {}
            self._turn_at = now + self._window_s
        key = (object_id, page)
        reads = self._new.pop(key, 0) + self._old.pop(key, 0) + 1
        if reads >= _READS:
            return True
        self._new[key] = reads
        return False


def demote(page: Evicted) -> bool:
    """Whether a page that leaves memory should be written to disk: only there it would be lost, and it may lie there."""
    return page.disk_allowed and page.disk_in_service and not page.on_disk and page.bytes > 0
