"""Multipart uploads over the whole namespace: the Multipart contract with paths for keys."""

from __future__ import annotations

import msgspec

from headrace.model.objects import ByteRange, ObjectInfo, with_key
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Target
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within


class NamespaceUploads(Multipart):
    """Each upload lives in the store that its path leads to. Raises `ReadOnly` where nothing may be written."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        target = self._namespace.writable(key)
        begun = await _uploads(target).begin(target.key, attributes, checksum=checksum, checksum_type=checksum_type)
        return _at(begun, key)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        target = self._namespace.writable(upload.key)
        return await _uploads(target).put(_at(upload, target.key), number, body)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        target, origin = self._namespace.writable(upload.key), self._namespace.resolve(source.key)
        inner = _at(upload, target.key)
        if origin.mount is target.mount:
            return await _uploads(target).copy(inner, number, with_key(source, origin.key), byte_range)
        check_within(byte_range, source)
        reading = await self._namespace.read(source.key, byte_range, version=source.version)
        return await _uploads(target).put(inner, number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        target = self._namespace.writable(upload.key)
        page = await _uploads(target).parts(_at(upload, target.key), after=after, limit=limit)
        return msgspec.structs.replace(page, upload=_at(page.upload, upload.key))

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        target = self._namespace.resolve(info.key)
        return await _uploads(target).parts_of(with_key(info, target.key), after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        target = self._namespace.writable(upload.key)
        info = await _uploads(target).complete(_at(upload, target.key), parts, condition=condition, checksums=checksums)
        return with_key(info, upload.key)

    async def abort(self, upload: Upload) -> None:
        target = self._namespace.writable(upload.key)
        await _uploads(target).abort(_at(upload, target.key))

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        """Of the one mount that `prefix`, a path such as `/bucket/`, leads to."""
        target = self._namespace.resolve(prefix)
        root = prefix[: len(prefix) - len(target.key)]
        start = None if after is None else _at(after, after.key.removeprefix(root))
        page = await target.mount.store.multipart().list(target.key, after=start, limit=limit)
        found = tuple([_at(upload, root + upload.key) for upload in page.uploads])
        return UploadListing(found, None if page.after is None else _at(page.after, root + page.after.key))


def _uploads(target: Target) -> Multipart:
    return target.mount.store.multipart()


def _at(upload: Upload, key: str) -> Upload:
    return msgspec.structs.replace(upload, key=key)
