"""Multipart uploads to scratch: parts take room as they come, and the object obeys conditions on what the mount shows."""

from __future__ import annotations

import msgspec

from headrace.model.errors import NoSuchUpload
from headrace.model.objects import SCRATCH, ByteRange, ObjectInfo
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.scratch.room import ChargedBody, Room
from headrace.scratch.view import View
from headrace.stores.file_uploads import FileUploads
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_within
from headrace.stores.store import Store


class ScratchUploads(Multipart):
    """Uploads of the directory that scratch stands on."""

    def __init__(self, files: FileUploads, view: View, room: Room, store: Store, inner: Store) -> None:
        """Of the scratch `store`, which shows what `inner` has where nothing is here."""
        self._files = files
        self._view = view
        self._room = room
        self._store = store
        self._inner = inner

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        return await self._files.begin(key, attributes, checksum=checksum, checksum_type=checksum_type)

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        charged = ChargedBody(body, self._room, upload.key)
        try:
            return await self._files.put(upload, number, charged)
        except BaseException:  # whatever it is: nothing was kept
            charged.give_back()
            raise

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        check_within(byte_range, source)
        reading = await self._store.read(source.key, byte_range, version=source.version)
        return await self.put(upload, number, ReadingBody(reading))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        return await self._files.parts(upload, after=after, limit=limit)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        if await self._view.look(info.key) is not None:
            return await self._files.parts_of(info, after=after, limit=limit)
        return await self._inner.multipart().parts_of(info, after=after, limit=limit)

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        wanted = await self._view.own_condition(upload.key, condition)
        # The parts are joined in a file of their own, and removed when that is the object.
        size = await self._held(upload)
        self._room.take(size, upload.key)
        try:
            info = await self._files.complete(upload, parts, condition=wanted, checksums=checksums)
        finally:
            self._room.add(-size)
        return msgspec.structs.replace(info, storage_class=SCRATCH)

    async def abort(self, upload: Upload) -> None:
        size = await self._held(upload)
        await self._files.abort(upload)
        self._room.add(-size)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        return await self._files.list(prefix, after=after, limit=limit)

    async def _held(self, upload: Upload) -> int:
        """Bytes of the parts that are there; 0 for an upload that is over."""
        size, after = 0, 0
        while True:
            try:
                page = await self._files.parts(upload, after=after)
            except NoSuchUpload:
                return 0
            size += sum([part.size for part in page.parts])
            if page.after is None:
                return size
            after = page.after
