"""`NodeView` over the supervisor's workers: what the control plane drives the node through."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from headrace.control.node_view import (
    Counters,
    Found,
    MountStats,
    NodeStats,
    SlowRead,
    StagedConflict,
    StagedWrites,
    TierStats,
    WorkerStats,
)
from headrace.control.notifications import ChangedObject, Changes
from headrace.control.state import NodeState
from headrace.control.sync.steps import Outcome, SidePage, StepBatch
from headrace.model.errors import DeadlineExceeded, HeadraceError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.objects import Listing
from headrace.node.child import Child
from headrace.node.messages import (
    Amount,
    Apply,
    AskStaged,
    AskStats,
    CarriedOut,
    CarryOut,
    Changed,
    ChangesMissed,
    EndSurvey,
    Free,
    HoldPin,
    Listed,
    ListPage,
    ListSide,
    Load,
    Pin,
    Reply,
    Request,
    Settle,
    Sided,
    Staged,
    Survey,
    Surveyed,
    TryMount,
    WorkerReport,
)

_R = TypeVar("_R")

_APPLY_TIMEOUT_S = 30.0
_STATS_TIMEOUT_S = 1.0
_SLOWEST_SHOWN = 20
MEMORY_TIER = "memory"


class WorkersView:
    """The workers as one node. A worker that does not answer is shown as not alive, and never waited for."""

    def __init__(
        self,
        workers: Sequence[Child],
        keeper: Child,
        *,
        data_url: str,
        notes: Callable[[tuple[MountSpec, ...]], tuple[str, ...]] = lambda _mounts: (),
    ) -> None:
        """`notes` says what `NodeStats.notes` does; it blocks, and is asked anew when the mounts have changed."""
        self.state = NodeState(0)
        self._workers = tuple(workers)
        self._keeper = keeper
        self.data_url = data_url
        self._ask_notes = notes
        self._notes: tuple[str, ...] = ()
        self._noted_epoch = -1
        self._started_s = time.monotonic()
        self._turn = itertools.cycle(range(len(self._workers)))
        self._ending: set[asyncio.Task[None]] = set()
        self._follower: Callable[[Changes], None] = lambda _changes: None

    async def push_state(self, state: NodeState) -> None:
        # Changes may arrive here in another order than they were made; an older one is part of the newer.
        if state.epoch > self.state.epoch:
            self.state = state
        alive = [worker for worker in self._workers if worker.alive]
        results = await asyncio.gather(
            *(worker.ask(Apply(self.state), timeout_s=_APPLY_TIMEOUT_S) for worker in alive), return_exceptions=True
        )
        for worker, result in zip(alive, results, strict=True):
            # A worker that died meanwhile begins anew with this state. One that hangs must not go on with the old one.
            if isinstance(result, DeadlineExceeded):
                worker.kill()
            elif isinstance(result, BaseException) and worker.alive:
                raise result

    async def stats(self) -> NodeStats:
        kept, *reports = await asyncio.gather(*(self._report(child) for child in (self._keeper, *self._workers)))
        found = [report for report in reports if report is not None]
        return NodeStats(
            epoch=self.state.epoch,
            uptime_s=time.monotonic() - self._started_s,
            counters=sum_counters(report.counters for report in found),
            workers=tuple(
                _worker_stats(index, worker, report)
                for index, (worker, report) in enumerate(zip(self._workers, reports, strict=True))
            ),
            tiers=merge_tiers([report.tiers for report in found], kept.tiers if kept is not None else None),
            mounts=merge_mounts(itertools.chain.from_iterable(report.mounts for report in found), self.state.mounts),
            slowest=slowest(itertools.chain.from_iterable(report.slowest for report in found)),
            notes=await self._known_notes(),
            data_url=self.data_url,
        )

    async def _known_notes(self) -> tuple[str, ...]:
        epoch = self.state.epoch
        if epoch != self._noted_epoch:
            self._noted_epoch = epoch
            self._notes = await asyncio.to_thread(self._ask_notes, self.state.mounts)
        return self._notes

    def ready(self) -> bool:
        return any(worker.alive for worker in self._workers)

    async def list_page(self, path: str, *, after: str, limit: int) -> Listing:
        return _as(Listed, await self._ask_one(ListPage(path, after, limit))).listing

    async def load(self, path: str) -> int:
        return _as(Amount, await self._ask_one(Load(path))).bytes

    async def free(self, path: str, *, prefix: bool) -> int:
        return _as(Amount, await self._ask_one(Free(path, prefix))).bytes

    async def pin(self, path: str, on: bool) -> None:
        await self._ask_one(Pin(path, on))

    async def hold_pin(self, path: str) -> None:
        await self._ask_one(HoldPin(path))

    async def staged(self, path: str) -> StagedWrites:
        # All know what waits; why it does, only the one that uploads.
        alive = [worker for worker in self._workers if worker.alive]
        replies = await asyncio.gather(*(worker.ask(AskStaged(path)) for worker in alive))
        if not replies:
            raise Unavailable("no serving process is running at the moment: try again in a second")
        return latest_staged([_as(Staged, reply).staged for reply in replies])

    async def changed(self, objects: tuple[ChangedObject, ...]) -> None:
        # The marks that one process sets are those of all.
        await self._ask_one(Changed(objects))
        self._follower(Changes(objects))

    async def changes_missed(self) -> None:
        await self._ask_one(ChangesMissed())
        self._follower(Changes(are_all=True))

    def follow(self, tell: Callable[[Changes], None]) -> None:
        self._follower = tell

    def wrote(self, paths: tuple[str, ...]) -> None:
        """A process's callers have changed objects at or below `paths`."""
        self._follower(Changes(paths=paths))

    async def survey(self, path: str) -> AsyncIterator[Found]:
        worker = self._next_alive()
        number, over = secrets.token_hex(8), False
        try:
            while not over:
                reply = _as(Surveyed, await worker.ask(Survey(number, path)))
                over = reply.over
                yield reply.found
        finally:
            if not over:
                # Whoever asked has left, and may take this task along.
                self._ending.add(task := asyncio.ensure_future(_end_survey(worker, number)))
                task.add_done_callback(self._ending.discard)

    async def settle(self, conflict: StagedConflict, *, ours: bool) -> None:
        await self._ask_one(Settle(conflict, ours))

    async def side_page(self, path: str, *, after: str, limit: int) -> SidePage:
        return _as(Sided, await self._ask_one(ListSide(path, after, limit))).page

    async def carry_out(self, batch: StepBatch) -> tuple[Outcome, ...]:
        sharers = sum(worker.alive for worker in self._workers)
        return _as(CarriedOut, await self._ask_one(CarryOut(msgspec.structs.replace(batch, sharers=sharers)))).outcomes

    async def try_mount(self, spec: MountSpec) -> None:
        await self._ask_one(TryMount(spec))

    async def _ask_one(self, request: Request) -> Reply:
        return await self._next_alive().ask(request)

    def _next_alive(self) -> Child:
        for _ in self._workers:
            worker = self._workers[next(self._turn)]
            if worker.alive:
                return worker
        raise Unavailable("no serving process is running at the moment: try again in a second")

    async def _report(self, worker: Child) -> WorkerReport | None:
        if not worker.alive:
            return None
        try:
            reply = await worker.ask(AskStats(), timeout_s=_STATS_TIMEOUT_S)
        except HeadraceError:
            return None
        return reply if isinstance(reply, WorkerReport) else None


async def _end_survey(worker: Child, number: str) -> None:
    with contextlib.suppress(HeadraceError):
        await worker.ask(EndSurvey(number))


def _as(kind: type[_R], reply: Reply) -> _R:
    """Never an empty answer in the place of a wrong one."""
    if not isinstance(reply, kind):
        raise Unavailable(f"a serving process answered {type(reply).__name__} where {kind.__name__} belongs: restart the node")
    return reply


def _worker_stats(index: int, worker: Child, report: WorkerReport | None) -> WorkerStats:
    return WorkerStats(
        index=index,
        pid=worker.pid,
        alive=report is not None,
        restarts=worker.restarts,
        uptime_s=time.monotonic() - worker.started_s,
        rss_bytes=report.rss_bytes if report is not None else 0,
        counters=report.counters if report is not None else Counters(),
    )


def sum_counters(counters: Iterable[Counters]) -> Counters:
    """Field by field."""
    total = Counters()
    for one in counters:
        total = total.plus(one)
    return total


def merge_tiers(seen: Sequence[tuple[TierStats, ...]], kept: tuple[TierStats, ...] | None) -> tuple[TierStats, ...]:
    """Fullness as the keeper accounts for it; healthy when the keeper and every worker find it so.

    `kept` is None while there is no keeper.
    """
    full = {tier.name: tier for tier in kept or ()}
    merged: list[TierStats] = []
    for views in zip(*seen, strict=True):  # the same tiers in every worker: all are made of the same settings
        first = views[0]
        keeper = full.get(first.name)
        if keeper is None and kept is None and first.name != MEMORY_TIER:
            keeper = msgspec.structs.replace(first, note="how full it is, is not known while the keeper is being started again")
        every = (*views, keeper) if keeper is not None else views
        sick = [view for view in every if not view.healthy]
        notes = (view.note for view in (*sick, *reversed(every)))
        counted = keeper or first
        merged.append(
            TierStats(
                name=first.name,
                capacity_bytes=first.capacity_bytes,
                used_bytes=counted.used_bytes,
                segments=counted.segments,
                healthy=not sick,
                note=next((note for note in notes if note), ""),
            )
        )
    return tuple(merged)


def merge_mounts(reports: Iterable[MountStats], specs: Iterable[MountSpec]) -> tuple[MountStats, ...]:
    """One row per mount in force: sums over the workers, health as the latest answer of the store had it."""
    rows = {spec.path: MountStats(spec.path, spec.store or " + ".join(member.store for member in spec.union)) for spec in specs}
    for report in reports:
        row = rows.get(report.path)
        if row is None:
            continue
        latest = report if report.checked_s >= row.checked_s else row
        rows[report.path] = MountStats(
            path=row.path,
            store=row.store,
            healthy=latest.healthy,
            error=latest.error,
            checked_s=latest.checked_s,
            store_requests=row.store_requests + report.store_requests,
            store_errors=row.store_errors + report.store_errors,
            store_bytes=row.store_bytes + report.store_bytes,
            store_seconds=row.store_seconds + report.store_seconds,
            bytes_served=row.bytes_served + report.bytes_served,
            requests=row.requests + report.requests,
            staged=latest_staged([staged for staged in (row.staged, report.staged) if staged is not None])
            if report.staged
            else None,
            scratch=report.scratch or row.scratch,
        )
    return tuple(rows[path] for path in sorted(rows))


def latest_staged(views: Sequence[StagedWrites]) -> StagedWrites:
    """One journal as several processes see it: the least that any still sees waiting, and why from whoever knows."""
    least = min(views, key=lambda view: view.writes)
    return msgspec.structs.replace(least, error=next((view.error for view in views if view.error), "") if least.writes else "")


def slowest(reads: Iterable[SlowRead]) -> tuple[SlowRead, ...]:
    """The slowest of all, longest first."""
    return tuple(sorted(reads, key=lambda read: -read.seconds)[:_SLOWEST_SHOWN])


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
