"""PostgreSQL tables as Parquet objects, against a real server."""

from __future__ import annotations

import asyncio
import datetime
import io
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, NotFound, SettingsError, Unavailable, Unsupported, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.sql import SqlStore
from headrace.stores.store import Store
from support.postgres import USER, PostgresServer, postgres
from support.processes import free_port

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture
def owner(server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with server.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s")
        yield connection


def open_sql(server: PostgresServer, schema: str = "", **options: object) -> SqlStore:
    spec = MountSpec("/q", f"{server.url}{schema}", credentials="env:P", **options)  # type: ignore[arg-type]  # of tests
    store = open_store(spec, environ=server.environ, clock=SystemClock())
    assert isinstance(store, SqlStore)
    return store


@pytest.fixture
async def store(server: PostgresServer, owner: object) -> AsyncIterator[SqlStore]:
    made = open_sql(server)
    yield made
    await made.close()


async def table_of(store: Store, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(await read_all(store, key)))


async def test_values_of_every_kind_come_out_as_they_are(store: SqlStore, owner: psycopg.Connection[tuple[object, ...]]) -> None:
    owner.execute(
        "CREATE TABLE s.t AS SELECT true AS b, 1::int2 AS i2, 2 AS i4, 3::int8 AS i8, 0.5::float4 AS f4, 0.1::float8 AS f8, "
        "'gr\u00fcn'::text AS t, '\\x00ff'::bytea AS y, '2026-01-02'::date AS d, '03:04:05.678901'::time AS tm, "
        "'2026-01-02 03:04:05'::timestamp AS ts, '2026-01-02 03:04:05+02'::timestamptz AS tz, 1.50::numeric(10,2) AS n, "
        "12345678901234567890.1::numeric AS any_n, '{\"a\": 1}'::jsonb AS j, ARRAY[1,2] AS a, "
        "'00000000-0000-0000-0000-000000000001'::uuid AS u, '1 day'::interval AS iv"
    )
    owner.execute("INSERT INTO s.t DEFAULT VALUES")
    found = await table_of(store, "tables/s/t.parquet")
    first, second = found.to_pylist()
    assert first == {
        "b": True, "i2": 1, "i4": 2, "i8": 3, "f4": 0.5, "f8": 0.1, "t": "gr\u00fcn", "y": b"\x00\xff",
        "d": datetime.date(2026, 1, 2), "tm": datetime.time(3, 4, 5, 678901), "ts": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "tz": datetime.datetime(2026, 1, 2, 1, 4, 5, tzinfo=datetime.UTC), "n": Decimal("1.50"),
        "any_n": "12345678901234567890.1",
        "j": '{"a": 1}', "a": "{1,2}", "u": "00000000-0000-0000-0000-000000000001", "iv": "P1D",
    }  # fmt: skip
    assert set(second.values()) == {None}
    assert [str(found.schema.field(name).type) for name in ("i2", "f4", "n", "tz")] == [
        "int16", "float", "decimal128(10, 2)", "timestamp[us, tz=UTC]"
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["'infinity'::date", "'20000-01-01'::timestamp", "'NaN'::numeric(5,2)"])
async def test_a_value_that_parquet_cannot_hold_is_an_error_that_names_the_remedy(
    store: SqlStore, owner: psycopg.Connection[tuple[object, ...]], value: str
) -> None:
    owner.execute(f"CREATE TABLE s.t AS SELECT {value} AS x")
    with pytest.raises(Unsupported, match="named query"):
        await store.info("tables/s/t.parquet")
    owner.execute("CREATE TABLE s.sound AS SELECT 1 AS x")
    assert (await table_of(store, "tables/s/sound.parquet")).to_pylist() == [{"x": 1}]


async def test_tables_of_one_schema_or_all_are_listed(
    server: PostgresServer, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    owner.execute(
        'CREATE TABLE s."a/b" (x int); CREATE VIEW s.v AS SELECT 1 AS x; CREATE MATERIALIZED VIEW s.m AS SELECT 1 AS x; '
        "CREATE TABLE s.parts (x int) PARTITION BY RANGE (x); "
        "CREATE TABLE s.part_1 PARTITION OF s.parts FOR VALUES FROM (0) TO (9)"
    )
    names = ["a%2Fb", "m", "parts", "v"]
    store, one = open_sql(server), open_sql(server, "/s")
    assert [entry.key for entry in (await store.list()).entries] == [f"tables/s/{name}.parquet" for name in names]
    assert [entry.key for entry in (await one.list("tables/")).entries] == [f"tables/{name}.parquet" for name in names]
    await store.close()
    await one.close()


async def test_a_version_follows_the_bytes_and_an_unchanged_table_is_not_read_again(
    server: PostgresServer, store: SqlStore, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    owner.execute("CREATE TABLE s.t AS SELECT 1 AS x")
    first = await store.info("tables/s/t.parquet")
    made = store._known["tables/s/t.parquet"].made
    assert await store.info("tables/s/t.parquet") == first
    assert store._known["tables/s/t.parquet"].made is made
    other = open_sql(server)
    assert (await other.info("tables/s/t.parquet")).version == first.version
    await other.close()
    for change in ("UPDATE s.t SET x = 2", "DELETE FROM s.t", "ALTER TABLE s.t ADD y int", "TRUNCATE s.t"):
        owner.execute("INSERT INTO s.t VALUES (7)")
        before = await store.info("tables/s/t.parquet")
        owner.execute(change)
        assert (await store.info("tables/s/t.parquet")).version != before.version
        with pytest.raises(VersionChanged):
            await store.read("tables/s/t.parquet", version=before.version)


async def test_what_an_open_transaction_wrote_is_seen_when_it_has_committed(
    server: PostgresServer, store: SqlStore, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    """The mark is taken while transactions run, which end in another order than they began."""
    owner.execute("CREATE TABLE s.t (x int)")
    with server.connect() as one, server.connect() as two:
        for connection, value in ((one, 1), (two, 2)):
            connection.execute("BEGIN")
            connection.execute(f"INSERT INTO s.t VALUES ({value})")
        assert (await table_of(store, "tables/s/t.parquet")).num_rows == 0
        two.execute("COMMIT")
        assert (await table_of(store, "tables/s/t.parquet")).to_pylist() == [{"x": 2}]
        one.execute("COMMIT")
        assert sorted(row["x"] for row in (await table_of(store, "tables/s/t.parquet")).to_pylist()) == [1, 2]


async def test_an_object_is_of_one_snapshot(
    store: SqlStore, server: PostgresServer, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A transfer between rows keeps their sum: half of one is never seen."""
    owner.execute("CREATE TABLE s.t AS SELECT i, 10 AS x, repeat('-', 200) AS fill FROM generate_series(1, 3000) i")

    def transfer() -> None:
        with server.connect() as connection:
            for turn in range(60):
                connection.execute("BEGIN")
                connection.execute("UPDATE s.t SET x = x - 5 WHERE i = %s", (1 + turn * 37 % 3000,))
                connection.execute("UPDATE s.t SET x = x + 5 WHERE i = %s", (1 + turn * 911 % 3000,))
                connection.execute("COMMIT")

    running = asyncio.create_task(asyncio.to_thread(transfer))
    sums = []
    while not running.done() or not sums:
        sums.append(sum((await table_of(store, "tables/s/t.parquet"))["x"].to_pylist()))
    await running
    assert set(sums) == {30_000}


async def test_a_lost_connection_is_unavailable_once_and_then_made_anew(
    store: SqlStore, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    owner.execute("CREATE TABLE s.t AS SELECT 1 AS x")
    info = await store.info("tables/s/t.parquet")
    owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace'")
    with pytest.raises(Unavailable):
        await store.info("tables/s/t.parquet")
    assert await store.info("tables/s/t.parquet") == info


async def test_what_may_not_be_read_is_denied_and_not_listed(
    server: PostgresServer, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    owner.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT USAGE ON SCHEMA s TO reader")
    owner.execute("CREATE TABLE s.t AS SELECT 1 AS x; CREATE TABLE s.given AS SELECT 1 AS x; GRANT SELECT ON s.given TO reader")
    spec = MountSpec("/q", server.url, credentials="env:P")
    store = open_store(spec, environ={"P_USERNAME": "reader", "P_PASSWORD": "r"}, clock=SystemClock())
    assert [entry.key for entry in (await store.list()).entries] == ["tables/s/given.parquet"]
    with pytest.raises(AccessDenied):
        await store.info("tables/s/t.parquet")
    with pytest.raises(NotFound):
        await store.info("tables/s/absent.parquet")
    await store.close()
    wrong = open_store(spec, environ={"P_USERNAME": USER, "P_PASSWORD": "PLANTED"}, clock=SystemClock())
    for verb in (wrong.info, wrong.read, wrong.list):
        with pytest.raises(AccessDenied) as caught:
            await verb("tables/s/t.parquet")
        assert "PLANTED" not in str(caught.value)
    await wrong.close()


async def test_an_unreachable_server_is_unavailable_never_empty() -> None:
    spec = MountSpec("/q", f"sql://127.0.0.1:{free_port()}/work")
    store = open_store(spec, environ={}, clock=SystemClock())
    for verb in (store.info, store.read, store.list):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(verb("a"), 30)
    await store.close()
    await store.close()


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[sql\]'"):
        open_store(MountSpec("/q", "sql://127.0.0.1/work"), environ={}, clock=SystemClock())
