"""Numbered migrations: named SQL files, each applied once, in order, in the transaction that records it."""

from __future__ import annotations

import re
from importlib import resources

import msgspec
from sqlalchemy import Connection, inspect, text

from headrace.model.errors import SettingsError

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    number: int
    name: str
    statements: tuple[str, ...]


def split_statements(sql: str) -> tuple[str, ...]:
    """Statements of a migration file: comments dropped, each ends with a semicolon at a line's end."""
    kept = "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return tuple(part.strip() for part in re.split(r";[ \t]*(?:\n|$)", kept) if part.strip())


def known_migrations() -> tuple[Migration, ...]:
    """All migrations of this release, by number."""
    found: list[Migration] = []
    for entry in (resources.files("headrace.ledger") / "migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is not None:
            sql = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match.group(1)), match.group(2), split_statements(sql)))
    return tuple(sorted(found, key=lambda migration: migration.number))


def schema_number(connection: Connection) -> int:
    """The number of the last migration applied; 0 for an empty database."""
    if not inspect(connection).has_table("schema_history"):
        return 0
    return int(connection.execute(text("SELECT COALESCE(MAX(number), 0) FROM schema_history")).scalar_one())


def migrate(connection: Connection, migrations: tuple[Migration, ...], *, now_s: float) -> int:
    """Bring the schema up inside the caller's transaction; how many migrations were applied.

    Raises `SettingsError` when the database was written by a newer release.
    """
    current = schema_number(connection)
    newest = migrations[-1].number
    if current > newest:
        raise SettingsError(
            f"the ledger has schema {current} and this Headrace knows {newest}: start the newer Headrace that wrote it"
        )
    if current == 0:
        connection.execute(
            text(
                "CREATE TABLE schema_history "
                "(number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_s DOUBLE PRECISION NOT NULL)"
            )
        )
    due = [migration for migration in migrations if migration.number > current]
    for migration in due:
        for statement in migration.statements:
            connection.execute(text(statement))
        connection.execute(
            text("INSERT INTO schema_history (number, name, applied_s) VALUES (:number, :name, :applied_s)"),
            {"number": migration.number, "name": migration.name, "applied_s": now_s},
        )
    return len(due)
