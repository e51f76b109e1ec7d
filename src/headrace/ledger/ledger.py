"""The durable state of a node's control plane. No other room speaks SQL."""

from __future__ import annotations

from pathlib import Path

from headrace.ledger.audit import AuditTable
from headrace.ledger.database import Database
from headrace.ledger.jobs import JobTable
from headrace.ledger.keys import KeyTable
from headrace.ledger.migrate import known_migrations, migrate, schema_number
from headrace.ledger.mounts import StateTables
from headrace.ledger.secrets import SecretBox
from headrace.ledger.syncs import SyncTable
from headrace.model.clock import Clock


class Ledger:
    """`ledger.db` under `home`, brought to this release's schema.

    Every write is durable when its call returns and whole or absent after a crash. Raises `Unavailable`
    (locked, disk full), `CorruptData`, `AccessDenied` or `SettingsError` (written by a newer release).
    Calls block for a disk write: an event loop hands them to a thread.
    """

    def __init__(self, home: Path, clock: Clock) -> None:
        self._database = Database(home / "ledger.db")
        migrations = known_migrations()
        with self._database.read() as connection:
            current = schema_number(connection)
        if current != migrations[-1].number:
            with self._database.write() as connection:
                migrate(connection, migrations, now_s=clock.time())
        self.state = StateTables(self._database, clock)
        self.keys = KeyTable(self._database, clock, SecretBox(home / "secret.key"))
        self.jobs = JobTable(self._database, clock)
        self.syncs = SyncTable(self._database, clock)
        self.audit = AuditTable(self._database, clock)

    def close(self) -> None:
        self._database.close()
