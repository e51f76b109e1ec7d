"""Runs jobs beside the node: bounded, cancellable, and going on after a crash where the ledger says."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import msgspec

from headrace.control.load_run import LoadRun
from headrace.control.node_view import NodeView
from headrace.control.work import Kind, Pause, Save, Work
from headrace.ledger.jobs import JobTable
from headrace.ledger.records import JobProgress, JobRecord, JobState
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, NotFound, SettingsError, Unavailable

_log = logging.getLogger(__name__)

LOAD = "load"
RUNNING_JOBS = 2
WAITING_JOBS = 100


class JobRunner:
    """Takes jobs, runs a few at a time, and keeps the ledger at most a second behind."""

    def __init__(self, table: JobTable, node: NodeView, clock: Clock, *, pause: Pause = asyncio.sleep) -> None:
        self._table = table
        self._clock = clock
        self._kinds: dict[str, Kind] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._live: dict[str, JobRecord] = {}
        self._work: dict[str, Work] = {}
        self.register(LOAD, Kind(partial(_load, node=node, clock=clock, pause=pause), RUNNING_JOBS))

    def register(self, name: str, kind: Kind) -> None:
        """Take jobs of this kind from now on; before `start`, which goes on with those that are left."""
        self._kinds[name] = kind
        self._slots[name] = asyncio.Semaphore(kind.slots)

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
        return await self.begin(LOAD, path)

    def under_way(self, kind: str, target: str) -> JobRecord | None:
        """The job of this kind and target that waits or runs."""
        found = (record for record in self._live.values() if record.kind == kind and record.target == target)
        return next(found, None)

    async def begin(self, kind: str, target: str, *, again: str = "") -> JobRecord:
        """Do it, unless it is under way: that one is the answer then. `again` names a job that is over and is taken up anew.

        Raises `Unavailable` while too many wait.
        """
        running = self.under_way(kind, target)
        if running is not None:
            return running
        if len(self._tasks) >= WAITING_JOBS:
            raise Unavailable(f"{len(self._tasks)} jobs wait already: try again when some are done (`headrace jobs`)")
        record = await asyncio.to_thread(self._table.again, again) if again else None
        if record is None:
            record = await asyncio.to_thread(self._table.add, kind, target)
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
        live = self._now(job_id)
        if live is not None:
            return live
        record = await asyncio.to_thread(self._table.get, job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id!r}: see `headrace jobs`", path=job_id)
        return record

    async def recent(self, limit: int) -> tuple[JobRecord, ...]:
        """The newest first."""
        records = await asyncio.to_thread(self._table.recent, limit)
        return tuple(self._now(record.id) or record for record in records)

    def _now(self, job_id: str) -> JobRecord | None:
        record, work = self._live.get(job_id), self._work.get(job_id)
        return record if record is None or work is None else msgspec.structs.replace(record, progress=work.progress())

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
            self._work.pop(job_id, None)

    async def _run(self, record: JobRecord) -> None:
        try:
            async with self._slots.get(record.kind, self._slots[LOAD]):
                await self._carry_out(record)
        finally:
            # At once, and not when the callback comes: whoever sees the job as over may go on with it.
            self._forget(record.id, asyncio.current_task())

    async def _carry_out(self, record: JobRecord) -> None:
        try:
            work = await self._made(record)
        except HeadraceError as error:
            await self.save(record.id, JobState.FAILED, record.progress, str(error))
            return
        self._work[record.id] = work
        await self.save(record.id, JobState.RUNNING, work.progress())
        try:
            await work.run()
        except asyncio.CancelledError:
            await self.save(record.id, JobState.RUNNING, work.progress())
            raise
        except HeadraceError as error:
            await self.save(record.id, JobState.FAILED, work.progress(), f"{error}; {work.hint}")
        except Exception as error:  # noqa: BLE001 - a job that fails in an unforeseen way must not stay "running" for ever
            _log.exception("job %s (%s %s) failed in a way that nobody foresaw", record.id, record.kind, record.target)
            await self.save(record.id, JobState.FAILED, work.progress(), f"{type(error).__name__}: {error}; {work.hint}")
        else:
            verdict = work.verdict()
            state, error_text = (JobState.FAILED, f"{verdict}; {work.hint}") if verdict else (JobState.DONE, "")
            await self.save(record.id, state, work.progress(), error_text)

    async def _made(self, record: JobRecord) -> Work:
        kind = self._kinds.get(record.kind)
        if kind is None:
            raise SettingsError(f"this Headrace knows no jobs of the kind {record.kind!r}: run the release that began it")

        async def save(progress: JobProgress) -> None:
            await self.save(record.id, JobState.RUNNING, progress)

        return await asyncio.to_thread(kind.make, record, save)

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


def _load(record: JobRecord, save: Save, *, node: NodeView, clock: Clock, pause: Pause) -> Work:
    return LoadRun(record, save, node=node, clock=clock, pause=pause)
