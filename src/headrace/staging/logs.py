"""The files of a journal's logs, by number, with their descriptors kept open."""

from __future__ import annotations

import os
import re
import threading

from headrace.model.disk import Disk

_LOG_NAME = re.compile(r"(\d{6})\.log")
_WINDOW_BYTES = 1 << 18


class Logs:
    """`<root>/NNNNNN.log`. Descriptors may be asked for from several threads."""

    def __init__(self, root: str, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._open: dict[int, int] = {}
        self._mutex = threading.Lock()

    def numbers(self) -> list[int]:
        """Those there are now, in order."""
        found = (_LOG_NAME.fullmatch(name) for name in self._disk.names(self._root))
        return sorted(int(match[1]) for match in found if match is not None)

    def path(self, log: int) -> str:
        return f"{self._root}/{log:06d}.log"

    def descriptor(self, log: int) -> int:
        """Raises `FileNotFoundError` for a log that was removed before it was opened here."""
        with self._mutex:
            descriptor = self._open.get(log)
            if descriptor is None:
                descriptor = self._open[log] = self._disk.open(self.path(log), os.O_RDWR)
            return descriptor

    def size(self, log: int) -> int:
        return self._disk.fstat(self.descriptor(log)).st_size

    def create(self, log: int) -> None:
        """An empty log whose name survives a power cut."""
        with self._mutex:
            self._open[log] = self._disk.open(self.path(log), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        sync_folder(self._disk, self._root)

    def reader(self, log: int) -> LogReader:
        return LogReader(self._disk, self.descriptor(log))

    def close(self) -> None:
        with self._mutex:
            for descriptor in self._open.values():
                self._disk.close(descriptor)
            self._open.clear()


class LogReader:
    """Reads of a log through a window, since most records are small."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._start = 0
        self._window = b""

    def __call__(self, offset: int, length: int) -> bytes:
        inside = offset - self._start
        if inside < 0 or inside + length > len(self._window):
            self._start, inside = offset, 0
            self._window = self._disk.pread(self._descriptor, max(length, _WINDOW_BYTES), offset)
        return self._window[inside : inside + length]


def sync_folder(disk: Disk, path: str) -> None:
    """Return once the names in a directory survive a power cut. Raises `OSError`."""
    descriptor = disk.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)
