"""Forgotten uploads of a cloud's bucket are swept now and then, beside whatever else runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headrace.model.errors import HeadraceError

UPLOAD_AGE_S = 7 * 86_400.0
"""An upload that was begun so long ago is dropped, as directory stores do."""

INTERVAL_S = 3_600.0
_LOG = logging.getLogger(__name__)


class Sweeper:
    """Has `sweep` run at most once an hour, when asked to."""

    def __init__(self, sweep: Callable[[], Awaitable[None]], monotonic: Callable[[], float]) -> None:
        self._sweep = sweep
        self._monotonic = monotonic
        self._due_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def sweep_if_due(self) -> None:
        """Begin a sweep that nobody waits for."""
        now_s = self._monotonic()
        if now_s >= self._due_s and (self._task is None or self._task.done()):
            self._due_s = now_s + INTERVAL_S
            self._task = asyncio.create_task(self._sweep_safely())

    async def close(self) -> None:
        """End a sweep under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _sweep_safely(self) -> None:
        try:
            await self._sweep()
        except HeadraceError as error:
            _LOG.warning("unfinished uploads could not be swept, the next try is in an hour: %s", error)
