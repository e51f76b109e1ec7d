"""Neighbours become one file: all pages of a chunk become a chunk, and all pages and chunks of an object one plain file.

Checksums move over unread: the pages are copied inside the kernel (shared, where the file system can), so a page that was
bad stays bad and is found as such. The merged file is named before its parts are unlinked; readers of these keep theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

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
    encode_sums,
    is_last,
)

_BYTES_PER_S = 64 << 20
_BURST_BYTES = 1 << 30
_QUIET_S = 30.0
_SPARE_SHARE = 0.05
_CHECKSUMS_MAX_BYTES = 1 << 26


def size_of(lengths: dict[SegmentName, int], geometry: Geometry, ends: Callable[[SegmentName], bool]) -> int | None:
    """The object's size, given how much of it each of its segments holds; None when it cannot be told.

    It ends with its last segment if that is shorter than its kind can be, or if `ends` says so of it.
    """
    end, last = max(((_start(name, geometry) + length, name) for name, length in lengths.items()), key=lambda found: found[0])
    short = end % (geometry.page if last.kind is Kind.PAGE else geometry.chunk) != 0
    return end if short or ends(last) else None


def plan(
    lengths: dict[SegmentName, int], geometry: Geometry, size: int | None
) -> list[tuple[SegmentName, tuple[SegmentName, ...]]]:
    """Which segments can become one, given how much of one object each holds and its size, if that is known. Pure."""
    if not lengths or any(name.kind is Kind.WHOLE for name in lengths):
        return []
    object_id = next(iter(lengths)).object_id
    limit = sys.maxsize if size is None else size
    right = {name for name, length in lengths.items() if _start(name, geometry) + length == geometry.extent(name, limit)[1]}
    chunks = {name.index for name in right if name.kind is Kind.CHUNK}
    begun = {name.index // CHUNK_PAGES for name in right if name.kind is Kind.PAGE} - chunks
    runs = {chunk: _run(right, object_id, chunk, geometry.pages(limit)) for chunk in sorted(begun)}
    runs = {chunk: run for chunk, run in runs.items() if run}
    if size is not None and len(chunks) + len(runs) == -(-size // geometry.chunk):
        parts: list[SegmentName] = []
        for chunk in range(len(chunks) + len(runs)):
            parts += runs.get(chunk) or (SegmentName(object_id, Kind.CHUNK, chunk),)
        return [(SegmentName(object_id, Kind.WHOLE), tuple(parts))] if len(parts) > 1 else []
    return [(SegmentName(object_id, Kind.CHUNK, chunk), run) for chunk, run in runs.items() if len(run) > 1]


def _start(name: SegmentName, geometry: Geometry) -> int:
    return name.index * (geometry.page if name.kind is Kind.PAGE else geometry.chunk)


def _run(names: set[SegmentName], object_id: bytes, chunk: int, pages: int) -> tuple[SegmentName, ...]:
    """All pages of one chunk of an object that has so many; nothing when one is absent."""
    first = chunk * CHUNK_PAGES
    run = tuple(SegmentName(object_id, Kind.PAGE, page) for page in range(first, min(first + CHUNK_PAGES, pages)))
    return run if names.issuperset(run) else ()


class Allowance:
    """Bytes that may be copied: `bytes_per_s` on average, `burst_bytes` at once. Pure.

    What is longer than a burst is allowed when a whole one was saved up; what it took too much is paid back before anything else.
    """

    def __init__(self, bytes_per_s: int, burst_bytes: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._left = float(burst_bytes)
        self._asked_at: float | None = None

    def take(self, length: int, now: float) -> bool:
        """Whether `length` bytes may be copied at second `now`; then they count."""
        if self._asked_at is not None:
            self._left = min(self._burst_bytes, self._left + (now - self._asked_at) * self._bytes_per_s)
        self._asked_at = now
        if length > self._left and self._left < self._burst_bytes:
            return False
        self._left -= length
        return True


class Merger:
    """A chore of the keeper. At most `bytes_per_s` on average; does nothing when the device has little room."""

    def __init__(self, root: str, geometry: Geometry, *, bytes_per_s: int = _BYTES_PER_S, quiet_s: float = _QUIET_S) -> None:
        self._root = root
        self._geometry = geometry
        self._allowance = Allowance(bytes_per_s, _BURST_BYTES)
        self._quiet_s = quiet_s
        self.merged = 0

    def visit(self, folder: Folder, now: float) -> Iterator[Change]:
        """Merge what can be in one folder; each merge yields the new segment, then those that went."""
        objects: dict[bytes, dict[SegmentName, int]] = defaultdict(dict)
        for found in folder.segments:
            if found.settled_s >= self._quiet_s:
                objects[found.name.object_id][found.name] = found.length
        for lengths in objects.values():
            if len(lengths) < 2:
                continue
            size = size_of(lengths, self._geometry, self._ends)
            for target, parts in plan(lengths, self._geometry, size):
                length = sum(lengths[part] for part in parts)
                if has_room(self._root, length) and self._allowance.take(length, now):
                    yield from self._merge(target, parts)

    def _ends(self, name: SegmentName) -> bool:
        path = f"{self._root}/{name.path}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return held_by(fd, path, self._geometry).last
        except OSError:
            return False
        finally:
            os.close(fd)

    def _merge(self, target: SegmentName, parts: tuple[SegmentName, ...]) -> Iterator[Change]:
        size = merge(self._root, self._geometry, target, parts)
        if not size:
            return
        if not remove_parts(self._root, target, parts):
            size = 0
        self.merged += bool(size)
        yield Change(target, size)
        for part in parts:
            yield Change(part, 0)


def has_room(root: str, length: int) -> bool:
    """Whether the device has room for `length` bytes twice, and enough besides. Raises `OSError`."""
    status = os.statvfs(root)
    return status.f_bavail > status.f_blocks * _SPARE_SHARE and status.f_bavail * status.f_frsize > 2 * length


def remove_parts(root: str, target: SegmentName, parts: tuple[SegmentName, ...]) -> bool:
    """Unlink what `target` was merged out of; False when a part had gone: then `target` goes, too.

    What was freed while it was merged must not come back.
    """
    missing = [part for part in parts if not _unlink(f"{root}/{part.path}")]
    if missing:
        _unlink(f"{root}/{target.path}")
    return not missing


def _unlink(path: str) -> bool:
    """Whether the segment was there."""
    there = True
    try:
        os.unlink(path)  # noqa: PTH108 - plain paths
    except FileNotFoundError:
        there = False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + SUM_SUFFIX)  # noqa: PTH108
    return there


def merge(
    root: str, geometry: Geometry, target: SegmentName, parts: tuple[SegmentName, ...], *, stop: threading.Event | None = None
) -> int:
    """Make `target` out of `parts`, which stay; the length of its file, 0 when it could not be made, or `stop` was set.

    Leaves nothing half made.
    """
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
        sums = _gather(root, geometry, fd, parts, stop)
        if sums is None:
            return 0
        _write_sums(path, encode_sums(sums))
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


def _gather(root: str, geometry: Geometry, fd: int, parts: tuple[SegmentName, ...], stop: threading.Event | None) -> Sums | None:
    """Append the parts' data; what it is now, or None when one part is not what it should be."""
    checksums: list[int] = []
    length, last = 0, False
    for part in parts:
        path = f"{root}/{part.path}"
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            held = held_by(source, path, geometry)
            if not held.checksums or length % geometry.page or (stop is not None and stop.is_set()):
                return None
            _copy(source, fd, held.length, length)
        finally:
            os.close(source)
        length += held.length
        checksums += held.checksums
        last = held.last
    return Sums(geometry.page, length, tuple(checksums), last)


def held_by(fd: int, path: str, geometry: Geometry) -> Sums:
    """What an open segment holds, by its footer or sidecar; without checksums when these are damaged. Raises `OSError`."""
    size = os.fstat(fd).st_size
    try:
        with open(path + SUM_SUFFIX, "rb") as sidecar:
            sums = decode_sums(sidecar.read(_CHECKSUMS_MAX_BYTES))
    except FileNotFoundError:
        length = size - FOOTER_BYTES
        footer = os.pread(fd, FOOTER_BYTES, length) if length > 0 else b""
        wanted = decode_footer(footer, length, geometry.page)
        return Sums(geometry.page, length, ()) if wanted is None else Sums(geometry.page, length, (wanted,), is_last(footer))
    if sums is None or (sums.page, sums.length) != (geometry.page, size):
        return Sums(geometry.page, size, ())
    return sums


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
