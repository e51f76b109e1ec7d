"""FileStore: a directory, local or on NFS, as a store.

A key is the path of a regular file below the root, kept exactly. Keys with an empty, `.` or `..`
segment, a NUL or a name too long for the file system raise `InvalidKey`; a key that ends with a
slash is `NotFound`, since a directory is not an object. Links are followed while they stay inside
the root; one that leads outside is `AccessDenied` and is not listed.

A version is (mtime, size, inode) and is compared after every piece that was read, before it is
handed out, so a file that is rewritten in place under a reader is `VersionChanged`; one that is
replaced by a rename is read to its old end. Writing through a shared mapping changes bytes before
it changes the mtime: such writers must replace files instead.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from urllib.parse import unquote

from headrace.model.clock import Clock
from headrace.model.errors import (
    AccessDenied,
    HeadraceError,
    InvalidKey,
    NotFound,
    SettingsError,
    Unavailable,
    VersionChanged,
)
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.beneath import open_beneath
from headrace.stores.file_listing import WINDOW_NAMES, Windows, file_info, list_page, valid_segments
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.store import Store
from headrace.stores.urls import shown_url

PIECE_BYTES = 256 * 1024
THREADS = 8
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO))
_REFUSED = frozenset((errno.EACCES, errno.EPERM, errno.EXDEV, errno.ELOOP))
_NO_SUCH_NAME = frozenset((errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ))
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_TYPES = mimetypes.MimeTypes()
T = TypeVar("T")


def content_type_of(key: str) -> str:
    """The media type that a file's extension says; the packing itself for packed files."""
    kind, packing = _TYPES.guess_type("/" + key)
    if packing:
        return _PACKED.get(packing, "application/octet-stream")
    return kind or "application/octet-stream"


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:  # noqa: ARG001 - every kind of store has it
    """The store of a `file:///…` URL. Raises `SettingsError`."""
    scheme, separator, rest = spec.store.partition("://")
    root = unquote(rest.removeprefix("localhost"))
    if scheme != "file" or not separator or not root.startswith("/") or set(rest) & set("?#") or "\0" in root:
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: write file:// and an absolute path, such as file:///srv/data (? as %3F, # as %23)"
        )
    return FileStore(root)


class FileStore(Store):
    """The regular files below `root`. Blocking calls run in threads of its own, at most `threads`."""

    def __init__(self, root: str, *, threads: int = THREADS, window_names: int = WINDOW_NAMES) -> None:
        self.root = root
        self._windows = Windows(window_names)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="headrace-file")
        self._was_mount_point = False

    async def info(self, key: str) -> ObjectInfo:
        _check(key)
        return await self.in_thread(partial(self._info, key), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        _check(key)
        return await self.in_thread(partial(self._read, key, byte_range, version), key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        return await self.in_thread(partial(self._list, prefix, delimiter, after, limit), prefix)

    async def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def in_thread(self, call: Callable[[], T], key: str) -> T:
        """Run a blocking call in a thread; what it raises is translated."""
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self._threads, call)
        except RuntimeError as error:
            raise Unavailable(f"the store of {self.root} is closed", path=key) from error
        try:
            return await waiting
        except OSError as error:
            if isinstance(error, HeadraceError):
                raise
            raise self._translated(error, key) from error

    def _open_root(self) -> int:
        """The root as it is mounted now: it is not kept open, since something may be mounted over it later."""
        try:
            descriptor = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _REFUSED:
                raise
            raise Unavailable(f"directory {self.root} cannot be opened ({_reason(error)}): is it mounted?") from error
        try:
            mount_point = os.fstat(descriptor).st_dev != os.stat("..", dir_fd=descriptor).st_dev
        except OSError:
            os.close(descriptor)
            raise
        if self._was_mount_point and not mount_point:
            os.close(descriptor)
            raise Unavailable(f"nothing is mounted at {self.root} any more: mount it again")
        self._was_mount_point = mount_point
        return descriptor

    def _open(self, key: str, flags: int) -> tuple[int, os.stat_result]:
        """A regular file below the root, and what it is now."""
        root = self._open_root()
        try:
            descriptor = open_beneath(root, key, flags)
        except FileNotFoundError as error:
            if os.fstat(root).st_nlink == 0:
                raise Unavailable(f"directory {self.root} was removed", path=key) from error
            raise
        finally:
            os.close(root)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(f"{key!r} in {self.root} is not a regular file", path=key)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor, found

    def _info(self, key: str) -> ObjectInfo:
        descriptor, found = self._open(key, os.O_PATH)
        os.close(descriptor)
        return file_info(key, found, content_type_of(key))

    def _read(self, key: str, byte_range: ByteRange | None, version: Version | None) -> Reading:
        descriptor, found = self._open(key, _READ)
        file = _OpenFile(descriptor, found, key)
        try:
            info = file_info(key, found, content_type_of(key))
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
            cut = cut_range(byte_range, info.size, key)
            first = file.piece(cut.start, min(cut.length, PIECE_BYTES))
        except BaseException:  # whatever it is: tidied up here, raised on
            file.close()
            raise
        if cut.length == len(first):
            file.close()
        return _FileReading(info, cut, first, file, self)

    def _list(self, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        root = self._open_root()
        try:
            listing = list_page(root, self._windows, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
            if os.fstat(root).st_nlink == 0:
                raise Unavailable(f"directory {self.root} was removed", path=prefix)
            return listing
        finally:
            os.close(root)

    def _translated(self, error: OSError, key: str) -> HeadraceError:
        if error.errno in _ABSENT:
            return NotFound(f"{key!r} is not in {self.root}", path=key)
        if error.errno in _NO_SUCH_NAME:
            return InvalidKey(f"{key!r} cannot be a file's name in {self.root} ({_reason(error)})", path=key)
        if error.errno == errno.EXDEV:
            return AccessDenied(f"{key!r} is a link that leads out of {self.root}", path=key)
        if error.errno in _REFUSED:
            where = error.filename or key
            return AccessDenied(f"{where!r} in {self.root} may not be read ({_reason(error)}): check its permissions", path=key)
        return Unavailable(f"{key!r} in {self.root} cannot be read now ({_reason(error)})", path=key)


class _OpenFile:
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
    __slots__ = ("_file", "_first", "_store")

    def __init__(
        self,
        info: ObjectInfo,
        byte_range: ByteRange,
        first: bytes,
        file: _OpenFile,
        store: FileStore,
    ) -> None:
        super().__init__(info, byte_range)
        self._first = first
        self._file = file
        self._store = store

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self._first:
            yield self._first
        position = self.range.start + len(self._first)
        while position < self.range.end:
            length = min(PIECE_BYTES, self.range.end - position)
            yield await self._store.in_thread(partial(self._file.piece, position, length), self.info.key)
            position += length
        self._file.close()

    async def aclose(self) -> None:
        if self._file.idle():
            self._file.close()
        else:  # a read that was given up still runs in its thread
            await asyncio.get_running_loop().run_in_executor(None, self._file.close)


def _check(key: str) -> None:
    check_key(key)
    if key.endswith("/") and valid_segments(key[:-1]):
        raise NotFound(f"{key!r} names a directory, which is not an object", path=key)
    if not valid_segments(key):
        raise InvalidKey(f"{key!r} cannot be a path of a file: it has an empty, '.' or '..' segment or a NUL", path=key)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
