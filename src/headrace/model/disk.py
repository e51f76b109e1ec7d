"""The few file system calls that keeping pages takes, behind a seam so that tests can make them fail."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import Protocol


class Disk(Protocol):
    """Calls on one page directory's file system. All raise `OSError` as the system does; paths are absolute."""

    def open(self, path: str, flags: int) -> int: ...

    def close(self, fd: int) -> None: ...

    def fstat(self, fd: int) -> os.stat_result: ...

    def stat(self, path: str) -> os.stat_result: ...

    def pread(self, fd: int, length: int, offset: int) -> bytes: ...

    def pread_now(self, fd: int, length: int, offset: int) -> bytes | bytearray:
        """What the system holds in memory of the bytes asked for (perhaps less). Raises `BlockingIOError` for nothing."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int: ...

    def truncate(self, fd: int, length: int) -> None: ...

    def fsync(self, fd: int) -> None:
        """Return once what was written to the file (or the names in the directory) survives a power cut."""

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None:
        """Make the directory; it may be there already."""

    def rmtree(self, path: str) -> None:
        """Remove a directory and what is in it, or a file."""

    def names(self, path: str) -> list[str]: ...

    def lock(self, fd: int) -> bool:
        """Take the file's exclusive lock if it is free; the lock ends with the descriptor."""


class SystemDisk:
    """The real calls. Files are readable by their owner alone."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    # Called for every warm read: the bare functions spare a Python frame.
    close = staticmethod(os.close)
    fstat = staticmethod(os.fstat)
    pread = staticmethod(os.pread)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)  # noqa: PTH116 - a str path, without making an object of it

    def pread_now(self, fd: int, length: int, offset: int) -> bytes | bytearray:
        buffer = bytearray(length)
        count = os.preadv(fd, (buffer,), offset, os.RWF_NOWAIT)
        if count != length:
            del buffer[count:]
        return buffer

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)  # noqa: PTH104

    def unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103

    def rmtree(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108

    def names(self, path: str) -> list[str]:
        return os.listdir(path)  # noqa: PTH208

    def lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
