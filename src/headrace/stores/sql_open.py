"""From a mount to an SQL store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec, Residency
from headrace.model.units import parse_size
from headrace.stores.guard import AddressRefused
from headrace.stores.login import login_of
from headrace.stores.sql import Spool, SqlStore
from headrace.stores.sql_parquet import require_pyarrow
from headrace.stores.sql_postgres import PostgresPlace, PostgresSource, require_psycopg
from headrace.stores.sql_source import SqlSource
from headrace.stores.sql_sqlite import SqliteSource
from headrace.stores.store import Store
from headrace.stores.urls import guard_of, http_settings, shown_url

_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/([^/]+)(?:/([^/]+))?/?")
_PORT = 5432


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of `sql:///path/file.db` (SQLite) or `sql://host:port/database/schema` (PostgreSQL). Raises `SettingsError`."""
    rest = spec.store.partition("://")[2]
    if "@" in rest.partition("/")[0]:
        raise SettingsError("store sql://…: credentials do not belong in a URL, name them with credentials = env:PREFIX")
    if re.search(r"[?#\x00-\x1f\x7f]", spec.store):
        raise SettingsError(f"store {shown_url(spec.store)!r}: a database's URL has no query, fragment or control character")
    require_pyarrow()
    spool = Spool(parse_size(spec.spool), on_disk=spec.residency is Residency.DISK)
    return SqlStore(_source(spec, rest, environ), spool, clock, queries=spec.queries)


def _source(spec: MountSpec, rest: str, environ: Mapping[str, str]) -> SqlSource:
    if rest.startswith("/"):
        return SqliteSource(unquote(rest))
    match = _PLACE.fullmatch(rest)
    if match is None:
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: write sql:///path/file.db (SQLite) or sql://host:5432/database (PostgreSQL), "
            "with /schema behind it for one schema"
        )
    require_psycopg()
    guard, host = guard_of(spec), match[1].strip("[]")
    try:
        guard.check_host(host)
    except AddressRefused as error:
        raise SettingsError(f"store {shown_url(spec.store)!r}: {error}") from error
    login = login_of(spec.credentials, environ)
    if login.token:
        raise SettingsError("credentials: a database takes a name and a password, no token")
    place = PostgresPlace(
        host,
        int(match[2] or _PORT),
        unquote(match[3]),
        unquote(match[4] or ""),
        login,
        http_settings(spec).connect_timeout_s,
    )
    return PostgresSource(place, guard)
