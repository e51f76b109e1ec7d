"""The multipart uploads of a part of a store."""

from __future__ import annotations

import msgspec

from headrace.model.objects import ByteRange, ObjectInfo, with_key
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.keys import check_key, check_text
from headrace.stores.multipart import Multipart


class PrefixedUploads(Multipart):
    """Uploads of `inner` whose keys begin with `prefix`, with it taken away."""

    def __init__(self, inner: Multipart, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        if not key:
            check_key(key)
        full = self._prefix + key
        begun = await self._inner.begin(full, attributes, checksum=checksum, checksum_type=checksum_type)
        return _at(begun, key)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        return await self._inner.put(self._full(upload), number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        origin = with_key(source, self._prefix + source.key)
        return await self._inner.copy(self._full(upload), number, origin, byte_range)

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        page = await self._inner.parts(self._full(upload), after=after, limit=limit)
        return msgspec.structs.replace(page, upload=_at(page.upload, upload.key))

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        return await self._inner.parts_of(with_key(info, self._prefix + info.key), after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        info = await self._inner.complete(self._full(upload), parts, condition=condition, checksums=checksums)
        return with_key(info, upload.key)

    async def abort(self, upload: Upload) -> None:
        await self._inner.abort(self._full(upload))

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        start = None if after is None else self._full(after)
        page = await self._inner.list(self._prefix + prefix, after=start, limit=limit)
        return UploadListing(
            tuple([self._short(upload) for upload in page.uploads]), None if page.after is None else self._short(page.after)
        )

    def _full(self, upload: Upload) -> Upload:
        return _at(upload, self._prefix + upload.key)

    def _short(self, upload: Upload) -> Upload:
        return _at(upload, upload.key[len(self._prefix) :])


def _at(upload: Upload, key: str) -> Upload:
    return msgspec.structs.replace(upload, key=key)
