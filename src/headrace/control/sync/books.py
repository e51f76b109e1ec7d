"""What a run has done, written down in batches: pairs, counts and progress in one transaction."""

from __future__ import annotations

import asyncio

import msgspec

from headrace.control.sync.planner import Agree
from headrace.control.sync.steps import Outcome, Side, Step, Verb
from headrace.ledger.records import JobProgress
from headrace.ledger.sync_records import SyncCounts, SyncPair, SyncState
from headrace.ledger.syncs import SyncTable
from headrace.model.errors import HeadraceError

COMMIT_AT = 20_000
"""So many pairs wait at most to be written down while a plan is made: a disk that takes its time holds nothing up until then."""


class Books:
    """Counts go on where `saved`, the progress of a run that a crash broke off, left them."""

    def __init__(self, table: SyncTable, name: str, state: SyncState, job_id: str, saved: JobProgress) -> None:
        self.state = state
        self.failed = 0
        self.first_error = ""
        self.changed = 0
        """Steps of this pass that were left alone since a side was not what the plan saw."""
        self.all_known = False
        self._table = table
        self._name = name
        self._job_id = job_id
        self._known = self._done = (saved.objects_done, saved.bytes_done)
        self._pairs: list[SyncPair] = []
        self._dropped: list[str] = []
        self._counts = SyncCounts()
        self._writing = asyncio.Lock()

    @property
    def is_full(self) -> bool:
        return len(self._pairs) + len(self._dropped) >= COMMIT_AT

    def progress(self) -> JobProgress:
        return JobProgress(
            objects_done=self._done[0],
            bytes_done=self._done[1],
            objects_failed=self.failed,
            objects_known=self._known[0],
            bytes_known=self._known[1],
            all_known=self.all_known,
        )

    def planned(self, step: Step) -> None:
        """A step that changes something is to be done."""
        self._known = (self._known[0] + 1, self._known[1] + step.size)

    def left_alone(self, step: Step) -> None:
        """A step is not done in this pass."""
        self.changed += 1
        if step.verb is not Verb.COMPARE:
            self._known = (self._known[0] - 1, self._known[1] - step.size)

    def agreed(self, decision: Agree) -> None:
        """Both sides are alike without anything being done."""
        if decision.is_gone:
            self._dropped.append(decision.pair.key)
            return
        self._pairs.append(decision.pair)
        self._counts = self._counts.plus(SyncCounts(agreed=1))

    def done(self, step: Step, outcome: Outcome) -> None:
        """A step was done."""
        self._pairs += outcome.pairs
        self._done = (self._done[0] + 1, self._done[1] + step.size)
        if step.verb is Verb.DELETE:
            self._dropped.append(step.key)
            counts = SyncCounts(deleted_a=1) if step.towards is Side.A else SyncCounts(deleted_b=1)
        else:
            both, to_b = step.verb is Verb.KEEP_BOTH, step.towards is Side.B
            counts = SyncCounts(
                to_b=int(to_b or both),
                to_a=int(not to_b or both),
                bytes=outcome.bytes,
                conflicts=int(step.is_conflict),
                verified=int(outcome.verified),
            )
        self._counts = self._counts.plus(counts)

    def fail(self, step: Step, error: str) -> None:
        """A step could not be done."""
        self.failed += 1
        self.first_error = self.first_error or f"{step.key}: {error}"

    async def commit(self) -> None:
        """Write down what was done since the last time. Raises `Unavailable`; nothing is forgotten then."""
        async with self._writing:
            pairs, dropped, counts = self._pairs, self._dropped, self._counts
            self._pairs, self._dropped, self._counts = [], [], SyncCounts()
            state = self.state.counted(counts)
            try:
                await asyncio.to_thread(self._table.commit, self._name, state, pairs, dropped, (self._job_id, self.progress()))
            except HeadraceError:
                self._pairs, self._dropped = pairs + self._pairs, dropped + self._dropped
                self._counts = counts.plus(self._counts)
                raise
            self.state = msgspec.structs.replace(self.state, initial=state.initial, live=state.live)
