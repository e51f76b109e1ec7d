"""Neighbours become one file: full chunks of pages become a chunk, and all chunks of an object one plain file.

Checksums move over unread: the pages are copied inside the kernel (shared, where the file system can), so a page that was
bad stays bad and is found as such. The merged file is named before its parts are unlinked; readers of these keep theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator

from headrace.cache.folder import Folder
from headrace.cache.keeper import Change
from headrace.cache.layout import (
    CHUNK_PAGES,
    FOOTER_BYTES,
    PART_SUFFIX,
    SUM_SUFFIX,
    Geometry,
    Kind,
    SegmentName,
    Sums,
    decode_footer,
    decode_sums,
    encode_footer,
    encode_sums,
)

_BYTES_PER_S = 64 << 20
_BURST_BYTES = 1 << 30
_QUIET_S = 30.0
_SPARE_SHARE = 0.05
_CHECKSUMS_MAX_BYTES = 1 << 26


def plan(sizes: dict[SegmentName, int], geometry: Geometry) -> list[tuple[SegmentName, tuple[SegmentName, ...]]]:
    """Which segments can become one, given the lengths of all files of one object. Pure.

    A run ends where its last segment is shorter than its kind can be: that is the object's end. An object that ends exactly with
    a full chunk does not tell its length, and keeps its chunks.
    """
    by_kind: dict[Kind, dict[int, SegmentName]] = defaultdict(dict)
    for name in sizes:
        by_kind[name.kind][name.index] = name
    if by_kind[Kind.WHOLE]:
        return []
    chunks = by_kind[Kind.CHUNK]
    if len(chunks) > 1 and max(chunks) == len(chunks) - 1:
        run = [chunks[index] for index in range(len(chunks))]
        if all(sizes[name] == geometry.chunk for name in run[:-1]) and 0 < sizes[run[-1]] < geometry.chunk:
            return [(SegmentName(run[0].object_id, Kind.WHOLE), tuple(run))]
    pages = by_kind[Kind.PAGE]
    full = geometry.page + FOOTER_BYTES
    plans = []
    for chunk in sorted({index // CHUNK_PAGES for index in pages} - chunks.keys()):
        first = chunk * CHUNK_PAGES
        run = [pages[index] for index in range(first, first + CHUNK_PAGES) if index in pages]
        if len(run) == CHUNK_PAGES and all(sizes[name] == full for name in run):
            plans.append((SegmentName(run[0].object_id, Kind.CHUNK, chunk), tuple(run)))
    return plans


class Merger:
    """A chore of the keeper. At most `bytes_per_s` on average; does nothing when the device has little room."""

    def __init__(self, root: str, geometry: Geometry, *, bytes_per_s: int = _BYTES_PER_S, quiet_s: float = _QUIET_S) -> None:
        self._root = root
        self._geometry = geometry
        self._bytes_per_s = bytes_per_s
        self._quiet_s = quiet_s
        self._allowance = float(_BURST_BYTES)
        self._asked_at: float | None = None
        self.merged = 0

    def visit(self, folder: Folder, now: float) -> Iterator[Change]:
        """Merge what can be in one folder; each merge yields the new segment, then those that went."""
        if self._asked_at is not None:
            self._allowance = min(_BURST_BYTES, self._allowance + (now - self._asked_at) * self._bytes_per_s)
        self._asked_at = now
        objects: dict[bytes, dict[SegmentName, int]] = defaultdict(dict)
        for found in folder.segments:
            if found.settled_s >= self._quiet_s:
                objects[found.name.object_id][found.name] = found.size
        for sizes in objects.values():
            if len(sizes) < 2:
                continue
            for target, parts in plan(sizes, self._geometry):
                length = sum(sizes[part] for part in parts)
                if length > self._allowance or not self._room(length):
                    continue
                self._allowance -= length
                yield from self._merge(target, parts)

    def _room(self, length: int) -> bool:
        status = os.statvfs(self._root)
        return status.f_bavail > status.f_blocks * _SPARE_SHARE and status.f_bavail * status.f_frsize > 2 * length

    def _merge(self, target: SegmentName, parts: tuple[SegmentName, ...]) -> Iterator[Change]:
        size = merge(self._root, self._geometry, target, parts)
        if not size:
            return
        self.merged += 1
        yield Change(target, size)
        for part in parts:
            for victim in (part.path, part.path + SUM_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._root}/{victim}")  # noqa: PTH108
            yield Change(part, 0)


def merge(root: str, geometry: Geometry, target: SegmentName, parts: tuple[SegmentName, ...]) -> int:
    """Make `target` out of `parts`, which stay; the length of its file, 0 when it could not be made. Leaves nothing half made."""
    path = f"{root}/{target.path}"
    try:
        fd = os.open(path + PART_SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return 0  # somebody fills it right now
    try:
        if os.path.lexists(path) or os.stat(path + PART_SUFFIX).st_ino != os.fstat(fd).st_ino:  # noqa: PTH116 - plain paths
            return 0
        os.ftruncate(fd, 0)
        length, checksums = _gather(root, geometry, fd, parts)
        if not length:
            return 0
        if geometry.has_footer(length):
            os.pwrite(fd, encode_footer(checksums[0], length, geometry.page), length)
        else:
            _write_sums(path, encode_sums(Sums(geometry.page, length, tuple(checksums))))
        size = os.fstat(fd).st_size
        os.rename(path + PART_SUFFIX, path)  # noqa: PTH104
    except OSError:
        return 0
    else:
        return size
    finally:
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_nlink and not os.path.lexists(path):
                os.unlink(path + PART_SUFFIX)  # noqa: PTH108
        os.close(fd)


def _gather(root: str, geometry: Geometry, fd: int, parts: tuple[SegmentName, ...]) -> tuple[int, list[int]]:
    """Append the parts' data; the length and the pages' checksums, or nothing when one part is not what it should be."""
    checksums: list[int] = []
    length = 0
    for part in parts:
        source = os.open(f"{root}/{part.path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data_length, sums = checksums_of(source, f"{root}/{part.path}", geometry)
            if not sums or length % geometry.page:
                return 0, []
            _copy(source, fd, data_length, length)
        finally:
            os.close(source)
        length += data_length
        checksums += sums
    return length, checksums


def checksums_of(fd: int, path: str, geometry: Geometry) -> tuple[int, tuple[int, ...]]:
    """The length of an open segment's data and its pages' checksums; none when they are damaged. Raises `OSError`."""
    size = os.fstat(fd).st_size
    try:
        with open(path + SUM_SUFFIX, "rb") as sidecar:
            sums = decode_sums(sidecar.read(_CHECKSUMS_MAX_BYTES))
    except FileNotFoundError:
        length = size - FOOTER_BYTES
        wanted = decode_footer(os.pread(fd, FOOTER_BYTES, length), length, geometry.page) if length > 0 else None
        return length, () if wanted is None else (wanted,)
    if sums is None or (sums.page, sums.length) != (geometry.page, size):
        return size, ()
    return size, sums.checksums


def _copy(source: int, target: int, length: int, at: int) -> None:
    offset = 0
    while offset < length:
        copied = os.copy_file_range(source, target, length - offset, offset, at + offset)
        if not copied:
            raise OSError("a segment ended early")
        offset += copied


def _write_sums(path: str, data: bytes) -> None:
    fresh = f"{path}{SUM_SUFFIX}{PART_SUFFIX}"
    with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as sidecar:
        sidecar.write(data)
    os.rename(fresh, path + SUM_SUFFIX)  # noqa: PTH104
