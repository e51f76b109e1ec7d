"""The bytes of a file that is open for writing: a nameless local file, which goes with the process that has it open."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from headrace.model.errors import NoSpace, VersionChanged
from headrace.model.reading import Buffer, FileSlice, Reading

_COPY_BYTES = 8 << 20


class Room:
    """What staged files may hold together: `limit` bytes, 0 for as much as their disk takes. Used by several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def grow(self, count: int) -> None:
        """`count` bytes more, or fewer when it is negative. Raises `OSError` with ENOSPC, and nothing has changed then."""
        with self._lock:
            if count > 0 and self.limit and self.used + count > self.limit:
                raise OSError(errno.ENOSPC, f"files that are open for writing hold {self.used} bytes already")
            self.used += count


class StagingArea:
    """Where files are staged. Nothing in it has a name, so nothing is left by a process that was killed."""

    def __init__(self, directory: Path, limit: int = 0) -> None:
        self.directory = directory
        self.room = Room(limit)

    def new(self, room_bytes: int = 0) -> StagedFile:
        """An empty file. Raises `OSError`, and `NoSpace` when `room_bytes` are not free."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_free(room_bytes)
        if self.room.limit and self.room.used + room_bytes > self.room.limit:
            raise NoSpace(
                f"{room_bytes} bytes that are to be changed and {self.room.used} that are open exceed [fuse] staged: "
                "close files, or raise it",
                path=str(self.directory),
            )
        return StagedFile(self._open(), self.room)

    def new_copy(self, length: int) -> StagedFile:
        """For a copy that lives while it is stored: the disk alone bounds it, so that nothing is lost for want of room."""
        self._check_free(length)
        return StagedFile(self._open(), Room(0))

    def _check_free(self, length: int) -> None:
        free = os.statvfs(self.directory)
        if length > free.f_bavail * free.f_frsize:
            raise NoSpace(f"{self.directory} has no room for {length} bytes that are to be changed", path=str(self.directory))

    def _open(self) -> int:
        try:
            return os.open(self.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
        fd, name = tempfile.mkstemp(dir=self.directory)
        os.unlink(name)  # noqa: PTH108  a descriptor's own name
        return fd


class StagedFile:
    """An open file of this machine. It is `changed` until its store has what it holds now."""

    def __init__(self, fd: int, room: Room) -> None:
        self.fd = fd
        self._room = room
        self._counted = 0
        self.new_modes = False
        """Whether only what is kept beside the bytes has to be stored, too."""
        self._stored: tuple[int, int] | None = None

    @property
    def bounded(self) -> bool:
        """Whether each write has to be asked for room."""
        return bool(self._room.limit)

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def mtime_ns(self) -> int:
        return os.fstat(self.fd).st_mtime_ns

    @property
    def state(self) -> tuple[int, int]:
        now = os.fstat(self.fd)
        return now.st_size, now.st_mtime_ns

    @property
    def changed(self) -> bool:
        return self.new_modes or self._stored != self.state

    @property
    def path(self) -> Path:
        """By which this process may open it once more."""
        return Path(f"/proc/self/fd/{self.fd}")

    def stored(self, state: tuple[int, int]) -> None:
        """The store has what the file held when it had `state`."""
        self._stored = state

    def set_mtime(self, mtime_ns: int) -> None:
        os.utime(self.fd, ns=(mtime_ns, mtime_ns))

    def resize(self, size: int) -> None:
        """Raises `OSError`, with ENOSPC when that is more than there is room for."""
        self._count(size)
        os.ftruncate(self.fd, size)

    def write(self, data: memoryview, offset: int) -> int:
        """As `os.pwrite`. Raises `OSError`, with ENOSPC when that is more than there is room for."""
        self._count(max(self._counted, offset + len(data)))
        return os.pwrite(self.fd, data, offset)

    def allocate(self, offset: int, length: int) -> None:
        """As `os.posix_fallocate`. Raises `OSError`."""
        self._count(max(self._counted, offset + length))
        os.posix_fallocate(self.fd, offset, length)

    def _count(self, size: int) -> None:
        self._room.grow(size - self._counted)
        self._counted = size

    async def fill(self, reading: Reading, mtime_ns: int) -> None:
        """All bytes of an object, which is what its store has. Raises what reading raises."""
        try:
            if reading.ready is not None:
                for piece in reading.ready:
                    await asyncio.to_thread(self._append, piece)
            else:
                async for part in reading:
                    await asyncio.to_thread(self._append, part)
        finally:
            await reading.aclose()
        if self.size != reading.range.length:
            raise VersionChanged(f"{reading.info.key}: its pages were dropped while they were read; open it again")
        self.set_mtime(mtime_ns)
        self.stored(self.state)

    async def snapshot(self, area: StagingArea) -> StagedFile:
        """A copy of what it holds now, while others may go on writing to it."""
        copy = area.new_copy(self.size)
        try:
            await asyncio.to_thread(copy._append, FileSlice(self.fd, 0, self.size, self))
        except BaseException:  # whatever it is: tidied up here, raised on
            copy.close()
            raise
        return copy

    def close(self) -> None:
        self._count(0)
        fd, self.fd = self.fd, -1
        with suppress(OSError):
            os.close(fd)

    def _append(self, piece: Buffer | FileSlice) -> None:
        at = self.size
        if not isinstance(piece, FileSlice):
            view = memoryview(piece)
            while view:
                done = self.write(view[:_COPY_BYTES], at)
                view, at = view[done:], at + done
            return
        start, left = piece.offset, piece.length
        self._count(max(self._counted, at + left))
        while left:
            done = _copy(piece.fd, self.fd, start, at, min(left, _COPY_BYTES))
            if not done:
                return
            start, at, left = start + done, at + done, left - done


def _copy(source: int, target: int, start: int, at: int, length: int) -> int:
    try:
        return os.copy_file_range(source, target, length, start, at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ETXTBSY):
            raise
    return os.pwrite(target, os.pread(source, length, start), at)
