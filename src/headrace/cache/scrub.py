"""The scrub: segments are read again, slowly, and those whose bytes do not match their checksums are dropped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from headrace.cache.folder import Folder
from headrace.cache.keeper import Change
from headrace.cache.layout import SUM_SUFFIX, Geometry, SegmentName, checksum
from headrace.cache.merge import held_by

_BYTES_PER_S = 16 << 20
_BURST_BYTES = 64 << 20
_EVERY_S = 24 * 3600.0


class Scrubber:
    """A chore of the keeper. At most `bytes_per_s` on average; folders take turns as the keeper visits them."""

    def __init__(self, root: str, geometry: Geometry, *, bytes_per_s: int = _BYTES_PER_S, every_s: float = _EVERY_S) -> None:
        self._root = root
        self._geometry = geometry
        self._bytes_per_s = bytes_per_s
        self._every_s = every_s
        self._allowance = float(_BURST_BYTES)
        self._asked_at: float | None = None
        self._scrubbed_at: dict[str, float] = {}
        self.scrubbed_bytes = 0
        self.bad = 0

    def visit(self, folder: Folder, now: float) -> Iterator[Change]:
        """Verify a folder whose turn it is; yields the segments that were bad and are gone."""
        if self._asked_at is not None:
            self._allowance = min(_BURST_BYTES, self._allowance + (now - self._asked_at) * self._bytes_per_s)
        self._asked_at = now
        if self._allowance <= 0 or not folder.segments:
            return
        key = folder.segments[0].name.path[:3]
        if now - self._scrubbed_at.get(key, float("-inf")) < self._every_s:
            return
        self._scrubbed_at[key] = now
        for found in folder.segments:
            self._allowance -= found.size
            self.scrubbed_bytes += found.size
            if verify(self._root, self._geometry, found.name) is False:
                self.bad += 1
                for victim in (found.name.path, found.name.path + SUM_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{self._root}/{victim}")  # noqa: PTH108
                yield Change(found.name, 0, "corrupt")


def verify(root: str, geometry: Geometry, name: SegmentName) -> bool | None:
    """Whether every page of a segment matches its checksum; None when it is gone or its device does not answer."""
    path = f"{root}/{name.path}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        held = held_by(fd, path, geometry)
        if not held.checksums:
            return False if os.fstat(fd).st_nlink else None
        first = geometry.extent(name, held.length)[0] // geometry.page
        for slot, wanted in enumerate(held.checksums):
            low = slot * geometry.page
            page = os.pread(fd, min(geometry.page, held.length - low), low)
            if checksum(page, name.object_id, first + slot) != wanted:
                return False
    except OSError:
        return None
    else:
        return True
    finally:
        os.close(fd)
