"""What readers see of a journal, and waiting until there is nothing of it left to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.model.clock import Clock
from headrace.model.errors import DeadlineExceeded
from headrace.staging.backlog import Staged
from headrace.staging.journal import Journal

DRAIN_S = 60.0
_POLL_MIN_S = 0.001
_POLL_MAX_S = 0.1


class Shown:
    """`why` says why the store did not take the last write that was tried; empty when it did."""

    def __init__(self, journal: Journal, clock: Clock, why: Callable[[], str]) -> None:
        self._journal = journal
        self._clock = clock
        self._why = why

    def of(self, key: str) -> Staged | None:
        """The staged write or removal of `key` that readers see."""
        self._journal.sync()
        return self._journal.backlog.visible(key)

    async def drained(self, prefix: str, *, deadline_s: float = DRAIN_S, below: bool = False) -> None:
        """Return once the store has what is staged for the key (or, with `below`, for all that begin so).

        Raises `DeadlineExceeded`.
        """
        until_s, wait_s = self._clock.monotonic() + deadline_s, _POLL_MIN_S
        while self._waits(prefix, below=below):
            if self._clock.monotonic() >= until_s:
                reason = f": {self._why()}" if self._why() else ""
                raise DeadlineExceeded(f"{prefix!r}: an earlier write has not reached the store yet{reason}", path=prefix)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _POLL_MAX_S)

    def _waits(self, prefix: str, *, below: bool) -> bool:
        self._journal.sync()
        backlog = self._journal.backlog
        return next(backlog.keys(prefix, ""), None) is not None if below else prefix in backlog
