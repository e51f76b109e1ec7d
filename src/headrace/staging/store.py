"""StagedStore: writes are acknowledged once the journal has them, seen at once, and brought to the store later."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import DeadlineExceeded, NotFound, VersionChanged
from headrace.model.events import StagingFault
from headrace.model.objects import ByteRange, Emit, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition, Pairs
from headrace.staging.backlog import Staged
from headrace.staging.committer import Committer
from headrace.staging.conflicts import Conflict, Conflicts
from headrace.staging.journal import Journal, JournalFailed
from headrace.staging.overlay import list_over, staged_info
from headrace.staging.records import UNKNOWN, Delete, Put, encode
from headrace.staging.settings import StagingSettings
from headrace.staging.spool import JournalFull, Spooled, StagedReading, take_in
from headrace.staging.uploader import Uploader
from headrace.staging.uploads import StagedUploads
from headrace.stores.buckets import Buckets
from headrace.stores.keys import check_key, cut_range
from headrace.stores.multipart import Multipart
from headrace.stores.store import Store

_log = logging.getLogger("headrace.staging")
_DRAIN_S = 60.0
_POLL_MIN_S = 0.001
_POLL_MAX_S = 0.1
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
        self._settings = settings
        self._mount = mount
        self._clock = clock
        self._emit = emit
        self._last_seen = last_seen
        self._committer = Committer(journal)
        self._broken = False
        self._conflicts = Conflicts(journal.root, journal.disk)
        self._uploader = Uploader(inner, asked, journal, self._committer, self._conflicts, mount=mount, clock=clock, emit=emit)

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

    def conflicts(self) -> list[Conflict]:
        """Writes that met another's at the store and are not settled. Blocks for a small file."""
        return self._conflicts.open()

    async def settle(self, key: str, kept_as: str, *, ours: bool) -> None:
        """End a conflict: what was kept takes the place of the store's object, or is removed. Raises `NotFound`."""
        known = next((c for c in self.conflicts() if (c.key, c.kept_as) == (key, kept_as)), None)
        if known is None:
            raise NotFound(f"{key!r} is in no such conflict: see `headrace conflicts`", path=key)
        if ours and kept_as:
            await self._inner.copy(await self._inner.info(kept_as), key)
        elif ours:
            await self._inner.delete(key)
        if kept_as:
            await self._inner.delete(kept_as)
        settled = msgspec.structs.replace(known, settled=True)
        await self._committer.in_thread(partial(self._conflicts.add, settled))

    def peek(self, key: str, byte_range: ByteRange | None) -> Reading | None:
        self._journal.sync()
        return None if key in self._backlog else self._inner.peek(key, byte_range)

    async def info(self, key: str) -> ObjectInfo:
        staged = self._staged(key)
        return await self._inner.info(key) if staged is None else _shown(staged)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        for _ in range(_ATTEMPTS):
            staged = self._staged(key)
            if staged is None:
                break
            info = _shown(staged)
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
        staged = self._staged(key)
        if staged is None:
            return await self._inner.tags(key)
        _shown(staged)
        return staged.entry.attributes.tags if isinstance(staged.entry, Put) else ()

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        staged = self._staged(info.key)
        if staged is None:
            return await self._inner.part(info, number)
        now = staged_info(staged)
        if now is None or now.version != info.version:
            raise VersionChanged(f"{info.key!r} is no longer {info.version.token}", path=info.key)
        return await super().part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        check_key(key)
        if condition or not self._has_room(body.length or 0):
            await self.drained(key)
            return await self._inner.write(key, body, attributes, condition=condition)
        replaces = self._replaces(key)
        try:
            spooled = await take_in(body, key, self._journal)
        except JournalFull as full:
            self._fault("write", str(full))
            return await self._inner.write(key, full.rest, attributes)
        entry = Put(
            key=key,
            size=spooled.size,
            etag=spooled.md5,
            staged_s=self._clock.time(),
            attributes=attributes,
            checksums=spooled.checksums,
            replaces=replaces,
            body_file=spooled.file,
            body_sum=spooled.sum,
        )
        try:
            await self._stage(encode(entry, spooled.inline))
        except JournalFailed as error:
            if not _was_full(error) or spooled.file:
                raise
            return await self._inner.write(key, BytesBody(spooled.inline, spooled.checksums), attributes)
        return _info_of(entry, spooled)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        if self._staged(source.key) is not None:
            return await super().copy(source, key, attributes, condition=condition)
        await self.drained(key)
        return await self._inner.copy(source, key, attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        check_key(key)
        if condition or not self._has_room(0):
            await self.drained(key)
            await self._inner.delete(key, condition=condition)
            return
        await self._stage(encode(Delete(key, self._clock.time(), self._replaces(key))))

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.drained(key)
        await self._inner.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return StagedUploads(self._inner.multipart(), self)

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

    async def drained(self, prefix: str, *, deadline_s: float = _DRAIN_S, below: bool = False) -> None:
        """Return once the store has what is staged for the key (or, with `below`, for all that begin so).

        Raises `DeadlineExceeded`.
        """
        until_s, wait_s = self._clock.monotonic() + deadline_s, _POLL_MIN_S
        while self._waits(prefix, below=below):
            if self._clock.monotonic() >= until_s:
                reason = f": {self._uploader.error}" if self._uploader.error else ""
                raise DeadlineExceeded(f"{prefix!r}: an earlier write has not reached the store yet{reason}", path=prefix)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _POLL_MAX_S)

    def _waits(self, prefix: str, *, below: bool) -> bool:
        self._journal.sync()
        return next(self._backlog.keys(prefix, ""), None) is not None if below else prefix in self._backlog

    def is_staged(self, key: str) -> bool:
        """Whether a write or removal of `key` waits."""
        return self._staged(key) is not None

    def _staged(self, key: str) -> Staged | None:
        self._journal.sync()
        return self._backlog.visible(key)

    def _replaces(self, key: str) -> str:
        return UNKNOWN if self._staged(key) is not None else self._last_seen(key)

    def _has_room(self, size: int) -> bool:
        self._journal.sync()
        oldest_s = self._backlog.oldest_s()
        if oldest_s is not None and self._clock.time() - oldest_s > self._settings.max_age_s:
            return False
        return not self._broken and self._backlog.bytes + size <= self._settings.capacity_bytes

    async def _stage(self, record: bytes) -> None:
        try:
            await self._committer.append(record)
        except JournalFailed as error:
            if not _was_full(error):
                # After a failed fsync nobody knows what is on the disk: this process trusts it no more.
                self._broken = True
            self._fault("append", str(error))
            raise
        self._uploader.wake()

    def _fault(self, operation: str, message: str) -> None:
        _log.error("journal of %s: %s", self._mount, message)
        self._emit(StagingFault(self._mount, operation, message))


def _shown(staged: Staged) -> ObjectInfo:
    info = staged_info(staged)
    if info is None:
        raise NotFound(f"{staged.entry.key!r} was removed", path=staged.entry.key)
    return info


def _info_of(entry: Put, spooled: Spooled) -> ObjectInfo:
    return ObjectInfo(
        entry.key, entry.size, Version(f"etag:{entry.etag}"), float(int(entry.staged_s)), entry.etag,
        content_type=entry.attributes.content_type, headers=entry.attributes.headers, metadata=entry.attributes.metadata,
        checksums=spooled.checksums, tag_count=len(entry.attributes.tags),
    )  # fmt: skip


def _was_full(error: JournalFailed) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
