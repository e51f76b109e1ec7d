"""What stores say about objects, as frozen values."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

SCRATCH = "SCRATCH"
"""The storage class of an object that lives in a cache alone."""
SCRATCH_LOST = "SCRATCH_LOST"
"""That of one whose bytes are gone: it is listed, and reading it is `Lost`."""


class Version(msgspec.Struct, frozen=True):
    """The identity of an object's bytes. Two equal versions of one key have equal bytes.

    `token` is canonical text: `id:<version id>`, else `etag:<etag without quotes>`, else
    `stat:<mtime_ns>-<size>[-<inode>]`. Never made from the length alone.
    """

    token: str


class ObjectInfo(msgspec.Struct, frozen=True, tag="object"):
    """One object as its store describes it. `key` is relative to the store it came from."""

    key: str
    size: int
    version: Version
    modified_s: float = 0.0
    """Seconds since 1970 UTC of the last change, as the store reports it."""
    etag: str = ""
    """Entity tag without quotes; empty where the store has none."""
    version_id: str = ""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Stored content headers other than the type, lower-case names (`cache-control`, `content-encoding`, …)."""
    metadata: tuple[tuple[str, str], ...] = ()
    """User metadata: names without `x-amz-meta-`, lower case."""
    checksums: tuple[tuple[str, str], ...] = ()
    """Stored checksums of the whole object as S3 names them: (`crc64nvme`, base64), and (`type`, `FULL_OBJECT`)."""
    parts: int = 0
    """Number of multipart parts, 0 when unknown or not multipart."""
    storage_class: str = ""
    tag_count: int = 0
    """How many tags there are, 0 when unknown. `Store.set_tags` changes it without changing the version."""


class CommonPrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """In a listing with a delimiter: all keys that begin so, rolled into one entry."""

    key: str


Entry = ObjectInfo | CommonPrefix


class Listing(msgspec.Struct, frozen=True):
    """One page of a listing, sorted by the UTF-8 bytes of the keys.

    `after` continues it: hand it to the next call. None means that nothing follows.
    """

    entries: tuple[Entry, ...]
    after: str | None = None


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes `start` up to but not including `end`. Plain arithmetic, no object is implied."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def with_key(info: ObjectInfo, key: str) -> ObjectInfo:
    """The same object under another key (a mount's prefix added or taken away)."""
    return msgspec.structs.replace(info, key=key)


Emit = Callable[[object], None]
"""Where events go. Must not raise and must not block."""
