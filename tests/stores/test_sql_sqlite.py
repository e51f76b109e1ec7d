"""SQLite tables as Parquet objects: right values, one snapshot, versions that follow the bytes."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.clock import SystemClock
from headrace.model.errors import (
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    NoSpace,
    NotFound,
    SettingsError,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.mounts import MountSpec, Residency
from headrace.model.objects import ByteRange, CommonPrefix, Version
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.sql import SqlStore
from headrace.stores.sql_source import table_key
from headrace.stores.store import Store


class Base:
    """A database file, and a store over it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.db"
        self.queries = folder / "queries"
        self.queries.mkdir()
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.opened: list[Store] = []

    def open(self, **options: object) -> Store:
        spec = MountSpec("/q", f"sql://{self.path}", queries=str(self.queries), **options)  # type: ignore[arg-type]  # of tests
        self.opened.append(store := open_store(spec, environ={}, clock=SystemClock()))
        return store

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[Base]:
    made = Base(tmp_path)
    yield made
    made.connection.close()
    for store in made.opened:
        await store.close()


async def table_of(store: Store, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(await read_all(store, key)))


async def test_values_come_out_as_they_are(base: Base) -> None:
    base.run(
        "CREATE TABLE t (i INTEGER PRIMARY KEY, r REAL, s TEXT, b BLOB, mixed, none_yet DOUBLE, big NUMERIC, every)",
        "INSERT INTO t VALUES (1, 1.5, 'gr\u00fcn', x'00ff', 1, NULL, 9007199254740993, 'x')",
        "INSERT INTO t VALUES (2, 2, NULL, NULL, 'two', NULL, 0.5, x'01')",
    )
    found = await table_of(base.open(), "tables/t.parquet")
    assert found.schema.types == [
        pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.string(), pa.float64(), pa.string(), pa.binary()
    ]  # fmt: skip
    assert [list(row.values()) for row in found.to_pylist()] == [
        [1, 1.5, "gr\u00fcn", b"\x00\xff", "1", None, "9007199254740993", b"x"],
        [2, 2.0, None, None, "two", None, "0.5", b"\x01"],
    ]


async def test_tables_views_and_queries_are_listed_under_their_names(base: Base) -> None:
    base.run("CREATE TABLE 'a/b' (x)", "CREATE TABLE plain (x)", "CREATE VIEW v AS SELECT 1 AS one", "CREATE TABLE '..' (x)")
    (base.queries / "q.sql").write_text("SELECT 2 AS two -- a comment\n;")
    (base.queries / "ignored.txt").write_text("x")
    store = base.open()
    listed = (await store.list()).entries
    wanted = ["queries/q.parquet", "tables/%2E%2E.parquet", "tables/a%2Fb.parquet", "tables/plain.parquet", "tables/v.parquet"]
    assert [entry.key for entry in listed] == wanted
    assert (await store.list(delimiter="/")).entries == (CommonPrefix("queries/"), CommonPrefix("tables/"))
    first = await store.list("tables/", limit=2)
    assert [entry.key for entry in first.entries] == wanted[1:3]
    assert first.after is not None
    assert [entry.key for entry in (await store.list("tables/", after=first.after)).entries] == wanted[3:]
    assert (await table_of(store, "queries/q.parquet")).to_pylist() == [{"two": 2}]
    for entry in listed:
        info = await store.info(entry.key)
        assert info == entry
        assert len(await read_all(store, entry.key, version=info.version)) == info.size


async def test_a_version_is_its_bytes_and_is_the_same_for_every_process(base: Base) -> None:
    base.run("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    store, other = base.open(), base.open(residency=Residency.NONE)
    first = await store.info("tables/t.parquet")
    assert await store.info("tables/t.parquet") == first
    assert (await other.info("tables/t.parquet")).version == first.version
    base.run("UPDATE t SET x = 2")
    second = await store.info("tables/t.parquet")
    assert second.version != first.version
    with pytest.raises(VersionChanged):
        await store.read("tables/t.parquet", version=first.version)
    base.run("UPDATE t SET x = 1")
    assert (await store.info("tables/t.parquet")).version == first.version


async def test_ranges_join_to_the_whole_and_an_outlying_one_is_invalid(base: Base) -> None:
    base.run(
        "CREATE TABLE t (x)",
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i FROM n",
    )
    store = base.open()
    info = await store.info("tables/t.parquet")
    whole = await read_all(store, info.key)
    assert b"".join([await read_all(store, info.key, ByteRange(at, at + 1000)) for at in range(0, info.size, 1000)]) == whole
    with pytest.raises(InvalidRange) as caught:
        await store.read(info.key, ByteRange(info.size, info.size + 1))
    assert caught.value.size == info.size


async def test_an_unchanged_table_is_not_read_again_and_a_view_is(base: Base) -> None:
    base.run("CREATE TABLE t (x)", "CREATE VIEW v AS SELECT random() AS x")
    store = base.open()
    assert isinstance(store, SqlStore)
    made = store._known
    await store.info("tables/t.parquet")
    first = made["tables/t.parquet"].made
    await store.info("tables/t.parquet")
    assert made["tables/t.parquet"].made is first
    assert (await store.info("tables/v.parquet")).version != (await store.info("tables/v.parquet")).version


async def test_a_reader_keeps_its_snapshot_while_the_table_changes(base: Base) -> None:
    base.run("PRAGMA journal_mode = WAL", "CREATE TABLE a (x)", "INSERT INTO a VALUES (0)")
    (base.queries / "both.sql").write_text("SELECT x, (SELECT x FROM a) AS again FROM a")
    store = base.open(freshness="verify")
    seen = set()

    async def change() -> None:
        for turn in range(1, 60):
            base.run(f"UPDATE a SET x = {turn}")
            await asyncio.sleep(0)

    changing = asyncio.ensure_future(change())
    while not changing.done():
        (row,) = (await table_of(store, "queries/both.parquet")).to_pylist()
        assert row["x"] == row["again"]
        seen.add(row["x"])
    assert (await table_of(store, "queries/both.parquet")).to_pylist() == [{"x": 59, "again": 59}]


async def test_a_look_that_had_begun_does_not_serve_later_callers(base: Base) -> None:
    base.run("CREATE TABLE t (x)", "INSERT INTO t VALUES (0)")
    store = base.open()
    for turn in range(1, 30):
        early = asyncio.ensure_future(store.info("tables/t.parquet"))
        await asyncio.sleep(0.001 * (turn % 3))
        base.run(f"UPDATE t SET x = {turn}")
        assert (await table_of(store, "tables/t.parquet")).to_pylist() == [{"x": turn}]
        await early


async def test_a_database_that_was_replaced_is_opened_anew(base: Base, tmp_path: Path) -> None:
    base.run("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    store = base.open()
    await store.info("tables/t.parquet")
    with sqlite3.connect(tmp_path / "new.db", isolation_level=None) as other:
        other.execute("CREATE TABLE t (y)")
    other.close()
    (tmp_path / "new.db").rename(base.path)
    assert (await table_of(store, "tables/t.parquet")).column_names == ["y"]


@pytest.mark.parametrize("residency", [Residency.DISK, Residency.NONE])
async def test_the_spool_is_bounded_and_what_lost_its_place_is_made_again(base: Base, residency: Residency) -> None:
    fill = (
        "INSERT INTO {} WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT randomblob(100) FROM n"
    )
    for name in "abc":
        base.run(f"CREATE TABLE {name} (x)", fill.format(name))
    base.run("CREATE TABLE huge (x)", *(fill.format("huge") for _ in range(4)))
    store = base.open(spool="700KiB", residency=residency)
    assert isinstance(store, SqlStore)
    infos = [await store.info(f"tables/{name}.parquet") for name in "abc"]
    assert sum(one.made.size for one in store._known.values() if one.made is not None) <= 700 * 1024
    assert store._known["tables/a.parquet"].made is None
    for info in infos:
        assert len(await read_all(store, info.key, version=info.version)) == info.size
    with pytest.raises(NoSpace, match="raise spool"):
        await store.info("tables/huge.parquet")


async def test_only_residency_disk_spools_to_one(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    base.run("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    made: list[object] = []
    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: made.append(file := temporary()) or file)
    for residency in (Residency.MEMORY, Residency.NONE):
        await read_all(base.open(residency=residency), "tables/t.parquet")
    assert made == []
    await read_all(base.open(residency=Residency.DISK), "tables/t.parquet")
    assert len(made) == 1


async def test_a_mount_that_is_taken_away_ends_what_it_reads(base: Base) -> None:
    (base.queries / "long.sql").write_text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT sum(i) AS s FROM n"
    )
    store = base.open()
    look = asyncio.ensure_future(store.info("queries/long.parquet"))
    while not (isinstance(store, SqlStore) and store._turn.locked() and not store._waiting):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await asyncio.wait_for(store.close(), 10)
    with pytest.raises(HeadraceError):
        await look


async def test_memory_holds_one_row_group_not_the_table(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    base.run(
        "CREATE TABLE t (x)",
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400) SELECT zeroblob(1000000) FROM n",
    )
    store = base.open()
    file = pq.ParquetFile(io.BytesIO(await read_all(store, "tables/t.parquet")))
    assert file.metadata.num_row_groups > 1
    assert max(file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)) <= 256


@pytest.mark.parametrize(
    "key", ["absent", "tables/absent.parquet", "tables/t", "tables//t.parquet", "queries/t.parquet", "a/../tables/t.parquet"]
)
async def test_what_is_no_table_is_not_found(base: Base, key: str) -> None:
    base.run("CREATE TABLE t (x)")
    store = base.open()
    for verb in (store.info, store.read, store.tags):
        with pytest.raises(NotFound):
            await verb(key)


async def test_keys_that_no_store_holds_are_invalid_and_only_our_errors_come_out(base: Base) -> None:
    base.run("CREATE TABLE t (x)")
    store = base.open()
    for key in ("", "x" * 1025, "a\ud800b"):
        with pytest.raises(InvalidKey):
            await store.info(key)
    for text in ("\0", "a\0b", "\ud800", "x" * 3000, "//", "..", "\r\nx: y"):
        for verb in (store.info, store.read, store.list):
            try:
                await verb(text)
            except HeadraceError as error:
                assert "\n" not in str(error)
    with pytest.raises(VersionChanged):
        await store.read("tables/t.parquet", version=Version("nonsense"))


async def test_a_dropped_table_is_gone_and_its_old_version_too(base: Base) -> None:
    base.run("CREATE TABLE t (x)")
    store = base.open()
    info = await store.info("tables/t.parquet")
    base.run("DROP TABLE t")
    with pytest.raises(NotFound):
        await store.info("tables/t.parquet")
    with pytest.raises(NotFound):
        await store.read("tables/t.parquet", version=info.version)
    assert (await store.list()).entries == ()


async def test_nothing_is_ever_written(base: Base) -> None:
    base.run("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    for name, text in (("drop", "DROP TABLE t"), ("two", "SELECT 1; DELETE FROM t"), ("wrong", "SELECT nothing FROM t")):
        (base.queries / f"{name}.sql").write_text(text)
        with pytest.raises(Unsupported):
            await base.open().info(f"queries/{name}.parquet")
    assert base.connection.execute("SELECT count(*) FROM t").fetchone() == (1,)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(lambda path: path.unlink(), Unavailable), (lambda path: path.write_bytes(b"no database at all" * 100), CorruptData)],
    ids=["away", "no database"],
)
async def test_a_database_that_cannot_be_read_is_never_empty(
    base: Base, spoil: Callable[[Path], object], kind: type[HeadraceError]
) -> None:
    base.run("CREATE TABLE t (x)")
    store = base.open()
    await store.info("tables/t.parquet")
    base.connection.close()
    base.path.unlink()
    base.path.touch()
    spoil(base.path)
    for verb in (store.info, store.read, store.list):
        with pytest.raises(kind):
            await verb("tables/t.parquet")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sql://ann:PLANTED@host/x", "credentials do not belong"),
        ("sql:///a.db?password=PLANTED", "no query"),
        ("sql://host", "write sql:///path/file.db"),
        ("sql://host/a/b/c", "write sql:///path/file.db"),
        ("sql://169.254.169.254/x", "metadata"),
    ],
)
def test_a_wrong_url_is_refused_by_name(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_store(MountSpec("/q", url), environ={}, clock=SystemClock())
    assert "PLANTED" not in str(caught.value)


async def test_queries_that_cannot_be_read_are_said(base: Base, tmp_path: Path) -> None:
    (base.queries / "long.sql").write_text("SELECT 1" + " " * 70_000)
    with pytest.raises(SettingsError, match="longer than"):
        await base.open().list()
    spec = MountSpec("/q", f"sql://{base.path}", queries=str(tmp_path / "absent"))
    base.opened.append(store := open_store(spec, environ={}, clock=SystemClock()))
    with pytest.raises(SettingsError, match="absent"):
        await store.list()


@settings(deadline=None)
@given(st.lists(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=2), min_size=2, max_size=2))
def test_names_become_keys_that_stay_apart_and_have_no_other_segments(pair: list[list[str]]) -> None:
    first, second = (table_key(*names) for names in pair)
    assert (first == second) == (pair[0] == pair[1])
    assert len(first.split("/")) == 3
    assert not {".", ".."} & set(first.removesuffix(".parquet").split("/"))
