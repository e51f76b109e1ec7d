"""The syncs of a node: made, run when it is time, paused, removed."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec

from headrace.control.jobs import JobRunner
from headrace.control.mount_rules import check_path
from headrace.control.node_view import NodeView
from headrace.control.notifications import Changes
from headrace.control.plane import ControlPlane, is_below
from headrace.control.sync.listing import decisions
from headrace.control.sync.planner import Merge, Source
from headrace.control.sync.run import SyncRun, rules_of
from headrace.control.sync.schedule import LIVE, is_due, may_follow, parse_bandwidth, parse_schedule
from headrace.control.sync.steps import Planned, Step
from headrace.control.sync.wakes import Gathered, concerns
from headrace.control.work import Kind, Pause, Save, Work
from headrace.ledger.records import JobRecord
from headrace.ledger.sync_records import Mode, SyncRecord, SyncSpec
from headrace.model.errors import HeadraceError, NotFound, SettingsError
from headrace.model.mounts import MountSpec, WriteMode

SYNC = "sync"
RUNNING_SYNCS = 2
MAX_TRANSFERS = 256
MAX_SYNCS = 1000

_LOOK_EVERY_S = 1.0
_GATHER_S = 0.1
"""What is said to have changed within so short a time is one run's."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_log = logging.getLogger(__name__)


class Syncs:
    """All syncs. Their runs are jobs; a sync has one job, which is taken up anew for each run."""

    def __init__(self, control: ControlPlane, node: NodeView, jobs: JobRunner, *, pause: Pause = asyncio.sleep) -> None:
        self._control = control
        self._node = node
        self._jobs = jobs
        self._table = control.ledger.syncs
        self._pause = pause
        self._one_at_a_time = asyncio.Lock()
        self._changes = Gathered()
        self._awaited: set[str] = set()
        """Live syncs of which something changed since their last runs began."""
        self._looking: asyncio.Task[None] | None = None
        jobs.register(SYNC, Kind(self._make, RUNNING_SYNCS))

    async def start(self) -> None:
        """Follow the schedules, and for live syncs what changes, from now on."""
        self._node.follow(self._changes.add)
        self._looking = asyncio.create_task(self._look(), name="schedules of syncs")

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def all(self) -> tuple[SyncRecord, ...]:
        """By name."""
        return await asyncio.to_thread(self._table.all)

    async def get(self, name: str) -> SyncRecord:
        """Raises `NotFound`."""
        record = await asyncio.to_thread(self._table.get, name)
        if record is None:
            raise NotFound(f"there is no sync {name!r}: see `headrace sync ls`", path=name)
        return record

    async def add(self, spec: SyncSpec, *, actor: str) -> SyncRecord:
        """Make a sync. Raises `SettingsError` for one that cannot be, and what listing a side raises."""
        await asyncio.to_thread(self.check, spec)
        for side in (spec.a, spec.b):
            await self._node.side_page(side, after="", limit=1)
        async with self._one_at_a_time:
            if len(await self.all()) >= MAX_SYNCS:
                raise SettingsError(f"there are {MAX_SYNCS} syncs already: remove one with `headrace sync rm`")
            record = await asyncio.to_thread(self._table.add, spec)
        if record is None:
            raise SettingsError(f"a sync is called {spec.name!r} already: choose another --name, or remove that one")
        detail = f"{spec.mode} {spec.a} {spec.b}"
        await asyncio.to_thread(self._control.ledger.audit.add, "sync.add", actor=actor, target=spec.name, detail=detail)
        return record

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget a sync and what its sides agreed on; no object is touched. Raises `NotFound`."""
        async with self._one_at_a_time:
            await self.get(name)
            running = self._jobs.under_way(SYNC, name)
            if running is not None:
                await self._jobs.cancel(running.id)
            await asyncio.to_thread(self._table.remove, name)
        await asyncio.to_thread(self._control.ledger.audit.add, "sync.rm", actor=actor, target=name)

    async def set_paused(self, name: str, paused: bool, *, actor: str) -> SyncRecord:
        """Follow its schedule no more, or again; a run that is under way ends by itself. Raises `NotFound`."""
        await self.get(name)
        if await asyncio.to_thread(self._table.set_paused, name, paused):
            kind = "sync.pause" if paused else "sync.resume"
            await asyncio.to_thread(self._control.ledger.audit.add, kind, actor=actor, target=name)
        return await self.get(name)

    async def run(self, name: str, *, force: bool = False) -> JobRecord:
        """Begin a run now; the one that is under way is answered with itself. Raises `NotFound`, `SettingsError`."""
        async with self._one_at_a_time:
            record = await self.get(name)
            running = self._jobs.under_way(SYNC, name)
            if running is not None:
                if force:
                    raise SettingsError(f"sync {name} runs already: force it when job {running.id} has ended")
                return running
            return await self._begin(record, force=force)

    async def plan(self, spec: SyncSpec) -> AsyncGenerator[Planned]:
        """What a run would do now, some at a time, and nothing is done. Raises as `add`."""
        await asyncio.to_thread(self.check, spec)
        known = await asyncio.to_thread(self._table.get, spec.name)
        if known is not None and (known.spec.a, known.spec.b) != (spec.a, spec.b):
            spec = msgspec.structs.replace(spec, name="")  # what another sync agreed on says nothing here
        merge = Merge(rules_of(spec))
        async with aclosing(decisions(merge, spec, self._node, self._table, self._pause)) as drawn:
            async for some in drawn:
                steps = tuple([one for one in some if isinstance(one, Step)])
                yield Planned(steps, len(some) - len(steps), merge.counts[Source.A], merge.counts[Source.B])

    def check(self, spec: SyncSpec) -> None:
        """Raises `SettingsError` unless there may be such a sync, `NotFound` where nothing is mounted."""
        if _NAME.fullmatch(spec.name) is None:
            raise SettingsError(f"a sync cannot be called {spec.name!r}: use up to 64 letters, digits, dots, dashes")
        for path in (spec.a, spec.b):
            if path == "/":
                raise SettingsError("a side of a sync is a directory such as /sales, not the whole namespace")
            check_path(path)
        if is_below(spec.a, spec.b) or is_below(spec.b, spec.a):
            raise SettingsError(f"{spec.a} and {spec.b} are one in the other: name two directories that are apart")
        parse_schedule(spec.schedule)
        parse_bandwidth(spec.bandwidth)
        if not 1 <= spec.transfers <= MAX_TRANSFERS:
            raise SettingsError(f"transfers: at least 1 and at most {MAX_TRANSFERS} at the same time")
        if not 0 <= spec.max_delete <= 100:
            raise SettingsError("max-delete is a percentage, from 0 to 100")
        for path in (spec.a, spec.b) if spec.mode is Mode.TWO_WAY else (spec.b,):
            if self._mount_of(path).write is WriteMode.NONE:
                raise SettingsError(f'{path} takes no writes: set write = "through" on its mount', path=path)
        self._mount_of(spec.a)

    def _mount_of(self, path: str) -> MountSpec:
        """The deepest mount that covers a path. Raises `NotFound`."""
        covering = [entry.spec for entry in self._control.mounts() if is_below(path, entry.spec.path)]
        if not covering:
            raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`", path=path)
        return max(covering, key=lambda spec: len(spec.path))

    def _make(self, job: JobRecord, _save: Save) -> Work:
        record = self._table.get(job.target)
        if record is None:
            raise NotFound(f"there is no sync {job.target!r} any more", path=job.target)
        self.check(record.spec)
        return SyncRun(
            record,
            job,
            node=self._node,
            table=self._table,
            clock=self._control.clock,
            pause=self._pause,
            home=self._control.settings.home,
        )

    async def _begin(self, record: SyncRecord, *, force: bool) -> JobRecord:
        """Under `_one_at_a_time`. What keeps a run from beginning is remembered, and raised."""
        state = msgspec.structs.replace(record.state, force=force, started_s=self._control.clock.time(), error="")
        try:
            await asyncio.to_thread(self.check, record.spec)
        except HeadraceError as error:
            failed = msgspec.structs.replace(state, force=False, ended_s=state.started_s, error=str(error))
            await asyncio.to_thread(self._table.put_state, record.spec.name, failed)
            raise
        await asyncio.to_thread(self._table.put_state, record.spec.name, state)
        return await self._jobs.begin(SYNC, record.spec.name, again=state.job_id)

    async def _look(self) -> None:
        while True:
            try:
                await self._begin_due()
            except Exception:  # noqa: BLE001 - one error must not end all schedules
                _log.exception("the schedules of syncs: nobody foresaw this")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._changes.some.wait()
                    await asyncio.sleep(_GATHER_S)

    async def _begin_due(self) -> None:
        changes = self._changes.take()
        mounts: tuple[MountSpec, ...] = ()
        if changes != Changes():
            mounts = tuple([entry.spec for entry in await asyncio.to_thread(self._control.mounts)])
        records = await self.all()
        self._awaited &= {record.spec.name for record in records}
        for record in records:
            spec = record.spec
            if spec.schedule.strip() == LIVE and concerns(changes, (spec.a, spec.b), mounts):
                self._awaited.add(spec.name)
            if record.paused or self._jobs.under_way(SYNC, spec.name) is not None:
                continue
            try:
                if self._is_due(record):
                    self._awaited.discard(spec.name)
                    await self.run(spec.name)
            except HeadraceError as error:
                _log.warning("sync %s did not begin: %s", spec.name, error)

    def _is_due(self, record: SyncRecord) -> bool:
        schedule, state, now_s = parse_schedule(record.spec.schedule), record.state, self._control.clock.time()
        if record.spec.name in self._awaited and may_follow(now_s=now_s, started_s=state.started_s, ended_s=state.ended_s):
            return True
        # One that has not run yet begins at once where it has an interval, and at the next of its times of day.
        started_s = state.started_s or record.created_s - schedule.every_s
        return is_due(schedule, now_s=now_s, started_s=started_s, ended_s=state.ended_s)
