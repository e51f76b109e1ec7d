"""One run of a sync: copies while it lists, conflicts and removals when both sides are known whole."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import msgspec

from headrace.control.node_view import NodeView
from headrace.control.sync.books import Books
from headrace.control.sync.lanes import Lanes
from headrace.control.sync.listing import decisions
from headrace.control.sync.planner import Agree, Decision, Merge, Rules, Source, after_comparison, too_many
from headrace.control.sync.spool import Spool
from headrace.control.sync.steps import Outcome, Result, Side, Step, Verb
from headrace.control.work import Pause
from headrace.ledger.records import JobProgress, JobRecord
from headrace.ledger.sync_records import SyncRecord, SyncSpec
from headrace.ledger.syncs import SyncTable
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, SettingsError, Unavailable

PASSES = 3
"""How often a run looks again at what was changed under it."""
MAX_FAILURES = 100
"""A run gives up after this many objects that could not be synced."""
_COMMIT_EVERY_S = 0.5

_log = logging.getLogger(__name__)


def rules_of(spec: SyncSpec) -> Rules:
    return Rules(spec.mode, spec.conflict, spec.checksum)


class SyncRun:
    """Every object is either as the plan saw it when it is changed, or left for the next pass."""

    def __init__(
        self, record: SyncRecord, job: JobRecord, *, node: NodeView, table: SyncTable, clock: Clock, pause: Pause, home: Path
    ) -> None:
        self._spec = record.spec
        self._node = node
        self._table = table
        self._clock = clock
        self._pause = pause
        self._home = home
        self._rules = rules_of(record.spec)
        state = msgspec.structs.replace(record.state, job_id=job.id)
        self._books = Books(table, record.spec.name, state, job.id, job.progress)
        self._deleted = {Side.A: 0, Side.B: 0}
        self.hint = f"`headrace sync run {record.spec.name}` goes on"

    def progress(self) -> JobProgress:
        return self._books.progress()

    def verdict(self) -> str:
        books = self._books
        if books.failed:
            return f"{books.failed} objects could not be synced; the first: {books.first_error}"
        return ""

    async def run(self) -> None:
        """Raises what keeps it from going on; what was done until then is written down."""
        ticking = asyncio.create_task(self._tick())
        error, is_over = "it ended in a way that nobody foresaw: see the log", True
        try:
            await self._passes()
            error = self.verdict()
        except asyncio.CancelledError:
            is_over = False
            raise
        except HeadraceError as failure:
            error = str(failure)
            raise
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await self._books.commit()
            if is_over:
                await self._end(error)

    async def _passes(self) -> None:
        for _ in range(PASSES):
            self._books.changed = 0
            await self._pass()
            if not self._books.changed or self._books.failed:
                return

    async def _pass(self) -> None:
        merge = Merge(self._rules)
        lanes = Lanes(self._spec, self._node, self._pause, self._settle)
        self._spool = Spool(self._home)
        self._deleted = {Side.A: 0, Side.B: 0}
        try:
            async with aclosing(decisions(merge, self._spec, self._node, self._table, self._pause)) as drawn:
                async for some in drawn:
                    for decision in some:
                        await self._begin(decision, lanes)
                    await lanes.flush()
                    if self._books.is_full:
                        await self._books.commit()
            await lanes.drain()
            self._books.all_known = True
            refusal = self._refusal(merge)
            await self._do_last(lanes, removes=not refusal)
        finally:
            await lanes.close()
            self._spool.close()
        await self._books.commit()
        state = self._books.state
        self._books.state = msgspec.structs.replace(state, objects_a=merge.counts[Source.A], objects_b=merge.counts[Source.B])
        if refusal:
            raise SettingsError(refusal)

    async def _do_last(self, lanes: Lanes, *, removes: bool) -> None:
        for step in self._spool:
            self._check_failures()
            if step.verb is not Verb.DELETE:
                await lanes.put(step)
            elif removes:
                self._books.planned(step)
                await lanes.put(step)
        await lanes.drain()

    async def _begin(self, decision: Decision, lanes: Lanes) -> None:
        self._check_failures()
        if isinstance(decision, Agree):
            self._books.agreed(decision)
            return
        if decision.verb is Verb.COMPARE:
            await lanes.put(decision)
            return
        if decision.verb is Verb.DELETE:
            self._deleted[decision.towards] += 1
        if decision.verb is not Verb.COPY or decision.is_conflict:
            self._put_off(decision)
        else:
            self._books.planned(decision)
            await lanes.put(decision)

    def _put_off(self, step: Step) -> None:
        """Conflicts make objects that the listings must not show yet; removals wait until it is known how many there are."""
        if step.verb is not Verb.DELETE:
            self._books.planned(step)
        self._spool.append(step)

    def _settle(self, step: Step, outcome: Outcome) -> None:
        match outcome.result:
            case Result.DONE:
                self._books.done(step, outcome)
            case Result.SAME | Result.DIFFERENT:
                decision = after_comparison(self._rules, step, same=outcome.result is Result.SAME)
                if isinstance(decision, Agree):
                    self._books.agreed(decision)
                else:
                    self._put_off(decision)
            case Result.CHANGED:
                self._books.left_alone(step)
            case Result.FAILED | Result.AWAY:
                self._books.fail(step, outcome.error)

    def _refusal(self, merge: Merge) -> str:
        """Why nothing may be removed; empty: it may."""
        spec, counts = self._spec, {Side.A: merge.counts[Source.A], Side.B: merge.counts[Source.B]}
        paths = {Side.A: spec.a, Side.B: spec.b}
        for side, deleted in self._deleted.items():
            if not deleted:
                continue
            if not counts[side.other]:
                return (
                    f"{paths[side.other]} is empty, so nothing of {paths[side]} was removed: if that is meant, "
                    f"`headrace rm -r {paths[side]}`"
                )
            if not self._books.state.force and too_many(deleted, counts[side], spec.max_delete):
                return (
                    f"{deleted} of {counts[side]} objects of {paths[side]} would be removed, more than {spec.max_delete} %: "
                    f"nothing was removed; look at `headrace sync run {spec.name} --dry-run`, then add --force"
                )
        return ""

    def _check_failures(self) -> None:
        if self._books.failed >= MAX_FAILURES:
            raise Unavailable(f"{self._books.failed} objects could not be synced; the first: {self._books.first_error}")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            try:
                await self._books.commit()
            except HeadraceError as error:
                _log.warning("sync %s: its progress was not saved: %s", self._spec.name, error)

    async def _end(self, error: str) -> None:
        books = self._books
        ended_well = not error and not books.changed
        books.state = msgspec.structs.replace(
            books.state,
            ended_s=self._clock.time(),
            error=error,
            force=False,
            initial_done=books.state.initial_done or ended_well,
        )
        await asyncio.to_thread(self._table.put_state, self._spec.name, books.state)
