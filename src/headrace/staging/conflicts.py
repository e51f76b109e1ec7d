"""Conflicts: writes that were acknowledged here while another changed the object at its store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from headrace.model.disk import Disk
from headrace.staging.logs import sync_folder
from headrace.staging.records import Put

_FILE = "conflicts"
_READ_BYTES = 1 << 20
COMPACT_BYTES = 256 * 1024
"""A file longer than this of which less than half is still open is written anew."""


class Conflict(msgspec.Struct, frozen=True):
    """Ours is kept under `kept_as` (empty: ours was a removal); the store has what is named by `theirs`, its entity tag."""

    key: str
    kept_as: str
    noticed_s: float
    theirs: str
    settled: bool = False


def conflict_key(entry: Put) -> str:
    """The name beside the object under which a write is kept: the same however often it is tried."""
    stamp = datetime.fromtimestamp(entry.staged_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{entry.key}.conflict-{stamp}-{entry.etag[:8]}"


class Conflicts:
    """The conflicts of one mount: lines of a file beside the journal, the last about a name holds.

    Any process of the node adds to them, under a lock. What is settled leaves the file when it has grown long.
    """

    def __init__(self, root: str, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._path = f"{root}/{_FILE}"
        self._thread = threading.Lock()
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._open: dict[tuple[str, str], Conflict] = {}

    def add(self, conflict: Conflict) -> None:
        """Write a line and return once it is on the disk. Raises `OSError`."""
        line = msgspec.json.encode(conflict) + b"\n"
        with self._locked():
            descriptor = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                size = self._disk.fstat(descriptor).st_size
                if size and self._disk.pread(descriptor, 1, size - 1) != b"\n":  # a line that a crash cut stays one of its own
                    line = b"\n" + line
                self._disk.pwrite(descriptor, line, size)
                self._disk.fsync(descriptor)
            finally:
                self._disk.close(descriptor)
            if size + len(line) > COMPACT_BYTES:
                self._compact(size + len(line))

    def open(self) -> list[Conflict]:
        """Those not settled, oldest first. Raises `OSError`."""
        with self._thread:
            return list(self._read().values())

    def _compact(self, size: int) -> None:
        data = b"".join([msgspec.json.encode(conflict) + b"\n" for conflict in self._read().values()])
        if len(data) * 2 > size:
            return
        fresh = f"{self._path}.new"
        descriptor = self._disk.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            done = 0
            while done < len(data):
                done += self._disk.pwrite(descriptor, memoryview(data)[done:], done)
            self._disk.fsync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.rename(fresh, self._path)
        sync_folder(self._disk, self._root)

    def _read(self) -> dict[tuple[str, str], Conflict]:
        """All that are open, read again when the file has changed."""
        try:
            descriptor = self._disk.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return {}
        try:
            found = self._disk.fstat(descriptor)
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen != self._seen:
                self._open = _open_of(_lines(self._disk, descriptor))
                self._seen = seen
        finally:
            self._disk.close(descriptor)
        return self._open

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread:
            descriptor = self._disk.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                self._disk.close(descriptor)


def _open_of(lines: Iterable[bytes]) -> dict[tuple[str, str], Conflict]:
    found: dict[tuple[str, str], Conflict] = {}
    for line in lines:
        try:
            conflict = msgspec.json.decode(line, type=Conflict)
        except msgspec.MsgspecError:
            continue  # a line that a crash cut
        if conflict.settled:
            found.pop((conflict.key, conflict.kept_as), None)
        else:
            found[conflict.key, conflict.kept_as] = conflict
    return found


def _lines(disk: Disk, descriptor: int) -> Iterator[bytes]:
    position, rest = 0, b""
    while piece := disk.pread(descriptor, _READ_BYTES, position):
        position += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest
