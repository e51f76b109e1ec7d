"""The directory that a FileStore stands on: opened anew for every call, by threads, with system errors translated."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

from headrace.model.errors import AccessDenied, HeadraceError, InvalidKey, NoSpace, NotFound, Unavailable
from headrace.model.objects import ObjectInfo
from headrace.stores.beneath import open_beneath

THREADS = 8
ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO))
REFUSED = frozenset((errno.EACCES, errno.EPERM, errno.EXDEV, errno.ELOOP))
NO_SUCH_NAME = frozenset((errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ))
_GONE = frozenset((errno.ENOENT, errno.ESTALE))
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
T = TypeVar("T")


class FileRoot:
    """A directory by its path. Blocking calls run in threads of its own, at most `threads`."""

    def __init__(self, path: str, *, threads: int = THREADS) -> None:
        self.path = path
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="headrace-file")
        self._was_mount_point = False

    async def run(self, call: Callable[[], T], key: str) -> T:
        """Run a blocking call in a thread; what it raises is translated."""
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self.pool, call)
        except RuntimeError as error:
            raise Unavailable(f"the store of {self.path} is closed", path=key) from error
        try:
            return await waiting
        except OSError as error:
            if isinstance(error, HeadraceError):
                raise
            raise self.translated(error, key) from error

    async def change(self, call: Callable[[], T], key: str) -> T:
        """`run` for a call that changes something: that a folder of the store's own is gone says nothing of the key."""
        return await self.run(partial(self._changing, call, key), key)

    def _changing(self, call: Callable[[], T], key: str) -> T:
        try:
            return call()
        except OSError as error:
            if isinstance(error, HeadraceError) or error.errno not in _GONE:
                raise
            os.close(self.open())
            raise Unavailable(f"{key!r}: folders of {self.path} were removed meanwhile: try again", path=key) from error

    def open(self) -> int:
        """The root as it is mounted now: it is not kept open, since something may be mounted over it later."""
        try:
            descriptor = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in REFUSED:
                raise
            raise Unavailable(f"directory {self.path} cannot be opened ({reason(error)}): is it mounted?") from error
        try:
            mount_point = os.fstat(descriptor).st_dev != os.stat("..", dir_fd=descriptor).st_dev
        except OSError:
            os.close(descriptor)
            raise
        if self._was_mount_point and not mount_point:
            os.close(descriptor)
            raise Unavailable(f"nothing is mounted at {self.path} any more: mount it again")
        self._was_mount_point = mount_point
        return descriptor

    def check_still(self, descriptor: int) -> None:
        """Raises unless the root's path still leads to the directory that was opened.

        Who asks this while holding a lock within the directory, and before changing anything, changes no directory that was
        moved away meanwhile by somebody who held all of its locks.
        """
        again = self.open()
        try:
            if not os.path.samestat(os.fstat(again), os.fstat(descriptor)):
                raise Unavailable(f"directory {self.path} is being replaced: try again")
        finally:
            os.close(again)

    def seal(self, fd: int, size: int) -> bytes:  # noqa: ARG002  a plain directory keeps nothing of the kind
        """What is to be remembered of a file's bytes before it takes its key's place; asked outside of all locks."""
        return b""

    def replacing(self, root_fd: int, info: ObjectInfo, seal: bytes) -> AbstractContextManager[None]:  # noqa: ARG002
        """Around the rename that puts the object `info` in its place, under its key's lock."""
        return nullcontext()

    def close(self) -> None:
        self.pool.shutdown(wait=False)

    def translated(self, error: OSError, key: str) -> HeadraceError:
        """What a failed system call means for an object."""
        why = reason(error)
        if error.errno in ABSENT:
            return NotFound(f"{key!r} is not in {self.path}", path=key)
        if error.errno in NO_SUCH_NAME:
            return InvalidKey(f"{key!r} cannot be a file's name in {self.path} ({why})", path=key)
        if error.errno in _FULL:
            return NoSpace(f"{key!r}: {self.path} has no room left ({why}): free some, or raise its quota", path=key)
        if error.errno == errno.EROFS:
            return AccessDenied(f"{key!r}: {self.path} is mounted read-only: mount it read-write, or set write = none", path=key)
        if error.errno == errno.EXDEV:
            return AccessDenied(f"{key!r} is a link that leads out of {self.path}", path=key)
        if error.errno in REFUSED:
            where = error.filename or key
            return AccessDenied(
                f"{where!r} in {self.path} is refused to this process ({why}): check its owner and permissions", path=key
            )
        return Unavailable(f"{key!r} in {self.path} cannot be reached now ({why})", path=key)


class BucketRoot(FileRoot):
    """A directory that is a bucket of an account: that it is not there is an answer of the account."""

    def __init__(self, account: FileRoot, name: str) -> None:
        self.path = f"{account.path.rstrip('/')}/{name}"
        self.pool = account.pool
        self._account = account
        self._name = name

    def open(self) -> int:
        above = self._account.open()
        try:
            return open_beneath(above, self._name, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in ABSENT and os.fstat(above).st_nlink:
                raise NotFound(f"there is no bucket {self._name!r} in {self._account.path}", path=self._name) from error
            raise
        finally:
            os.close(above)

    def check_still(self, descriptor: int) -> None:
        again = self.open()
        try:
            if not os.path.samestat(os.fstat(again), os.fstat(descriptor)):
                raise NotFound(f"bucket {self._name!r} was removed from {self._account.path}", path=self._name)
        finally:
            os.close(again)

    def close(self) -> None:
        """The threads are the account's."""


@contextmanager
def opened_root(root: FileRoot) -> Iterator[int]:
    """The root's descriptor, closed at the end."""
    descriptor = root.open()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """Why the system refused, in its words."""
    return error.strerror or type(error).__name__
