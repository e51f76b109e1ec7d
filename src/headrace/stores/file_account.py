"""FileAccountStore: a directory whose own directories are buckets."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import ExitStack, suppress
from functools import partial

from headrace.model.errors import AccessDenied, BucketExists, BucketNotEmpty, InvalidKey, NotFound
from headrace.model.uploads import Bucket
from headrace.stores.account import AccountStore
from headrace.stores.beneath import stat_beneath
from headrace.stores.buckets import Buckets
from headrace.stores.file import FileStore
from headrace.stores.file_own import (
    OBJECTS,
    OWN,
    REMOVED,
    STRIPES,
    locked_stripe,
    open_folder,
    opened_folder,
    read_whole,
    remove_tree,
    write_whole,
)
from headrace.stores.file_root import BucketRoot, FileRoot, opened_root
from headrace.stores.file_sweep import UPLOAD_AGE_S, Sweeper
from headrace.stores.file_upload_folders import uploads_under_way
from headrace.stores.urls import can_be_created, is_bucket_name

_CREATED = "created"
_ACL = "acl"


class FileAccountStore(AccountStore):
    """An account below `root`. Each bucket keeps its own `.headrace`."""

    def __init__(self, root: str) -> None:
        self._root = FileRoot(root)
        super().__init__(FileBuckets(self._root), lambda name: FileStore(BucketRoot(self._root, name)))

    async def close(self) -> None:
        self._root.close()


class FileBuckets(Buckets):
    """The directories below the root of an account, as far as a bucket may be called so."""

    def __init__(self, root: FileRoot) -> None:
        self._root = root
        self._sweeper = Sweeper(root, UPLOAD_AGE_S)

    async def list(self) -> tuple[Bucket, ...]:
        self._sweeper.sweep_if_due()
        return await self._root.run(self._list, "")

    def _list(self) -> tuple[Bucket, ...]:
        with opened_root(self._root) as root_fd, opened_folder(root_fd, "") as folder:
            names = [name for name in os.listdir(folder) if is_bucket_name(name)]  # noqa: PTH208  of a descriptor
            found = [_bucket(root_fd, name) for name in sorted(names)]
        return tuple([bucket for bucket in found if bucket is not None])

    async def create(self, name: str) -> Bucket:
        if not can_be_created(name):
            raise InvalidKey(
                f"bucket {name!r}: a name has 3 to 63 lower-case letters, digits, dots and hyphens, and is no IP address",
                path=name,
            )
        return await self._root.change(partial(self._create, name), name)

    def _create(self, name: str) -> Bucket:
        with opened_root(self._root) as root_fd, opened_folder(root_fd, "") as folder:
            try:
                os.mkdir(name, dir_fd=folder)
            except FileExistsError as error:
                raise BucketExists(f"bucket {name!r} is in {self._root.path} already", path=name) from error
            with opened_folder(root_fd, f"{name}/{OWN}") as own:
                write_whole(own, _CREATED, b"")
            os.fsync(folder)
            return _bucket(root_fd, name) or Bucket(name)

    async def find(self, name: str) -> Bucket:
        bucket = await self._root.run(partial(self._find, name), name) if is_bucket_name(name) else None
        if bucket is None:
            raise NotFound(f"there is no bucket {name!r} in {self._root.path}", path=name)
        return bucket

    def _find(self, name: str) -> Bucket | None:
        with opened_root(self._root) as root_fd:
            return _bucket(root_fd, name)

    async def set_acl(self, name: str, acl: str) -> None:
        await self.find(name)
        await self._root.change(partial(self._set_acl, name, acl), name)

    def _set_acl(self, name: str, acl: str) -> None:
        with opened_root(BucketRoot(self._root, name)) as bucket_fd, opened_folder(bucket_fd, OWN) as own:
            write_whole(own, _ACL, acl.encode())

    async def delete(self, name: str) -> None:
        self._sweeper.sweep_if_due()
        if not is_bucket_name(name):
            raise NotFound(f"there is no bucket {name!r} in {self._root.path}", path=name)
        await self._root.change(partial(self._delete, name), name)

    def _delete(self, name: str) -> None:
        bucket = BucketRoot(self._root, name)
        away = f"{name}.{secrets.token_hex(16)}"
        with opened_root(self._root) as account_fd:
            with opened_root(bucket) as bucket_fd, ExitStack() as locks:
                if stat.S_ISLNK(os.stat(name, dir_fd=account_fd, follow_symlinks=False).st_mode):
                    raise AccessDenied(f"bucket {name!r} in {self._root.path} is a link: remove it there", path=name)
                # With all of its locks held nobody writes, and who waits for one finds the bucket gone.
                for stripe in range(STRIPES):
                    locks.enter_context(locked_stripe(bucket_fd, stripe))
                bucket.check_still(bucket_fd)
                if _holds_anything(bucket_fd):
                    raise BucketNotEmpty(f"bucket {name!r} holds objects, unfinished uploads or other files", path=name)
                with opened_folder(account_fd, "") as folder, opened_folder(account_fd, REMOVED) as removed:
                    os.rename(name, away, src_dir_fd=folder, dst_dir_fd=removed)
                    os.fsync(folder)
            remove_tree(account_fd, f"{REMOVED}/{away}")


def _bucket(root_fd: int, name: str) -> Bucket | None:
    try:
        found = stat_beneath(root_fd, name)
        if not stat.S_ISDIR(found.st_mode):
            return None
        with suppress(OSError):  # another program made the directory
            found = stat_beneath(root_fd, f"{name}/{OWN}/{_CREATED}")
    except OSError:  # it went away, or is a link that leads nowhere or outside
        return None
    try:
        acl = read_whole(root_fd, f"{name}/{OWN}/{_ACL}").decode()
    except (FileNotFoundError, NotADirectoryError):
        acl = ""
    return Bucket(name, found.st_mtime, acl)


def _holds_anything(bucket_fd: int) -> bool:
    if any(True for _ in uploads_under_way(bucket_fd)):
        return True
    try:
        odd = open_folder(bucket_fd, OBJECTS)
    except FileNotFoundError:
        pass
    else:
        try:
            if _holds_files(odd, ""):
                return True
        finally:
            os.close(odd)
    with opened_folder(bucket_fd, "") as folder:
        return _holds_files(folder, OWN)


def _holds_files(folder: int, but: str) -> bool:
    """Whether anything but directories lies below, whatever it is: a bucket is removed only with nothing to lose."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == but:
                continue
            if not entry.is_dir(follow_symlinks=False):
                return True
            below = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                if _holds_files(below, ""):
                    return True
            finally:
                os.close(below)
    return False
