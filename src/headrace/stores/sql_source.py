"""What the SQL store asks of a database: one narrow contract. Its verbs block and are called from one thread, one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from headrace.model.errors import SettingsError

MAX_QUERY_BYTES = 64 * 1024
_MAX_QUERIES = 10_000
_FETCHED_ROWS = 256

Batch = Sequence[tuple[object, ...]]
"""Some rows, as tuples of values."""


class Relation(msgspec.Struct, frozen=True):
    """A table, a view or a named query."""

    key: str
    select: str
    """The statement whose rows it is."""
    name: tuple[str, ...] = ()
    """What it is called in the database; nothing for a query."""
    is_steady: bool = False
    """Whether its rows are the same for as long as the database's mark is: true of plain tables alone."""
    is_readable: bool = True
    """Whether the login may read it; what it may not is asked for, never listed."""


class Column(msgspec.Struct, frozen=True):
    """`kind` is the type's name in Arrow, such as `int64`, `decimal128(10, 2)` or `timestamp[us, tz=UTC]`."""

    name: str
    kind: str


class Rows(NamedTuple):
    """A relation's rows in one snapshot of the database."""

    mark: str
    """That of the snapshot."""
    columns: Sequence[Column]
    batches: Iterator[Batch]
    """Some hundred rows each, drawn from the database as they are asked for."""


class SqlSource(ABC):
    """A database that is only read. Verbs raise `HeadraceError`s alone; `NotFound` means that the database said so."""

    @abstractmethod
    def relations(self) -> Sequence[Relation]:
        """All tables and views, in any order."""

    @abstractmethod
    def mark(self) -> str:
        """While it stays the same, so does all that a snapshot shows; empty where the database cannot prove that."""

    @abstractmethod
    def read(self, relation: Relation) -> AbstractContextManager[Rows]:
        """The rows of a relation in one snapshot, which lasts as long as the context."""

    @abstractmethod
    def interrupt(self) -> None:
        """End the statement that runs, if any, with `Unavailable`. May be called from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Give up the connection. May be called more than once, and another verb may follow."""


def table_key(*names: str) -> str:
    """The key of a table: slashes, percent signs and control characters of its names are percent-encoded."""
    return "tables/" + "/".join(_segment(name) for name in names) + ".parquet"


def _segment(name: str) -> str:
    text = "".join(quote(char, safe="") if char in "/%" or ord(char) < 32 or ord(char) == 127 else char for char in name)
    return text.replace(".", "%2E") if text in (".", "..") else text


def named_queries(folder: str) -> list[Relation]:
    """The queries in the files NAME.sql of a directory, as they are now. Raises `SettingsError`."""
    if not folder:
        return []
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.suffix == ".sql")[:_MAX_QUERIES]
        texts = [_query(path) for path in files]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"queries {folder}: {error}") from error
    return [Relation(f"queries/{path.stem}.parquet", text) for path, text in zip(files, texts, strict=True)]


def _query(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        text = file.read(MAX_QUERY_BYTES + 1)
    if len(text) > MAX_QUERY_BYTES:
        raise SettingsError(f"{path}: longer than {MAX_QUERY_BYTES} letters: make it a view")
    return text.strip().rstrip(";")


def in_batches(fetch_many: object) -> Iterator[Batch]:
    """What a cursor's `fetchmany` yields until it is empty."""
    while batch := fetch_many(_FETCHED_ROWS):  # type: ignore[operator]  # drivers type it each in their own way
        yield batch


def quoted(*names: str) -> str:
    """Names as both databases quote them, with dots between."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
