"""Multipart uploads of an Azure container, each as a blob of its own whose blocks are the parts.

Blocks sent for the object's own name would be lost with every other write of it. Completing makes the parts the upload's blob,
which claims the upload, and has the service copy that blob to the object's name, under the condition; dropping removes the blob
unless it is claimed: its ETag decides which of them is first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from heapq import nsmallest

import msgspec

from headrace.model.checksums import DIGEST_BYTES, Algorithm
from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    HeadraceError,
    NoSuchUpload,
    NotFound,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
from headrace.stores.az_copy import LARGEST_AT_ONCE, AzCopies
from headrace.stores.az_objects import (
    META,
    PREFIX,
    Sent,
    check_new_az_key,
    kept_of,
    metadata_headers,
    property_headers,
    raw_metadata,
    tag_headers,
    written_info,
)
from headrace.stores.az_part import PartSender
from headrace.stores.az_requests import AzRequests, described
from headrace.stores.az_upload_blobs import (
    LONGEST_DIGEST,
    Begun,
    HeldPart,
    check_id,
    description,
    held_parts,
    new_attempt,
    new_upload,
    no_such,
    read_begun,
    read_upload,
)
from headrace.stores.az_write import AzWrites, Staged
from headrace.stores.az_xml import parse_block_list, parse_noted
from headrace.stores.kept_text import TAGS, Kept, fingerprint, kept_of_parts, read_notes
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
from headrace.stores.s3_parts import BodyCutter
from headrace.stores.upload_sweeper import UPLOAD_AGE_S, Sweeper
from headrace.stores.writes import check_condition, whole

_CLAIMED_S = 600.0
"""A call that began to publish an upload longer ago is no more: copying may take the service a while."""

_MAX_LIST_BYTES = 32 << 20
_MAX_PAGES = 1000

Read = Callable[[str, ByteRange | None, Version], Awaitable[Reading]]
"""`Store.read` of the container, also of what belongs to the store itself."""


class AzUploads(Multipart):
    """The uploads of one container, below `own`."""

    def __init__(self, requests: AzRequests, writes: AzWrites, own: str, min_part_bytes: int, read: Read) -> None:
        self._requests = requests
        self._writes = writes
        self._copies = AzCopies(requests, writes)
        self._own = own
        self._folder = own + "uploads/"
        self._min_part_bytes = min_part_bytes
        self._read = read
        self._last_ms = 0
        self._sweeper = Sweeper(self._sweep, requests.clock.monotonic)

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        check_new_az_key(key, self._own)
        if not can_keep(checksum, checksum_type) or (checksum and DIGEST_BYTES[Algorithm(checksum)] > LONGEST_DIGEST):
            raise Unsupported(f"az {key!r}: no {checksum_type} {checksum} of parts can be kept", path=key)
        tag_headers(attributes.tags)
        upload = new_upload(key, self._requests.clock.time(), checksum, checksum_type)
        headers = [*property_headers(attributes), *metadata_headers(attributes, note_tags=True), *description(upload)]
        sent = [*headers, ("x-ms-blob-type", "BlockBlob"), ("if-none-match", "*")]
        (await self._requests.send("PUT", self._folder + upload.id, headers=sent, path=key)).close()
        self._sweeper.sweep_if_due()
        return upload

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        check_number(upload.key, number)
        begun = await self._begun(upload)
        # A later attempt of the same millisecond is the later one all the same.
        self._last_ms = max(self._last_ms + 1, int(self._requests.clock.time() * 1e3))
        attempt = new_attempt(number, self._last_ms)
        sender = PartSender(self._writes, self._folder + upload.id, attempt, begun.upload.checksum)
        part = await sender.send(body, upload.key)
        await self._begun(upload)  # blocks for a blob that is gone are dropped by the service
        return part

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        check_number(upload.key, number)
        await self._begun(upload)
        check_within(byte_range, source)
        # The service would copy blocks, but tells no checksum by which the part could be named.
        return await self.put(upload, number, ReadingBody(await self._read(source.key, byte_range, source.version)))

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        begun = await self._begun(upload)
        found = [held.part for number, held in (await self._held(begun)).items() if number > after]
        return PartListing(begun.upload, tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        kept = await self.made_from(info)
        if len(kept.part_sizes) != kept.parts:
            raise Unsupported(f"az {info.key!r}: it has too many parts of different sizes to remember them", path=info.key)
        return kept.named_parts()[after : after + limit]

    async def made_from(self, info: ObjectInfo) -> Kept:
        """What was noted with exactly that version. Raises `VersionChanged`, `NotFound`."""
        head = await self._requests.head(info.key)
        check_version(info, head.headers.get("etag", "").strip('"'))
        return kept_of(raw_metadata(head.headers))

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            begun = await self._begun(upload)
            if begun.claimed_s:
                done = await self._completed(upload, parts)
                if done is not None:
                    await self._forget(upload)
                    return done
            return await self._complete(begun, parts, condition, checksums)
        except NoSuchUpload:
            # Another call may have completed it meanwhile.
            done = await self._completed(upload, parts)
            if done is None:
                raise
            return done

    async def abort(self, upload: Upload) -> None:
        begun = await self._begun(upload)
        self._check_claim(begun)
        await self._drop(begun)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        behind = None if after is None else upload_order(after)
        uploads = [upload async for upload in self._uploads()]
        wanted = [u for u in uploads if u.key.startswith(prefix) and (behind is None or upload_order(u) > behind)]
        found = nsmallest(limit + 1, wanted, key=upload_order)
        return UploadListing(tuple(found[:limit]), found[limit - 1] if len(found) > limit else None)

    async def close(self) -> None:
        """End what runs beside."""
        await self._sweeper.close()

    async def _complete(self, begun: Begun, parts: tuple[Part, ...], condition: Condition, checksums: Pairs) -> ObjectInfo:
        upload = begun.upload
        self._check_claim(begun)
        held = await self._held(begun)
        chosen = named_parts(upload.key, parts, [one.part for one in held.values()], self._min_part_bytes)
        sums = parts_checksums(upload.checksum, upload.checksum_type, chosen)
        check_checksums(upload.key, checksums, sums)
        if condition:  # refused before anything is joined
            check_condition(condition, await self._requests.look(upload.key), upload.key)
        kept = kept_of_parts(chosen, upload.checksum, sums, fingerprint(upload.id, parts))
        joined = await self._join(begun, [held[part.number] for part in chosen])
        try:
            info = await self._publish(begun, joined, kept, condition)
        except Unavailable as error:
            done = None if isinstance(error, Throttled) else await self._outcome(upload, parts)
            if done is None:
                await self._release(begun, joined)
                raise
            info = done
        except HeadraceError:
            await self._release(begun, joined)
            raise
        await self._forget(upload)
        return info

    async def _join(self, begun: Begun, held: Sequence[HeldPart]) -> ObjectInfo:
        """Make the parts the upload's blob. Raises `Conflict`, `NoSuchUpload`."""
        name, now_ms = self._folder + begun.upload.id, int(self._requests.clock.time() * 1e3)
        names = tuple([block for one in held for block in one.names])
        size = sum(one.part.size for one in held)
        headers = [*begun.properties, *begun.metadata, *description(begun.upload, str(now_ms)), ("if-match", f'"{begun.etag}"')]
        try:
            return await self._writes.commit(name, Staged(names, size), headers, Condition(if_match=begun.etag))
        except (ConditionFailed, Conflict, NotFound) as error:
            await self._begun(begun.upload)
            message = f"az {begun.upload.key!r}: another call completes or drops this upload"
            raise Conflict(message, path=begun.upload.key) from error
        except Throttled:
            raise
        except Unavailable:
            with suppress(HeadraceError):  # what went wrong first is told
                if int((await self._begun(begun.upload)).claimed_s * 1e3) == now_ms:
                    return await self._requests.info(name)
            raise

    async def _publish(self, begun: Begun, joined: ObjectInfo, kept: Kept, condition: Condition) -> ObjectInfo:
        """Copy the upload's blob to the object's name."""
        key, tags = begun.upload.key, _tags(begun)
        conditions = await self._requests.condition_headers(condition, key)
        noted = [pair for pair in begun.metadata if pair[0] != META + PREFIX + TAGS]
        sent: Sent = [*noted, *metadata_headers(PLAIN, kept), *tag_headers(tags), *conditions]
        try:
            if joined.size <= LARGEST_AT_ONCE:
                copied = await self._copies.at_once(self._requests, joined, key, sent)
                told = written_info(key, joined.size, {"etag": copied.etag}, [*begun.properties, *sent])
                return msgspec.structs.replace(told, modified_s=copied.modified_s, tag_count=len(tags))
            staged = await self._copies.in_blocks(self._requests, joined, key)
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except Unsupported:
            staged = await self._passed(joined, key)
        made = await self._writes.commit(key, staged, [*begun.properties, *sent], condition)
        return msgspec.structs.replace(made, tag_count=len(tags))

    async def _passed(self, joined: ObjectInfo, key: str) -> Staged:
        """Blocks for `key` whose bytes pass through here."""
        cutter = BodyCutter(whole(ReadingBody(await self._read(joined.key, None, joined.version)), key), key)
        try:
            return await self._writes.stage(key, await cutter.gather(8 << 20), cutter, joined.size)
        finally:
            await cutter.aclose()

    async def _outcome(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo | None:
        try:
            return await self._completed(upload, parts)
        except HeadraceError:
            return None  # what went wrong first is told

    async def _completed(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo | None:
        """The object, as long as it is the one that completing the upload with these parts made."""
        try:
            head = await self._requests.head(upload.key)
        except NotFound:
            return None
        is_made = kept_of(raw_metadata(head.headers)).upload == fingerprint(upload.id, parts)
        return described(upload.key, head) if is_made else None

    def _check_claim(self, begun: Begun) -> None:
        if begun.claimed_s and self._requests.clock.time() - begun.claimed_s < _CLAIMED_S:
            raise Conflict(f"az {begun.upload.key!r}: another call is completing this upload", path=begun.upload.key)

    async def _release(self, begun: Begun, joined: ObjectInfo) -> None:
        headers = [*begun.metadata, *description(begun.upload), ("if-match", f'"{joined.etag}"')]
        with suppress(HeadraceError):  # what went wrong first is told, and the claim ends by itself
            (await self._requests.send("PUT", joined.key, query=(("comp", "metadata"),), headers=headers)).close()

    async def _drop(self, begun: Begun) -> None:
        """Remove an upload to which nothing happened meanwhile. Raises `Conflict`, `NoSuchUpload`."""
        headers = [("if-match", f'"{begun.etag}"'), ("x-ms-delete-snapshots", "include")]
        try:
            (await self._requests.send("DELETE", self._folder + begun.upload.id, headers=headers)).close()
        except NotFound as error:
            raise no_such(begun.upload) from error
        except ConditionFailed as error:
            await self._begun(begun.upload)
            message = f"az {begun.upload.key!r}: the upload is being completed, or something else happened to it meanwhile"
            raise Conflict(message, path=begun.upload.key) from error

    async def _forget(self, upload: Upload) -> None:
        with suppress(HeadraceError):  # the object is there; the rest is swept
            headers = [("x-ms-delete-snapshots", "include")]
            (await self._requests.send("DELETE", self._folder + upload.id, headers=headers)).close()

    async def _begun(self, upload: Upload) -> Begun:
        check_id(upload)
        name = self._folder + upload.id
        try:
            head = await self._requests.head(name)
        except NotFound as error:
            raise no_such(upload) from error
        found = read_begun(name, raw_metadata(head.headers), head)
        if found is None or found.upload.key != upload.key:
            raise no_such(upload)
        return found

    async def _held(self, begun: Begun) -> dict[int, HeldPart]:
        name = self._folder + begun.upload.id
        query = (("comp", "blocklist"), ("blocklisttype", "all"))
        try:
            response = await self._requests.send("GET", name, query=query)
        except NotFound as error:
            raise no_such(begun.upload) from error
        return held_parts(parse_block_list(await response.read(_MAX_LIST_BYTES), name), begun.upload.checksum)

    async def _uploads(self) -> AsyncIterator[Upload]:
        marker = ""
        for _ in range(_MAX_PAGES):
            query = [("restype", "container"), ("comp", "list"), ("include", "metadata"), ("prefix", self._folder)]
            response = await self._requests.send("GET", "", query=(*query, *((("marker", marker),) if marker else ())))
            page = parse_noted(await response.read(_MAX_LIST_BYTES), self._requests.container)
            for name, raw in page.blobs:
                upload = read_upload(name, raw)
                if upload is not None:
                    yield upload
            marker = page.marker
            if not marker:
                return

    async def _sweep(self) -> None:
        oldest_s = self._requests.clock.time() - UPLOAD_AGE_S
        for upload in [upload async for upload in self._uploads() if upload.begun_s < oldest_s]:
            with suppress(NoSuchUpload, Conflict):  # somebody else is at it
                await self._drop(await self._begun(upload))


def check_version(info: ObjectInfo, etag: str) -> None:
    """Raises `VersionChanged` unless a blob with that ETag is the version that `info` describes."""
    if info.version != Version(f"etag:{etag}"):
        raise VersionChanged(f"{info.key!r} is now etag:{etag}, not {info.version.token}", path=info.key)


def _tags(begun: Begun) -> Pairs:
    return read_notes({TAGS: dict(begun.metadata).get(META + PREFIX + TAGS, "")}).tags
