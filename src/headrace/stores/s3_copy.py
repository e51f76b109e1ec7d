"""Copies that an S3 service makes by itself."""

from __future__ import annotations

from headrace.model.errors import ConditionFailed, NotFound, Unsupported, VersionChanged
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, Upload
from headrace.model.writing import Attributes, Condition, attributes_of
from headrace.stores.http_reads import is_version
from headrace.stores.s3_objects import attribute_headers, source_headers, written_info
from headrace.stores.s3_parts import part_bytes
from headrace.stores.s3_proofs import Info, Verb, settle_refusal
from headrace.stores.s3_requests import S3Requests
from headrace.stores.s3_write import S3Writes
from headrace.stores.s3_write_xml import parse_result

_LARGEST_AT_ONCE = 5 << 30
_SMALL = 8 << 20
_COPIED_PART_BYTES = 512 << 20


class S3Copies:
    """CopyObject where the store does it exactly, else copied parts, which can be looked at before they are published.

    `info` describes an object of the target's bucket.
    """

    def __init__(self, requests: S3Requests, writes: S3Writes, info: Info) -> None:
        self._requests = requests
        self._proofs = writes.proofs
        self._uploads = writes.uploads
        self._parted = writes.parted
        self._info = info

    async def copy(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        """A copy of an object of `bucket`, whose attributes `source` knows. None: the bytes have to pass through here."""
        if not source.etag:
            return None
        if source.size <= _LARGEST_AT_ONCE and await self._proofs.copies_exactly(key):
            try:
                headers = await self._proofs.condition_headers(Verb.COPY, condition, key)
            except Unsupported:
                return None
            return await self._at_once(bucket, source, key, attributes, condition, headers)
        if source.size <= _SMALL or attributes is None:
            return None
        return await self._in_parts(bucket, source, key, attributes, condition)

    async def _at_once(
        self,
        bucket: str,
        source: ObjectInfo,
        key: str,
        attributes: Attributes | None,
        condition: Condition,
        headers: list[tuple[str, str]],
    ) -> ObjectInfo:
        sent = [*source_headers(bucket, source), *headers]
        if attributes is not None:
            sent.extend([("x-amz-metadata-directive", "REPLACE"), ("x-amz-tagging-directive", "REPLACE")])
            sent.extend(attribute_headers(attributes))
        try:
            response = await self._requests.send("PUT", key, headers=sent)
            result = parse_result(await self._requests.read_whole(response), "CopyObjectResult")
        except ConditionFailed as error:
            if not condition or not await self._is_still(bucket, source):
                raise VersionChanged(f"{source.key!r} is not {source.version.token} any more", path=source.key) from error
            raise await settle_refusal(error, key, condition, self._info) from error
        kept = attributes_of(source) if attributes is None else attributes
        info = written_info(key, source.size, response.headers, kept, etag=result.etag)
        return info if info is not None and (source.content_type or attributes is not None) else await self._info(key)

    async def _in_parts(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes, condition: Condition
    ) -> ObjectInfo | None:
        size = max(_COPIED_PART_BYTES, part_bytes(source.size))

        async def copied(upload: Upload) -> list[Part]:
            parts = []
            for number, start in enumerate(range(0, source.size, size), 1):
                cut = ByteRange(start, min(source.size, start + size))
                parts.append(await self._uploads.copy_from(bucket, upload, number, source, cut))
            return parts

        try:
            return await self._parted.write(key, source.size, attributes, condition, copied)
        except Unsupported:
            return None

    async def _is_still(self, bucket: str, source: ObjectInfo) -> bool:
        try:
            return is_version(await self._uploads.describe(bucket, source), source.version)
        except NotFound:
            return False
