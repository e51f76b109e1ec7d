"""Handing steps to serving processes: a bounded number at once, small ones several in one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.control.node_view import NodeView
from headrace.control.sync.steps import Outcome, Result, Step, StepBatch
from headrace.control.work import FIRST_PAUSE_S, TRIES, Pause
from headrace.ledger.sync_records import SyncSpec
from headrace.model.errors import Unavailable

_MAX_BATCH = 8
_BATCH_BYTES = 1 << 20

Settle = Callable[[Step, Outcome], None]


class Lanes:
    """At most `spec.transfers` steps are under way; `settle` is told of each when it is over."""

    def __init__(self, spec: SyncSpec, node: NodeView, pause: Pause, settle: Settle) -> None:
        self._spec = spec
        self._node = node
        self._pause = pause
        self._settle = settle
        self._batch: list[Step] = []
        self._batch_bytes = 0
        self._batch_limit = max(1, min(_MAX_BATCH, spec.transfers // 4))
        self._running: dict[asyncio.Task[None], int] = {}

    async def put(self, step: Step) -> None:
        """Do it when there is room; returns when it may be followed by another. Raises what went wrong in an unforeseen way."""
        self._batch.append(step)
        self._batch_bytes += step.size
        if len(self._batch) >= self._batch_limit or self._batch_bytes >= _BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Begin what waits for others to be sent with it."""
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = tuple(self._batch), [], 0
        while self._running and sum(self._running.values()) + len(batch) > self._spec.transfers:
            await self._one_more()
        self._running[asyncio.create_task(self._carry_out(batch))] = len(batch)

    async def drain(self) -> None:
        """Begin all and see it to its end."""
        await self.flush()
        while self._running:
            await self._one_more()

    async def close(self) -> None:
        """Break off what runs."""
        running, self._running = tuple(self._running), {}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _one_more(self) -> None:
        ended, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            del self._running[task]
            task.result()

    async def _carry_out(self, steps: tuple[Step, ...]) -> None:
        """A side that is away is asked a few times, while the places of these steps stay taken."""
        for tried in range(TRIES):
            if tried:
                await self._pause(FIRST_PAUSE_S * 2**tried)
            away: list[tuple[Step, Outcome]] = []
            for step, outcome in zip(steps, await self._ask(steps), strict=True):
                if outcome.result is Result.AWAY:
                    away.append((step, outcome))
                else:
                    self._settle(step, outcome)
            if not away:
                return
            steps = tuple([step for step, _ in away])
        for step, outcome in away:
            self._settle(step, outcome)

    async def _ask(self, steps: tuple[Step, ...]) -> tuple[Outcome, ...]:
        spec = self._spec
        try:
            return await self._node.carry_out(StepBatch(spec.name, spec.a, spec.b, steps, spec.bandwidth))
        except Unavailable as error:
            return (Outcome(Result.AWAY, error=str(error)),) * len(steps)
