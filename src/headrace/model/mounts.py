"""A mount as it is written down: in settings, in the ledger, between processes."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.units import parse_duration


class Residency(StrEnum):
    """Where bytes of a mount may live."""

    DISK = "disk"
    """In memory and on the page directories."""
    MEMORY = "memory"
    """In locked memory only, never on a disk."""
    NONE = "none"
    """Nowhere: every read goes to the store."""


class WriteMode(StrEnum):
    """When a write is acknowledged."""

    NONE = "none"
    """Writes are refused."""
    THROUGH = "through"
    """When the store has it."""
    BACK = "back"
    """When this node's disk has it; the store gets it later."""
    SCRATCH = "scratch"
    """When this node has it; the store never gets it."""


class Freshness(msgspec.Struct, frozen=True):
    """The bound on how long a change at the store may stay unseen.

    `seconds` is 0 for `verify` (asked on every open), infinity for `immutable`.
    """

    seconds: float

    @classmethod
    def parse(cls, text: str) -> Freshness:
        """From `verify`, `immutable` or a duration. Raises `SettingsError`."""
        if text == "verify":
            return cls(0.0)
        if text == "immutable":
            return cls(float("inf"))
        try:
            return cls(parse_duration(text))
        except SettingsError as error:
            raise SettingsError(f"freshness {text!r}: write verify, immutable or a duration such as 30s") from error


class MountSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[mount]]`: a store's prefix attached at a path, with its options.

    With `union`, `store` is empty and the members are read in order, first hit wins.
    """

    path: str
    """`/` or `/bucket[/deeper…]`, without a slash at the end; compared exactly."""
    store: str = ""
    """URL: `s3://bucket/prefix`, `s3://` (all of the account's buckets), `gs://bucket/prefix`, `gs://` (all of a project's), `az://container/prefix`,
    `az://` (all of an account's), `file:///…`, `hdfs://…`, `webhdfs://namenode:port/path`,
    `http://host/path` or `https://…` (read-only), `sql:///path/file.db` or `sql://host:port/database/schema` (read-only), `sftp://host:port/path`,
    `swift://container/prefix`."""
    endpoint: str = ""
    """Address of the store, such as `https://s3.example.com:9000`; empty: the cloud's own for the region."""
    credentials: str = ""
    """By reference only: `env:PREFIX` (PREFIX_ACCESS_KEY_ID and PREFIX_SECRET_ACCESS_KEY), `file:PATH` (two lines: key id,
    secret), `profile:NAME`, `instance`, `anonymous`; empty: the usual AWS variables. Web servers, databases, SFTP and Swift
    take PREFIX_USERNAME and PREFIX_PASSWORD, and what their pages under docs/how-to tell."""
    region: str = "us-east-1"
    """The region that requests to the store are signed for."""
    freshness: str = "30s"
    """How long a change at the store may stay unseen: `verify` (asked on every open), a duration, or `immutable`."""
    write: WriteMode = WriteMode.NONE
    """When a write is acknowledged: `none` (writes are refused), `through` (when the store has it), `back` (when this node's
    journal has it; the store gets it as soon as it can) or `scratch` (when this node has it; the store never gets it, and it
    may be lost)."""
    residency: Residency = Residency.DISK
    """Where bytes of the mount may be kept: `disk`, `memory` (locked, never on a disk) or `none` (not cached)."""
    create_buckets: bool = False
    """Let callers make and remove buckets in an account mount at `/` that takes writes."""
    anonymous: bool = False
    """Let callers without a key read and list."""
    acls: bool = False
    """Keep owners and access control lists of buckets and objects as S3 does, and let them decide with the rules: in an
    account mount of a directory at `/`, with `create_buckets` and `write = "through"`. Only S3 callers are asked for by them."""
    serve_stale: bool = False
    """Answer from pages past their freshness while the store cannot be reached."""
    ttl: str = ""
    """Pages not read for this long are let go, and scratch written longer ago is lost; empty: only capacity decides."""
    quota: str = ""
    """At most this many bytes of pages in the cache; empty: no bound of its own."""
    allow_private: bool = False
    """Allow targets on link-local and metadata addresses, refused otherwise."""
    max_connections: int = 64
    """Requests to the store at the same time, per serving process."""
    bandwidth: str = ""
    """Bytes per second drawn from the store at most, such as `12MB` (100 Mbit/s); empty: no bound."""
    timeout: str = "30s"
    """Total time for one request to the store to begin to answer, retries included."""
    index_pages: bool = True
    """List an `http://` or `https://` store by its directories' index pages; false: it is read by key, never listed."""
    queries: str = ""
    """A directory of NAME.sql files: each is an object `queries/NAME.parquet` of an `sql://` store."""
    spool: str = "1GiB"
    """So many bytes of Parquet an `sql://` store holds per serving process, on disk where `residency` is `disk`."""
    union: tuple[MountSpec, ...] = ()
    """Members of a union mount (their `path` is ignored)."""
    write_target: int = 0
    """Index into `union` of the member that takes writes."""

    def identity(self) -> str:
        """What must be equal for two mounts to read the same bytes; part of every page's identity.

        Credentials are in it: pages are never shared between security domains.
        """
        if self.union:
            return "union(" + ",".join(member.identity() for member in self.union) + ")"
        return "\n".join((self.store, self.endpoint, self.region, self.credentials, self.residency))
