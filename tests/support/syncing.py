"""A node of one process for syncs: real steps over stores in memory, with faults on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from headrace.control.sync.copier import Copier
from headrace.control.sync.notes import Notes
from headrace.control.sync.pace import Pacer
from headrace.control.sync.run import SyncRun
from headrace.control.sync.sides import side_page
from headrace.control.sync.steps import Outcome, SidePage, Step, StepBatch
from headrace.control.sync.transfer import Carrier
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobRecord
from headrace.ledger.sync_records import SyncRecord, SyncSpec
from headrace.model.clock import SystemClock
from headrace.model.errors import HeadraceError
from headrace.model.mounts import MountSpec, WriteMode
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Condition
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from support.fake_node import FakeNode


async def no_own_copy(_source: ObjectInfo, _path: str, _condition: Condition) -> ObjectInfo | None:
    return None


def namespace_of(**stores: Store) -> Namespace:
    mounts = [
        Mount(f"/{name}", MountSpec(f"/{name}", "memory://", write=WriteMode.THROUGH), store) for name, store in stores.items()
    ]
    return Namespace(MountTable(mounts))


class SyncNode(FakeNode):
    """Mounts at `/a` and `/b`. `before` is told of each step before it is carried out."""

    def __init__(self, a: Store | None = None, b: Store | None = None, notes: Path | None = None) -> None:
        super().__init__()
        self.a, self.b = a or MemoryStore(), b or MemoryStore()
        self.namespace = namespace_of(a=self.a, b=self.b)
        self.steps: Counter[tuple[str, str]] = Counter()
        self.listed: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.before: Callable[[Step], None] = lambda _step: None
        self.gate: asyncio.Event | None = None
        self.side_failures: dict[str, HeadraceError] = {}
        self._notes = Notes(notes) if notes is not None else None
        self.pacer = Pacer(SystemClock())

    async def side_page(self, path: str, *, after: str, limit: int) -> SidePage:
        self.listed[path] += 1
        if path in self.side_failures:
            raise self.side_failures[path]
        return await side_page(self.namespace, path, after=after, limit=min(limit, self.page_limit))

    async def carry_out(self, batch: StepBatch) -> tuple[Outcome, ...]:
        self.at_once += len(batch.steps)
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None and sum(self.steps.values()) >= self.hold_after:
                await self.gate.wait()
            copier = Copier(self.namespace, self.pacer, no_own_copy, asyncio.Semaphore(4), self._notes)
            carrier = Carrier(copier, batch)
            outcomes = []
            for step in batch.steps:
                self.steps[step.verb, step.key] += 1
                self.before(step)
                outcomes.append(await carrier.carry_out(step))
            return tuple(outcomes)
        finally:
            self.at_once -= len(batch.steps)


def bodies(store: MemoryStore) -> dict[str, bytes]:
    return {key: held.body for key, held in store._objects.items()}


class Bench:
    """One sync in a ledger, run after run."""

    def __init__(self, ledger: Ledger, node: SyncNode, spec: SyncSpec, home: Path) -> None:
        self.ledger, self.node, self.home = ledger, node, home
        assert ledger.syncs.add(spec) is not None
        self.name = spec.name

    @property
    def record(self) -> SyncRecord:
        record = self.ledger.syncs.get(self.name)
        assert record is not None
        return record

    def make(self, job: JobRecord | None = None) -> SyncRun:
        made = job or self.ledger.jobs.add("sync", self.name)
        return SyncRun(
            self.record, made, node=self.node, table=self.ledger.syncs, clock=SystemClock(), pause=no_pause, home=self.home
        )

    async def run(self, job: JobRecord | None = None) -> SyncRun:
        made = self.make(job)
        await made.run()
        return made


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)
