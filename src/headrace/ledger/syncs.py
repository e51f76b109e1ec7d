"""Syncs, and the pairs of versions on which their sides last agreed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Row

from headrace.ledger import schema
from headrace.ledger.columns import put_row
from headrace.ledger.database import Database
from headrace.ledger.records import JobProgress, JobState
from headrace.ledger.sync_records import SyncPair, SyncRecord, SyncSpec, SyncState
from headrace.model.clock import Clock

_PAIRS = schema.sync_pairs
_PUT_PAIR = put_row(_PAIRS)
_DROP_PAIR = delete(_PAIRS).where(_PAIRS.c.sync == bindparam("of"), _PAIRS.c.key == bindparam("doomed"))
_FORGET_AT_ONCE = 10_000


class SyncTable:
    """One row a sync, and one for each of its objects. Pairs are read in pages and written in batches, never one by one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, spec: SyncSpec) -> SyncRecord | None:
        """A new sync; None when its name is taken."""
        record = SyncRecord(spec, SyncState(), self._clock.time(), False)
        with self._database.write() as connection:
            taken = connection.execute(select(schema.syncs.c.name).where(schema.syncs.c.name == spec.name)).first()
            if taken is not None:
                return None
            connection.execute(
                insert(schema.syncs).values(
                    name=spec.name, spec=spec, state=record.state, paused=False, created_s=record.created_s
                )
            )
        return record

    def get(self, name: str) -> SyncRecord | None:
        with self._database.read() as connection:
            row = connection.execute(select(schema.syncs).where(schema.syncs.c.name == name)).first()
        return None if row is None else _record(row)

    def all(self) -> tuple[SyncRecord, ...]:
        """By name."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.syncs).order_by(schema.syncs.c.name)).all()
        return tuple(_record(row) for row in rows)

    def put_state(self, name: str, state: SyncState) -> None:
        with self._database.write() as connection:
            connection.execute(update(schema.syncs).where(schema.syncs.c.name == name).values(state=state))

    def set_paused(self, name: str, paused: bool) -> bool:
        """Whether anything changed."""
        table = schema.syncs
        with self._database.write() as connection:
            changed = update(table).where(table.c.name == name, table.c.paused != paused).values(paused=paused)
            return connection.execute(changed).rowcount > 0

    def remove(self, name: str) -> bool:
        """Forget a sync and its pairs; whether there was one."""
        with self._database.write() as connection:
            gone = connection.execute(delete(schema.syncs).where(schema.syncs.c.name == name)).rowcount > 0
        some = select(_PAIRS.c.key).where(_PAIRS.c.sync == name).limit(_FORGET_AT_ONCE)
        while True:
            # In pieces: nobody else can write to the ledger meanwhile.
            with self._database.write() as connection:
                doomed = delete(_PAIRS).where(_PAIRS.c.sync == name, _PAIRS.c.key.in_(some))
                if connection.execute(doomed).rowcount < _FORGET_AT_ONCE:
                    return gone

    def pairs(self, name: str, *, after: str, limit: int) -> tuple[SyncPair, ...]:
        """The pairs behind the key `after`, at most `limit`, by the bytes of their keys."""
        query = select(_PAIRS.c.key, _PAIRS.c.a, _PAIRS.c.b).where(_PAIRS.c.sync == name, _PAIRS.c.key > after)
        with self._database.read() as connection:
            return tuple([SyncPair(*row) for row in connection.execute(query.order_by(_PAIRS.c.key).limit(limit))])

    def commit(
        self, name: str, state: SyncState, agreed: Sequence[SyncPair], dropped: Sequence[str], job: tuple[str, JobProgress]
    ) -> None:
        """Write in one transaction what was done since the last: so the counts are those of the pairs, after a crash too."""
        job_id, progress = job
        with self._database.write() as connection:
            if agreed:
                connection.execute(_PUT_PAIR, [{"sync": name, "key": pair.key, "a": pair.a, "b": pair.b} for pair in agreed])
            if dropped:
                connection.execute(_DROP_PAIR, [{"of": name, "doomed": key} for key in dropped])
            connection.execute(update(schema.syncs).where(schema.syncs.c.name == name).values(state=state))
            connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id)
                .values(state=JobState.RUNNING, progress=progress, updated_s=self._clock.time())
            )


def _record(row: Row[Any]) -> SyncRecord:
    return SyncRecord(row.spec, row.state, row.created_s, row.paused)
