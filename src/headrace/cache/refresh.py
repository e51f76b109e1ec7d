"""Asking again for what is read often shortly before it may be used no longer, so that its readers never wait for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.model.errors import HeadraceError
from headrace.model.events import BackgroundError, Refreshed
from headrace.model.objects import Emit
from headrace.stores.limit import TokenBucket

_LEAD = 0.3
_LEAD_MAX_S = 60.0
_OFTEN = 2
AT_ONCE = 4
"""Questions to a store that are under way for this at the same time, of each mount and process."""
WAITING_MAX = 1024
RATE_PER_S = 100.0


def soon(bound_s: float, jitter: float) -> float:
    """The age from which an answer that may be used for `bound_s` is asked for again if it is read.

    `jitter` in [0, 1) spreads what was learnt at one time: the last tenth to the last three tenths, a minute at most.
    """
    if bound_s == float("inf"):
        return bound_s
    return bound_s - min(bound_s * _LEAD, _LEAD_MAX_S) * (1 + 2 * jitter) / 3


def is_often(late_reads: int, *, late_before: bool) -> bool:
    """Whether an answer is asked for again at this read of the last ones that it serves.

    True once: at the second such read, or at the first when the answer before it was also read so late.
    """
    return late_reads + late_before == _OFTEN


class Refresher:
    """Asks for one mount's keys in the background: some at once, some a second, and some that wait; more are let go.

    A question that fails changes nothing: the answer that is known is used until its time is over.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[object]],
        *,
        mount: str,
        now: Callable[[], float],
        emit: Emit,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._mount = mount
        self._now = now
        self._emit = emit
        self._sleep = sleep
        self._waiting: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._bucket = TokenBucket(RATE_PER_S, RATE_PER_S, now())

    def wish(self, key: str) -> None:
        """Ask for the key soon, if there is room. Needs a running event loop."""
        if len(self._waiting) >= WAITING_MAX:
            return
        self._waiting[key] = None
        if len(self._tasks) < AT_ONCE:
            task = asyncio.ensure_future(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            del self._waiting[key]
            wait_s = self._bucket.take(1, self._now())
            if wait_s:
                await self._sleep(wait_s)
            try:
                await self._ask(key)
            except HeadraceError as error:
                self._emit(Refreshed(self._mount, type(error).__name__))
            except Exception as error:  # noqa: BLE001  the loop outlives whatever one key makes of it
                self._emit(BackgroundError(f"refresh of {self._mount}", f"{type(error).__name__}: {error}"))
            else:
                self._emit(Refreshed(self._mount))
