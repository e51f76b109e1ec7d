from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from headrace.ledger import database
from headrace.ledger.database import Database, journal_mode, sqlite_module, sqlite_release
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.errors import CorruptData, Unavailable
from headrace.model.mounts import MountSpec


def test_wal_is_used_only_where_sqlite_keeps_what_it_committed() -> None:
    assert journal_mode((3, 51, 2)) == "DELETE"
    assert journal_mode((3, 51, 3)) == "WAL"
    assert journal_mode((4, 0, 0)) == "WAL"


def test_an_old_sqlite_is_named_and_the_ledger_works_without_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "sqlite_release", lambda: (3, 40, 1))
    opened = Ledger(tmp_path, SystemClock())
    opened.state.put_mount(MountSpec("/a", "s3://a"), expected=None)
    opened.close()
    assert "3.40.1" in caplog.text
    assert "pysqlite3" in caplog.text
    with closing(sqlite_module().connect(tmp_path / "ledger.db")) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_the_bundled_sqlite_is_safe() -> None:
    assert sqlite_release() >= (3, 51, 3)


def test_ledger_is_readable_by_its_owner_only(ledger: Ledger, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "ledger.db").stat().st_mode) == 0o600


def test_a_locked_ledger_says_so(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.05)
    other = Ledger(tmp_path, SystemClock())
    with closing(sqlite_module().connect(tmp_path / "ledger.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process held it"):
            other.state.put_mount(MountSpec("/a", "s3://a"), expected=None)
        assert other.state.mounts() == ()
        holder.execute("ROLLBACK")
    other.state.put_mount(MountSpec("/a", "s3://a"), expected=None)
    other.close()


def test_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(CorruptData, match="restore it from a backup"):
        Ledger(tmp_path, SystemClock())


def test_a_home_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(Unavailable, match=r"check .server. home"):
        Ledger(tmp_path / "home", SystemClock())


def test_a_full_disk_fails_the_change_and_keeps_the_rest(ledger: Ledger, tmp_path: Path) -> None:
    ledger.state.put_mount(MountSpec("/kept", "s3://a"), expected=None)
    with pytest.raises(Unavailable, match="disk is full"), ledger._database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(5000):
            connection.exec_driver_sql("INSERT INTO facts VALUES (?, ?)", (str(number), "x" * 500))
    assert [mount.path for mount in ledger.state.mounts()] == ["/kept"]


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    data = Database(tmp_path / "x.db")
    with data.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a TEXT)")
    with pytest.raises(ZeroDivisionError), data.write() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES ('a')")
        raise ZeroDivisionError
    with data.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 0
    data.close()


_WRITER = """
import sys
from pathlib import Path
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
ledger = Ledger(Path(sys.argv[1]), SystemClock())
number = 0
while True:
    ledger.state.put_mount(MountSpec(f"/m{number:06}", "s3://a"), expected=None)
    print(number, flush=True)
    number += 1
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = -1
    try:
        while seen < 40:
            seen = int(process.stdout.readline())
    finally:
        os.kill(process.pid, 9)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
    seen = max([seen, *(int(word) for word in rest)])
    ledger = Ledger(tmp_path, SystemClock())
    paths = [mount.path for mount in ledger.state.mounts()]
    assert paths[: seen + 1] == [f"/m{number:06}" for number in range(seen + 1)]
    assert ledger.state.epoch() == len(paths)
    with ledger._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    ledger.close()
