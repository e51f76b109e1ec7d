"""MemoryStore: objects in this process's memory, for tests and examples."""

from __future__ import annotations

import bisect
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import InvalidRange, NotFound, SettingsError, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, CommonPrefix, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.uploads import MIN_PART_BYTES, Part
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, attributes_of
from headrace.stores.keys import behind_prefix, check_key, check_text, cut_range, rolled_up
from headrace.stores.memory_uploads import MemoryUploads
from headrace.stores.parts import part_bounds
from headrace.stores.store import Store
from headrace.stores.urls import shown_url
from headrace.stores.writes import COMPOSITE, TYPE, check_condition, full_object, whole

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
    tags: Pairs = ()
    parts: tuple[Part, ...] = ()


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

    def __init__(self, *, versioned: bool = False, min_part_bytes: int = MIN_PART_BYTES) -> None:
        self._objects: dict[str, MemoryObject] = {}
        self._sorted: list[bytes] = []
        self._versioned = versioned
        self._puts = 0
        self._uploads = MemoryUploads(self, min_part_bytes)
        self.calls: Counter[str] = Counter()
        self.bytes_read = 0

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        headers: Pairs = (),
        metadata: Pairs = (),
        tags: Pairs = (),
        modified_s: float | None = None,
    ) -> ObjectInfo:
        """Make or overwrite an object. Raises `InvalidKey`."""
        check_key(key)
        info = self.publish(key, body, Attributes(content_type, headers, metadata, tags))
        if modified_s is not None:
            info = msgspec.structs.replace(info, modified_s=modified_s)
            self._objects[key] = msgspec.structs.replace(self._objects[key], info=info)
        return info

    def publish(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        checksums: Pairs = (),
        *,
        etag: str = "",
        parts: tuple[Part, ...] = (),
    ) -> ObjectInfo:
        """Put the object under a key that was checked."""
        self._puts += 1
        etag = etag or hashlib.md5(body, usedforsecurity=False).hexdigest()
        version_id = f"v{self._puts}" if self._versioned else ""
        info = ObjectInfo(
            key=key,
            size=len(body),
            version=Version(f"id:{version_id}" if self._versioned else f"etag:{etag}"),
            modified_s=float(int(time.time())),
            etag=etag,
            version_id=version_id,
            content_type=attributes.content_type,
            headers=attributes.headers,
            metadata=attributes.metadata,
            checksums=checksums,
            parts=len(parts),
            tag_count=len(attributes.tags),
        )
        if key not in self._objects:
            bisect.insort(self._sorted, key.encode())
        self._objects[key] = MemoryObject(info, body, tuple(sorted(attributes.tags)), parts)
        return info

    def current(self, key: str) -> ObjectInfo | None:
        """What is now under `key`, if anything is. Raises `InvalidKey`."""
        check_key(key)
        found = self._objects.get(key)
        return None if found is None else found.info

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

    async def tags(self, key: str) -> Pairs:
        self.calls["tags"] += 1
        return self._find(key).tags

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        found = self._find(info.key)
        self._check_version(found, info)
        bounds = part_bounds([part.size for part in found.parts] or [info.size], number)
        if bounds is None:
            raise InvalidRange(f"{info.key!r} has no part {number}", path=info.key, size=info.size)
        return bounds

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        self.calls["write"] += 1
        check_key(key)
        data = b"".join([bytes(piece) async for piece in whole(body, key)])
        # No await from here on: the condition and the write are one step.
        check_condition(condition, self.current(key), key)
        return self.publish(key, data, attributes, full_object(body.checksums()))

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        self.calls["copy"] += 1
        found = self._find(source.key)
        self._check_version(found, source)
        check_condition(condition, self.current(key), key)
        kept = attributes_of(found.info, found.tags) if attributes is None else attributes
        composite = (TYPE, COMPOSITE) in found.info.checksums
        return self.publish(key, found.body, kept, () if composite else found.info.checksums)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        self.calls["delete"] += 1
        found = self.current(key)
        check_condition(condition, found, key)
        if found is not None:
            self.remove(key)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        self.calls["set_tags"] += 1
        found = self._find(key)
        info = msgspec.structs.replace(found.info, tag_count=len(tags))
        self._objects[key] = msgspec.structs.replace(found, info=info, tags=tuple(sorted(tags)))

    def parts_of(self, info: ObjectInfo) -> tuple[Part, ...]:
        """The parts that the object was made from. Raises `NotFound`, `VersionChanged`."""
        found = self._find(info.key)
        self._check_version(found, info)
        return found.parts

    def multipart(self) -> MemoryUploads:
        return self._uploads

    def _check_version(self, found: MemoryObject, wanted: ObjectInfo) -> None:
        if found.info.version != wanted.version:
            raise VersionChanged(f"{wanted.key!r} is now {found.info.version.token}, not {wanted.version.token}", path=wanted.key)

    def _find(self, key: str) -> MemoryObject:
        check_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"{key!r} is not in this memory store", path=key) from None
