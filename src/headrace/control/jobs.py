"""Runs jobs beside the node: bounded, cancellable, and going on after a crash where the ledger says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from headrace.control.load import LoadPlan, LoadStep
from headrace.control.node_view import NodeView
from headrace.ledger.jobs import JobTable
from headrace.ledger.records import JobProgress, JobRecord, JobState
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, NotFound, SettingsError, Unavailable
from headrace.model.objects import Listing

_log = logging.getLogger(__name__)

LOAD = "load"
PARALLEL_LOADS = 8
"""Objects that one load brings in at the same time."""
RUNNING_JOBS = 2
WAITING_JOBS = 100
LIST_LIMIT = 1000
_SAVE_EVERY_S = 1.0
_TRIES = 5
_FIRST_PAUSE_S = 0.5

_T = TypeVar("_T")
Pause = Callable[[float], Awaitable[None]]


class JobRunner:
    """Takes jobs, runs a few at a time, and keeps the ledger at most a second behind."""

    def __init__(self, table: JobTable, node: NodeView, clock: Clock, *, pause: Pause = asyncio.sleep) -> None:
        self._table = table
        self._node = node
        self._clock = clock
        self._pause = pause
        self._slots = asyncio.Semaphore(RUNNING_JOBS)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._live: dict[str, JobRecord] = {}

    async def start(self) -> None:
        """Go on with what an earlier process left."""
        for record in await asyncio.to_thread(self._table.unfinished):
            self._launch(record)

    async def stop(self) -> None:
        """Stop running; the ledger keeps the jobs for the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def load(self, path: str) -> JobRecord:
        """Bring everything at and below `path` into the cache. A load of it that is under way is answered with itself."""
        for record in self._live.values():
            if record.kind == LOAD and record.target == path:
                return record
        if len(self._tasks) >= WAITING_JOBS:
            raise Unavailable(f"{len(self._tasks)} jobs wait already: try again when some are done (`headrace jobs`)")
        record = await asyncio.to_thread(self._table.add, LOAD, path)
        self._launch(record)
        return record

    async def resume(self, job_id: str) -> JobRecord:
        """Go on with a job that failed or was cancelled. Raises `NotFound`."""
        record = await self.get(job_id)
        if record.id in self._live:
            return record
        if record.state is JobState.DONE:
            raise SettingsError(f"job {job_id} is done: there is nothing to go on with")
        progress = msgspec.structs.replace(record.progress, objects_failed=0, all_known=False)
        await asyncio.to_thread(self._table.update, job_id, JobState.QUEUED, progress)
        record = msgspec.structs.replace(record, state=JobState.QUEUED, progress=progress, error="")
        self._launch(record)
        return record

    async def cancel(self, job_id: str) -> JobRecord:
        """Stop a job for good; what it loaded stays. Raises `NotFound`."""
        record = await self.get(job_id)
        if record.state.over:
            return record
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            record = await self.get(job_id)
        await asyncio.to_thread(self._table.update, job_id, JobState.CANCELLED, record.progress)
        return await self.get(job_id)

    async def get(self, job_id: str) -> JobRecord:
        """A job as it is now. Raises `NotFound`."""
        live = self._live.get(job_id)
        if live is not None:
            return live
        record = await asyncio.to_thread(self._table.get, job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id!r}: see `headrace jobs`", path=job_id)
        return record

    async def recent(self, limit: int) -> tuple[JobRecord, ...]:
        """The newest first."""
        records = await asyncio.to_thread(self._table.recent, limit)
        return tuple(self._live.get(record.id, record) for record in records)

    def _launch(self, record: JobRecord) -> None:
        self._live[record.id] = record
        task = asyncio.create_task(self._run(record), name=f"job {record.id}")
        self._tasks[record.id] = task
        # A task that is cancelled before its first step runs nothing of `_run`.
        task.add_done_callback(lambda ended: self._forget(record.id, ended))

    def _forget(self, job_id: str, task: asyncio.Task[None] | None) -> None:
        if self._tasks.get(job_id) is task:
            self._tasks.pop(job_id, None)
            self._live.pop(job_id, None)

    async def _run(self, record: JobRecord) -> None:
        try:
            async with self._slots:
                await self._carry_out(record)
        finally:
            # At once, and not when the callback comes: whoever sees the job as over may go on with it.
            self._forget(record.id, asyncio.current_task())

    async def _carry_out(self, record: JobRecord) -> None:
        plan = LoadPlan(record.progress)
        try:
            await _LoadRun(self, record, plan, self._node, self._clock, self._pause).run()
        except asyncio.CancelledError:
            await self.save(record.id, JobState.RUNNING, plan.progress())
            raise
        except HeadraceError as error:
            await self.save(record.id, JobState.FAILED, plan.progress(), _hint(str(error), record.id))
        except Exception as error:  # noqa: BLE001 - a job that fails in an unforeseen way must not stay "running" for ever
            _log.exception("job %s (load %s) failed in a way that nobody foresaw", record.id, record.target)
            await self.save(record.id, JobState.FAILED, plan.progress(), _hint(f"{type(error).__name__}: {error}", record.id))
        else:
            await self._end(record.id, plan)

    async def _end(self, job_id: str, plan: LoadPlan) -> None:
        progress = plan.progress()
        if not plan.failed:
            await self.save(job_id, JobState.DONE, progress)
            return
        known = f"{progress.objects_known}" + ("" if progress.all_known else " or more")
        error = f"{plan.failed} of {known} objects could not be loaded; the first: {plan.first_error}"
        await self.save(job_id, JobState.FAILED, progress, _hint(error, job_id))

    async def save(self, job_id: str, state: JobState, progress: JobProgress, error: str = "") -> None:
        """Write how far a job is; a ledger that cannot be written now is no reason to stop."""
        live = self._live.get(job_id)
        if live is not None and not state.over:
            now = self._clock.time()
            self._live[job_id] = msgspec.structs.replace(live, state=state, progress=progress, error=error, updated_s=now)
        try:
            await asyncio.to_thread(self._table.update, job_id, state, progress, error)
        except HeadraceError as failure:
            _log.warning("job %s: its progress was not saved: %s", job_id, failure)


class _LoadRun:
    """One load: lists ahead, loads in parallel, saves now and then."""

    def __init__(self, runner: JobRunner, record: JobRecord, plan: LoadPlan, node: NodeView, clock: Clock, pause: Pause) -> None:
        self._runner = runner
        self._job_id = record.id
        self._plan = plan
        self._node = node
        self._clock = clock
        self._pause = pause
        self._path = record.target

    async def run(self) -> None:
        await self._save()
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
        await self._runner.save(self._job_id, JobState.RUNNING, self._plan.progress())

    async def _list(self, after: str) -> None:
        async def ask() -> Listing:
            return await self._node.list_page(self._path, after=after, limit=LIST_LIMIT)

        self._plan.listed(await self._patiently(ask))

    async def _load(self, step: LoadStep) -> None:
        async def ask() -> int:
            return await self._node.load(step.path)

        try:
            loaded = await self._patiently(ask)
        except NotFound:
            self._plan.done(step, 0)
        except HeadraceError as error:
            self._plan.fail(f"{step.path}: {error}")
        else:
            self._plan.done(step, loaded)

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """A store or worker that is away for a moment, or starting, is asked a few times."""
        for tried in range(1, _TRIES):
            try:
                return await ask()
            except Unavailable as error:
                await self._pause(error.retry_after_s or _FIRST_PAUSE_S * 2**tried)
        return await ask()


def _hint(error: str, job_id: str) -> str:
    return f"{error}; `headrace load --resume {job_id}` goes on"
