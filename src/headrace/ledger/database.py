"""The engine under the ledger. The only file that knows that it is SQLite, and where its errors are translated."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from headrace.model.errors import AccessDenied, CorruptData, HeadraceError, Unavailable

try:
    from pysqlite3 import dbapi2 as _bundled
except ImportError:
    _bundled = None

_log = logging.getLogger(__name__)

LOCK_WAIT_S = 5.0
"""How long a transaction waits for another process's before it gives up."""

_SAFE_WAL = (3, 51, 3)
"""Below this release SQLite can lose committed transactions in WAL mode when two connections checkpoint at once."""


def sqlite_module() -> ModuleType:
    """The driver in use: the one bundled with pysqlite3 where installed, else Python's own."""
    module: ModuleType = _bundled if _bundled is not None else sqlite3
    return module


def sqlite_release() -> tuple[int, ...]:
    """The release of the SQLite library in use."""
    return tuple(int(part) for part in str(sqlite_module().sqlite_version).split("."))


def journal_mode(release: tuple[int, ...]) -> str:
    """The journal mode in which `release` keeps what it has committed."""
    return "WAL" if release >= _SAFE_WAL else "DELETE"


class Database:
    """Short transactions on one SQLite file. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _create_private(path)
        mode = journal_mode(sqlite_release())
        if mode != "WAL":
            _log.warning(
                "SQLite %s may lose transactions in WAL mode; the ledger uses journal_mode=DELETE (slower). Install pysqlite3",
                ".".join(map(str, sqlite_release())),
            )
        self._engine = _engine(path, mode)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; never blocks writers."""
        with translated(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is durable when the block ends, and undone when it raises."""
        with (
            translated(self.path),
            self._engine.connect().execution_options(headrace_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _create_private(path: Path) -> None:
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _engine(path: Path, mode: str) -> Engine:
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", module=sqlite_module(), connect_args={"timeout": LOCK_WAIT_S}, pool_size=4
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transaction control commits around DDL; ours begins in the listener below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA journal_mode={mode}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once when another one wrote meanwhile.
        immediate = connection.get_execution_options().get("headrace_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the engine's and the file system's errors into ours, with the next step."""
    try:
        yield
    except PermissionError as error:
        if isinstance(error, HeadraceError):
            raise
        raise AccessDenied(f"ledger {path}: {error.strerror}; run Headrace as the owner of this directory") from error
    except OSError as error:
        if isinstance(error, HeadraceError):
            raise
        raise Unavailable(f"ledger {path}: {error.strerror}; check [server] home", path=str(path)) from error
    except SQLAlchemyError as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: SQLAlchemyError) -> HeadraceError:
    cause = str(error.orig) if isinstance(error, DatabaseError) and error.orig is not None else str(error)
    where = str(path)
    if isinstance(error, OperationalError) and ("locked" in cause or "busy" in cause):
        return Unavailable(
            f"ledger {path}: another process held it for over {LOCK_WAIT_S:.0f} s; try again, or stop that process", path=where
        )
    if "disk is full" in cause:
        return Unavailable(f"ledger {path}: the disk is full, nothing was changed; free space, then try again", path=where)
    if "malformed" in cause or "not a database" in cause:
        return CorruptData(
            f"ledger {path}: the file is damaged ({cause}); restore it from a backup, or move it away to begin with an empty one",
            path=where,
        )
    if "readonly" in cause or "unable to open" in cause:
        return AccessDenied(f"ledger {path}: {cause}; run Headrace as the owner of this directory", path=where)
    return Unavailable(f"ledger {path}: {cause}", path=where)
