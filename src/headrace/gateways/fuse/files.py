"""Open files: opening them, writing into staged ones, and what each close stores."""

from __future__ import annotations

import errno
import logging
import os

from headrace.gateways.fuse import abi
from headrace.gateways.fuse.handing import Handing
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.open_file import OpenFile
from headrace.gateways.fuse.saving import save, stage
from headrace.gateways.fuse.shared import Refused, Shared, errno_of
from headrace.model.objects import ByteRange

_log = logging.getLogger(__name__)

_WRITES = (os.O_WRONLY, os.O_RDWR)
_FIRST = ByteRange(0, 1)


class Files:
    """The open files of one mount."""

    def __init__(self, shared: Shared, handing: Handing) -> None:
        self._shared = shared
        self._handing = handing
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
        backing = self._handing.hand_over(inode)
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

    def write(self, handle: int, offset: int, data: memoryview) -> int:
        """Raises `OSError` as the staged file's disk does."""
        file = self.get(handle)
        if not file.writes or file.inode.staged is None:
            raise Refused(errno.EBADF)
        return file.inode.staged.write(data, offset)

    def allocate(self, handle: int, offset: int, length: int, mode: int) -> None:
        """Room for bytes that are to come; only what makes the file longer, or changes nothing of it, is known here."""
        file = self.get(handle)
        if not file.writes or file.inode.staged is None:
            raise Refused(errno.EBADF)
        if mode:
            raise Refused(errno.EOPNOTSUPP)
        file.inode.staged.allocate(offset, length)

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
        self._handing.released(file)
        self._end(inode)

    def _end(self, inode: Inode) -> None:
        if inode.opens == 1 and inode.staged is not None:
            staged, inode.staged = inode.staged, None
            staged.close()
            if inode.info is None and inode.parent is not None:
                self._shared.inodes.detach(inode)
        self._shared.inodes.closed(inode)

    async def resize(self, inode: Inode, size: int) -> None:
        """Another length. A file that nobody has open is stored at once."""
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
