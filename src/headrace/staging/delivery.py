"""Bringing one staged write to its store: under the condition that it replaces what it was made to replace.

When the store has moved on, nothing there is overwritten and ours is kept beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging

from headrace.model.clock import Clock
from headrace.model.errors import ConditionFailed, NotFound, Unsupported
from headrace.model.events import StagedConflict
from headrace.model.objects import ByteRange, Emit, ObjectInfo
from headrace.model.reading import Reading
from headrace.model.writing import Condition
from headrace.staging.backlog import Staged
from headrace.staging.committer import Committer
from headrace.staging.conflicts import Conflict, Conflicts, conflict_key
from headrace.staging.journal import Journal
from headrace.staging.overlay import staged_info
from headrace.staging.records import ABSENT, UNKNOWN, Delete, Put
from headrace.staging.spool import StagedBody, StagedReading
from headrace.stores.store import Store
from headrace.stores.writes import has_md5

_log = logging.getLogger("headrace.staging")
_CLOCK_SKEW_S = 2.0
_EMPTY = hashlib.md5(b"", usedforsecurity=False).hexdigest()
"""A directory that a store makes of itself is an empty object there too, under an entity tag of its own making."""


class _Diverged(Exception):
    """The store has another object than the one that a write replaces. `now` is what it has."""

    def __init__(self, now: ObjectInfo | None) -> None:
        super().__init__()
        self.now = now


class Delivery:
    """`inner` takes the writes; `asked` is the store itself, without a cache, and says what is there now."""

    def __init__(
        self,
        inner: Store,
        asked: Store,
        journal: Journal,
        committer: Committer,
        conflicts: Conflicts,
        *,
        mount: str,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._inner = inner
        self._asked = asked
        self._journal = journal
        self._committer = committer
        self._conflicts = conflicts
        self._mount = mount
        self._clock = clock
        self._emit = emit

    async def bring(self, staged: Staged) -> str:
        """Bring one write to the store, or keep it as a conflict; the entity tag that is there now, or `ABSENT`."""
        replaces = self._journal.backlog.replaces(staged)
        entry = staged.entry
        try:
            if isinstance(entry, Delete):
                return await self._remove(entry, replaces)
            return await self._put(staged, entry, replaces)
        except _Diverged as diverged:
            return await self._keep_beside(staged, diverged.now)

    async def _put(self, staged: Staged, entry: Put, replaces: str) -> str:
        if replaces == UNKNOWN:
            replaces = await self._unchanged_since(entry)
        condition = Condition(if_none_match="*") if replaces == ABSENT else Condition(if_match=replaces)
        try:
            if condition:
                return await self._write(staged, entry, condition)
        except (ConditionFailed, NotFound):
            return await self._arrived_before(entry)
        except Unsupported:
            _log.debug("%s: the store cannot write %r on a condition", self._mount, entry.key)
        # Then look, and write: a change between the two is not noticed.
        now = await self._look(entry.key)
        if _etag(now) != replaces and not (now is not None and _same_bytes(now, entry)):
            raise _Diverged(now)
        return await self._write(staged, entry, Condition())

    async def _remove(self, entry: Delete, replaces: str) -> str:
        now = await self._look(entry.key)
        if now is None:
            # Others removed it. Processes that still know it must ask again, which a removal past their caches tells them.
            with contextlib.suppress(ConditionFailed, NotFound, Unsupported):
                await self._inner.delete(entry.key, condition=Condition(if_match=ABSENT))
            return ABSENT
        of_itself = entry.key.endswith("/") and not now.size
        if replaces == ABSENT and of_itself:
            return now.etag  # a directory that the store has made of itself: there was nothing to remove
        expected = replaces in (UNKNOWN, now.etag) or (replaces == _EMPTY and not now.size)
        if not expected or (replaces == UNKNOWN and _is_later(now, entry.staged_s)):
            raise _Diverged(now)
        try:
            await self._inner.delete(entry.key, condition=Condition(if_match=now.etag) if now.etag else Condition())
        except (ConditionFailed, NotFound):
            left = await self._look(entry.key)
            if of_itself and left is not None and left.etag == now.etag:
                return left.etag  # it did not change: the store keeps such a directory while anything lies in it
            raise _Diverged(left) from None
        except Unsupported:
            await self._inner.delete(entry.key)
        return ABSENT

    async def _write(self, staged: Staged, entry: Put, condition: Condition) -> str:
        info = await self._inner.write(
            entry.key, StagedBody(entry, lambda: self._open(staged)), entry.attributes, condition=condition
        )
        return info.etag

    def _open(self, staged: Staged) -> Reading:
        info = staged_info(staged)
        assert info is not None  # noqa: S101  only puts have a body
        return StagedReading(info, ByteRange(0, info.size), staged, self._journal, self._journal.open_body(staged))

    async def _look(self, key: str) -> ObjectInfo | None:
        try:
            return await self._asked.info(key)
        except NotFound:
            return None

    async def _unchanged_since(self, entry: Put) -> str:
        """What is at the store, when nobody was shown it before the write: unless it is younger than the write."""
        now = await self._look(entry.key)
        if now is not None and _is_later(now, entry.staged_s) and not _same_bytes(now, entry):
            raise _Diverged(now)
        return _etag(now)

    async def _arrived_before(self, entry: Put) -> str:
        """The store refused the condition: because an earlier try had succeeded unheard, or because another wrote."""
        now = await self._look(entry.key)
        if now is not None and _same_bytes(now, entry):
            return now.etag
        raise _Diverged(now)

    async def _keep_beside(self, staged: Staged, now: ObjectInfo | None) -> str:
        """Nothing of another's is overwritten: ours goes under a name of its own, for a person to settle."""
        entry = staged.entry
        kept_as = ""
        if isinstance(entry, Put):
            kept_as = conflict_key(entry)
            with contextlib.suppress(ConditionFailed):  # an earlier try had put it there
                await self._kept(staged, entry, kept_as)
        await self._committer.in_thread(lambda: self._conflicts.add(Conflict(entry.key, kept_as, self._clock.time(), _etag(now))))
        self._emit(StagedConflict(self._mount, entry.key, kept_as))
        _log.error("%s: %r changed at its store meanwhile; ours is kept as %r", self._mount, entry.key, kept_as)
        # What was staged behind it was made from ours, which is not there: it differs from the store's as well.
        return entry.etag if isinstance(entry, Put) else ABSENT

    async def _kept(self, staged: Staged, entry: Put, key: str) -> None:
        body = StagedBody(entry, lambda: self._open(staged))
        try:
            await self._inner.write(key, body, entry.attributes, condition=Condition(if_none_match="*"))
        except Unsupported:
            await self._inner.write(key, body, entry.attributes)


def _same_bytes(now: ObjectInfo, entry: Put) -> bool:
    return now.size == entry.size and (not entry.size or has_md5(now, entry.etag))


def _etag(info: ObjectInfo | None) -> str:
    return ABSENT if info is None else info.etag


def _is_later(info: ObjectInfo, staged_s: float) -> bool:
    return info.modified_s > staged_s + _CLOCK_SKEW_S
