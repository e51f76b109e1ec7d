"""The verbs that change a directory store.

A write that was acknowledged has its bytes, its attributes and its name on the disk. One that is cut off at any instant leaves a
temporary file at most. Whoever changes a key, in whichever process of this machine, holds the key's lock.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import aclosing, suppress
from functools import partial

from headrace.model.errors import NotFound, Unavailable, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.writing import Attributes, Body, Condition, Pairs
from headrace.stores.file_attributes import attach, attach_beside, binding_of, detach, forget_beside, kept_with, with_tags
from headrace.stores.file_keys import FoundFile, find_file
from headrace.stores.file_new import NewFile
from headrace.stores.file_own import check_own, key_lock, odd_path, unlink_and_prune
from headrace.stores.file_root import FileRoot
from headrace.stores.file_types import content_type_of
from headrace.stores.writes import COMPOSITE, TYPE, check_condition, full_object, whole

_BATCH_BYTES = 1 << 20
_STEP_BYTES = 64 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


class FileWriter:
    """Writes to one root."""

    def __init__(self, root: FileRoot) -> None:
        self._root = root

    async def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        check_own(key)
        filling = Filling(self._root, key)
        try:
            rest = await filling.fill(body)
            return await self._root.change(partial(self._finish, filling, rest, body, attributes, condition), key)
        finally:
            await filling.close()

    def _finish(
        self, filling: Filling, rest: list[memoryview], body: Body, attributes: Attributes, condition: Condition
    ) -> ObjectInfo:
        file = filling.finished(rest)
        kept = kept_with(attributes, file.md5, full_object(body.checksums()))
        return file.publish(filling.key, condition, kept)

    async def copy(self, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition) -> ObjectInfo:
        check_own(key)
        found = await self._root.change(partial(open_version, self._root, source), source.key)
        filling = Filling(self._root, key)
        try:
            known = found.kept if found.kept is not None and found.kept.etag and "-" not in found.kept.etag else None
            await filling.copy(found, ByteRange(0, source.size), source.key, clone=known is not None)
            file = await filling.opened()
            if attributes is None:
                kept_attributes = found.kept.attributes() if found.kept is not None else Attributes()
                attributes = Attributes(
                    kept_attributes.content_type or content_type_of(source.key),
                    kept_attributes.headers,
                    kept_attributes.metadata,
                    kept_attributes.tags,
                )
            checksums = () if found.kept is None or (TYPE, COMPOSITE) in found.kept.checksums else found.kept.checksums
            kept = kept_with(attributes, known.etag if known is not None else file.md5, checksums)
            return await self._root.change(partial(file.publish, key, condition, kept), key)
        finally:
            os.close(found.fd)
            await filling.close()

    async def delete(self, key: str, condition: Condition) -> None:
        check_own(key)
        await self._root.change(partial(self._delete, key, condition), key)

    def _delete(self, key: str, condition: Condition) -> None:
        root_fd = self._root.open()
        try:
            with key_lock(root_fd, key):
                self._root.check_still(root_fd)
                try:
                    found = find_file(root_fd, key, os.O_PATH)
                except FileNotFoundError:
                    check_condition(condition, None, key)
                    return
                os.close(found.fd)
                check_condition(condition, found.info(key), key)
                remove_found(root_fd, key, found)
        finally:
            os.close(root_fd)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        check_own(key)
        await self._root.change(partial(self._set_tags, key, tags), key)

    def _set_tags(self, key: str, tags: Pairs) -> None:
        root_fd = self._root.open()
        try:
            with key_lock(root_fd, key):
                self._root.check_still(root_fd)
                try:
                    found = find_file(root_fd, key, _READ)
                except FileNotFoundError as error:
                    raise NotFound(f"{key!r} is not in {self._root.path}", path=key) from error
                try:
                    kept = with_tags(found.kept, found.stat, tags)
                    if attach(found.fd, kept):
                        os.fsync(found.fd)
                        forget_beside(root_fd, kept.binding)
                    else:
                        attach_beside(root_fd, key, kept)
                        detach(found.fd)
                finally:
                    os.close(found.fd)
        finally:
            os.close(root_fd)


class Filling:
    """A new file that is filled by threads from here, and removed unless it was published.

    A body of less than a batch reaches its file in the one call that publishes it.
    """

    def __init__(self, root: FileRoot, key: str, folder: str = "") -> None:
        self.key = key
        self._root = root
        self._folder = folder
        self._file: NewFile | None = None
        self._lock = threading.Lock()
        self._over = False

    async def opened(self) -> NewFile:
        """The file, made when first asked for."""
        if self._file is not None:
            return self._file
        return await self._root.change(self._made, self.key)

    def _made(self) -> NewFile:
        file = NewFile(self._root, self._folder)
        with self._lock:
            if not self._over:
                self._file = file
                return file
        file.close()
        raise Unavailable(f"{self.key!r}: the write was given up", path=self.key)

    async def fill(self, body: Body) -> list[memoryview]:
        """Write the body's bytes, but for the last batch, which is answered. Raises what the body raises."""
        batch: list[memoryview] = []
        size = 0
        async with aclosing(whole(body, self.key)) as pieces:
            async for piece in pieces:
                batch.append(piece)
                size += len(piece)
                if size >= _BATCH_BYTES:
                    file = await self.opened()
                    await self._root.change(partial(file.append, batch), self.key)
                    batch, size = [], 0
        return batch

    def finished(self, rest: list[memoryview]) -> NewFile:
        """The file with the last batch, in a thread."""
        file = self._file or self._made()
        file.append(rest or [b""])
        return file

    async def copy(self, source: FoundFile, byte_range: ByteRange, key: str, *, clone: bool) -> None:
        """Bytes of an open file. Raises `VersionChanged` when it was changed meanwhile."""
        file = await self.opened()
        append = file.clone_from if clone else file.append_from
        try:
            for start in range(byte_range.start, byte_range.end, _STEP_BYTES):
                end = min(start + _STEP_BYTES, byte_range.end)
                await self._root.change(partial(append, source.fd, start, end), key)
        except EOFError as error:
            raise VersionChanged(f"{key!r} was cut off while it was copied", path=key) from error
        if binding_of(os.fstat(source.fd)) != binding_of(source.stat):
            raise VersionChanged(f"{key!r} was changed while it was copied", path=key)

    async def close(self) -> None:
        """Remove the file unless it was published, also when the caller is being cancelled."""
        with self._lock:
            self._over = True
        if self._file is None:  # a thread that is about to make it will see that nobody wants it any more
            return
        try:
            await asyncio.shield(self._root.run(self._file.close, self.key))
        except Unavailable:  # the store was closed meanwhile
            with suppress(OSError):
                self._file.close()


def remove_found(root_fd: int, key: str, found: FoundFile) -> None:
    """Take an object away, under its key's lock. Its descriptor may be closed already."""
    # What lies behind the key's own path goes first, so that it never comes to light.
    if found.path == key:
        unlink_and_prune(root_fd, odd_path(key))
    unlink_and_prune(root_fd, found.path)
    if found.kept is not None:
        forget_beside(root_fd, binding_of(found.stat))


def open_version(root: FileRoot, source: ObjectInfo) -> FoundFile:
    """The file of exactly the version that `source` describes. Raises `NotFound`, `VersionChanged`."""
    check_own(source.key)
    root_fd = root.open()
    try:
        found = find_file(root_fd, source.key, _READ)
    except FileNotFoundError as error:
        raise NotFound(f"{source.key!r} is not in {root.path}", path=source.key) from error
    finally:
        os.close(root_fd)
    version = found.info(source.key).version
    if version != source.version:
        os.close(found.fd)
        raise VersionChanged(f"{source.key!r} is now {version.token}, not {source.version.token}", path=source.key)
    return found
