"""S3Uploads: the multipart uploads of one bucket."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from headrace.model.errors import (
    AccessDenied,
    ConditionFailed,
    CorruptData,
    HeadraceError,
    InvalidPart,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import MIN_PART_BYTES, Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.http import HttpResponse
from headrace.stores.keys import check_key, check_text
from headrace.stores.multipart import Multipart
from headrace.stores.parts import check_number, check_within, parts_etag
from headrace.stores.s3_objects import attribute_headers, checksum_headers, is_md5_etag, object_info, source_headers
from headrace.stores.s3_parts import gathered
from headrace.stores.s3_proofs import Info, Proofs, Verb, settle_refusal
from headrace.stores.s3_requests import Headers, S3Requests
from headrace.stores.s3_write_xml import (
    CHECKSUM_NAMES,
    UploadsPage,
    complete_xml,
    parse_object_parts,
    parse_parts,
    parse_result,
    parse_uploads,
)
from headrace.stores.sending import Sending

_MAX_PART_AT_HAND = 64 << 20
_MAX_ANSWER_BYTES = 16 << 20
_MAX_PER_PAGE = 1000
_MAX_UPLOADS = 100_000


class S3Uploads(Multipart):
    """Multipart uploads as S3 has them, with what old Ceph and SeaweedFS do otherwise made good.

    `info` describes an object of the bucket.
    """

    def __init__(self, requests: S3Requests, proofs: Proofs, info: Info) -> None:
        self._requests = requests
        self._proofs = proofs
        self._info = info

    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        check_key(key)
        if attributes.tags and not await self._proofs.keeps_upload_tags(key):
            raise Unsupported(f"s3 {key!r}: the store drops the tags of multipart uploads: set them afterwards", path=key)
        return await self.begin_anyhow(key, attributes, checksum=checksum, checksum_type=checksum_type)

    async def begin_anyhow(
        self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = ""
    ) -> Upload:
        """`begin` that does not ask whether the store keeps the tags."""
        await self._requests.check_kept(key, 1)
        headers = attribute_headers(attributes)
        if checksum:
            if checksum not in CHECKSUM_NAMES:
                raise Unsupported(f"s3 {key!r}: no multipart checksums by {checksum}", path=key)
            headers.append(("x-amz-checksum-algorithm", checksum.upper()))
        if checksum_type:
            headers.append(("x-amz-checksum-type", checksum_type))
        response = await self._requests.send("POST", key, query=[(b"uploads", b"")], headers=headers)
        fields = parse_result(await self._requests.read_whole(response), "InitiateMultipartUploadResult").fields
        if not fields.get("UploadId"):
            raise CorruptData(f"s3 {key!r}: the store began an upload without saying which", path=key)
        upload = Upload(key, fields["UploadId"], self._requests.clock.time(), checksum, checksum_type)
        if checksum and response.headers.get("x-amz-checksum-algorithm", "").lower() != checksum:
            await self._drop(upload)
            raise Unsupported(f"s3 {key!r}: the store keeps no {checksum} checksums of multipart uploads", path=key)
        return upload

    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        headers = checksum_headers(body.checksums())
        if body.length is not None:
            return await self.send_part(upload, number, Sending(body, body.length, path=upload.key), headers)
        data = await gathered(body, _MAX_PART_AT_HAND, upload.key)
        return await self.send_part(upload, number, data, checksum_headers(body.checksums()))

    async def send_part(self, upload: Upload, number: int, data: bytes | Sending, headers: Headers = ()) -> Part:
        """`put` of bytes whose length is known."""
        response = await self._send("PUT", upload, query=[_number(upload, number)], headers=headers, body=data)
        response.close()
        size = data.length if isinstance(data, Sending) else len(data)
        told = object_info(upload.key, size, response.headers)
        if not told.etag:
            raise CorruptData(f"s3 {upload.key!r}: the store took part {number} without naming its ETag", path=upload.key)
        sums = tuple([pair for pair in told.checksums if pair[0] in CHECKSUM_NAMES])
        return Part(number, told.etag, size, self._requests.clock.time(), sums)

    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        return await self.copy_from(self._requests.settings.bucket, upload, number, source, byte_range)

    async def copy_from(
        self, bucket: str, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None
    ) -> Part:
        """`copy` out of an object of another bucket of the same account."""
        headers = source_headers(bucket, source)
        part_range = byte_range or ByteRange(0, source.size)
        check_within(byte_range, source)
        if byte_range is not None:
            headers.append(("x-amz-copy-source-range", f"bytes={byte_range.start}-{byte_range.end - 1}"))
        try:
            response = await self._requests.send("PUT", upload.key, query=[_number(upload, number), _id(upload)], headers=headers)
            result = parse_result(await self._requests.read_whole(response), "CopyPartResult")
        except NoSuchUpload:
            raise
        except NotFound:
            await self.parts(upload, limit=1)  # old Ceph does not say which of the two is missing
            raise
        except ConditionFailed as error:
            raise VersionChanged(f"{source.key!r} is not {source.version.token} any more", path=source.key) from error
        if not await self._proofs.copies_exactly(upload.key):
            await self._check_unchanged(bucket, source)
        return Part(number, result.etag, part_range.length, self._requests.clock.time(), result.checksums())

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        query = [(b"max-parts", str(min(limit, _MAX_PER_PAGE)).encode())]
        if after:
            query.append((b"part-number-marker", str(after).encode()))
        page = parse_parts(await (await self._send("GET", upload, query=query)).read(_MAX_ANSWER_BYTES))
        parts = tuple([part for part in page.parts if part.number > after][:limit])
        follows = bool(parts) and (page.truncated or len(parts) < len(page.parts))
        known = Upload(
            upload.key,
            upload.id,
            upload.begun_s,
            page.checksum or upload.checksum,
            page.checksum_type or upload.checksum_type,
        )
        return PartListing(known, parts, parts[-1].number if follows else None)

    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        if not info.parts:
            return ()
        query = [(b"attributes", b"")]
        if info.version_id:
            query.append((b"versionId", info.version_id.encode()))
        headers = [("x-amz-object-attributes", "ETag,ObjectParts"), ("x-amz-max-parts", str(min(limit, _MAX_PER_PAGE)))]
        headers.append(("x-amz-part-number-marker", str(after)))
        try:
            response = await self._requests.send("GET", info.key, query=query, headers=headers)
        except AccessDenied as error:
            raise Unsupported(f"s3 {info.key!r}: these credentials may not ask for its attributes", path=info.key) from error
        if "etag" in response.headers:  # a store that knows no attributes, such as old Ceph, sends the object
            response.close()
            raise Unsupported(f"s3 {info.key!r}: the store does not tell what its parts were", path=info.key)
        found = parse_object_parts(await self._requests.read_whole(response, _MAX_ANSWER_BYTES))
        if found.etag != info.etag:
            raise VersionChanged(f"{info.key!r} has the ETag {found.etag!r} now, not {info.etag!r}", path=info.key)
        wanted = range(after + 1, min(info.parts, after + min(limit, _MAX_PER_PAGE)) + 1)
        if [part.number for part in found.parts] != list(wanted):  # SeaweedFS tells the numbers that they were sent with
            raise Unsupported(f"s3 {info.key!r}: the store does not tell all of its parts", path=info.key)
        return found.parts

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            etag, _ = await self.publish(upload, parts, condition=condition, checksums=checksums)
        except NoSuchUpload:
            # Completed before, perhaps by a call of ours whose answer was lost: the object then shows it.
            return await self._completed_before(upload, parts)
        except ConditionFailed as error:
            raise await settle_refusal(error, upload.key, condition, self._info) from error
        except Unavailable:
            if await self._is_under_way(upload):
                raise
            return await self._completed_before(upload, parts)
        info = await self._info(upload.key)
        if etag and info.etag != etag:
            raise Unavailable(f"s3 {upload.key!r}: written, and written over since", path=upload.key)
        return info

    async def publish(
        self, upload: Upload, parts: Sequence[Part], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> tuple[str, HttpResponse]:
        """`complete` as one request: the ETag, which old Ceph does not tell, and the head of the answer."""
        if not parts or any(first.number >= second.number for first, second in pairwise(parts)):
            raise InvalidPart(f"{upload.key!r}: an upload is completed from parts in rising order", path=upload.key)
        headers = checksum_headers(checksums)
        if headers and dict(checksums).get("type"):
            headers.append(("x-amz-checksum-type", dict(checksums)["type"]))
        if condition:
            headers.extend(await self._proofs.condition_headers(Verb.COMPLETE, condition, upload.key))
        if await self._requests.on_seaweedfs():
            await self._check_named(upload, parts)  # it takes parts that were replaced, and remembers no parts afterwards
        response = await self._send("POST", upload, headers=headers, body=complete_xml(parts))
        body = await self._requests.read_whole(response)
        return parse_result(body, "CompleteMultipartUploadResult").etag or _etag_of(parts), response

    async def abort(self, upload: Upload) -> None:
        await self.parts(upload, limit=1)  # SeaweedFS says yes to dropping what is gone
        await self._drop(upload)

    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        check_text(prefix)
        limit = min(limit, _MAX_PER_PAGE)
        query = [(b"uploads", b""), (b"encoding-type", b"url"), (b"prefix", prefix.encode())]
        if await self._requests.on_seaweedfs():
            return _cut((await _all(self._requests, query)).uploads, after, limit)
        if after is not None:
            query.append((b"key-marker", after.key.encode()))
            if after.id:
                query.append((b"upload-id-marker", after.id.encode()))
        page = await _page(self._requests, [*query, (b"max-uploads", str(limit).encode())])
        return UploadListing(page.uploads, page.uploads[-1] if page.truncated and page.uploads else None)

    async def _check_named(self, upload: Upload, parts: Sequence[Part]) -> None:
        sizes: dict[tuple[int, str], int] = {}
        after: int | None = parts[0].number - 1
        while after is not None:
            page = await self.parts(upload, after=after)
            sizes.update({(part.number, part.etag): part.size for part in page.parts})
            after = page.after
        for part in parts:
            size = sizes.get((part.number, part.etag))
            if size is None:
                message = f"{upload.key!r}: there is no part {part.number} with the ETag {part.etag!r}"
                raise InvalidPart(message, path=upload.key)
            if size < MIN_PART_BYTES and part is not parts[-1]:
                message = f"{upload.key!r}: part {part.number} has {size} bytes; all but the last have at least {MIN_PART_BYTES}"
                raise PartTooSmall(message, path=upload.key, number=part.number)

    async def _completed_before(self, upload: Upload, parts: tuple[Part, ...]) -> ObjectInfo:
        etag = _etag_of(parts)
        try:
            info = await self._info(upload.key)
        except NotFound:
            info = None
        if info is None or not etag or info.etag != etag:
            raise NoSuchUpload(f"s3 {upload.key!r}: there is no such multipart upload any more", path=upload.key)
        return info

    async def _is_under_way(self, upload: Upload) -> bool:
        try:
            await self.parts(upload, limit=1)
        except NoSuchUpload:
            return False
        except HeadraceError:
            return True  # not known: what went wrong first is told
        return True

    async def _check_unchanged(self, bucket: str, source: ObjectInfo) -> None:
        now = await self.describe(bucket, source)
        if now.etag != source.etag or (source.modified_s and int(now.modified_s) != int(source.modified_s)):
            raise VersionChanged(f"{source.key!r} is now {now.version.token}, not {source.version.token}", path=source.key)

    async def describe(self, bucket: str, source: ObjectInfo) -> ObjectInfo:
        """An object of any of the account's buckets as it is now, but for its size. Raises `NotFound`."""
        response = await self._requests.for_bucket(bucket).send("HEAD", source.key)
        response.close()
        return object_info(source.key, source.size, response.headers)

    async def _drop(self, upload: Upload) -> None:
        (await self._send("DELETE", upload)).close()

    async def _send(
        self,
        method: str,
        upload: Upload,
        *,
        query: Sequence[tuple[bytes, bytes]] = (),
        headers: Headers = (),
        body: bytes | Sending = b"",
    ) -> HttpResponse:
        if ".." in upload.id or not upload.id:
            raise NoSuchUpload(f"s3 {upload.key!r}: no multipart upload is called {upload.id!r}", path=upload.key)
        try:
            return await self._requests.send(method, upload.key, query=[*query, _id(upload)], headers=headers, body=body)
        except NoSuchUpload:
            raise
        except NotFound as error:
            # Old Ceph says NoSuchKey, some say nothing.
            raise NoSuchUpload(f"s3 {upload.key!r}: there is no such multipart upload", path=upload.key) from error


async def _all(requests: S3Requests, query: Sequence[tuple[bytes, bytes]]) -> UploadListing:
    """Every upload, for SeaweedFS, which tells them in the order of their ids."""
    found: list[Upload] = []
    position: list[tuple[bytes, bytes]] = []
    while True:
        page = await _page(requests, [*query, *position])
        found.extend(page.uploads)
        if not page.truncated or not page.id_marker or len(found) > _MAX_UPLOADS:
            return UploadListing(tuple(found))
        position = [(b"upload-id-marker", page.id_marker.encode())]


async def _page(requests: S3Requests, query: Sequence[tuple[bytes, bytes]]) -> UploadsPage:
    return parse_uploads(await (await requests.send("GET", "", query=query)).read(_MAX_ANSWER_BYTES))


def _id(upload: Upload) -> tuple[bytes, bytes]:
    return b"uploadId", upload.id.encode()


def _number(upload: Upload, number: int) -> tuple[bytes, bytes]:
    check_number(upload.key, number)
    return b"partNumber", str(number).encode()


def _etag_of(parts: Sequence[Part]) -> str:
    """The ETag that S3 makes of an object's parts; empty when it cannot be known."""
    return parts_etag(parts) if parts and all(is_md5_etag(part.etag) for part in parts) else ""


def _cut(found: Sequence[Upload], after: Upload | None, limit: int) -> UploadListing:
    uploads = sorted(found, key=lambda upload: (upload.key.encode(), upload.begun_s, upload.id))
    if after is not None:
        place = next((n for n, upload in enumerate(uploads) if (upload.key, upload.id) == (after.key, after.id)), None)
        behind = after.key.encode()
        uploads = uploads[place + 1 :] if place is not None else [u for u in uploads if u.key.encode() > behind]
    return UploadListing(tuple(uploads[:limit]), uploads[limit - 1] if len(uploads) > limit else None)
