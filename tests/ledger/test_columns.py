"""Columns give back what was put in, and a row takes the place of the one that has its key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select, text

from headrace.ledger import schema
from headrace.ledger.columns import put_row
from headrace.ledger.database import Database
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobProgress, JobRecord, JobState
from headrace.ledger.sync_records import SyncSpec, SyncState
from headrace.model.clock import SystemClock


@pytest.fixture
def database(tmp_path: Path) -> Database:
    Ledger(tmp_path, SystemClock()).close()
    return Database(tmp_path / "ledger.db")


def test_values_are_plain_text_and_numbers_in_the_file_and_values_again_in_the_code(database: Database) -> None:
    spec, state = SyncSpec("s", "/a", "/b"), SyncState(objects_a=7)
    with database.write() as connection:
        connection.execute(insert(schema.syncs).values(name="s", spec=spec, state=state, paused=True, created_s=1.5))
    with database.read() as connection:
        plain = connection.execute(text("SELECT spec, state, paused FROM syncs")).one()
        found = connection.execute(select(schema.syncs)).one()
    assert plain == (msgspec.json.encode(spec).decode(), msgspec.json.encode(state).decode(), 1)
    assert (found.spec, found.state, found.paused) == (spec, state, True)
    database.close()


def test_what_is_no_such_value_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO syncs VALUES ('s', '{\"name\": 1}', '{}', 0, 0)"))
    with pytest.raises(msgspec.ValidationError), database.read() as connection:
        connection.execute(select(schema.syncs)).all()
    database.close()


def test_the_columns_of_jobs_are_the_fields_of_their_records(database: Database) -> None:
    assert [column.name for column in schema.jobs.columns] == list(JobRecord.__struct_fields__)
    record = JobRecord("j", "sync", "s", JobState.FAILED, JobProgress(objects_done=3), "away", 1.0, 2.0)
    with database.write() as connection:
        connection.execute(insert(schema.jobs).values(msgspec.structs.asdict(record)))
        assert JobRecord(*connection.execute(select(schema.jobs)).one()) == record
    database.close()


def test_a_row_takes_the_place_of_the_one_with_its_key(database: Database) -> None:
    rows = [{"sync": "s", "key": key, "a": "1", "b": "2"} for key in ("k", "l")]
    with database.write() as connection:
        connection.execute(put_row(schema.sync_pairs), rows)
        connection.execute(put_row(schema.sync_pairs), [{"sync": "s", "key": "k", "a": "3", "b": "4"}])
        assert connection.execute(select(schema.sync_pairs).order_by(schema.sync_pairs.c.key)).all() == [
            ("s", "k", "3", "4"),
            ("s", "l", "1", "2"),
        ]
    database.close()
