"""StagedStore: writes are acknowledged once the journal has them, seen at once, and brought to the store later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import NotFound, VersionChanged
from headrace.model.events import StagingFault
from headrace.model.objects import ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.staging.backlog import Staged
from headrace.staging.committer import Committer
from headrace.staging.conflict_desk import ConflictDesk
from headrace.staging.conflicts import Conflicts
from headrace.staging.delivery import Delivery
from headrace.staging.intake import Intake
from headrace.staging.journal import Journal
from headrace.staging.overlay import list_over, staged_info
from headrace.staging.records import Put
from headrace.staging.settings import StagingSettings
from headrace.staging.shown import DRAIN_S, Shown
from headrace.staging.spool import JournalFull, StagedReading
from headrace.staging.uploader import Uploader
from headrace.staging.uploads import StagedUploads
from headrace.stores.buckets import Buckets
from headrace.stores.keys import check_key, cut_range
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store

_log = logging.getLogger("headrace.staging")
_ATTEMPTS = 3


class Standing(msgspec.Struct, frozen=True):
    """What waits to be brought to a store."""

    writes: int = 0
    bytes: int = 0
    oldest_s: float | None = None
    """When the oldest waiting write was acknowledged, in seconds since 1970 UTC."""
    error: str = ""
    """Why the store did not take the last write that was tried; empty when it did."""


class StagedStore(Store):
    """`inner` with writes that a journal acknowledges.

    What must be decided by the store itself goes straight to it, behind what is staged for its key: conditional writes,
    multipart uploads, tags. So does everything while the journal is full, too old or broken.
    `last_seen` tells the entity tag that readers were last shown for a key, as records say what a write replaces.
    """

    def __init__(
        self,
        inner: Store,
        asked: Store,
        journal: Journal,
        settings: StagingSettings,
        *,
        mount: str,
        clock: Clock,
        emit: Emit,
        last_seen: Callable[[str], str],
    ) -> None:
        self._inner = inner
        self._journal = journal
        self._backlog = journal.backlog
        self._mount = mount
        self._clock = clock
        self._emit = emit
        self._committer = Committer(journal)
        self._intake = Intake(journal, self._committer, settings, mount=mount, clock=clock, emit=emit, last_seen=last_seen)
        conflicts = Conflicts(journal.root, journal.disk)
        self._desk = ConflictDesk(conflicts, self._committer, inner)
        delivery = Delivery(inner, asked, journal, self._committer, conflicts, mount=mount, clock=clock, emit=emit)
        self._uploader = Uploader(delivery, journal, self._committer, mount=mount, clock=clock, emit=emit)
        self._shown = Shown(journal, clock, lambda: self._uploader.error)

    def start(self) -> None:
        """Begin to bring to the store what is staged. Needs a running event loop."""
        for found in self._journal.found:
            what = (
                "a write that was never acknowledged"
                if found.is_tail
                else f"a damaged record ({found.damage.key or 'unknown key'})"
            )
            self._emit(StagingFault(self._mount, "replay", f"log {found.log}, byte {found.damage.offset}: {what} was set aside"))
        self._uploader.start()

    @property
    def inner(self) -> Store:
        return self._inner

    def standing(self, key: str = "") -> Standing:
        """What waits at or below `key` (empty: everything), as this process knows it."""
        self._journal.sync()
        if not key:
            return Standing(len(self._backlog), self._backlog.bytes, self._backlog.oldest_s(), self._uploader.error)
        found = [staged.entry for staged in self._backlog.below(key)]
        size = sum(entry.size for entry in found if isinstance(entry, Put))
        oldest_s = min((entry.staged_s for entry in found), default=None)
        return Standing(len(found), size, oldest_s, self._uploader.error if found else "")

    @property
    def conflicts(self) -> ConflictDesk:
        """Writes that met another's at the store."""
        return self._desk

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        self._journal.sync()
        return None if key in self._backlog else self._inner.peek(key, byte_range, files=files)

    async def info(self, key: str) -> ObjectInfo:
        staged = self._shown.of(key)
        return await self._inner.info(key) if staged is None else _info(staged)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        for _ in range(_ATTEMPTS):
            staged = self._shown.of(key)
            if staged is None:
                break
            info = _info(staged)
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
            cut = cut_range(byte_range, info.size, key)
            try:
                opened = await asyncio.to_thread(self._journal.open_body, staged)
            except FileNotFoundError:
                continue  # it has reached the store since
            return StagedReading(info, cut, staged, self._journal, opened)
        return await self._inner.read(key, byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self._journal.sync()
        if not len(self._backlog):
            return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)
        return await list_over(self._inner, self._backlog, prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> Pairs:
        staged = self._shown.of(key)
        if staged is None:
            return await self._inner.tags(key)
        _info(staged)
        return staged.entry.attributes.tags if isinstance(staged.entry, Put) else ()

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        staged = self._shown.of(info.key)
        if staged is None:
            return await self._inner.part(info, number)
        now = staged_info(staged)
        if now is None or now.version != info.version:
            raise VersionChanged(f"{info.key!r} is no longer {info.version.token}", path=info.key)
        return await super().part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        check_key(key)
        if condition or not self._intake.has_room(body.length or 0):
            await self.drained(key)
            return await self._inner.write(key, body, attributes, condition=condition)
        try:
            info = await self._intake.put(key, body, attributes)
        except JournalFull as full:
            return await self._inner.write(key, full.rest, attributes)
        self._uploader.wake()
        return info

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        if self._shown.of(source.key) is not None:
            return await super().copy(source, key, attributes, condition=condition)
        await self.drained(key)
        return await self._inner.copy(source, key, attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        check_key(key)
        if condition or not self._intake.has_room(0):
            await self.drained(key)
            await self._inner.delete(key, condition=condition)
            return
        await self._intake.remove(key)
        self._uploader.wake()

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.drained(key)
        await self._inner.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return StagedUploads(self._inner.multipart(), self, self._shown)

    def buckets(self) -> Buckets:
        return self._inner.buckets()

    async def close(self) -> None:
        await self._uploader.close()
        await self._committer.close()
        self._journal.close()
        await self._inner.close()

    def retry_now(self) -> None:
        """Bring at once what was put off while the store was away."""
        self._uploader.retry_now()

    async def drained(self, prefix: str, *, deadline_s: float = DRAIN_S, below: bool = False) -> None:
        """`Shown.drained`."""
        await self._shown.drained(prefix, deadline_s=deadline_s, below=below)


def _info(staged: Staged) -> ObjectInfo:
    info = staged_info(staged)
    if info is None:
        raise NotFound(f"{staged.entry.key!r} was removed", path=staged.entry.key)
    return info
