"""Taking in the body of a write: short ones in memory, long ones in a file that is on the disk before the write counts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable

import msgspec
import xxhash

from headrace.model.errors import CorruptData, HeadraceError
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import Body, Pairs
from headrace.staging.backlog import Staged
from headrace.staging.journal import Journal
from headrace.staging.records import Put
from headrace.stores.writes import full_object, whole

INLINE_BYTES = 128 * 1024
"""Bodies up to this length lie in the journal's log."""
_WRITE_BYTES = 1 << 20
_READ_BYTES = 256 * 1024
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Spooled(msgspec.Struct, frozen=True):
    """A body that was taken in whole. It is `inline`, or lies in `file` with the XXH3-64 `sum`."""

    size: int
    md5: str
    checksums: Pairs
    inline: bytes = b""
    file: str = ""
    sum: int = 0


class JournalFull(HeadraceError):
    """There is no room for the body. `rest` is the whole of it once more, to be written somewhere else."""

    def __init__(self, message: str, rest: Body) -> None:
        super().__init__(message)
        self.rest = rest


async def take_in(body: Body, key: str, journal: Journal) -> Spooled:
    """The body, durable unless it is inline. Raises what the body raises, `CorruptData`, `JournalFull`, and `OSError`."""
    there = body.at_hand() if body.length is not None and body.length <= INLINE_BYTES else None
    if there is not None:
        return _inline(bytes(there), body)
    pieces: list[Buffer] = []
    size = 0
    arriving = whole(body, key)
    async for piece in arriving:
        pieces.append(piece)
        size += len(piece)
        if size > INLINE_BYTES:
            return await _take_in_file(body, arriving, pieces, journal)
    return _inline(b"".join(pieces), body)


def _inline(data: bytes, body: Body) -> Spooled:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return Spooled(len(data), md5, full_object(body.checksums()), inline=data)


async def _take_in_file(body: Body, arriving: AsyncIterator[Buffer], pieces: list[Buffer], journal: Journal) -> Spooled:
    file = _BodyFile(journal)
    try:
        await asyncio.to_thread(file.open)
        waiting = sum(map(len, pieces))
        async for piece in arriving:
            pieces.append(piece)
            waiting += len(piece)
            if waiting >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, pieces)
                pieces, waiting = [], 0
        await asyncio.to_thread(file.finish, pieces)
    except OSError as error:
        if isinstance(error, HeadraceError) or error.errno not in _FULL:
            await asyncio.to_thread(file.drop)
            raise
        message = f"the journal {journal.root} has no room left: writes go straight to the store meanwhile"
        raise JournalFull(message, _Resumed(body, file, pieces, arriving)) from error
    except BaseException:  # whatever it is: tidied up here, raised on
        await asyncio.to_thread(file.drop)
        raise
    return Spooled(file.size, file.md5.hexdigest(), full_object(body.checksums()), file=file.name, sum=file.sum.intdigest())


class _BodyFile:
    """A long body's file. All calls block, and none closes the descriptor under another that was given up."""

    def __init__(self, journal: Journal) -> None:
        self.name = uuid.uuid4().hex
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sum = xxhash.xxh3_64()
        self._journal = journal
        self._disk = journal.disk
        self._fd = -1
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            self._fd = self._disk.open(self._journal.bodies.path(self.name), os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def write(self, pieces: list[Buffer]) -> None:
        """All of `pieces` or, when that fails, none of them counts."""
        data = memoryview(b"".join(pieces))
        done = 0
        with self._lock:
            while done < len(data):
                done += self._disk.pwrite(self._fd, data[done:], self.size + done)
            self.md5.update(data)
            self.sum.update(data)
            self.size += len(data)

    def finish(self, pieces: list[Buffer]) -> None:
        """The last pieces, then durable."""
        if pieces:
            self.write(pieces)
            pieces.clear()
        with self._lock:
            self._disk.fsync(self._fd)
            self._close()
        self._journal.bodies.sync()

    def read(self, position: int) -> bytes:
        with self._lock:
            return self._disk.pread(self._fd, min(_READ_BYTES, self.size - position), position)

    def drop(self) -> None:
        """Remove it."""
        with self._lock:
            self._close()
            with contextlib.suppress(OSError):
                self._disk.unlink(self._journal.bodies.path(self.name))

    def _close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


class _Resumed(Body):
    """A body of which a part was taken in before there was no more room."""

    def __init__(self, body: Body, file: _BodyFile, pieces: list[Buffer], arriving: AsyncIterator[Buffer]) -> None:
        self.length = body.length
        self._body = body
        self._file = file
        self._pieces = pieces
        self._arriving = arriving

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._all()

    async def _all(self) -> AsyncIterator[Buffer]:
        try:
            position = 0
            while position < self._file.size:
                piece = await asyncio.to_thread(self._file.read, position)
                position += len(piece)
                yield piece
            for kept in self._pieces:
                yield kept
            async for arrived in self._arriving:
                yield arrived
        finally:
            await asyncio.to_thread(self._file.drop)

    def checksums(self) -> Pairs:
        return self._body.checksums()


class StagedReading(Reading):
    """Bytes of a staged write. Their checksum is proved before the first of them leaves."""

    __slots__ = ("_base", "_fd", "_journal", "_proved", "_staged")

    def __init__(self, info: ObjectInfo, cut: ByteRange, staged: Staged, journal: Journal, opened: tuple[int, int]) -> None:
        super().__init__(info, cut)
        self._staged = staged
        self._journal = journal
        self._fd, self._base = opened
        self._proved = False

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        try:
            if not await asyncio.to_thread(_is_sound, self._journal, self._fd, self._base, self._staged):
                raise CorruptData(
                    f"the journal's copy of {self.info.key!r} in {self._journal.root} is damaged: write it once more",
                    path=self.info.key,
                )
            position = self.range.start
            while position < self.range.end:
                length = min(_READ_BYTES, self.range.end - position)
                piece = await asyncio.to_thread(self._journal.disk.pread, self._fd, length, self._base + position)
                if not piece:
                    raise CorruptData(f"the journal's copy of {self.info.key!r} ended early", path=self.info.key)
                position += len(piece)
                yield piece
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            self._journal.disk.close(descriptor)


class StagedBody(Body):
    """A staged write's bytes on their way to the store."""

    rewindable = True

    def __init__(self, entry: Put, open_reading: Callable[[], Reading]) -> None:
        self.length = entry.size
        self._entry = entry
        self._open = open_reading

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        reading = self._open()
        try:
            async for piece in reading:
                yield piece
        finally:
            await reading.aclose()

    def checksums(self) -> Pairs:
        return self._entry.checksums


def _is_sound(journal: Journal, descriptor: int, base: int, staged: Staged) -> bool:
    entry = staged.entry
    if not isinstance(entry, Put):
        return False
    digest, position = xxhash.xxh3_64(), 0
    while position < entry.size:
        piece = journal.disk.pread(descriptor, min(_WRITE_BYTES, entry.size - position), base + position)
        if not piece:
            return False
        digest.update(piece)
        position += len(piece)
    return digest.intdigest() == (entry.body_sum if entry.body_file else staged.record.body_sum)
