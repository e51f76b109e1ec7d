"""The uploader: brings staged writes to their store, in order for each key, for as long as it takes.

One process of a node does it for a mount, elected by a file lock.
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
from headrace.model.errors import AccessDenied, HeadraceError, Unavailable
from headrace.model.events import BackgroundError
from headrace.model.objects import Emit
from headrace.staging.backlog import Staged
from headrace.staging.committer import Committer
from headrace.staging.delivery import Delivery
from headrace.staging.journal import Journal
from headrace.staging.records import Done, Put, encode

_log = logging.getLogger("headrace.staging")
_PARALLEL = 8
_POLL_S = 0.2
_ELECT_S = 1.0
_FIRST_WAIT_S = 0.5
_MAX_WAIT_S = 30.0
_STRAY_S = 3600.0


class _Wait(msgspec.Struct, frozen=True):
    """When what was not taken is tried again."""

    until_s: float
    tries: int


class Uploader:
    """Decides when which write is brought, by `delivery`, and by which process of the node."""

    def __init__(
        self, delivery: Delivery, journal: Journal, committer: Committer, *, mount: str, clock: Clock, emit: Emit
    ) -> None:
        self._delivery = delivery
        self._journal = journal
        self._committer = committer
        self._mount = mount
        self._clock = clock
        self._emit = emit
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
            left = await self._delivery.bring(staged)
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
            self._journal.bodies.remove(entry.body_file)
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


def _later(now_s: float, tries: int) -> _Wait:
    wait_s = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2 ** min(tries - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
    return _Wait(now_s + wait_s, tries)
