"""MemoryStore: objects in this process's memory, for tests and examples."""

from __future__ import annotations

import bisect
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import NotFound, SettingsError, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, CommonPrefix, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.keys import behind_prefix, check_key, check_text, cut_range, rolled_up
from headrace.stores.store import Store
from headrace.stores.urls import shown_url

_PIECE_BYTES = 256 * 1024


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:  # noqa: ARG001 - every kind of store has it
    """An empty store of this process alone. Raises `SettingsError`."""
    if spec.store != "memory://":
        raise SettingsError(f"store {shown_url(spec.store)!r}: write memory:// and nothing behind it")
    return MemoryStore()


class MemoryObject(msgspec.Struct, frozen=True):
    """What `MemoryStore` holds under a key."""

    info: ObjectInfo
    body: bytes
    tags: tuple[tuple[str, str], ...] = ()


class BytesReading(Reading):
    """A reading of bytes at hand. `body` holds exactly the bytes of `byte_range`."""

    __slots__ = ("_body",)

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, body: Buffer) -> None:
        super().__init__(info, byte_range)
        self._body: memoryview | None = memoryview(body)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        position = 0
        while self._body is not None and position < len(self._body):
            yield self._body[position : position + _PIECE_BYTES]
            position += _PIECE_BYTES

    async def aclose(self) -> None:
        self._body = None


class MemoryStore(Store):
    """Objects in memory, with helpers beside the verbs that change them "behind Headrace's back".

    Like an S3 bucket: an object's ETag is the MD5 of its bytes. With `versioned`, each put makes
    a new version id; without, equal bytes are the same version. `calls` counts the verbs called
    and `bytes_read` the bytes asked for, so that tests can say what reached the store.
    """

    def __init__(self, *, versioned: bool = False) -> None:
        self._objects: dict[str, MemoryObject] = {}
        self._sorted: list[bytes] = []
        self._versioned = versioned
        self._puts = 0
        self.calls: Counter[str] = Counter()
        self.bytes_read = 0

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        headers: tuple[tuple[str, str], ...] = (),
        metadata: tuple[tuple[str, str], ...] = (),
        tags: tuple[tuple[str, str], ...] = (),
        modified_s: float | None = None,
    ) -> ObjectInfo:
        """Make or overwrite an object. Raises `InvalidKey`."""
        check_key(key)
        self._puts += 1
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        version_id = f"v{self._puts}" if self._versioned else ""
        info = ObjectInfo(
            key=key,
            size=len(body),
            version=Version(f"id:{version_id}" if self._versioned else f"etag:{etag}"),
            modified_s=float(int(time.time())) if modified_s is None else modified_s,
            etag=etag,
            version_id=version_id,
            content_type=content_type,
            headers=headers,
            metadata=metadata,
        )
        if key not in self._objects:
            bisect.insort(self._sorted, key.encode())
        self._objects[key] = MemoryObject(info, body, tuple(sorted(tags)))
        return info

    def remove(self, key: str) -> None:
        """Remove an object. Raises `NotFound`."""
        self._find(key)
        del self._objects[key]
        del self._sorted[bisect.bisect_left(self._sorted, key.encode())]

    def body(self, key: str) -> bytes:
        """The bytes now under `key`, for comparing. Raises `NotFound`."""
        return self._find(key).body

    async def info(self, key: str) -> ObjectInfo:
        self.calls["info"] += 1
        return self._find(key).info

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        self.calls["read"] += 1
        found = self._find(key)
        if version is not None and found.info.version != version:
            raise VersionChanged(f"{key!r} is now {found.info.version.token}, not {version.token}", path=key)
        cut = cut_range(byte_range, found.info.size, key)
        self.bytes_read += cut.length
        return BytesReading(found.info, cut, memoryview(found.body)[cut.start : cut.end])

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self.calls["list"] += 1
        check_text(prefix, delimiter, after)
        entries: list[Entry] = []
        position = max(bisect.bisect_left(self._sorted, prefix.encode()), bisect.bisect_right(self._sorted, after.encode()))
        while position < len(self._sorted):
            key = self._sorted[position].decode()
            if not key.startswith(prefix):
                break
            common = rolled_up(key, prefix, delimiter)
            if common is None or common.encode() > after.encode():
                if len(entries) == limit:
                    return Listing(tuple(entries), entries[-1].key if entries else after)
                entries.append(self._objects[key].info if common is None else CommonPrefix(common))
            position = position + 1 if common is None else bisect.bisect_left(self._sorted, behind_prefix(common))
        return Listing(tuple(entries))

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        self.calls["tags"] += 1
        return self._find(key).tags

    def _find(self, key: str) -> MemoryObject:
        check_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"{key!r} is not in this memory store", path=key) from None
