"""FileStore: a directory, local or on NFS, as a store.

A key is the path of a regular file below the root. A key that cannot be one (an empty, `.` or `..` segment, a slash at its end, a
name too long, or a file where it needs a directory) is kept aside in the store's own `.headrace` folder when it is written here.
Links are followed while they stay inside the root; one that leads outside is `AccessDenied` and is not listed.

A version is (mtime, size, inode), with the ETag for objects that were written through the store. It is compared after every piece
that was read, before it is handed out, so a file that is rewritten in place under a reader is `VersionChanged`; one that is
replaced by a rename is read to its old end. Writing through a shared mapping changes bytes before it changes the mtime: such
writers must replace files instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from functools import partial

from headrace.model.errors import InvalidRange, Unavailable, VersionChanged
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.uploads import MIN_PART_BYTES
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.file_attributes import Kept
from headrace.stores.file_keys import FoundFile, KeyWindows, find_file, list_page
from headrace.stores.file_listing import WINDOW_NAMES
from headrace.stores.file_own import check_own
from headrace.stores.file_root import THREADS, FileRoot
from headrace.stores.file_sweep import UPLOAD_AGE_S, Sweeper
from headrace.stores.file_types import content_type_of
from headrace.stores.file_uploads import FileUploads
from headrace.stores.file_write import FileWriter, open_version
from headrace.stores.keys import check_text, cut_range
from headrace.stores.parts import part_bounds
from headrace.stores.store import Store

PIECE_BYTES = 256 * 1024
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


class FileStore(Store):
    """The regular files below `root`. Blocking calls run in threads of its own, at most `threads`.

    Multipart uploads that nothing was put into for `upload_age_s` seconds are dropped, parts but the last of fewer than
    `min_part_bytes` bytes refused.
    """

    def __init__(
        self,
        root: str | FileRoot,
        *,
        threads: int = THREADS,
        window_names: int = WINDOW_NAMES,
        min_part_bytes: int = MIN_PART_BYTES,
        upload_age_s: float = UPLOAD_AGE_S,
    ) -> None:
        self._root = FileRoot(root, threads=threads) if isinstance(root, str) else root
        self._windows = KeyWindows(window_names)
        self._writer = FileWriter(self._root)
        self._uploads = FileUploads(self._root, min_part_bytes)
        self._sweeper = Sweeper(self._root, upload_age_s)

    async def info(self, key: str) -> ObjectInfo:
        check_own(key)
        return await self._root.run(partial(self._info, key), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        check_own(key)
        return await self._root.run(partial(self._read, key, byte_range, version), key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        return await self._root.run(partial(self._list, prefix, delimiter, after, limit), prefix)

    async def tags(self, key: str) -> Pairs:
        check_own(key)
        kept = await self._root.run(partial(self._kept, key), key)
        return () if kept is None else kept.tags

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        found = await self._root.run(partial(open_version, self._root, info), info.key)
        os.close(found.fd)
        sizes = found.kept.part_sizes() if found.kept is not None else ()
        bounds = part_bounds(sizes or (info.size,), number)
        if bounds is None:
            raise InvalidRange(f"{info.key!r} has no part {number}", path=info.key, size=info.size)
        return bounds

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        self._sweeper.sweep_if_due()
        return await self._writer.write(key, body, attributes, condition)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self._writer.copy(source, key, attributes, condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._writer.delete(key, condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self._writer.set_tags(key, tags)

    def multipart(self) -> FileUploads:
        self._sweeper.sweep_if_due()
        return self._uploads

    async def close(self) -> None:
        self._root.close()

    def _find(self, root_fd: int, key: str, flags: int) -> FoundFile:
        try:
            return find_file(root_fd, key, flags)
        except FileNotFoundError as error:
            if os.fstat(root_fd).st_nlink == 0:
                raise Unavailable(f"directory {self._root.path} was removed", path=key) from error
            raise

    def _open(self, key: str, flags: int) -> FoundFile:
        root_fd = self._root.open()
        try:
            return self._find(root_fd, key, flags)
        finally:
            os.close(root_fd)

    def _info(self, key: str) -> ObjectInfo:
        found = self._open(key, os.O_PATH)
        os.close(found.fd)
        return found.info(key, content_type_of(key))

    def _kept(self, key: str) -> Kept | None:
        found = self._open(key, os.O_PATH)
        os.close(found.fd)
        return found.kept

    def _read(self, key: str, byte_range: ByteRange | None, version: Version | None) -> Reading:
        found = self._open(key, _READ)
        file = OpenFile(found.fd, found.stat, key)
        try:
            info = found.info(key, content_type_of(key))
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
            cut = cut_range(byte_range, info.size, key)
            first = file.piece(cut.start, min(cut.length, PIECE_BYTES))
        except BaseException:  # whatever it is: tidied up here, raised on
            file.close()
            raise
        if cut.length == len(first):
            file.close()
        return _FileReading(info, cut, first, file, self._root)

    def _list(self, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        root_fd = self._root.open()
        try:
            listing = list_page(root_fd, self._windows, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
            if os.fstat(root_fd).st_nlink == 0:
                raise Unavailable(f"directory {self._root.path} was removed", path=prefix)
            return listing
        finally:
            os.close(root_fd)


class OpenFile:
    """A descriptor that no thread can close under another that reads from it."""

    __slots__ = ("_key", "_lock", "_seen", "fd")

    def __init__(self, fd: int, found: os.stat_result, key: str) -> None:
        self.fd = fd
        self._seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        self._key = key
        self._lock = threading.Lock()

    def piece(self, start: int, length: int) -> bytes:
        """Bytes of the version that was opened. Raises `VersionChanged`."""
        with self._lock:
            if self.fd < 0:
                raise Unavailable(f"the reading of {self._key!r} was closed", path=self._key)
            data = os.pread(self.fd, length, start) if length else b""
            now = os.fstat(self.fd)
        if (now.st_mtime_ns, now.st_size, now.st_ino) != self._seen:
            raise VersionChanged(f"{self._key!r} was changed while it was read", path=self._key)
        if len(data) != length and length:
            raise Unavailable(f"{self._key!r} gave {len(data)} bytes of {length}", path=self._key)
        return data

    def close(self) -> None:
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def idle(self) -> bool:
        """Whether `close` would not wait."""
        return not self._lock.locked()

    def __del__(self) -> None:
        self.close()


class _FileReading(Reading):
    __slots__ = ("_file", "_first", "_root")

    def __init__(
        self,
        info: ObjectInfo,
        byte_range: ByteRange,
        first: bytes,
        file: OpenFile,
        root: FileRoot,
    ) -> None:
        super().__init__(info, byte_range)
        self._first = first
        self._file = file
        self._root = root

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self._first:
            yield self._first
        position = self.range.start + len(self._first)
        while position < self.range.end:
            length = min(PIECE_BYTES, self.range.end - position)
            yield await self._root.run(partial(self._file.piece, position, length), self.info.key)
            position += length
        self._file.close()

    async def aclose(self) -> None:
        if self._file.idle():
            self._file.close()
        else:  # a read that was given up still runs in its thread
            await asyncio.get_running_loop().run_in_executor(None, self._file.close)
