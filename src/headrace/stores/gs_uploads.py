"""Multipart uploads of a Google Cloud Storage bucket, kept as objects of its own and joined by its `compose`.

The service has multipart uploads itself, but only in its XML API, where they take no preconditions and copy no ranges.
An upload is over when its description is gone; the description's metageneration decides which of two calls was first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from headrace.model.checksums import Algorithm
from headrace.model.errors import ConditionFailed, Conflict, InvalidPart, NotFound, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import PLAIN, Attributes, Body, BytesBody, Condition
from headrace.stores.cloud_uploads import Found, Steps
from headrace.stores.gs_copy import rewrite, same_source
from headrace.stores.gs_joining import Joiner, Piece, piece_of
from headrace.stores.gs_objects import Item, check_gs_key, decoded, item_info, resource
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_send import Document, GsSender, Outgoing
from headrace.stores.gs_upload_folder import UploadFolder
from headrace.stores.gs_upload_items import GsBegun, claim_change, description, part_of, read_description, with_notes
from headrace.stores.kept_text import Kept
from headrace.stores.upload_notes import HeldPart, no_such
from headrace.stores.writes import full_object


class GsHeldPart(HeldPart, frozen=True):
    """A part, and its object."""

    piece: Piece


class Joinable(msgspec.Struct, frozen=True):
    """Parts that one request joins, and the resource that the object was begun with."""

    pieces: tuple[Piece, ...]
    document: Document


class GsUploads(Steps[GsBegun, GsHeldPart, Joinable]):
    """The uploads of one bucket, below `own`."""

    claim_s = 60.0  # publishing takes the service seconds, whatever the size

    def __init__(self, requests: GsRequests, own: str) -> None:
        self._requests = requests
        self._own = own
        self._sender = GsSender(requests)
        self._folder = UploadFolder(requests, own)
        self._joiner = Joiner(requests, self._sender, self._folder)

    async def begin(self, upload: Upload, attributes: Attributes) -> None:
        check_gs_key(upload.key, self._own)
        body = BytesBody(msgspec.json.encode(resource(attributes)))
        name = self._folder.description(upload)
        await self._sender.send(name, Outgoing(body, name), lambda _: description(upload), {"ifGenerationMatch": "0"})

    async def begun(self, upload: Upload) -> GsBegun | None:
        item = await self._requests.look(self._folder.description(upload))
        return None if item is None else read_description(item)

    async def put(self, begun: GsBegun, number: int, body: Body) -> Part:
        name = self._folder.part(begun.upload, f"{number:05}")
        out = Outgoing(body, name, begun.upload.checksum)
        item = await self._sender.send(name, out, lambda sums: resource(PLAIN, Kept(full_object(sums))), {})
        return await self._kept(begun.upload, item, number)

    async def copy(self, begun: GsBegun, number: int, source: ObjectInfo, byte_range: ByteRange | None) -> Part | None:
        is_whole = byte_range is None or byte_range == ByteRange(0, source.size)
        if not is_whole or begun.upload.checksum not in ("", Algorithm.CRC32C):
            return None  # the service copies no ranges, and computes no other checksums
        name = self._folder.part(begun.upload, f"{number:05}")
        try:
            item = await rewrite(self._requests, self._requests, source, name, resource(PLAIN), {})
        except (ConditionFailed, NotFound) as error:
            await same_source(self._requests, source)
            raise Conflict(f"{source.key!r} was changed meanwhile; nothing was copied, try again", path=source.key) from error
        return await self._kept(begun.upload, item, number)

    async def held(self, begun: GsBegun, *, after: int, limit: int) -> Sequence[GsHeldPart]:
        found: list[GsHeldPart] = []
        start = self._folder.part(begun.upload, f"{after + 1:05}")
        async for item in self._folder.items(self._folder.part(begun.upload, ""), start=start, page=limit):
            name = item.name.rpartition("/")[2]
            if not name.isdigit() or len(found) == limit:
                break
            found.append(GsHeldPart(part_of(item, int(name)), piece_of(item)))
        return found

    async def find(self, key: str) -> Found:
        item = await self._requests.item(key)
        return Found(item_info(item), item.kept())

    async def claim(self, begun: GsBegun, parts: Sequence[GsHeldPart]) -> tuple[GsBegun, Joinable]:
        pieces = await self._joiner.reduce(begun.upload, [held.piece for held in parts])
        joinable = Joinable(tuple(pieces), await self._document(begun))
        claimed = await self._note_claim(begun, str(int(self._requests.clock.time() * 1e3)))
        if claimed is None:
            message = f"gs {begun.upload.key!r}: another call completes or drops this upload"
            raise Conflict(message, path=begun.upload.key)
        return claimed, joinable

    async def publish(self, claimed: GsBegun, joined: Joinable, kept: Kept, condition: Condition) -> ObjectInfo:
        key = claimed.upload.key
        document = with_notes(joined.document, resource(PLAIN, kept))
        query = await self._requests.precondition(condition, key)
        try:
            return item_info(await self._joiner.join(key, joined.pieces, document, query))
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except NotFound as error:
            await self._requests.check_bucket()
            raise InvalidPart(f"gs {key!r}: a part was replaced meanwhile", path=key) from error

    async def release(self, claimed: GsBegun) -> None:
        await self._note_claim(claimed, None)

    async def drop(self, begun: GsBegun) -> None:
        try:
            await self._folder.drop(begun)
        except NotFound as error:
            raise no_such(begun.upload) from error

    async def uploads(self) -> AsyncIterator[Upload]:
        async for begun in self._folder.begun():
            yield begun.upload

    async def sweep(self) -> None:
        await self._folder.sweep()

    async def _document(self, begun: GsBegun) -> Document:
        """The resource that the object was begun with."""
        key = self._folder.description(begun.upload)
        query = {"alt": "media", "ifGenerationMatch": begun.generation}
        try:
            response = await self._requests.send("GET", self._requests.object_path(key), path=key, query=query)
        except (NotFound, VersionChanged) as error:
            raise no_such(begun.upload) from error
        return decoded(await response.read(), Document, self._requests.bucket)

    async def _note_claim(self, begun: GsBegun, claim: str | None) -> GsBegun | None:
        """The description with another claim; None when something happened to it meanwhile. Raises `NoSuchUpload`."""
        key = self._folder.description(begun.upload)
        target, change = self._requests.object_path(key), claim_change(claim)
        try:
            answer = await self._requests.change("PATCH", target, change, path=key, query=begun.same())
        except ConditionFailed:
            return None
        except NotFound as error:
            raise no_such(begun.upload) from error
        return read_description(self._requests.described(answer, key))

    async def _kept(self, upload: Upload, item: Item, number: int) -> Part:
        """The part that was made, unless the upload ended meanwhile."""
        if await self.begun(upload) is None:
            await self._folder.remove(item.name)
            raise no_such(upload)
        return part_of(item, number)
