"""FaultyDisk: the cache's disk seam with failures on purpose."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter

from headrace.model.disk import SystemDisk


class FaultyDisk(SystemDisk):
    """The real disk until told otherwise. `injected` counts the faults that happened, by call.

    `fail` maps the name of a call (`open`, `pread`, `pwrite`, `rename`, …) to the errno it raises; `slow_s` makes
    blocking reads and writes wait. `only` limits both to paths that hold the text (descriptors are followed from their open).
    """

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.slow_s = 0.0
        self.cold = False
        """Nothing is in the system's memory: reads that must not wait find nothing."""
        self.only = ""
        self.injected: Counter[str] = Counter()
        self._paths: dict[int, str] = {}

    @property
    def open_fds(self) -> int:
        """Descriptors opened and not closed."""
        return len(self._paths)

    def heal(self) -> None:
        """No more faults."""
        self.fail.clear()
        self.slow_s = 0.0
        self.cold = False

    def open(self, path: str, flags: int) -> int:
        self._strike("open", path)
        fd = super().open(path, flags)
        self._paths[fd] = path
        return fd

    def close(self, fd: int) -> None:
        self._paths.pop(fd, None)
        super().close(fd)

    def fstat(self, fd: int) -> os.stat_result:
        self._strike("fstat", self._paths.get(fd, ""))
        return super().fstat(fd)

    def stat(self, path: str) -> os.stat_result:
        self._strike("stat", path)
        return super().stat(path)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._wait("pread", self._paths.get(fd, ""))
        self._strike("pread", self._paths.get(fd, ""))
        return super().pread(fd, length, offset)

    def pread_now(self, fd: int, length: int, offset: int) -> bytes | bytearray:
        if self.cold or self.slow_s or "pread" in self.fail:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return super().pread_now(fd, length, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._wait("pwrite", self._paths.get(fd, ""))
        self._strike("pwrite", self._paths.get(fd, ""))
        return super().pwrite(fd, data, offset)

    def fsync(self, fd: int) -> None:
        self._wait("fsync", self._paths.get(fd, ""))
        self._strike("fsync", self._paths.get(fd, ""))
        super().fsync(fd)

    def truncate(self, fd: int, length: int) -> None:
        self._strike("truncate", self._paths.get(fd, ""))
        super().truncate(fd, length)

    def rename(self, source: str, target: str) -> None:
        self._strike("rename", source)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._strike("unlink", path)
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        self._strike("mkdir", path)
        super().mkdir(path)

    def _strike(self, call: str, path: str) -> None:
        code = self.fail.get(call)
        if code is not None and self.only in path:
            self.injected[call] += 1
            raise OSError(code, os.strerror(code), path)

    def _wait(self, call: str, path: str) -> None:
        if self.slow_s and self.only in path:
            self.injected[f"slow {call}"] += 1
            time.sleep(self.slow_s)
