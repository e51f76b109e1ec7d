"""Syncs, and the pairs of versions on which their sides last agreed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.engine import RowMapping

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.records import JobProgress, JobState
from headrace.ledger.sync_records import SyncPair, SyncRecord, SyncSpec, SyncState
from headrace.model.clock import Clock

_PUT_PAIR = text(
    "INSERT INTO sync_pairs (sync, key, a, b) VALUES (:sync, :key, :a, :b) "
    "ON CONFLICT (sync, key) DO UPDATE SET a = excluded.a, b = excluded.b"
)
_DROP_PAIR = text("DELETE FROM sync_pairs WHERE sync = :sync AND key = :key")
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
                    name=spec.name, spec=_text(spec), state=_text(record.state), paused=0, created_s=record.created_s
                )
            )
        return record

    def get(self, name: str) -> SyncRecord | None:
        with self._database.read() as connection:
            row = connection.execute(select(schema.syncs).where(schema.syncs.c.name == name)).mappings().first()
        return None if row is None else _record(row)

    def all(self) -> tuple[SyncRecord, ...]:
        """By name."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.syncs).order_by(schema.syncs.c.name)).mappings().all()
        return tuple(_record(row) for row in rows)

    def put_state(self, name: str, state: SyncState) -> None:
        with self._database.write() as connection:
            connection.execute(update(schema.syncs).where(schema.syncs.c.name == name).values(state=_text(state)))

    def set_paused(self, name: str, paused: bool) -> bool:
        """Whether anything changed."""
        table = schema.syncs
        with self._database.write() as connection:
            changed = update(table).where(table.c.name == name, table.c.paused != int(paused)).values(paused=int(paused))
            return connection.execute(changed).rowcount > 0

    def remove(self, name: str) -> bool:
        """Forget a sync and its pairs; whether there was one."""
        with self._database.write() as connection:
            gone = connection.execute(delete(schema.syncs).where(schema.syncs.c.name == name)).rowcount > 0
        pairs = schema.sync_pairs
        some = select(pairs.c.key).where(pairs.c.sync == name).limit(_FORGET_AT_ONCE)
        while True:
            # In pieces: nobody else can write to the ledger meanwhile.
            with self._database.write() as connection:
                doomed = delete(pairs).where(pairs.c.sync == name, pairs.c.key.in_(some))
                if connection.execute(doomed).rowcount < _FORGET_AT_ONCE:
                    return gone

    def pairs(self, name: str, *, after: str, limit: int) -> tuple[SyncPair, ...]:
        """The pairs behind the key `after`, at most `limit`, by the bytes of their keys."""
        table = schema.sync_pairs
        query = select(table.c.key, table.c.a, table.c.b).where(table.c.sync == name, table.c.key > after)
        with self._database.read() as connection:
            return tuple([SyncPair(*row) for row in connection.execute(query.order_by(table.c.key).limit(limit))])

    def commit(
        self, name: str, state: SyncState, agreed: Sequence[SyncPair], dropped: Sequence[str], job: tuple[str, JobProgress]
    ) -> None:
        """Write in one transaction what was done since the last: so the counts are those of the pairs, after a crash too."""
        job_id, progress = job
        with self._database.write() as connection:
            if agreed:
                connection.execute(_PUT_PAIR, [{"sync": name, "key": pair.key, "a": pair.a, "b": pair.b} for pair in agreed])
            if dropped:
                connection.execute(_DROP_PAIR, [{"sync": name, "key": key} for key in dropped])
            connection.execute(update(schema.syncs).where(schema.syncs.c.name == name).values(state=_text(state)))
            connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id)
                .values(state=JobState.RUNNING.value, progress=_text(progress), updated_s=self._clock.time())
            )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _record(row: RowMapping) -> SyncRecord:
    return SyncRecord(
        msgspec.json.decode(row["spec"], type=SyncSpec),
        msgspec.json.decode(row["state"], type=SyncState),
        row["created_s"],
        bool(row["paused"]),
    )
