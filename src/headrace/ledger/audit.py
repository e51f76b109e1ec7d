"""What was changed and what was refused, bounded: the oldest entries make room."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, insert, select

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.records import AuditRecord
from headrace.model.clock import Clock

KEPT_ENTRIES = 10_000
_PRUNE_EVERY = 256


class AuditTable:
    """Append and read; pruned now and then, so it holds at most `kept` and a few hundred entries."""

    def __init__(self, database: Database, clock: Clock, *, kept: int = KEPT_ENTRIES) -> None:
        self._database = database
        self._clock = clock
        self._kept = kept
        self._since_prune = _PRUNE_EVERY

    def add(self, kind: str, *, actor: str, target: str, detail: str = "") -> None:
        table = schema.audit
        self._since_prune += 1
        with self._database.write() as connection:
            connection.execute(
                insert(table).values(
                    id=secrets.token_hex(8),
                    at_s=self._clock.time(),
                    kind=kind[:100],
                    actor=actor[:200],
                    target=target[:2000],
                    detail=detail[:2000],
                )
            )
            if self._since_prune >= _PRUNE_EVERY:
                self._since_prune = 0
                newest_gone = connection.execute(
                    select(table.c.at_s).order_by(table.c.at_s.desc()).offset(self._kept).limit(1)
                ).scalar_one_or_none()
                if newest_gone is not None:
                    connection.execute(delete(table).where(table.c.at_s <= newest_gone))

    def recent(self, limit: int = 100) -> tuple[AuditRecord, ...]:
        """The newest first."""
        table = schema.audit
        query = select(table.c.at_s, table.c.kind, table.c.actor, table.c.target, table.c.detail)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.at_s.desc()).limit(limit)).all()
        return tuple(AuditRecord(*row) for row in rows)
