"""Multipart uploads beside a journal: parts go straight to the store, and the object follows what is staged for its key."""

from __future__ import annotations

from typing import Protocol

from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within


class _Staging(Protocol):
    def is_staged(self, key: str) -> bool: ...

    async def drained(self, prefix: str) -> None: ...

    async def part(self, info: ObjectInfo, number: int) -> ByteRange: ...

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading: ...


class StagedUploads(Multipart):
    """`inner`, with what is staged taken into account."""

    def __init__(self, inner: Multipart, staging: _Staging) -> None:
        self._inner = inner
        self._staging = staging

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        return await self._inner.begin(key, attributes, checksum=checksum, checksum_type=checksum_type)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        return await self._inner.put(upload, number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        # The source may be staged: then the store cannot copy it.
        check_within(byte_range, source)
        reading = await self._staging.read(source.key, byte_range, version=source.version)
        return await self._inner.put(upload, number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self._inner.parts(upload, after=after, limit=limit)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        if self._staging.is_staged(info.key):
            await self._staging.part(info, 1)
            return ()
        return await self._inner.parts_of(info, after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        await self._staging.drained(upload.key)
        return await self._inner.complete(upload, parts, condition=condition, checksums=checksums)

    async def abort(self, upload: Upload) -> None:
        await self._inner.abort(upload)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        return await self._inner.list(prefix, after=after, limit=limit)
