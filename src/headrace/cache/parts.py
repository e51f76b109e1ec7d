"""Growing fills on disk: `.part` files, led by whoever holds their lock. All calls block; they run in a directory's threads."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from dataclasses import dataclass, field
from enum import Enum

from headrace.cache.directory import PageDirectory
from headrace.cache.layout import (
    PART_SUFFIX,
    SUM_SUFFIX,
    SegmentName,
    Sums,
    checksum,
    encode_footer,
    encode_sums,
    pin_path,
)

_TRIES = 4


class Claim(Enum):
    """Who makes the segment: this process, another one, or nobody any more."""

    LEAD = "lead"
    FOLLOW = "follow"
    PRESENT = "present"


@dataclass(slots=True)
class Part:
    """A `.part` that is open here. Only its leader writes."""

    directory: PageDirectory
    name: SegmentName
    extent: tuple[int, int]
    fd: int
    written: int = 0
    last: bool = False
    """The object ends where the segment does."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    """A fill may be given up while a thread still writes: a closed descriptor's number may be another file's."""

    @property
    def path(self) -> str:
        return f"{self.directory.root}/{self.name.path}{PART_SUFFIX}"

    def close(self) -> None:
        """Let the descriptor, and so the lock, go."""
        with self._lock:
            if self.fd >= 0:
                self.directory.disk.close(self.fd)
                self.fd = -1

    def abandon(self) -> None:
        """As its leader: give the fill up, so that a follower takes it over at once."""
        with self._lock:
            if self.fd >= 0:
                with contextlib.suppress(OSError):
                    self.directory.disk.unlink(self.path)
                self.close()

    def write(self, data: memoryview) -> None:
        """Append. Raises `OSError`."""
        with self._lock:
            while len(data):
                count = self.directory.disk.pwrite(self._open_fd(), data, self.written)
                self.written += count
                data = data[count:]

    def finish(self, data: memoryview, *, pinned: bool) -> int:
        """Publish: checksums first, then the name. `data` is all of the segment; the file's length. Raises `OSError`."""
        with self._lock:
            self.write(data[self.written :])
            return self._publish(data, pinned=pinned)

    def _publish(self, data: memoryview, *, pinned: bool) -> int:
        disk, geometry = self.directory.disk, self.directory.geometry
        target = f"{self.directory.root}/{self.name.path}"
        first, step = self.extent[0] // geometry.page, geometry.page
        pages = (data[at : at + step] for at in range(0, len(data), step))
        sums = tuple(checksum(page, self.name.object_id, first + slot) for slot, page in enumerate(pages))
        if pinned:
            disk.close(disk.open(f"{self.directory.root}/{pin_path(self.name.object_id)}", os.O_WRONLY | os.O_CREAT))
        if geometry.has_footer(len(data)):
            self.write(memoryview(encode_footer(sums[0], len(data), geometry.page, last=self.last)))
        else:
            self._write_sums(target, encode_sums(Sums(geometry.page, len(data), sums, self.last)))
        self._open_fd()
        disk.rename(self.path, target)
        size = self.written
        self.close()
        return size

    def _open_fd(self) -> int:
        if self.fd < 0:
            raise OSError(errno.EBADF, "the fill was given up")
        return self.fd

    def _write_sums(self, target: str, data: bytes) -> None:
        disk = self.directory.disk
        fresh = f"{target}{SUM_SUFFIX}{PART_SUFFIX}"
        fd = disk.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            if disk.pwrite(fd, data, 0) != len(data):
                raise OSError("short write")
        finally:
            disk.close(fd)
        disk.rename(fresh, target + SUM_SUFFIX)

    def grown(self) -> tuple[int, bool]:
        """As a follower: how many bytes of data are there, and whether the file is still under some name."""
        status = self.directory.disk.fstat(self.fd)
        return min(status.st_size, self.extent[1] - self.extent[0]), status.st_nlink > 0

    def read(self, offset: int, length: int) -> bytes:
        return self.directory.disk.pread(self.fd, length, offset)

    def leaderless(self) -> bool:
        """Whether the lock is free (then it is taken)."""
        return self.directory.disk.lock(self.fd)


def claim(directory: PageDirectory, name: SegmentName, size: int) -> tuple[Claim, Part | None]:
    """Try to lead the making of a segment of an object of `size` bytes. Raises `OSError`."""
    disk = directory.disk
    target = f"{directory.root}/{name.path}"
    extent = directory.geometry.extent(name, size)
    part = Part(directory, name, extent, -1, last=extent[1] == size)
    for _ in range(_TRIES):
        part.fd = _open_part(directory, part.path)
        try:
            if not disk.lock(part.fd):
                return Claim.FOLLOW, part
            if not _still_named(directory, part):
                part.close()
                continue
            if _exists(directory, target):
                part.abandon()
                return Claim.PRESENT, None
            disk.truncate(part.fd, 0)
        except OSError:
            part.close()
            raise
        return Claim.LEAD, part
    return Claim.PRESENT, None


def claim_run(directory: PageDirectory, names: tuple[SegmentName, ...], size: int) -> tuple[Claim, list[Part]]:
    """Lead the first names of a run, as many as are free in a row; or follow, or find present, the very first."""
    parts: list[Part] = []
    for name in names:
        try:
            how, part = claim(directory, name, size)
        except OSError:
            for claimed in parts:
                claimed.abandon()
            raise
        if how is Claim.LEAD and part is not None:
            parts.append(part)
            continue
        if parts:
            if part is not None:
                part.close()
            break
        return how, [part] if part is not None else []
    return Claim.LEAD, parts


def keep_run(
    directory: PageDirectory, names: tuple[SegmentName, ...], size: int, data: memoryview, *, pinned: bool
) -> list[tuple[SegmentName, int]]:
    """Make the segments of a run of an object of `size` bytes whose bytes, `data`, are all there already.

    The segments made, with their files' lengths: what others make or have made is left to them. Raises `OSError`.
    """
    made: list[tuple[SegmentName, int]] = []
    start = directory.geometry.extent(names[0], size)[0]
    for name in names:
        how, part = claim(directory, name, size)
        if part is None:
            continue
        if how is not Claim.LEAD:
            part.close()
            continue
        first, last = part.extent
        try:
            made.append((name, part.finish(data[first - start : last - start], pinned=pinned)))
        except BaseException:  # whatever it is: tidied up here, raised on
            part.abandon()
            raise
    return made


def _open_part(directory: PageDirectory, path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT
    try:
        return directory.disk.open(path, flags)
    except FileNotFoundError:
        directory.disk.mkdir(path.rpartition("/")[0])
        return directory.disk.open(path, flags)
    except IsADirectoryError:
        directory.disk.rmtree(path)
        return directory.disk.open(path, flags)


def _still_named(directory: PageDirectory, part: Part) -> bool:
    try:
        named = directory.disk.stat(part.path)
    except FileNotFoundError:
        return False
    return named.st_ino == directory.disk.fstat(part.fd).st_ino


def _exists(directory: PageDirectory, path: str) -> bool:
    try:
        directory.disk.stat(path)
    except FileNotFoundError:
        return False
    return True
