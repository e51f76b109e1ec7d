"""How fast the bytes of a sync go by in one process, by the time of day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from headrace.control.sync.schedule import Window, bytes_per_s
from headrace.model.clock import Clock
from headrace.stores.limit import TokenBucket

_BURST_S = 0.25


class Pacer:
    """All that one sync moves through a process takes its bytes here."""

    def __init__(self, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._windows: tuple[Window, ...] = ()
        self._sharers = 1
        self._rate = 0.0
        self._bucket: TokenBucket | None = None

    def set(self, windows: tuple[Window, ...], sharers: int) -> None:
        """From now on: these windows, and one of `sharers` parts of their rates."""
        self._windows = windows
        self._sharers = max(1, sharers)

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may pass."""
        if not self._windows:
            return
        local = time.localtime(self._clock.time())
        bound = bytes_per_s(self._windows, local.tm_hour * 60 + local.tm_min)
        if bound is None:
            self._bucket = None
            return
        now = self._clock.monotonic()
        rate = bound / self._sharers
        if self._bucket is None or rate != self._rate:
            self._rate = rate
            self._bucket = TokenBucket(rate, rate * _BURST_S, now)
        wait_s = self._bucket.take(count, now)
        if wait_s:
            await self._sleep(wait_s)
