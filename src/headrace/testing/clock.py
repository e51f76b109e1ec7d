"""A clock that stands still until it is told to move."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """A `Clock` for tests: both of its clocks move only by `advance`, and sleepers wake in order."""

    def __init__(self, *, monotonic: float = 1000.0, time: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._time = time
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._time

    def jump(self, seconds: float) -> None:
        """Move only the wall clock, as NTP or an operator does; leases and sleepers must not notice."""
        self._time += seconds

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep on this clock."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        """Move both clocks; sleepers that are due are woken, earliest first (they run when the caller next awaits)."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back; use jump for the wall clock")
        self._monotonic += seconds
        self._time += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def run(self, seconds: float, *, step: float = 0.05) -> None:
        """Advance in steps and let every task that becomes runnable run in between."""
        left = seconds
        while left > 1e-9:
            moved = min(step, left)
            self.advance(moved)
            left -= moved
            for _ in range(10):
                await asyncio.sleep(0)
