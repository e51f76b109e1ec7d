"""Taking writes into a journal: how long there is room, what their records say, and what is durable when they count."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from headrace.model.clock import Clock
from headrace.model.events import StagingFault
from headrace.model.objects import Emit, ObjectInfo, Version
from headrace.model.writing import Attributes, Body, BytesBody
from headrace.staging.committer import Committer
from headrace.staging.journal import Journal, JournalFailed
from headrace.staging.records import UNKNOWN, Delete, Put, encode
from headrace.staging.settings import StagingSettings
from headrace.staging.spool import JournalFull, Spooled, take_in

_log = logging.getLogger("headrace.staging")


class Intake:
    """One process's. `last_seen` tells the entity tag that readers were last shown for a key, as records say what a write
    replaces."""

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        settings: StagingSettings,
        *,
        mount: str,
        clock: Clock,
        emit: Emit,
        last_seen: Callable[[str], str],
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._max_age_s, self._capacity_bytes = settings.max_age_s, settings.capacity_bytes
        self._mount = mount
        self._clock = clock
        self._emit = emit
        self._last_seen = last_seen
        self._broken = False

    def has_room(self, size: int) -> bool:
        """Whether a write of so many bytes may be taken: the journal is neither full, nor too old, nor failing."""
        self._journal.sync()
        backlog = self._journal.backlog
        oldest_s = backlog.oldest_s()
        if oldest_s is not None and self._clock.time() - oldest_s > self._max_age_s:
            return False
        return not self._broken and backlog.bytes + size <= self._capacity_bytes

    async def put(self, key: str, body: Body, attributes: Attributes) -> ObjectInfo:
        """Return once the write is durable.

        Raises what the body raises, `JournalFull` with all of it where the disk has no more room, `JournalFailed`.
        """
        replaces = self._replaces(key)
        try:
            spooled = await take_in(body, key, self._journal)
        except JournalFull as full:
            self._fault("write", str(full))
            raise
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
            await self._append(encode(entry, spooled.inline))
        except JournalFailed as error:
            if not _was_full(error) or spooled.file:
                raise
            raise JournalFull(str(error), BytesBody(spooled.inline, spooled.checksums)) from error
        return _info_of(entry, spooled)

    async def remove(self, key: str) -> None:
        """Return once the removal is durable. Raises `JournalFailed`."""
        await self._append(encode(Delete(key, self._clock.time(), self._replaces(key))))

    def _replaces(self, key: str) -> str:
        self._journal.sync()
        return UNKNOWN if self._journal.backlog.visible(key) is not None else self._last_seen(key)

    async def _append(self, record: bytes) -> None:
        try:
            await self._committer.append(record)
        except JournalFailed as error:
            if not _was_full(error):
                # After a failed fsync nobody knows what is on the disk: this process trusts it no more.
                self._broken = True
            self._fault("append", str(error))
            raise

    def _fault(self, operation: str, message: str) -> None:
        _log.error("journal of %s: %s", self._mount, message)
        self._emit(StagingFault(self._mount, operation, message))


def _info_of(entry: Put, spooled: Spooled) -> ObjectInfo:
    return ObjectInfo(
        entry.key, entry.size, Version(f"etag:{entry.etag}"), float(int(entry.staged_s)), entry.etag,
        content_type=entry.attributes.content_type, headers=entry.attributes.headers, metadata=entry.attributes.metadata,
        checksums=spooled.checksums, tag_count=len(entry.attributes.tags),
    )  # fmt: skip


def _was_full(error: JournalFailed) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
