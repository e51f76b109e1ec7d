"""A file in the making: written aside, made durable with what is kept with it, and renamed into its key's place."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Sequence

from headrace.model.checksums import Algorithm, Checksummer
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Condition
from headrace.stores.beneath import stat_beneath
from headrace.stores.file_attributes import Kept, attach, attach_beside, binding_of, bound, describe, forget_beside
from headrace.stores.file_keys import FoundFile, find_file
from headrace.stores.file_own import (
    TEMPORARY,
    can_be_path,
    discard,
    key_lock,
    make_folder,
    odd_path,
    open_folder,
    open_temporary,
    rename_into,
    unlink_and_prune,
    write_all,
)
from headrace.stores.file_root import FileRoot
from headrace.stores.file_types import content_type_of
from headrace.stores.writes import check_condition

_COPY_BYTES = 64 << 20
_READ_BYTES = 1 << 20
_CANNOT_BE_PATH = frozenset(
    (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
)
_CANNOT_COPY = frozenset((errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EPERM))


class NewFile:
    """Used by one thread at a time; `close` waits for it. Everything blocks, and raises `OSError`."""

    def __init__(self, root: FileRoot, folder: str = "") -> None:
        """In the store's folder of temporary files, or in one of its folders that is there."""
        self._root = root
        self._lock = threading.Lock()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._seal = b""
        self.size = 0
        self.name = ""
        self.root_fd = self.folder_fd = self.fd = -1
        try:
            self.root_fd = root.open()
            self.folder_fd = open_folder(self.root_fd, folder) if folder else make_folder(self.root_fd, TEMPORARY)
            self.fd, self.name = open_temporary(self.folder_fd)
        except BaseException:  # whatever it is: tidied up here, raised on
            self.close()
            raise

    @property
    def md5(self) -> str:
        """Of the bytes that were appended."""
        return self._md5.hexdigest()

    def checksum(self, algorithm: Algorithm) -> str:
        """Of the bytes so far, read again."""
        summer = Checksummer(algorithm)
        with self._lock:
            for start in range(0, self.size, _READ_BYTES):
                summer.update(os.pread(self.fd, _READ_BYTES, start))
        return summer.base64()

    def append(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write behind what was written."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        with self._lock:
            self._md5.update(data)
            write_all(self.fd, data)
            self.size += len(data)

    def append_from(self, source_fd: int, start: int, end: int) -> None:
        """Bytes of another file by way of this process, since their MD5 is wanted. Raises `EOFError` where it ends sooner."""
        while start < end:
            data = os.pread(source_fd, min(_READ_BYTES, end - start), start)
            if not data:
                raise EOFError
            self.append([data])
            start += len(data)

    def clone_from(self, source_fd: int, start: int, end: int) -> None:
        """Bytes of another file by the file system where it can, which may share them. `md5` does not know of them."""
        with self._lock:
            while start < end:
                copied = self._cloned(source_fd, start, end)
                if not copied:
                    raise EOFError
                start += copied
                self.size += copied

    def _cloned(self, source_fd: int, start: int, end: int) -> int:
        try:
            return os.copy_file_range(source_fd, self.fd, min(_COPY_BYTES, end - start), start)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
        data = os.pread(source_fd, min(_READ_BYTES, end - start), start)
        write_all(self.fd, data)
        return len(data)

    def publish(self, key: str, condition: Condition, kept: Kept) -> ObjectInfo:
        """Put the file in the key's place, with what is kept with it, in one step with its condition."""
        with self._lock:
            kept, beside = self.prepare(kept)
            with key_lock(self.root_fd, key):
                self._root.check_still(self.root_fd)
                before = self.checked(key, condition)
                try:
                    self.move(key, kept, before, beside=beside)
                finally:
                    if before is not None:
                        os.close(before.fd)
            return describe(key, os.fstat(self.fd), kept, content_type_of(key))

    def prepare(self, kept: Kept) -> tuple[Kept, bool]:
        """Make bytes and attributes durable; answers these, and whether they have to be kept beside the file."""
        # The clock's own nanoseconds: file systems stamp in coarse steps, and use an inode again at once.
        now_ns = time.time_ns()
        os.utime(self.fd, ns=(now_ns, now_ns))
        self._seal = self._root.seal(self.fd, self.size)
        kept = bound(kept, os.fstat(self.fd))
        beside = not attach(self.fd, kept)
        os.fsync(self.fd)
        return kept, beside

    def checked(self, key: str, condition: Condition) -> FoundFile | None:
        """The object that will be replaced, to be closed by the caller, under the key's lock. Raises as a condition does."""
        try:
            before = find_file(self.root_fd, key, os.O_PATH)
        except FileNotFoundError:
            check_condition(condition, None, key)
            return None
        try:
            check_condition(condition, before.info(key), key)
        except BaseException:  # whatever it is: tidied up here, raised on
            os.close(before.fd)
            raise
        return before

    def move(self, key: str, kept: Kept, before: FoundFile | None, *, beside: bool) -> None:
        """What takes effect: the rename, under the key's lock."""
        root_fd = self.root_fd
        if beside:
            attach_beside(root_fd, key, kept)
        info = describe(key, os.fstat(self.fd), kept, content_type_of(key))
        try:
            with self._root.replacing(root_fd, info, self._seal):
                path = self._renamed(key, before)
        except OSError:
            if beside:
                forget_beside(root_fd, kept.binding)
            raise
        self.name = ""
        if before is None:
            return
        if before.kept is not None:
            forget_beside(root_fd, binding_of(before.stat))
        if path == key:
            unlink_and_prune(root_fd, odd_path(key))

    def _renamed(self, key: str, before: FoundFile | None) -> str:
        """A key stays where it is. A new one is the path of the file, unless something else is there or in its way."""
        path = _new_path(self.root_fd, key) if before is None else before.path
        try:
            rename_into(self.root_fd, self.folder_fd, self.name, path)
        except OSError as error:
            if path != key or error.errno not in _CANNOT_BE_PATH:
                raise
            path = odd_path(key)
            rename_into(self.root_fd, self.folder_fd, self.name, path)
        return path

    def close(self) -> None:
        """Remove what was not published. May be called more than once."""
        with self._lock:
            try:
                if self.name:
                    discard(self.folder_fd, self.name)
            finally:
                self.name = ""
                for descriptor in (self.fd, self.folder_fd, self.root_fd):
                    if descriptor >= 0:
                        os.close(descriptor)
                self.fd = self.folder_fd = self.root_fd = -1


def _new_path(root_fd: int, key: str) -> str:
    if not can_be_path(key):
        return odd_path(key)
    try:
        kind = stat_beneath(root_fd, key).st_mode
    except OSError:  # nothing there, or in the way: the rename tells
        return key
    return key if stat.S_ISREG(kind) else odd_path(key)
