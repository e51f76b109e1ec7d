"""An open segment file: nothing leaves it before its page was verified, and a change of the file is noticed before each use."""

from __future__ import annotations

import os
import stat

from headrace.cache.layout import FOOTER_BYTES, SUM_SUFFIX, Geometry, SegmentName, checksum, decode_footer, decode_sums
from headrace.model.disk import Disk
from headrace.model.errors import CorruptData, HeadraceError
from headrace.model.reading import Buffer

_SUMS_MAX_BYTES = 1 << 28

Slot = tuple[bytes, str, int]


class SegmentBad(CorruptData):
    """The segment's file does not hold what its `name` says; it must be dropped."""

    def __init__(self, name: SegmentName, fault: str) -> None:
        super().__init__(f"{name.path} {fault}", path=name.path)
        self.name = name


class SegmentGone(HeadraceError):
    """The segment was evicted while it was open."""


class Segment:
    """One open segment. `start` and `end` are the bytes of the object that it holds.

    The descriptor is closed when the last holder lets go, so a slice that is being sent stays readable.
    """

    __slots__ = (
        "_ctime_ns",
        "_file_size",
        "_geometry",
        "_has_footer",
        "_sums",
        "_verified",
        "disk",
        "end",
        "fd",
        "file_name",
        "first_page",
        "name",
        "slot",
        "start",
        "touched_at",
    )

    def __init__(self, disk: Disk, fd: int, name: SegmentName, extent: tuple[int, int], geometry: Geometry) -> None:
        self.disk = disk
        self.fd = fd
        self.name = name
        self.start, self.end = extent
        self.first_page = self.start // geometry.page
        self.slot: Slot = (name.object_id, name.kind.value, name.index)
        """Its place among open segments."""
        self.file_name = name.path[4:]
        """As the keeper is told it."""
        self.touched_at = float("-inf")
        self._geometry = geometry
        length = self.end - self.start
        self._has_footer = geometry.has_footer(length)
        self._file_size = length + FOOTER_BYTES if self._has_footer else length
        self._verified = bytearray(geometry.pages(length))
        self._sums: tuple[int, ...] = ()
        self._ctime_ns = -1
        self.check()

    def __del__(self) -> None:
        self.disk.close(self.fd)

    def check(self) -> None:
        """Notice an eviction or a change since the last use. Raises `SegmentGone` or `SegmentBad`."""
        status = self.disk.fstat(self.fd)
        if status.st_ctime_ns == self._ctime_ns and status.st_nlink and status.st_size == self._file_size:
            return
        if not stat.S_ISREG(status.st_mode):
            raise SegmentBad(self.name, "is not a file")
        if not status.st_nlink:
            raise SegmentGone(f"{self.name.path} was evicted")
        if status.st_size != self._file_size:
            raise SegmentBad(self.name, f"has {status.st_size} bytes, not {self._file_size}")
        self._ctime_ns = status.st_ctime_ns
        self._verified = bytearray(len(self._verified))

    def load_sums(self, path: str, *, now: bool) -> None:
        """Read the sidecar, where there is one. Raises `SegmentBad`, `OSError`, and `BlockingIOError` when `now`."""
        if self._has_footer:
            return
        try:
            fd = self.disk.open(path + SUM_SUFFIX, os.O_RDONLY)
        except FileNotFoundError:
            raise SegmentBad(self.name, "has lost its checksums") from None
        try:
            size = self.disk.fstat(fd).st_size
            if not 0 < size <= _SUMS_MAX_BYTES:
                raise SegmentBad(self.name, f"has checksums of {size} bytes")
            data = self.disk.pread_now(fd, size, 0) if now else self.disk.pread(fd, size, 0)
        finally:
            self.disk.close(fd)
        if now and len(data) < size:
            raise BlockingIOError
        sums = decode_sums(bytes(data))
        if sums is None or (sums.page, sums.length) != (self._geometry.page, self.end - self.start):
            raise SegmentBad(self.name, "has damaged checksums")
        self._sums = sums.checksums

    def verified(self, start: int, end: int) -> bool:
        """Whether every page of the object's bytes `start` up to `end` was verified by this process."""
        page = self._geometry.page
        return self._verified.find(0, start // page - self.first_page, -(-end // page) - self.first_page) < 0

    def verify_now(self, start: int, end: int) -> bool:
        """Read and verify the pages, one by one, of what the system holds in memory: True when all are good and were there.

        Raises `SegmentBad`, `OSError`, and `BlockingIOError` rather than wait for the device.
        """
        page = self._geometry.page
        for position in range(start - start % page, end, page):
            self.read_anew(position, min(position + page, self.end), now=True)
        return True

    def read(self, start: int, end: int, *, now: bool) -> Buffer:
        """The object's bytes `start` up to `end`, all in this segment, after `check`.

        Raises `SegmentBad`, `OSError`, and with `now` `BlockingIOError` rather than wait for the device.
        """
        if self.verified(start, end):
            return self._pread(start - self.start, end - start, now=now)
        return self.read_anew(start, end, now=now)

    def read_anew(self, start: int, end: int, *, now: bool) -> Buffer:
        """As `read`, and every page that it touches is verified on the bytes just read."""
        page = self._geometry.page
        low = start - start % page
        high = min(-(-end // page) * page, self.end)
        data = self._pread(low - self.start, high - low + (FOOTER_BYTES if self._has_footer else 0), now=now)
        view = memoryview(data)
        for position in range(low, high, page):
            self._verify(position // page, view[position - low : min(position + page, high) - low], view)
        return view[start - low : end - low]

    def _verify(self, index: int, data: memoryview, whole: memoryview) -> None:
        slot = index - self.first_page
        wanted: int | None
        if self._has_footer:
            length = self.end - self.start
            wanted = decode_footer(whole[length:], length, self._geometry.page)
        else:
            wanted = self._sums[slot]
        if wanted is None or checksum(data, self.name.object_id, index) != wanted:
            raise SegmentBad(self.name, f"does not match the checksum of page {index}")
        self._verified[slot] = 1

    def _pread(self, offset: int, length: int, *, now: bool) -> Buffer:
        if now:
            data = self.disk.pread_now(self.fd, length, offset)
            if len(data) < length:
                raise BlockingIOError
            return data
        read = self.disk.pread(self.fd, length, offset)
        if len(read) != length:
            raise SegmentBad(self.name, f"ended at {offset + len(read)}, before {offset + length}")
        return read

    def resident(self, start: int, end: int, step: int) -> bool:
        """Whether sending the bytes would not wait for the device, judged by a byte each `step`."""
        base, fd, pread_now = self.start, self.fd, self.disk.pread_now
        try:
            for position in range(start, end, step):
                if not pread_now(fd, 1, position - base):
                    return False
        except BlockingIOError:
            return False
        return True


def open_segment(disk: Disk, root: str, name: SegmentName, geometry: Geometry, *, size: int, now: bool) -> Segment | None:
    """The segment if its file is there; `size` is the object's.

    Raises `SegmentBad`, `OSError`, and with `now` `BlockingIOError` rather than wait for the device.
    """
    path = f"{root}/{name.path}"
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        segment = Segment(disk, fd, name, geometry.extent(name, size), geometry)
    except SegmentGone:
        return None
    segment.load_sums(path, now=now)
    return segment
