"""Multipart uploads of a Google Cloud Storage bucket, kept as objects of its own and joined by its `compose`.

The service has multipart uploads itself, but only in its XML API, where they take no preconditions and copy no ranges.
An upload is over when its description is gone. Completing claims it, publishes under the condition, and removes it; dropping
removes it unless it is claimed: the description's metageneration decides which of them is first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from heapq import nsmallest

import msgspec

from headrace.model.checksums import Algorithm
from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    HeadraceError,
    InvalidPart,
    NoSuchUpload,
    NotFound,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import MAX_PART_NUMBER, Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, BytesBody, Condition, Pairs, ReadingBody
from headrace.stores.gs_copy import rewrite, same_source
from headrace.stores.gs_joining import Joiner, Piece, piece_of
from headrace.stores.gs_objects import Item, check_gs_key, decoded, item_info, resource
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_send import Document, GsSender, Outgoing
from headrace.stores.gs_upload_folder import UploadFolder
from headrace.stores.gs_upload_items import (
    CLAIM,
    Begun,
    check_id,
    description,
    new_upload,
    no_such,
    part_of,
    read_description,
    with_notes,
)
from headrace.stores.kept_text import Kept, fingerprint, kept_of_parts
from headrace.stores.keys import check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import (
    can_keep,
    check_checksums,
    check_number,
    check_within,
    named_parts,
    parts_checksums,
    upload_order,
)
from headrace.stores.upload_sweeper import Sweeper
from headrace.stores.writes import check_condition, full_object

_CLAIMED_S = 60.0
"""Publishing takes the service seconds, whatever the size: a call that began it longer ago is no more."""

Read = Callable[[str, ByteRange | None, Version], Awaitable[Reading]]
"""`Store.read` of the bucket."""


class GsUploads(Multipart):
    """The uploads of one bucket, below `own`."""

    def __init__(self, requests: GsRequests, own: str, min_part_bytes: int, read: Read) -> None:
        self._requests = requests
        self._own = own
        self._min_part_bytes = min_part_bytes
        self._read = read
        self._sender = GsSender(requests)
        self._folder = UploadFolder(requests, own)
        self._joiner = Joiner(requests, self._sender, self._folder)
        self._sweeper = Sweeper(self._folder.sweep, requests.clock.monotonic)

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        check_gs_key(key, self._own)
        if not can_keep(checksum, checksum_type):
            raise Unsupported(f"gs {key!r}: no {checksum_type} {checksum} of parts can be kept", path=key)
        upload = new_upload(key, self._requests.clock.time(), checksum, checksum_type)
        body = BytesBody(msgspec.json.encode(resource(attributes)))
        name = self._folder.description(upload)
        await self._sender.send(name, Outgoing(body, name), lambda _: description(upload), {"ifGenerationMatch": "0"})
        self._sweeper.sweep_if_due()
        return upload

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        check_number(upload.key, number)
        begun = await self._begun(upload)
        name = self._folder.part(upload, f"{number:05}")
        out = Outgoing(body, name, begun.upload.checksum)
        item = await self._sender.send(name, out, lambda sums: resource(PLAIN, Kept(full_object(sums))), {})
        return await self._kept(upload, item, number)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        check_number(upload.key, number)
        begun = await self._begun(upload)
        check_within(byte_range, source)
        is_whole = byte_range is None or byte_range == ByteRange(0, source.size)
        if not is_whole or begun.upload.checksum not in ("", Algorithm.CRC32C):
            # The service copies no ranges, and computes no other checksums.
            return await self.put(upload, number, ReadingBody(await self._read(source.key, byte_range, source.version)))
        name = self._folder.part(upload, f"{number:05}")
        try:
            item = await rewrite(self._requests, self._requests, source, name, resource(PLAIN), {})
        except (ConditionFailed, NotFound) as error:
            await same_source(self._requests, source)
            raise Conflict(f"{source.key!r} was changed meanwhile; nothing was copied, try again", path=source.key) from error
        return await self._kept(upload, item, number)

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        begun = await self._begun(upload)
        found: list[Part] = []
        async for number, item in self._items(upload, after, limit + 1):
            if len(found) == limit:
                return PartListing(begun.upload, tuple(found), found[-1].number)
            found.append(part_of(item, number))
        return PartListing(begun.upload, tuple(found))

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        kept = await self.made_from(info)
        if len(kept.part_sizes) != kept.parts:
            raise Unsupported(f"gs {info.key!r}: it has too many parts of different sizes to remember them", path=info.key)
        return kept.named_parts()[after : after + limit]

    async def made_from(self, info: ObjectInfo) -> Kept:
        """What was noted with exactly that version. Raises `VersionChanged`, `NotFound`."""
        return (await same_source(self._requests, info)).kept()

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            begun = await self._begun(upload)
            if begun.claimed_s:
                done = await self._completed(upload, parts)
                if done is not None:
                    await self._forget(begun)
                    return item_info(done)
            return await self._complete(begun, parts, condition, checksums)
        except NoSuchUpload:
            # Another call may have completed it meanwhile.
            done = await self._completed(upload, parts)
            if done is None:
                raise
            return item_info(done)

    async def abort(self, upload: Upload) -> None:
        begun = await self._begun(upload)
        self._check_claim(begun)
        try:
            await self._folder.drop(begun)
        except NotFound as error:
            raise no_such(upload) from error

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        behind = None if after is None else upload_order(after)
        uploads = [begun.upload async for begun in self._folder.begun()]
        wanted = [u for u in uploads if u.key.startswith(prefix) and (behind is None or upload_order(u) > behind)]
        found = nsmallest(limit + 1, wanted, key=upload_order)
        return UploadListing(tuple(found[:limit]), found[limit - 1] if len(found) > limit else None)

    async def close(self) -> None:
        """End what runs beside."""
        await self._sweeper.close()

    async def _complete(self, begun: Begun, parts: tuple[Part, ...], condition: Condition, checksums: Pairs) -> ObjectInfo:
        upload = begun.upload
        self._check_claim(begun)
        held = {number: item async for number, item in self._items(upload, 0, MAX_PART_NUMBER)}
        chosen = named_parts(upload.key, parts, [part_of(item, number) for number, item in held.items()], self._min_part_bytes)
        sums = parts_checksums(upload.checksum, upload.checksum_type, chosen)
        check_checksums(upload.key, checksums, sums)
        if condition:  # refused before anything is joined
            found = await self._requests.look(upload.key)
            check_condition(condition, None if found is None else item_info(found), upload.key)
        pieces = await self._joiner.reduce(upload, [piece_of(held[part.number]) for part in chosen])
        kept = kept_of_parts(chosen, upload.checksum, sums, fingerprint(upload.id, parts))
        document = with_notes(await self._document(begun), resource(PLAIN, kept))
        claimed = await self._claim(begun)
        try:
            item = await self._publish(upload, pieces, document, condition)
        except Unavailable as error:
            done = None if isinstance(error, Throttled) else await self._outcome(upload, parts)
            if done is None:
                await self._release(claimed)
                raise
            item = done
        except HeadraceError:
            await self._release(claimed)
            raise
        await self._forget(claimed)
        return item_info(item)

    async def _document(self, begun: Begun) -> Document:
        """The resource that the object was begun with."""
        key = self._folder.description(begun.upload)
        query = {"alt": "media", "ifGenerationMatch": begun.generation}
        try:
            response = await self._requests.send("GET", self._requests.object_path(key), path=key, query=query)
        except (NotFound, VersionChanged) as error:
            raise no_such(begun.upload) from error
        return decoded(await response.read(), Document, self._requests.bucket)

    async def _publish(self, upload: Upload, pieces: Sequence[Piece], document: Document, condition: Condition) -> Item:
        query = await self._requests.precondition(condition, upload.key)
        try:
            return await self._joiner.join(upload.key, pieces, document, query)
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, upload.key) from error
        except NotFound as error:
            await self._requests.check_bucket()
            raise InvalidPart(f"gs {upload.key!r}: a part was replaced meanwhile", path=upload.key) from error

    async def _outcome(self, upload: Upload, parts: tuple[Part, ...]) -> Item | None:
        try:
            return await self._completed(upload, parts)
        except HeadraceError:
            return None  # what went wrong first is told

    async def _completed(self, upload: Upload, parts: tuple[Part, ...]) -> Item | None:
        """The object, as long as it is the one that completing the upload with these parts made."""
        found = await self._requests.look(upload.key)
        return found if found is not None and found.kept().upload == fingerprint(upload.id, parts) else None

    def _check_claim(self, begun: Begun) -> None:
        if begun.claimed_s and self._requests.clock.time() - begun.claimed_s < _CLAIMED_S:
            raise Conflict(f"gs {begun.upload.key!r}: another call is completing this upload", path=begun.upload.key)

    async def _claim(self, begun: Begun) -> Begun:
        changed = await self._note_claim(begun, str(int(self._requests.clock.time() * 1e3)))
        if changed is None:
            message = f"gs {begun.upload.key!r}: another call completes or drops this upload"
            raise Conflict(message, path=begun.upload.key)
        return changed

    async def _release(self, claimed: Begun) -> None:
        with suppress(HeadraceError):  # what went wrong first is told, and the claim ends by itself
            await self._note_claim(claimed, None)

    async def _note_claim(self, begun: Begun, claim: str | None) -> Begun | None:
        """The description with another claim; None when something happened to it meanwhile. Raises `NoSuchUpload`."""
        key = self._folder.description(begun.upload)
        change = {"metadata": {CLAIM: claim}}
        try:
            answer = await self._requests.change("PATCH", self._requests.object_path(key), change, path=key, query=begun.same())
        except ConditionFailed:
            return None
        except NotFound as error:
            raise no_such(begun.upload) from error
        return read_description(self._requests.described(answer, key))

    async def _forget(self, begun: Begun) -> None:
        with suppress(HeadraceError):  # the object is there; the rest is swept
            await self._folder.drop(begun)

    async def _begun(self, upload: Upload) -> Begun:
        check_id(upload)
        try:
            found = read_description(await self._requests.item(self._folder.description(upload)))
        except NotFound as error:
            raise no_such(upload) from error
        if found is None or found.upload.key != upload.key:
            raise no_such(upload)
        return found

    async def _kept(self, upload: Upload, item: Item, number: int) -> Part:
        """The part that was made, unless the upload ended meanwhile."""
        try:
            await self._begun(upload)
        except NoSuchUpload:
            await self._folder.remove(item.name)
            raise
        return part_of(item, number)

    async def _items(self, upload: Upload, after: int, limit: int) -> AsyncIterator[tuple[int, Item]]:
        start = self._folder.part(upload, f"{after + 1:05}")
        async for item in self._folder.items(self._folder.part(upload, ""), start=start, page=limit):
            name = item.name.rpartition("/")[2]
            if not name.isdigit():
                return
            yield int(name), item
