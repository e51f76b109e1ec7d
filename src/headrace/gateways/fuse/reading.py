"""What is read of open files: out of the pages at hand, else filled from the store."""

from __future__ import annotations

import asyncio
import errno
import os

from headrace.gateways import fsspec as calls
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.open_file import OpenFile
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.gateways.fuse.streaming import Stream
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, FileSlice, Piece

_LONG_BYTES = 128 * 1024
"""Who begins with a request of this length goes on: the kernel asks for less where a program looks at a file's head."""


class Reader:
    """Reads for the open files of one mount."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def read_now(self, file: OpenFile, offset: int, size: int) -> tuple[Piece, ...] | None:
        """The bytes, if they can be had without waiting. Raises `Refused`, and what the namespace raises."""
        inode = file.inode
        if inode.staged is not None:
            length = min(size, inode.staged.size - offset)
            return (FileSlice(inode.staged.fd, offset, length, inode.staged),) if length > 0 else ()
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

    async def read(self, file: OpenFile, offset: int, size: int) -> tuple[Buffer, ...]:
        """The bytes, filled from the store where they are not at hand. Raises what the namespace raises."""
        inode = file.inode
        if inode.staged is not None:
            return (await asyncio.to_thread(os.pread, inode.staged.fd, size, offset),)
        want = self._wanted(inode, offset, size)
        if want is None or inode.info is None:
            return ()
        stream = file.stream
        forward = file.forward == want.start or (not want.start and want.length >= _LONG_BYTES and want.end < inode.info.size)
        if (forward or (stream is not None and stream.covers(want.start, want.length))) and (
            data := await self._streamed(file, inode.info, want)
        ) is not None:
            return data
        reading = await self._shared.namespace.read("/" + inode.path, want, version=inode.info.version)
        return (await calls.body(reading),)

    async def _streamed(self, file: OpenFile, info: ObjectInfo, want: ByteRange) -> tuple[Buffer, ...] | None:
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
