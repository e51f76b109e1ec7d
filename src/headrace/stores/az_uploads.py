"""Multipart uploads of an Azure container, each as a blob of its own whose blocks are the parts.

Blocks sent for the object's own name would be lost with every other write of it. Completing makes the parts the upload's blob,
which claims the upload, and has the service copy that blob to the object's name, under the condition; dropping removes the blob
unless it is claimed: its ETag decides which of them is first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

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
)
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import PLAIN, Attributes, Body, Condition, Pairs, ReadingBody
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
    AzBegun,
    AzHeldPart,
    blob_upload,
    description,
    held_parts,
    new_attempt,
    read_begun,
)
from headrace.stores.az_write import AzWrites, Staged
from headrace.stores.az_xml import parse_block_list, parse_noted
from headrace.stores.cloud_uploads import Found, Read, Steps
from headrace.stores.kept_text import TAGS, Kept, read_notes
from headrace.stores.s3_parts import BodyCutter
from headrace.stores.upload_notes import no_such
from headrace.stores.upload_sweeper import UPLOAD_AGE_S
from headrace.stores.writes import whole

_MAX_LIST_BYTES = 32 << 20
_MAX_PAGES = 1000


class AzUploads(Steps[AzBegun, AzHeldPart, ObjectInfo]):
    """The uploads of one container, below `own`. Parts that are ready are the upload's blob."""

    claim_s = 600.0  # copying may take the service a while

    def __init__(self, requests: AzRequests, writes: AzWrites, own: str, read: Read) -> None:
        self._requests = requests
        self._writes = writes
        self._copies = AzCopies(requests, writes)
        self._own = own
        self._folder = own + "uploads/"
        self._read = read
        self._last_ms = 0

    async def begin(self, upload: Upload, attributes: Attributes) -> None:
        check_new_az_key(upload.key, self._own)
        if upload.checksum and DIGEST_BYTES[Algorithm(upload.checksum)] > LONGEST_DIGEST:
            message = f"az {upload.key!r}: no {upload.checksum_type} {upload.checksum} of parts can be kept"
            raise Unsupported(message, path=upload.key)
        tag_headers(attributes.tags)
        headers = [*property_headers(attributes), *metadata_headers(attributes, note_tags=True), *description(upload)]
        sent = [*headers, ("x-ms-blob-type", "BlockBlob"), ("if-none-match", "*")]
        (await self._requests.send("PUT", self._folder + upload.id, headers=sent, path=upload.key)).close()

    async def begun(self, upload: Upload) -> AzBegun | None:
        name = self._folder + upload.id
        try:
            head = await self._requests.head(name)
        except NotFound:
            return None
        return read_begun(name, raw_metadata(head.headers), head)

    async def put(self, begun: AzBegun, number: int, body: Body) -> Part:
        upload = begun.upload
        # A later attempt of the same millisecond is the later one all the same.
        self._last_ms = max(self._last_ms + 1, int(self._requests.clock.time() * 1e3))
        attempt = new_attempt(number, self._last_ms)
        part = await PartSender(self._writes, self._folder + upload.id, attempt, upload.checksum).send(body, upload.key)
        await self._check_there(upload)  # blocks for a blob that is gone are dropped by the service
        return part

    async def copy(self, begun: AzBegun, number: int, source: ObjectInfo, byte_range: ByteRange | None) -> None:
        """None: the service would copy blocks, but tells no checksum by which the part could be named."""

    async def held(self, begun: AzBegun, *, after: int, limit: int) -> Sequence[AzHeldPart]:
        name = self._folder + begun.upload.id
        query = (("comp", "blocklist"), ("blocklisttype", "all"))
        try:
            response = await self._requests.send("GET", name, query=query)
        except NotFound as error:
            raise no_such(begun.upload) from error
        blocks = parse_block_list(await response.read(_MAX_LIST_BYTES), name)
        return [held for held in held_parts(blocks, begun.upload.checksum) if held.part.number > after][:limit]

    async def find(self, key: str) -> Found:
        head = await self._requests.head(key)
        return Found(described(key, head), kept_of(raw_metadata(head.headers)))

    async def claim(self, begun: AzBegun, parts: Sequence[AzHeldPart]) -> tuple[AzBegun, ObjectInfo]:
        name, now_ms = self._folder + begun.upload.id, int(self._requests.clock.time() * 1e3)
        staged = Staged(tuple([block for held in parts for block in held.names]), sum(held.part.size for held in parts))
        headers = [*begun.properties, *begun.metadata, *description(begun.upload, str(now_ms)), ("if-match", f'"{begun.etag}"')]
        try:
            joined = await self._writes.commit(name, staged, headers, Condition(if_match=begun.etag))
        except (ConditionFailed, Conflict, NotFound) as error:
            await self._check_there(begun.upload)
            message = f"az {begun.upload.key!r}: another call completes or drops this upload"
            raise Conflict(message, path=begun.upload.key) from error
        except Throttled:
            raise
        except Unavailable:
            found = await self._claimed_at(begun.upload, now_ms)
            if found is None:
                raise
            joined = found
        return msgspec.structs.replace(begun, etag=joined.etag, claimed_s=now_ms / 1e3), joined

    async def publish(self, claimed: AzBegun, joined: ObjectInfo, kept: Kept, condition: Condition) -> ObjectInfo:
        key, tags = claimed.upload.key, _tags(claimed)
        conditions = await self._requests.condition_headers(condition, key)
        noted = [pair for pair in claimed.metadata if pair[0] != META + PREFIX + TAGS]
        sent: Sent = [*noted, *metadata_headers(PLAIN, kept), *tag_headers(tags), *conditions]
        try:
            if joined.size <= LARGEST_AT_ONCE:
                copied = await self._copies.at_once(self._requests, joined, key, sent)
                told = written_info(key, joined.size, {"etag": copied.etag}, [*claimed.properties, *sent])
                return msgspec.structs.replace(told, modified_s=copied.modified_s, tag_count=len(tags))
            staged = await self._copies.in_blocks(self._requests, joined, key)
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except Unsupported:
            staged = await self._passed(joined, key)
        made = await self._writes.commit(key, staged, [*claimed.properties, *sent], condition)
        return msgspec.structs.replace(made, tag_count=len(tags))

    async def release(self, claimed: AzBegun) -> None:
        headers = [*claimed.metadata, *description(claimed.upload), ("if-match", f'"{claimed.etag}"')]
        name = self._folder + claimed.upload.id
        (await self._requests.send("PUT", name, query=(("comp", "metadata"),), headers=headers)).close()

    async def drop(self, begun: AzBegun) -> None:
        headers = [("if-match", f'"{begun.etag}"'), ("x-ms-delete-snapshots", "include")]
        try:
            (await self._requests.send("DELETE", self._folder + begun.upload.id, headers=headers)).close()
        except NotFound as error:
            raise no_such(begun.upload) from error
        except ConditionFailed as error:
            await self._check_there(begun.upload)
            message = f"az {begun.upload.key!r}: the upload is being completed, or something else happened to it meanwhile"
            raise Conflict(message, path=begun.upload.key) from error

    async def uploads(self) -> AsyncIterator[Upload]:
        marker = ""
        for _ in range(_MAX_PAGES):
            query = [("restype", "container"), ("comp", "list"), ("include", "metadata"), ("prefix", self._folder)]
            response = await self._requests.send("GET", "", query=(*query, *((("marker", marker),) if marker else ())))
            page = parse_noted(await response.read(_MAX_LIST_BYTES), self._requests.container)
            for name, raw in page.blobs:
                upload = blob_upload(name, raw)
                if upload is not None:
                    yield upload
            marker = page.marker
            if not marker:
                return
        raise Unavailable(f"az {self._requests.container}: the service's list of uploads does not get ahead, try again")

    async def sweep(self) -> None:
        oldest_s = self._requests.clock.time() - UPLOAD_AGE_S
        for upload in [upload async for upload in self.uploads() if upload.begun_s < oldest_s]:
            with suppress(NoSuchUpload, Conflict):  # somebody else is at it
                await self.drop(await self._check_there(upload))

    async def _passed(self, joined: ObjectInfo, key: str) -> Staged:
        """Blocks for `key` whose bytes pass through here."""
        cutter = BodyCutter(whole(ReadingBody(await self._read(joined.key, None, joined.version)), key), key)
        try:
            return await self._writes.stage(key, await cutter.gather(8 << 20), cutter, joined.size)
        finally:
            await cutter.aclose()

    async def _check_there(self, upload: Upload) -> AzBegun:
        begun = await self.begun(upload)
        if begun is None:
            raise no_such(upload)
        return begun

    async def _claimed_at(self, upload: Upload, time_ms: int) -> ObjectInfo | None:
        """The upload's blob, if it was claimed at that time all the same."""
        with suppress(HeadraceError):  # what went wrong first is told
            if int((await self._check_there(upload)).claimed_s * 1e3) == time_ms:
                return await self._requests.info(self._folder + upload.id)
        return None


def _tags(begun: AzBegun) -> Pairs:
    return read_notes({TAGS: dict(begun.metadata).get(META + PREFIX + TAGS, "")}).tags
