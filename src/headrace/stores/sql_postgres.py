"""PostgreSQL for the SQL store: REPEATABLE READ READ ONLY transactions, the transactions that are visible as the mark."""
# ruff: noqa: S608 - names are quoted, and queries are the mount's own

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from headrace.model.errors import AccessDenied, HeadraceError, NotFound, SettingsError, Unavailable, Unsupported
from headrace.stores.guard import AddressGuard, AddressRefused
from headrace.stores.login import Login
from headrace.stores.sql_source import Column, Relation, Rows, SqlSource, in_batches, quoted, table_key

if TYPE_CHECKING:
    import psycopg

_KINDS = {
    16: "bool",
    17: "binary",
    19: "string",
    20: "int64",
    21: "int16",
    23: "int32",
    25: "string",
    26: "int64",
    700: "float",
    701: "double",
    1042: "string",
    1043: "string",
    1082: "date32[day]",
    1083: "time64[us]",
    1114: "timestamp[us]",
    1184: "timestamp[us, tz=UTC]",
}
_NUMERIC = 1700
_TABLES = r"""
SELECT n.nspname, c.relname, c.relkind = 'm' OR (c.relkind = 'r' AND NOT c.relhassubclass AND NOT c.relrowsecurity),
has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
AND (%(schema)s = '' OR n.nspname = %(schema)s)
"""
# On a standby the snapshot does not tell all transactions that run. A pooler may answer from another session or server.
_MARK = """
SELECT CASE WHEN pg_is_in_recovery() THEN ''
ELSE concat_ws('/', pg_postmaster_start_time(), pg_backend_pid(), txid_current_snapshot()) END
"""
_LOCAL = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL synchronize_seqscans = off",  # rows in one order whoever else reads the table
)


class PostgresPlace(msgspec.Struct, frozen=True):
    """Where a database is, and who asks. Without `schema`, all schemas are seen."""

    host: str
    port: int
    database: str
    schema: str
    login: Login
    connect_timeout_s: float


class PostgresSource(SqlSource):
    """One connection, made when it is needed, to an address that `guard` allows."""

    def __init__(self, place: PostgresPlace, guard: AddressGuard) -> None:
        self._place = place
        self._guard = guard
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._opened = 0

    def relations(self) -> Sequence[Relation]:
        with self._session() as connection, connection.transaction():
            found = connection.execute(_TABLES, {"schema": self._place.schema}).fetchall()
        return [self._relation(str(row[0]), str(row[1]), is_steady=bool(row[2]), is_readable=bool(row[3])) for row in found]

    def mark(self) -> str:
        with self._session() as connection, connection.transaction():
            return self._mark(connection)

    @contextlib.contextmanager
    def read(self, relation: Relation) -> Iterator[Rows]:
        with self._session(relation.key) as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for setting in _LOCAL:
                connection.execute(setting.encode())
            mark = self._mark(connection)
            columns, statement = _typed(connection, relation)
            with connection.cursor(name="headrace") as cursor:
                cursor.execute(statement.encode())
                yield Rows(mark, columns, in_batches(cursor.fetchmany))

    def interrupt(self) -> None:
        import psycopg  # noqa: PLC0415  an extra

        connection = self._connection
        if connection is not None:
            with contextlib.suppress(psycopg.Error):  # it is over, or the connection is
                connection.cancel()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _relation(self, schema: str, name: str, *, is_steady: bool, is_readable: bool) -> Relation:
        key = table_key(name) if self._place.schema else table_key(schema, name)
        select = f"SELECT * FROM {quoted(schema, name)}"
        return Relation(key, select, (schema, name), is_steady=is_steady, is_readable=is_readable)

    def _mark(self, connection: psycopg.Connection[tuple[object, ...]]) -> str:
        row = connection.execute(_MARK).fetchone()
        told = str(row[0]) if row is not None else ""
        return f"{self._opened}:{told}" if told else ""

    @contextlib.contextmanager
    def _session(self, key: str = "") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """The connection; one that broke is made anew. Foreign errors become ours."""
        import psycopg  # noqa: PLC0415  an extra

        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
                self._opened += 1
            yield self._connection
        except HeadraceError:
            raise
        except psycopg.Error as error:
            raise _translated(error, f"{self._place.host}:{self._place.port}/{self._place.database}", key) from error

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        import psycopg  # noqa: PLC0415  an extra

        place = self._place
        addresses = self._addresses()
        return psycopg.connect(
            host=",".join(place.host for _ in addresses),
            hostaddr=",".join(addresses),
            port=",".join(str(place.port) for _ in addresses),
            dbname=place.database,
            user=place.login.user or None,
            password=place.login.password or None,
            connect_timeout=max(2, round(place.connect_timeout_s)),
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            application_name="headrace",
            options="-c default_transaction_read_only=on",
            autocommit=True,
            prepare_threshold=None,  # a table may be altered; a pooler may answer from another session
        )

    def _addresses(self) -> list[str]:
        place = self._place
        where = f"{place.host}:{place.port}"
        try:
            self._guard.check_host(place.host)
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
            for address in addresses:
                self._guard.check_address(address)
        except AddressRefused as error:
            raise AccessDenied(str(error), path=where) from error
        except OSError as error:
            raise Unavailable(
                f"{where}: the host's name could not be resolved ({error}): check it and DNS", path=where
            ) from error
        return addresses


def _typed(connection: psycopg.Connection[tuple[object, ...]], relation: Relation) -> tuple[list[Column], str]:
    """Columns and the statement that yields values of their types: what Parquet has no type for is read as text."""
    source = f"(\n{relation.select}\n) AS relation"
    described = connection.execute(f"SELECT * FROM {source} LIMIT 0".encode()).description or []
    columns, expressions = [], []
    for told in described:
        kind = _KINDS.get(told.type_code, "")
        if told.type_code == _NUMERIC and told.precision and told.precision <= 38 and 0 <= (told.scale or 0) <= told.precision:
            kind = f"decimal128({told.precision}, {told.scale or 0})"
        columns.append(Column(told.name, kind or "string"))
        expressions.append(quoted(told.name) if kind else f"{quoted(told.name)}::text")
    return columns, f"SELECT {', '.join(expressions)} FROM {source}"


def _translated(error: psycopg.Error, where: str, key: str) -> HeadraceError:
    import psycopg  # noqa: PLC0415  an extra

    line = str(error).partition("\n")[0].replace("\r", " ")
    message = f"PostgreSQL at {where}: {key + ': ' if key else ''}{line}"
    state = error.sqlstate or ""
    if state in ("42P01", "3F000"):
        return NotFound(message, path=key)
    if state == "42501" or state.startswith("28") or "authentication failed" in line or "no pg_hba.conf entry" in line:
        return AccessDenied(message, path=key)
    if state.startswith(("08", "40", "53", "55", "57", "58")) or isinstance(error, psycopg.OperationalError):
        return Unavailable(message, path=key)
    if isinstance(error, psycopg.DataError) and not state:
        return Unsupported(f"{message}: convert that column in a named query", path=key)
    return Unsupported(message, path=key)


def require_psycopg() -> None:
    """Raises `SettingsError` that says what to install."""
    try:
        import psycopg  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise SettingsError("sql:// needs a package that is not installed: pip install 'headrace[sql]'") from error
