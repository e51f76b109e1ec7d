"""S3Writes: objects of one bucket written, removed and tagged."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from headrace.model.errors import ConditionFailed, NotFound, Unavailable
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, Body, Condition, Pairs
from headrace.stores.http import HttpResponse
from headrace.stores.keys import check_key
from headrace.stores.s3_objects import attribute_headers, checksum_headers, is_md5_etag, written_info
from headrace.stores.s3_parted import Parted, send_growing_parts, send_parts
from headrace.stores.s3_parts import FIRST_PART_BYTES, BodyCutter, gathered
from headrace.stores.s3_proofs import Info, Proofs, Verb, settle_refusal
from headrace.stores.s3_requests import S3Requests
from headrace.stores.s3_seaweedfs import is_clean_path
from headrace.stores.s3_uploads import S3Uploads
from headrace.stores.s3_write_xml import tagging_xml
from headrace.stores.sending import Sending

_LARGEST_PUT = 5 << 30
_AT_HAND_BYTES = 256 * 1024
"""Up to here a body is taken in whole, so that its SHA-256 is signed and its MD5 compared."""

_SEALED = "x-amz-server-side-encryption"
_MD5_BYTES = 64 * 1024


class S3Writes:
    """PutObject, DeleteObject and PutObjectTagging. `info` describes an object of the bucket."""

    def __init__(self, requests: S3Requests, info: Info) -> None:
        self._requests = requests
        self._info = info
        self._makes_md5 = False
        self.proofs = Proofs(requests)
        self.uploads = S3Uploads(requests, self.proofs, info)
        self.parted = Parted(self.uploads, self.proofs, info, self.set_tags)

    async def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        """`Store.write`."""
        check_key(key)
        await self._requests.check_kept(key, body.length or 0)
        if body.length is None or body.length > _LARGEST_PUT:
            return await self._write_cut(key, body, attributes, condition)
        headers = await self.proofs.condition_headers(Verb.PUT, condition, key)
        if body.length > _AT_HAND_BYTES:
            sending = Sending(body, body.length, path=key)
            return await self._put(key, sending, body, (attributes, condition), [*headers, *checksum_headers(body.checksums())])
        there = body.at_hand()
        data = await gathered(body, _AT_HAND_BYTES, key) if there is None else bytes(there)
        return await self._put(key, data, body, (attributes, condition), [*headers, *checksum_headers(body.checksums())])

    async def delete(self, key: str, condition: Condition) -> None:
        """`Store.delete`."""
        check_key(key)
        if not is_clean_path(key) and await self._requests.on_seaweedfs():
            return  # it would remove the object of another key, and holds none of this
        headers = await self.proofs.condition_headers(Verb.DELETE, condition, key)
        try:
            (await self._requests.send("DELETE", key, headers=headers)).close()
        except ConditionFailed as error:
            raise await settle_refusal(error, key, condition, self._info) from error
        except NotFound:
            if condition:
                raise
            (await self._requests.send("HEAD", "")).close()  # some answer so for absent keys, all for an absent bucket

    async def set_tags(self, key: str, tags: Pairs) -> None:
        """`Store.set_tags`."""
        if await self._requests.on_seaweedfs():
            await self._info(key)  # it tags directories and other keys' objects, too
        check_key(key)
        body = tagging_xml(tags)
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = [("content-md5", digest), ("content-type", "application/xml")]
        (await self._requests.send("PUT", key, query=[(b"tagging", b"")], headers=headers, body=body)).close()

    async def _write_cut(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        cutter = BodyCutter(body, key)
        length = body.length
        try:
            if length is not None:
                return await self.parted.write(
                    key, length, attributes, condition, lambda upload: send_parts(self.uploads, upload, cutter, length)
                )
            first = await cutter.gather(FIRST_PART_BYTES)
            if not cutter.is_ended:
                return await self.parted.write(
                    key, None, attributes, condition, lambda upload: send_growing_parts(self.uploads, upload, cutter, first)
                )
            await self._requests.check_kept(key, sum(map(len, first)))
        finally:
            await cutter.aclose()
        headers = await self.proofs.condition_headers(Verb.PUT, condition, key)
        sums = checksum_headers(body.checksums())
        return await self._put(key, b"".join(first), body, (attributes, condition), [*headers, *sums])

    async def _put(
        self,
        key: str,
        data: bytes | Sending,
        body: Body,
        kept: tuple[Attributes, Condition],
        headers: Sequence[tuple[str, str]],
    ) -> ObjectInfo:
        attributes, condition = kept
        try:
            response = await self._requests.send("PUT", key, headers=[*attribute_headers(attributes), *headers], body=data)
        except ConditionFailed as error:
            raise await settle_refusal(error, key, condition, self._info) from error
        response.close()
        size = data.length if isinstance(data, Sending) else len(data)
        info = written_info(key, size, response.headers, attributes)
        if info is None:
            return await self._info(key)
        self._compare(info, response, _md5_of(data, body))
        return info

    def _compare(self, info: ObjectInfo, response: HttpResponse, md5: str) -> None:
        """Raises `Unavailable` when a store whose ETags are MD5s tells another than that of the bytes sent."""
        encryption = "x-amz-server-side-encryption"
        is_sealed = (
            response.headers.get(encryption, "AES256") != "AES256" or f"{encryption}-customer-algorithm" in response.headers
        )
        if not md5 or is_sealed or not is_md5_etag(info.etag):
            return
        if info.etag == md5:
            self._makes_md5 = True
        elif self._makes_md5:
            message = f"s3 {info.key!r}: the store has bytes with the MD5 {info.etag}, but those sent have {md5}: write it again"
            raise Unavailable(message, path=info.key)


def _md5_of(data: bytes | Sending, body: Body) -> str:
    """The MD5 of a body where it costs next to nothing, else nothing."""
    told = dict(body.checksums()).get("md5")
    if told:
        return base64.b64decode(told).hex()
    if isinstance(data, Sending) or len(data) > _MD5_BYTES:
        return ""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
