"""Open files: reading pages, writing into staged files, and what each close stores."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from dataclasses import dataclass, field

from headrace.gateways import fsspec as calls
from headrace.gateways.fuse import abi
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.modes import Modes
from headrace.gateways.fuse.saving import save, save_modes, stage
from headrace.gateways.fuse.shared import Refused, Shared, errno_of
from headrace.gateways.fuse.streaming import Stream
from headrace.model.errors import HeadraceError
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import FileSlice, Piece

_log = logging.getLogger(__name__)

_WRITES = (os.O_WRONLY, os.O_RDWR)
_FIRST = ByteRange(0, 1)
_LONG_BYTES = 128 * 1024
"""Who begins with a request of this length goes on: the kernel asks for less where a program looks at a file's head."""


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open file of the kernel."""

    handle: int
    inode: Inode
    writes: bool
    passed: bool = False
    """Whether the kernel reads and writes it by itself."""
    expected: int = 0
    """Where a forward reader's next request begins."""
    forward: int = -1
    """Where the last request began that was such a one."""
    stream: Stream | None = None
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a stream is begun: of requests that come together, one begins it."""


class Files:
    """The open files of one mount."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[int, OpenFile] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._open)

    def get(self, handle: int) -> OpenFile:
        """Raises `Refused` for a handle that is not open."""
        try:
            return self._open[handle]
        except KeyError:
            raise Refused(errno.EBADF) from None

    def open_now(self, inode: Inode, flags: int) -> bytes | None:
        """The answer to OPEN for reading, if it can be known without waiting that the inode is what its store has."""
        if flags & os.O_ACCMODE in _WRITES or inode.staged is not None or not self.is_current(inode):
            return None
        return self.opened(inode, writes=False)

    def is_current(self, inode: Inode) -> bool:
        """Whether it can be known without waiting that the inode is what its store has."""
        if inode.info is None or not inode.info.size or inode.parent is None:
            return False
        reading = self._shared.namespace.peek("/" + inode.path, _FIRST)
        return reading is not None and reading.info.version == inode.info.version

    async def open(self, inode: Inode, flags: int) -> bytes:
        """The answer to OPEN. Raises `Refused` with ESTALE when the object is another by now: the kernel looks it up anew."""
        if inode.is_directory:
            raise Refused(errno.EISDIR)
        writes = flags & os.O_ACCMODE in _WRITES
        if inode.staged is None:
            await self._check_current(inode, writes=writes)
        if writes:
            if inode.staged is None and inode.passed:
                # Its readers go on with the version that they opened; the writer gets an inode of its own.
                self._replace(inode)
                raise Refused(errno.ESTALE)
            await stage(self._shared, inode, empty=bool(flags & os.O_TRUNC))
        return self.opened(inode, writes=writes)

    def opened(self, inode: Inode, *, writes: bool) -> bytes:
        """Another open file, as the kernel is told of it."""
        file = OpenFile(self._next, inode, writes)
        self._next += 1
        backing = self._pass(inode)
        file.passed = bool(backing)
        self._open[file.handle] = file
        inode.opens += 1
        inode.passed += file.passed
        flags = 0 if writes or inode.staged is not None else abi.OPEN_NOFLUSH
        if backing:
            return abi.opened(file.handle, flags | abi.OPEN_PASSTHROUGH, backing)
        return abi.opened(file.handle, flags | (abi.OPEN_DIRECT_IO if inode.passed else abi.OPEN_KEEP_CACHE))

    async def _check_current(self, inode: Inode, *, writes: bool) -> None:
        if inode.parent is None or inode.info is None:
            raise Refused(errno.ESTALE)
        info = await self._shared.namespace.info("/" + inode.path)
        if info.version != inode.info.version:
            raise Refused(errno.ESTALE)
        if writes:
            inode.info = info

    def _replace(self, inode: Inode) -> None:
        if inode.parent is not None:
            self._shared.inodes.add(inode.parent, inode.name, inode.modes, inode.info)

    def _pass(self, inode: Inode) -> int:
        """The kernel's number for the file that has exactly the inode's bytes; 0 where we have to serve them."""
        if inode.passed:
            return inode.backing
        if inode.opens or not self._shared.device.passes:
            return 0
        if inode.staged is not None:
            inode.backing = self._shared.device.hand_over(inode.staged.fd)
        else:
            whole = self._whole_file(inode)
            inode.backing = self._shared.device.hand_over(whole.fd) if whole is not None else 0
        return inode.backing

    def _whole_file(self, inode: Inode) -> FileSlice | None:
        if inode.info is None or not inode.info.size:
            return None
        try:
            reading = self._shared.namespace.peek("/" + inode.path, None)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None or len(reading.ready) != 1 or reading.info.version != inode.info.version:
            return None
        piece = reading.ready[0]
        if not isinstance(piece, FileSlice) or piece.offset:
            return None
        there = os.fstat(piece.fd)
        return piece if there.st_size == inode.info.size and stat.S_ISREG(there.st_mode) else None

    def read_now(self, file: OpenFile, offset: int, size: int) -> tuple[Piece, ...] | None:
        """The bytes, if they can be had without waiting. Raises `Refused`, and what the namespace raises."""
        inode = file.inode
        if inode.staged is not None:
            return (FileSlice(inode.staged.fd, offset, size, inode.staged),)
        want = self._wanted(inode, offset, size)
        if want is None:
            return ()
        if want.start == file.expected > 0:
            file.forward = want.start
        file.expected = max(file.expected, want.end)
        reading = self._shared.namespace.peek("/" + inode.path, want)
        if reading is None or reading.ready is None or inode.info is None or reading.info.version != inode.info.version:
            return None
        return reading.ready

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """The bytes, filled from the store where they are not at hand. Raises what the namespace raises."""
        inode = file.inode
        if inode.staged is not None:
            return await asyncio.to_thread(os.pread, inode.staged.fd, size, offset)
        want = self._wanted(inode, offset, size)
        if want is None or inode.info is None:
            return b""
        stream = file.stream
        forward = file.forward == want.start or (not want.start and want.length >= _LONG_BYTES and want.end < inode.info.size)
        if (forward or (stream is not None and stream.covers(want.start, want.length))) and (
            data := await self._streamed(file, inode.info, want)
        ) is not None:
            return data
        reading = await self._shared.namespace.read("/" + inode.path, want, version=inode.info.version)
        return await calls.body(reading)

    async def _streamed(self, file: OpenFile, info: ObjectInfo, want: ByteRange) -> bytes | None:
        """The bytes out of the file's stream, which is begun where there is none that has them."""
        async with file.beginning:
            stream = file.stream
            if stream is None or not stream.covers(want.start, want.length):
                if stream is not None:
                    file.stream = None
                    await stream.close()
                whole = ByteRange(want.start, info.size)
                reading = await self._shared.namespace.read("/" + file.inode.path, whole, version=info.version)
                if reading.ready is not None:
                    await reading.aclose()
                    return None
                stream = file.stream = Stream(reading)
        return await stream.take(want.start, want.length)

    def _wanted(self, inode: Inode, offset: int, size: int) -> ByteRange | None:
        if inode.parent is None or inode.info is None:
            raise Refused(errno.ESTALE)
        return ByteRange(offset, min(offset + size, inode.info.size)) if offset < inode.info.size and size else None

    def write(self, handle: int, offset: int, data: memoryview) -> int:
        """Raises `OSError` as the staged file's disk does."""
        file = self.get(handle)
        if not file.writes or file.inode.staged is None:
            raise Refused(errno.EBADF)
        return os.pwrite(file.inode.staged.fd, data, offset)

    def allocate(self, handle: int, offset: int, length: int, mode: int) -> None:
        """Room for bytes that are to come; only what makes the file longer, or changes nothing of it, is known here."""
        file = self.get(handle)
        if not file.writes or file.inode.staged is None:
            raise Refused(errno.EBADF)
        if mode:
            raise Refused(errno.EOPNOTSUPP)
        os.posix_fallocate(file.inode.staged.fd, offset, length)

    async def flush(self, handle: int) -> None:
        """A descriptor was closed, or fsync was asked for: the store has what was written when this returns."""
        file = self.get(handle)
        if file.writes:
            await save(self._shared, file.inode)

    def release_now(self, handle: int) -> bool:
        """`release`, if there is nothing to wait for."""
        file = self._open.get(handle)
        if file is not None and (file.writes or file.stream is not None):
            return False
        if file is not None:
            self._released(file)
        return True

    async def release(self, handle: int) -> None:
        """The file is open no longer, nor mapped. What was written through a map after its last close is stored now."""
        file = self._open.get(handle)
        if file is None:
            return
        if file.stream is not None:
            await file.stream.close()
        if file.writes:
            try:
                await save(self._shared, file.inode)
            except Exception as error:  # noqa: BLE001  nobody is left to be told
                _log.error("/%s: what was written to it could not be stored: %s", file.inode.path, error)
        self._released(file)

    def _released(self, file: OpenFile) -> None:
        inode = file.inode
        if self._open.pop(file.handle, None) is None:
            return
        if file.passed:
            inode.passed -= 1
            if not inode.passed:
                self._shared.device.take_back(inode.backing)
                inode.backing = 0
        self._end(inode)

    def _end(self, inode: Inode) -> None:
        if inode.opens == 1 and inode.staged is not None:
            staged, inode.staged = inode.staged, None
            staged.close()
            if inode.info is None and inode.parent is not None:
                self._shared.inodes.detach(inode)
        self._shared.inodes.closed(inode)

    async def change(self, inode: Inode, asked: Change) -> None:
        """SETATTR: length, permissions, owner, time."""
        if asked.size is not None:
            await self._resize(inode, asked.size)
        modes = asked.applied(inode.modes, inode.staged.mtime_ns if inode.staged is not None else inode.modes.mtime_ns)
        if modes is not None:
            await save_modes(self._shared, inode, modes)

    async def _resize(self, inode: Inode, size: int) -> None:
        if inode.is_directory:
            raise Refused(errno.EISDIR)
        inode.opens += 1
        try:
            staged = await stage(self._shared, inode, empty=not size)
            staged.resize(size)
            if inode.opens == 1:
                await save(self._shared, inode)
        finally:
            self._end(inode)

    async def keep(self, inode: Inode) -> None:
        """Before its object goes: whoever has it open goes on with its bytes."""
        if inode.opens and inode.staged is None and not inode.passed:
            await stage(self._shared, inode, empty=False)

    async def save_all(self) -> int:
        """Store all that is open for writing; how many files could not be stored."""
        failed = 0
        for inode in self._shared.inodes.staged():
            try:
                await save(self._shared, inode)
            except Exception as error:  # noqa: BLE001  each one is tried
                failed += 1
                _log.error("/%s: what was written to it is lost (%s)", inode.path, os.strerror(errno_of(error)))
        return failed


@dataclass(frozen=True, slots=True)
class Change:
    """What SETATTR asks for; None leaves it."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None

    def applied(self, modes: Modes, mtime_ns: int) -> Modes | None:
        """The modes with the change; None where it asks for none of them."""
        if self.mode is None and self.uid is None and self.gid is None and self.mtime_ns is None:
            return None
        return Modes(
            modes.mode if self.mode is None else stat.S_IFMT(modes.mode) | stat.S_IMODE(self.mode),
            modes.uid if self.uid is None else self.uid,
            modes.gid if self.gid is None else self.gid,
            mtime_ns if self.mtime_ns is None else self.mtime_ns,
        )
