"""The multipart uploads of a MemoryStore."""

from __future__ import annotations

import bisect
import hashlib
import time
from collections import OrderedDict
from typing import Protocol

import msgspec

from headrace.model.checksums import Algorithm
from headrace.model.checksums import checksum as checksum_of
from headrace.model.errors import NoSuchUpload, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.stores.keys import check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import (
    can_keep,
    check_checksums,
    check_number,
    check_within,
    named_parts,
    parts_checksums,
    parts_etag,
    upload_order,
)
from headrace.stores.writes import TYPE, check_condition, whole

_REMEMBERED = 1_000


class Objects(Protocol):
    """What uploads need of the store that their objects appear in."""

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading: ...

    def current(self, key: str) -> ObjectInfo | None: ...

    def publish(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        checksums: Pairs = (),
        *,
        etag: str = "",
        parts: tuple[Part, ...] = (),
    ) -> ObjectInfo: ...

    def parts_of(self, info: ObjectInfo) -> tuple[Part, ...]: ...


class _Begun(msgspec.Struct):
    upload: Upload
    attributes: Attributes
    parts: dict[int, tuple[Part, bytes]]


class MemoryUploads(Multipart):
    """Uploads under way, and the last that were completed. An id sorts by its upload's beginning."""

    def __init__(self, objects: Objects, min_part_bytes: int) -> None:
        self._objects = objects
        self._min_part_bytes = min_part_bytes
        self._begun: dict[str, _Begun] = {}
        self._completed: OrderedDict[str, tuple[str, tuple[tuple[int, str], ...], ObjectInfo]] = OrderedDict()
        self._count = 0

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        self._objects.current(key)
        if not can_keep(checksum, checksum_type):
            raise Unsupported(f"{key!r}: no {checksum_type} {checksum} of parts can be kept", path=key)
        self._count += 1
        upload = Upload(key, f"upload-{self._count:012}", time.time(), checksum, checksum_type)
        self._begun[upload.id] = _Begun(upload, attributes, {})
        return upload

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        algorithm = self._find(upload).upload.checksum
        check_number(upload.key, number)
        data = b"".join([bytes(piece) async for piece in whole(body, upload.key)])
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        checksums = tuple([pair for pair in body.checksums() if pair[0] != TYPE])
        if algorithm and algorithm not in dict(checksums):
            checksums = (*checksums, (algorithm, checksum_of(Algorithm(algorithm), data)))
        part = Part(number, etag, len(data), time.time(), checksums)
        self._find(upload).parts[number] = (part, data)
        return part

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        self._find(upload)
        check_within(byte_range, source)
        reading = await self._objects.read(source.key, byte_range, version=source.version)
        return await self.put(upload, number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        begun = self._find(upload)
        numbers = sorted(number for number in begun.parts if number > after)
        page = tuple([begun.parts[number][0] for number in numbers[:limit]])
        return PartListing(begun.upload, page, page[-1].number if len(numbers) > limit else None)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        return self._objects.parts_of(info)[after : after + limit]

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        key, named = upload.key, tuple([(part.number, part.etag) for part in parts])
        if self._completed.get(upload.id, ("", (), None))[:2] == (key, named):
            return self._completed[upload.id][2]
        begun = self._find(upload)
        chosen = named_parts(key, parts, [part for part, _ in begun.parts.values()], self._min_part_bytes)
        kept = parts_checksums(begun.upload.checksum, begun.upload.checksum_type, chosen)
        check_checksums(key, checksums, kept)
        check_condition(condition, self._objects.current(key), key)
        data = b"".join([begun.parts[part.number][1] for part in chosen])
        renumbered = tuple([msgspec.structs.replace(part, number=number) for number, part in enumerate(chosen, 1)])
        info = self._objects.publish(key, data, begun.attributes, kept, etag=parts_etag(chosen), parts=renumbered)
        del self._begun[upload.id]
        self._completed[upload.id] = (key, named, info)
        if len(self._completed) > _REMEMBERED:
            self._completed.popitem(last=False)
        return info

    async def abort(self, upload: Upload) -> None:
        self._find(upload)
        del self._begun[upload.id]

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        order = sorted((begun.upload for begun in self._begun.values() if begun.upload.key.startswith(prefix)), key=upload_order)
        start = 0 if after is None else bisect.bisect_right(order, upload_order(after), key=upload_order)
        page = tuple(order[start : start + limit])
        return UploadListing(page, page[-1] if start + limit < len(order) else None)

    def _find(self, upload: Upload) -> _Begun:
        begun = self._begun.get(upload.id)
        if begun is None or begun.upload.key != upload.key:
            raise NoSuchUpload(f"{upload.key!r} has no upload {upload.id!r} under way", path=upload.key)
        return begun
