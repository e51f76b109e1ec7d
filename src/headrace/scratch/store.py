"""ScratchStore: a store whose objects are seen, and what is written over them on this node alone."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial

import msgspec

from headrace.model.disk import SystemDisk
from headrace.model.errors import SettingsError, Unsupported, VersionChanged
from headrace.model.events import BackgroundError, ScratchLost
from headrace.model.objects import SCRATCH, ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import MIN_PART_BYTES, Bucket
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.scratch.overlay import Overlay
from headrace.scratch.reading import ScratchReading
from headrace.scratch.room import COUNT_FILE, ChargedBody, Room
from headrace.scratch.root import ScratchRoot
from headrace.scratch.sweep import Sweeper
from headrace.scratch.uploads import ScratchUploads
from headrace.scratch.view import View
from headrace.stores.buckets import Buckets
from headrace.stores.file import FileStore
from headrace.stores.file_own import check_own
from headrace.stores.keys import check_text
from headrace.stores.passing import PassingBuckets
from headrace.stores.store import Store

_log = logging.getLogger("headrace.scratch")


class ScratchFolder:
    """`<path>`: the objects of one mount's scratch, how much room they take, and who sweeps them. Raises `SettingsError`."""

    def __init__(self, path: str, capacity_bytes: int, place: str) -> None:
        """`place` says in words whose it is."""
        self.path = path
        self._disk = SystemDisk()
        self._lock_fd = -1
        try:
            self._disk.mkdir(f"{path}/objects")
            with open(f"{path}/place", "w", encoding="utf-8") as file:
                file.write(place)
            self.room = Room(f"{path}/{COUNT_FILE}", capacity_bytes)
        except OSError as error:
            raise SettingsError(
                f'scratch cannot be kept in {path} ({error.strerror}): make it writable, or take write = "scratch" off the mount',
                path=path,
            ) from error
        self.root = ScratchRoot(f"{path}/objects", self.room)

    def elected(self) -> bool:
        """Whether this process is the one that sweeps, from now on until it ends. Raises `OSError`."""
        if self._lock_fd < 0:
            descriptor = self._disk.open(f"{self.path}/sweeper.lock", os.O_RDWR | os.O_CREAT)
            if not self._disk.lock(descriptor):
                self._disk.close(descriptor)
                return False
            self._lock_fd = descriptor
        return True

    def close(self) -> None:
        """Nothing may be asked any more."""
        self.root.close()
        self.room.close()
        descriptor, self._lock_fd = self._lock_fd, -1
        if descriptor >= 0:
            self._disk.close(descriptor)


class ScratchStore(Store):
    """`inner` is only read. What is written or removed lies in `folder`, hides what `inner` has, and may be lost.

    An object whose bytes are gone is `Lost` to its readers, listed as such, and goes away when it is removed or written again.
    """

    def __init__(
        self,
        inner: Store,
        folder: ScratchFolder,
        *,
        mount: str,
        emit: Emit,
        ttl_s: float | None = None,
        min_part_bytes: int = MIN_PART_BYTES,
    ) -> None:
        self._inner = inner
        self._folder = folder
        self._root = folder.root
        self._room = folder.room
        self._mount = mount
        self._emit = emit
        self._files = FileStore(folder.root, min_part_bytes=min_part_bytes)
        self._overlay = Overlay(folder.root, inner)
        self._view = View(folder.root, inner)
        self._uploads = ScratchUploads(self._files.multipart(), self._view, folder.room, self, inner)
        self._sweeper = Sweeper(folder.root, self._files, folder.elected, ttl_s=ttl_s)
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep. Needs a running event loop."""
        loop = asyncio.get_running_loop()
        self._root.on_lost = lambda key: loop.call_soon_threadsafe(self._lost, key)
        self._sweeping = loop.create_task(self._sweeper.run(self._failed))

    @property
    def inner(self) -> Store:
        return self._inner

    @property
    def room(self) -> Room:
        return self._room

    async def info(self, key: str) -> ObjectInfo:
        held = await self._view.look(key)
        return await self._inner.info(key) if held is None else held.info

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        reading = await self._root.run(partial(self._open, key, byte_range, version), key)
        return await self._inner.read(key, byte_range, version=version) if reading is None else reading

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        return await self._overlay.page(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> Pairs:
        return await (self._inner if await self._view.look(key) is None else self._files).tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await (self._inner if await self._view.look(info.key) is None else self._files).part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        check_own(key)
        wanted = await self._view.own_condition(key, condition)
        charged = ChargedBody(body, self._room, key)
        try:
            info = await self._files.write(key, charged, attributes, condition=wanted)
        except BaseException:  # whatever it is: nothing was kept
            charged.give_back()
            raise
        return _here(info)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        if await self._view.look(source.key) is None:
            return await super().copy(source, key, attributes, condition=condition)
        check_own(key)
        wanted = await self._view.own_condition(key, condition)
        self._room.take(source.size, key)
        try:
            info = await self._files.copy(source, key, attributes, condition=wanted)
        except BaseException:  # whatever it is: nothing was kept
            self._room.add(-source.size)
            raise
        return _here(info)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        check_own(key)
        wanted = await self._view.own_condition(key, condition)
        hides = await self._view.may_have(key)
        await self._root.change(partial(self._root.remove, key, wanted, hides=hides), key)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        if await self._view.look(key) is not None:
            await self._files.set_tags(key, tags)
            return
        await self._inner.info(key)
        raise Unsupported(
            f"{key!r} is the store's, which scratch does not change: copy it onto itself, then tag the copy", path=key
        )

    def multipart(self) -> ScratchUploads:
        return self._uploads

    def buckets(self) -> Buckets:
        return _FixedBuckets(self._inner.buckets())

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        self._folder.close()
        await self._inner.close()

    def _open(self, key: str, byte_range: ByteRange | None, version: Version | None) -> Reading | None:
        opened = self._view.opened(key)
        if opened is None:
            return None
        try:
            now = opened.held.info.version
            if version is not None and now != version:
                raise VersionChanged(f"{key!r} is now {now.token}, not {version.token}", path=key)
            return ScratchReading(self._root, opened, byte_range)
        except BaseException:  # whatever it is: tidied up here, raised on
            opened.file.close()
            raise

    def _lost(self, key: str) -> None:
        _log.warning("%s: scratch lost the bytes of %r", self._mount, key)
        self._emit(ScratchLost(self._mount, key))

    def _failed(self, error: Exception) -> None:
        self._emit(BackgroundError(f"scratch of {self._mount}", f"{type(error).__name__}: {error}"))


class _FixedBuckets(PassingBuckets):
    """The account's buckets; scratch makes and removes none."""

    async def create(self, name: str) -> Bucket:
        raise Unsupported(f'{name!r}: write = "scratch" makes no buckets, which are the store\'s', path=name)

    async def delete(self, name: str) -> None:
        raise Unsupported(f'{name!r}: write = "scratch" removes no buckets, which are the store\'s', path=name)


def _here(info: ObjectInfo) -> ObjectInfo:
    return msgspec.structs.replace(info, storage_class=SCRATCH)
