"""The uploader: brings staged writes to their store, in order for each key, for as long as it takes.

One process of a node does it for a mount, elected by a file lock. What a write replaces is part of the condition under which
the store takes it: when the store has moved on, nothing there is overwritten and ours is kept beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from functools import partial

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, ConditionFailed, HeadraceError, NotFound, Unavailable, Unsupported
from headrace.model.events import BackgroundError, StagedConflict
from headrace.model.objects import ByteRange, Emit, ObjectInfo
from headrace.model.reading import Reading
from headrace.model.writing import Condition
from headrace.staging.backlog import Staged
from headrace.staging.committer import Committer
from headrace.staging.conflicts import Conflict, Conflicts, conflict_key
from headrace.staging.journal import Journal
from headrace.staging.overlay import staged_info
from headrace.staging.records import ABSENT, UNKNOWN, Delete, Done, Put, encode
from headrace.staging.spool import StagedBody, StagedReading
from headrace.stores.store import Store

_log = logging.getLogger("headrace.staging")
_PARALLEL = 8
_POLL_S = 0.2
_ELECT_S = 1.0
_FIRST_WAIT_S = 0.5
_MAX_WAIT_S = 30.0
_CLOCK_SKEW_S = 2.0
_STRAY_S = 3600.0


class _Diverged(Exception):
    """The store has another object than the one that a write replaces. `now` is what it has."""

    def __init__(self, now: ObjectInfo | None) -> None:
        super().__init__()
        self.now = now


class _Wait(msgspec.Struct, frozen=True):
    """When what was not taken is tried again."""

    until_s: float
    tries: int


class Uploader:
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
        self._mount = mount
        self._clock = clock
        self._emit = emit
        self._conflicts = conflicts
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waits: dict[str, _Wait] = {}
        self._pause = _Wait(0.0, 0)
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._lock_fd = -1
        self.error = ""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """There is something new to bring."""
        self._woken.set()

    def retry_now(self) -> None:
        """Try again at once what was put off: the store answers again."""
        self._waits.clear()
        self._pause = _Wait(0.0, 0)
        self._woken.set()

    async def close(self) -> None:
        """Stop. What is on its way is given up: the journal still has it."""
        tasks = [task for task in (self._loop, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lock_fd >= 0:
            self._journal.disk.close(self._lock_fd)
            self._lock_fd = -1

    async def _run(self) -> None:
        while True:
            try:
                if self._elected():
                    await self._turn()
                else:
                    await asyncio.sleep(_ELECT_S)
            except Exception as error:  # noqa: BLE001  the loop must outlive whatever one turn meets
                self._emit(BackgroundError(f"uploader of {self._mount}", f"{type(error).__name__}: {error}"))
                await asyncio.sleep(_ELECT_S)

    def _elected(self) -> bool:
        if self._lock_fd >= 0:
            return True
        disk = self._journal.disk
        descriptor = disk.open(f"{self._journal.root}/uploader.lock", os.O_RDWR | os.O_CREAT)
        if not disk.lock(descriptor):
            disk.close(descriptor)
            return False
        self._lock_fd = descriptor
        self._journal.sync()
        self._journal.remove_strays(self._clock.time() - _STRAY_S)
        return True

    async def _turn(self) -> None:
        """Start what may start, then wait for something to happen."""
        self._woken.clear()
        self._journal.sync()
        now_s = self._clock.monotonic()
        for staged in self._startable(now_s):
            self._running[staged.entry.key] = asyncio.create_task(self._bring(staged))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._woken.wait()

    def _startable(self, now_s: float) -> list[Staged]:
        found: list[Staged] = []
        # A store that is away, or refuses us, is asked by one write at a time, and seldom.
        free = (1 if self._pause.tries else _PARALLEL) - len(self._running)
        if free <= 0 or now_s < self._pause.until_s:
            return found
        for staged in self._journal.backlog.heads():
            key = staged.entry.key
            wait = self._waits.get(key)
            if key not in self._running and (wait is None or wait.until_s <= now_s):
                found.append(staged)
                if len(found) == free:
                    break
        return found

    async def _bring(self, staged: Staged) -> None:
        key = staged.entry.key
        try:
            left = await self._deliver(staged)
            await self._committer.append(encode(Done(staged.place[0], staged.place[1], key, left)))
            await self._committer.in_thread(partial(self._tidy, staged, self._journal.needed_from()))
        except Exception as error:  # noqa: BLE001  whatever it is: a write that is staged is tried again
            self._put_off(key, error)
        else:
            self._waits.pop(key, None)
            self._pause = _Wait(0.0, 0)
            self.error = ""
        finally:
            self._running.pop(key, None)
            self._woken.set()

    def _tidy(self, staged: Staged, needed: int) -> None:
        entry = staged.entry
        if isinstance(entry, Put) and entry.body_file:
            self._journal.remove_body(entry.body_file)
        if needed > staged.place[0]:
            self._journal.remove_before(needed)

    def _put_off(self, key: str, error: Exception) -> None:
        self.error = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
        now_s = self._clock.monotonic()
        if not isinstance(error, Unavailable | AccessDenied):
            tries = self._waits[key].tries + 1 if key in self._waits else 1
            self._waits[key] = _later(now_s, tries)
            _log.warning("%s: %r did not reach its store (try %d): %s", self._mount, key, tries, self.error)
        elif now_s >= self._pause.until_s:  # of several that were on their way, one counts
            self._pause = _later(now_s, self._pause.tries + 1)
            _log.warning("%s: its store takes no writes (try %d): %s", self._mount, self._pause.tries, self.error)

    async def _deliver(self, staged: Staged) -> str:
        """Bring one write to the store, or keep it as a conflict; the entity tag that is there now, or `ABSENT`."""
        replaces = self._journal.backlog.replaces(staged)
        entry = staged.entry
        try:
            if isinstance(entry, Delete):
                return await self._deliver_delete(entry, replaces)
            return await self._deliver_put(staged, entry, replaces)
        except _Diverged as diverged:
            return await self._keep_beside(staged, diverged.now)

    async def _deliver_put(self, staged: Staged, entry: Put, replaces: str) -> str:
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
        if _etag(now) not in (replaces, entry.etag):
            raise _Diverged(now)
        return await self._write(staged, entry, Condition())

    async def _deliver_delete(self, entry: Delete, replaces: str) -> str:
        now = await self._look(entry.key)
        if now is None:
            # Others removed it. Processes that still know it must ask again, which a removal past their caches tells them.
            with contextlib.suppress(ConditionFailed, NotFound, Unsupported):
                await self._inner.delete(entry.key, condition=Condition(if_match=ABSENT))
            return ABSENT
        if (replaces not in (UNKNOWN, now.etag)) or (replaces == UNKNOWN and _is_later(now, entry.staged_s)):
            raise _Diverged(now)
        try:
            await self._inner.delete(entry.key, condition=Condition(if_match=now.etag) if now.etag else Condition())
        except (ConditionFailed, NotFound):
            raise _Diverged(await self._look(entry.key)) from None
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
        if now is not None and _is_later(now, entry.staged_s) and now.etag != entry.etag:
            raise _Diverged(now)
        return _etag(now)

    async def _arrived_before(self, entry: Put) -> str:
        """The store refused the condition: because an earlier try had succeeded unheard, or because another wrote."""
        now = await self._look(entry.key)
        if now is not None and now.etag == entry.etag and now.size == entry.size:
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


def _later(now_s: float, tries: int) -> _Wait:
    wait_s = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2 ** min(tries - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
    return _Wait(now_s + wait_s, tries)


def _etag(info: ObjectInfo | None) -> str:
    return ABSENT if info is None else info.etag


def _is_later(info: ObjectInfo, staged_s: float) -> bool:
    return info.modified_s > staged_s + _CLOCK_SKEW_S
