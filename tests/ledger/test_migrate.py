from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.ledger import Ledger
from headrace.ledger.migrate import Migration, known_migrations, migrate, schema_number, split_statements
from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.number for migration in known_migrations()] == list(range(1, len(known_migrations()) + 1))


def test_migrations_make_exactly_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    Ledger(tmp_path, SystemClock()).close()
    data = Database(tmp_path / "ledger.db")
    with data.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == {*schema.metadata.tables, "schema_history"}
        for name, table in schema.metadata.tables.items():
            columns = {c["name"]: (c["nullable"], bool(c["primary_key"])) for c in found.get_columns(name)}
            assert columns == {c.name: (bool(c.nullable), c.primary_key) for c in table.columns}, name
            assert {i["name"] for i in found.get_indexes(name)} == {i.name for i in table.indexes}, name
    data.close()


def test_opening_again_applies_nothing(tmp_path: Path) -> None:
    Ledger(tmp_path, SystemClock()).close()
    data = Database(tmp_path / "ledger.db")
    with data.write() as connection:
        assert migrate(connection, known_migrations(), now_s=0) == 0
    data.close()


def test_a_ledger_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, SystemClock()).close()
    data = Database(tmp_path / "ledger.db")
    with data.write() as connection:
        connection.execute(text("INSERT INTO schema_history VALUES (9999, 'later', 0)"))
    data.close()
    with pytest.raises(SettingsError, match="start the newer Headrace"):
        Ledger(tmp_path, SystemClock())


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    data = Database(tmp_path / "x.db")
    good = Migration(1, "good", ("CREATE TABLE a (x TEXT)",))
    bad = Migration(2, "bad", ("CREATE TABLE b (x TEXT)", "THIS IS NOT SQL"))
    with data.write() as connection:
        migrate(connection, (good,), now_s=0)
    with pytest.raises(Exception, match="syntax"), data.write() as connection:
        migrate(connection, (good, bad), now_s=0)
    with data.read() as connection:
        assert schema_number(connection) == 1
        assert not inspect(connection).has_table("b")
    data.close()


def test_statements_end_at_semicolons_at_line_ends() -> None:
    sql = "-- a; comment;\nCREATE TABLE a (\n  b TEXT DEFAULT ';x'\n);\n\nCREATE TABLE c (d TEXT);"
    assert split_statements(sql) == ("CREATE TABLE a (\n  b TEXT DEFAULT ';x'\n)", "CREATE TABLE c (d TEXT)")
