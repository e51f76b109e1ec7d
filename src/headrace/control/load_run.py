"""One load: lists ahead, loads in parallel, saves now and then."""

from __future__ import annotations

import asyncio

from headrace.control.load import LoadPlan, LoadStep
from headrace.control.node_view import NodeView
from headrace.control.work import Pause, Save, patiently
from headrace.ledger.records import JobProgress, JobRecord
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, NotFound
from headrace.model.objects import Listing
from headrace.stores.keys import PAGE_KEYS

PARALLEL_LOADS = 8
"""Objects that one load brings in at the same time."""
_SAVE_EVERY_S = 1.0


class LoadRun:
    """Everything at and below `record.target` into the cache."""

    def __init__(self, record: JobRecord, save: Save, *, node: NodeView, clock: Clock, pause: Pause) -> None:
        self._plan = LoadPlan(record.progress)
        self._save_progress = save
        self._node = node
        self._clock = clock
        self._pause = pause
        self._path = record.target
        self.hint = f"`headrace load --resume {record.id}` goes on"

    def progress(self) -> JobProgress:
        return self._plan.progress()

    def verdict(self) -> str:
        plan, progress = self._plan, self._plan.progress()
        if not plan.failed:
            return ""
        known = f"{progress.objects_known}" + ("" if progress.all_known else " or more")
        return f"{plan.failed} of {known} objects could not be loaded; the first: {plan.first_error}"

    async def run(self) -> None:
        saved_at = self._clock.monotonic()
        running: set[asyncio.Task[None]] = set()
        listing: asyncio.Task[None] | None = None
        try:
            while not self._plan.over:
                if listing is None and (after := self._plan.next_listing()) is not None:
                    listing = asyncio.create_task(self._list(after))
                while len(running) < PARALLEL_LOADS and (step := self._plan.next_step()) is not None:
                    running.add(asyncio.create_task(self._load(step)))
                waited = running | ({listing} if listing is not None else set())
                ended, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                running -= ended
                listing = None if listing in ended else listing
                if self._clock.monotonic() - saved_at >= _SAVE_EVERY_S:
                    saved_at = self._clock.monotonic()
                    await self._save()
        finally:
            left = [*running, *([listing] if listing is not None else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _save(self) -> None:
        await self._save_progress(self._plan.progress())

    async def _list(self, after: str) -> None:
        async def ask() -> Listing:
            return await self._node.list_page(self._path, after=after, limit=PAGE_KEYS)

        self._plan.listed(await patiently(ask, self._pause))

    async def _load(self, step: LoadStep) -> None:
        async def ask() -> int:
            return await self._node.load(step.path)

        try:
            loaded = await patiently(ask, self._pause)
        except NotFound:
            self._plan.done(step, 0)
        except HeadraceError as error:
            self._plan.fail(f"{step.path}: {error}")
        else:
            self._plan.done(step, loaded)
