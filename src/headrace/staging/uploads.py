"""Multipart uploads beside a journal: parts go straight to the store, and the object follows what is staged for its key."""

from __future__ import annotations

from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.staging.shown import Shown
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within
from headrace.stores.store import Store


class StagedUploads(Multipart):
    """`inner`, with what is staged taken into account."""

    def __init__(self, inner: Multipart, store: Store, shown: Shown) -> None:
        """Of the staged `store`; `inner` are those of the store behind it."""
        self._inner = inner
        self._store = store
        self._shown = shown

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        return await self._inner.begin(key, attributes, checksum=checksum, checksum_type=checksum_type)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        return await self._inner.put(upload, number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        # The source may be staged: then the store cannot copy it.
        check_within(byte_range, source)
        reading = await self._store.read(source.key, byte_range, version=source.version)
        return await self._inner.put(upload, number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self._inner.parts(upload, after=after, limit=limit)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        if self._shown.of(info.key) is not None:
            await self._store.part(info, 1)
            return ()
        return await self._inner.parts_of(info, after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        await self._shown.drained(upload.key)
        return await self._inner.complete(upload, parts, condition=condition, checksums=checksums)

    async def abort(self, upload: Upload) -> None:
        await self._inner.abort(upload)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        return await self._inner.list(prefix, after=after, limit=limit)
