"""Access keys. Secrets lie encrypted in the database and are readable only with the key file beside it."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.mounts import raise_epoch
from headrace.ledger.secrets import SecretBox
from headrace.model.clock import Clock


class StoredKey(msgspec.Struct, frozen=True):
    """A key with its secret in the clear."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"StoredKey(id={self.id!r}, secret='***')"


class KeyTable:
    """Keys by id."""

    def __init__(self, database: Database, clock: Clock, box: SecretBox) -> None:
        self._database = database
        self._clock = clock
        self._box = box

    def all(self) -> tuple[StoredKey, ...]:
        """By id. Raises `CorruptData` when the key file does not fit."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.access_keys).order_by(schema.access_keys.c.id)).mappings().all()
        return tuple(StoredKey(row["id"], self._box.open(row["secret"])) for row in rows)

    def add(self, key_id: str, secret: str) -> bool:
        """Whether the id was free."""
        sealed = self._box.seal(secret)
        with self._database.write() as connection:
            taken = connection.execute(select(schema.access_keys.c.id).where(schema.access_keys.c.id == key_id)).first()
            if taken is not None:
                return False
            connection.execute(insert(schema.access_keys).values(id=key_id, secret=sealed, created_s=self._clock.time()))
            raise_epoch(connection)
            return True

    def remove(self, key_id: str) -> bool:
        """Whether there was one."""
        with self._database.write() as connection:
            gone = connection.execute(delete(schema.access_keys).where(schema.access_keys.c.id == key_id)).rowcount > 0
            if gone:
                raise_epoch(connection)
            return gone
