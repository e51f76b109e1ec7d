"""SQLite for the SQL store: one read transaction a snapshot, `PRAGMA data_version` as the mark."""
# ruff: noqa: S608 - names are quoted, and queries are the mount's own

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from headrace.model.errors import CorruptData, HeadraceError, NotFound, Unavailable, Unsupported
from headrace.stores.sql_source import Column, Relation, Rows, SqlSource, in_batches, quoted, table_key

_WAIT_S = 5.0
_COLUMNS_AT_ONCE = 300
_EXACT_IN_DOUBLE = 1 << 53


class SqliteSource(SqlSource):
    """The database in the file `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._opened = 0

    def relations(self) -> Sequence[Relation]:
        with self._translated(), contextlib.closing(self._open().execute(_TABLES)) as cursor:
            return [
                Relation(table_key(name), f"SELECT * FROM {quoted(name)}", (name,), is_steady=bool(is_steady))
                for name, is_steady in cursor
            ]

    def mark(self) -> str:
        with self._translated():
            # Only comparable on one connection, hence its number.
            connection = self._open()
            return f"{self._opened}:{connection.execute('PRAGMA data_version').fetchone()[0]}"

    @contextlib.contextmanager
    def read(self, relation: Relation) -> Iterator[Rows]:
        with self._translated(relation.key):
            connection = self._open()
            connection.execute("BEGIN")
            try:
                self._check_there(connection, relation)
                mark = self.mark()
                columns, statement = _typed(connection, relation)
                with contextlib.closing(connection.execute(statement)) as cursor:
                    yield Rows(mark, columns, in_batches(cursor.fetchmany))
            finally:
                connection.rollback()

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        try:
            status = Path(self._path).stat()
        except OSError as error:
            raise Unavailable(f"database {self._path}: {error.strerror}: is it mounted?", path=self._path) from error
        if self._connection is None or (status.st_dev, status.st_ino) != self._file:
            if self._connection is not None and self._connection.in_transaction:
                return self._connection  # the snapshot that is being read goes on being one
            self.close()
            uri = f"file:{quote(self._path)}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._file = (status.st_dev, status.st_ino)
            self._opened += 1
        return self._connection

    def _check_there(self, connection: sqlite3.Connection, relation: Relation) -> None:
        found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", relation.name or ("",)).fetchone()
        if relation.name and found is None:
            raise NotFound(f"the database has no {relation.name[0]!r}", path=relation.key)

    @contextlib.contextmanager
    def _translated(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except HeadraceError:
            raise
        except sqlite3.OperationalError as error:
            message = f"database {self._path}: {key or 'its schema'}: {_line(error)}"
            if "utf-8" in str(error).lower():
                raise CorruptData(message, path=key) from error
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_ERROR:
                raise Unsupported(message, path=key) from error
            raise Unavailable(message, path=key) from error
        except sqlite3.Error as error:
            raise CorruptData(f"database {self._path}: {key or 'its schema'}: {_line(error)}", path=key) from error


_TABLES = (
    "SELECT name, type = 'table' AND rootpage > 0 FROM sqlite_schema "
    "WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)


def _typed(connection: sqlite3.Connection, relation: Relation) -> tuple[list[Column], str]:
    """Columns and the statement that yields values of their types: SQLite keeps any value in any column, so all are looked at."""
    source = f"(\n{relation.select}\n)"
    names = [told[0] for told in connection.execute(f"SELECT * FROM {source} LIMIT 0").description]
    declared = dict(connection.execute("SELECT name, type FROM pragma_table_info(?)", relation.name or ("",)).fetchall())
    columns, expressions = [], []
    for start in range(0, len(names), _COLUMNS_AT_ONCE):
        some = names[start : start + _COLUMNS_AT_ONCE]
        asked = ", ".join(_classes(quoted(name)) for name in some)
        seen = connection.execute(f"SELECT {asked} FROM {source}").fetchone()
        for place, name in enumerate(some):
            kind, cast = _kind([bool(one) for one in seen[5 * place : 5 * place + 5]], declared.get(name, ""))
            columns.append(Column(name, kind))
            expressions.append(f"CAST({quoted(name)} AS {cast})" if cast else quoted(name))
    return columns, f"SELECT {', '.join(expressions)} FROM {source}"


def _classes(column: str) -> str:
    classes = ", ".join(f"max(typeof({column}) = '{name}')" for name in ("integer", "real", "text", "blob"))
    return f"{classes}, max(typeof({column}) = 'integer' AND abs({column} / 2) > {_EXACT_IN_DOUBLE // 2 - 1})"


def _kind(seen: Sequence[bool], declared: str) -> tuple[str, str]:
    """Arrow's type of a column that holds these classes of values, and what they are cast to, if at all."""
    integer, real, text, blob, large = seen
    if not any(seen):
        return _declared(declared), ""
    if blob:
        return "binary", "BLOB" if integer or real or text else ""
    if text or (real and large):
        return "string", "TEXT" if integer or real else ""
    return ("double", "REAL" if integer else "") if real else ("int64", "")


def _declared(declared: str) -> str:
    """By SQLite's own rules of affinity, for a column that holds nothing yet."""
    name = declared.upper()
    if "INT" in name:
        return "int64"
    if "BLOB" in name:
        return "binary"
    return "double" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "string"


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
