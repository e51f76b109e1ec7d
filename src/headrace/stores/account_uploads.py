"""The multipart uploads of all buckets of an account."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.model.objects import ByteRange, ObjectInfo, with_key
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.stores.buckets import Buckets
from headrace.stores.keys import check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within
from headrace.stores.store import Store


class AccountUploads(Multipart):
    """Each upload lives in its bucket's store; `find` is `AccountStore.find`."""

    def __init__(self, buckets: Buckets, find: Callable[[str], tuple[Store, str]]) -> None:
        self._buckets = buckets
        self._find = find

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        store, inner = self._find(key)
        begun = await store.multipart().begin(inner, attributes, checksum=checksum, checksum_type=checksum_type)
        return _at(begun, key)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        uploads, inner = self._inside(upload)
        return await uploads.put(inner, number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        (origin, inner_source), (target, inner) = self._find(source.key), self._find(upload.key)
        if origin is target:
            return await target.multipart().copy(_at(upload, inner), number, with_key(source, inner_source), byte_range)
        check_within(byte_range, source)
        reading = await origin.read(inner_source, byte_range, version=source.version)
        return await target.multipart().put(_at(upload, inner), number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        uploads, inner = self._inside(upload)
        page = await uploads.parts(inner, after=after, limit=limit)
        return msgspec.structs.replace(page, upload=_at(page.upload, upload.key))

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        uploads, inner = self._inside(upload)
        return with_key(await uploads.complete(inner, parts, condition=condition, checksums=checksums), upload.key)

    async def abort(self, upload: Upload) -> None:
        uploads, inner = self._inside(upload)
        await uploads.abort(inner)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        """`prefix` may end within a bucket's name; buckets are then asked one behind the other."""
        check_text(prefix)
        bucket, slash, _ = prefix.partition("/")
        if slash:
            return await self._list_bucket(bucket + "/", prefix, after, limit)
        roots = sorted((b.name + "/" for b in await self._buckets.list() if b.name.startswith(prefix)), key=str.encode)
        found: list[Upload] = []
        for root in roots:
            if after is not None and not after.key.startswith(root) and root.encode() < after.key.encode():
                continue
            page = await self._list_bucket(root, root, after, limit - len(found))
            found += page.uploads
            if page.after is not None:
                return UploadListing(tuple(found), page.after)
            if len(found) == limit and root != roots[-1]:
                return UploadListing(tuple(found), found[-1])
        return UploadListing(tuple(found))

    async def _list_bucket(self, root: str, prefix: str, after: Upload | None, limit: int) -> UploadListing:
        store, _ = self._find(root + "any")
        start = None
        if after is not None and after.key.startswith(root):
            start = _at(after, after.key[len(root) :])
        elif after is not None and after.key.encode() > root.encode():
            return UploadListing(())
        page = await store.multipart().list(prefix[len(root) :], after=start, limit=limit)
        found = tuple([_at(upload, root + upload.key) for upload in page.uploads])
        return UploadListing(found, None if page.after is None else _at(page.after, root + page.after.key))

    def _inside(self, upload: Upload) -> tuple[Multipart, Upload]:
        store, inner = self._find(upload.key)
        return store.multipart(), _at(upload, inner)


def _at(upload: Upload, key: str) -> Upload:
    return msgspec.structs.replace(upload, key=key)
