"""Mounts, rules, pins and the epoch, which numbers the state of a node."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.model.clock import Clock
from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule


class StateTables:
    """Every change that the processes of a node must know of raises the epoch in the same transaction; a pin is none."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def epoch(self) -> int:
        with self._database.read() as connection:
            return _epoch(connection)

    def mounts(self) -> tuple[MountSpec, ...]:
        """By path."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.mounts.c.spec).order_by(schema.mounts.c.path)).scalars().all()
        return tuple(rows)

    def put_mount(self, spec: MountSpec, *, expected: MountSpec | None) -> bool:
        """Write `spec` if the mount at its path is still `expected` (None: there is none); whether it was."""
        table = schema.mounts
        now = self._clock.time()
        with self._database.write() as connection:
            current = connection.execute(select(table.c.spec).where(table.c.path == spec.path)).scalar_one_or_none()
            if current != expected:
                return False
            if current is None:
                connection.execute(insert(table).values(path=spec.path, spec=spec, created_s=now, updated_s=now))
            else:
                connection.execute(update(table).where(table.c.path == spec.path).values(spec=spec, updated_s=now))
            raise_epoch(connection)
            return True

    def delete_mount(self, path: str) -> bool:
        """Whether there was one."""
        with self._database.write() as connection:
            gone = connection.execute(delete(schema.mounts).where(schema.mounts.c.path == path)).rowcount > 0
            if gone:
                raise_epoch(connection)
            return gone

    def rules(self) -> tuple[Rule, ...]:
        """In order of writing."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.rules.c.rule).order_by(schema.rules.c.position)).scalars().all()
        return tuple(rows)

    def pins(self) -> tuple[str, ...]:
        with self._database.read() as connection:
            return tuple(connection.execute(select(schema.pins.c.path).order_by(schema.pins.c.path)).scalars().all())

    def set_pin(self, path: str, on: bool) -> bool:
        """Whether anything changed."""
        table = schema.pins
        with self._database.write() as connection:
            present = connection.execute(select(table.c.path).where(table.c.path == path)).first() is not None
            if present == on:
                return False
            if on:
                connection.execute(insert(table).values(path=path, created_s=self._clock.time()))
            else:
                connection.execute(delete(table).where(table.c.path == path))
            return True


def _epoch(connection: Connection) -> int:
    value = connection.execute(select(schema.facts.c.value).where(schema.facts.c.name == "epoch")).scalar_one_or_none()
    return int(value) if value is not None else 0


def raise_epoch(connection: Connection) -> None:
    """The state of the node changes with this transaction."""
    epoch = _epoch(connection)
    if epoch == 0:
        connection.execute(insert(schema.facts).values(name="epoch", value="1"))
    else:
        connection.execute(update(schema.facts).where(schema.facts.c.name == "epoch").values(value=str(epoch + 1)))
