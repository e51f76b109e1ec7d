"""Blobs of one container written, removed and tagged."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets

import msgspec

from headrace.model.errors import ConditionFailed, HeadraceError, NotFound, Throttled, Unavailable, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.writing import Attributes, Body, Condition, Pairs
from headrace.stores.az_objects import (
    Sent,
    checked_tags,
    metadata_headers,
    property_headers,
    tag_headers,
    tag_text,
    written_info,
)
from headrace.stores.az_requests import AzRequests
from headrace.stores.az_xml import block_list_xml, tags_xml
from headrace.stores.kept_text import Kept
from headrace.stores.s3_parts import BodyCutter
from headrace.stores.writes import full_object, whole

AT_HAND_BYTES = 8 << 20
"""Up to here a body is taken in whole and sent with its MD5; longer ones are sent in blocks of as much or more."""

_MAX_BLOCKS = 50_000
_LARGEST_BLOCK = 128 << 20
_STEP = 5_000


def block_bytes(length: int | None, count: int) -> int:
    """How long block number `count` (from 0) of a body is, so that 50,000 suffice."""
    if length is not None:
        return max(AT_HAND_BYTES, -(-length // _MAX_BLOCKS))
    return min(_LARGEST_BLOCK, AT_HAND_BYTES << (count // _STEP))


def block_id(nonce: bytes, count: int) -> str:
    """The name of a block. All names of one blob's blocks have the same length."""
    return base64.b64encode(nonce + count.to_bytes(4, "big")).decode()


class Staged(msgspec.Struct, frozen=True):
    """Blocks that were sent, in their order. The MD5 is empty where it is not known."""

    names: tuple[str, ...]
    size: int
    md5: str = ""


class AzWrites:
    """The changing verbs of `AzStore` but for copies and multipart uploads."""

    def __init__(self, requests: AzRequests) -> None:
        self._requests = requests

    async def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        """`Store.write`."""
        metadata_headers(attributes)
        tags = tag_headers(attributes.tags)
        conditions = await self._requests.condition_headers(condition, key)
        cutter = BodyCutter(whole(body, key), key)
        staged: Staged | None = None
        try:
            first = await cutter.gather(AT_HAND_BYTES + 1)
            if not cutter.is_ended:
                staged = await self.stage(key, first, cutter, body.length)
        finally:
            await cutter.aclose()
        kept = Kept(full_object(tuple([pair for pair in body.checksums() if pair[0] != "md5"])))
        sent = [*property_headers(attributes), *metadata_headers(attributes, kept), *tags]
        if staged is None:
            written = await self._put(key, b"".join(first), [*sent, *conditions], condition)
        else:
            written = await self.commit(key, staged, [*sent, *conditions], condition)
        return msgspec.structs.replace(written, tag_count=len(attributes.tags))

    async def stage(self, key: str, first: list[Buffer], cutter: BodyCutter, length: int | None) -> Staged:
        """Send the body in blocks that belong to no blob yet; one goes out while the next comes in."""
        nonce, count, size, names, pieces = secrets.token_bytes(16), 0, 0, list[str](), first
        digest = hashlib.md5(usedforsecurity=False)
        while pieces:
            data = b"".join(pieces)
            names.append(block_id(nonce, count))
            sending = asyncio.create_task(self.send_block(key, names[-1], data))
            try:
                await asyncio.to_thread(digest.update, data)
                pieces = await cutter.gather(block_bytes(length, count + 1))
                await sending
            except BaseException:  # whatever it is: tidied up here, raised on
                sending.cancel()
                await asyncio.wait([sending])
                raise
            count, size = count + 1, size + len(data)
            if count > _MAX_BLOCKS:
                raise Unsupported(f"az {key!r}: the body is too long for {_MAX_BLOCKS} blocks: send its length", path=key)
        return Staged(tuple(names), size, base64.b64encode(digest.digest()).decode())

    async def send_block(self, key: str, name: str, data: bytes) -> None:
        """Put Block, whose bytes the service compares with their MD5."""
        query = (("comp", "block"), ("blockid", name))
        headers = [("content-md5", await asyncio.to_thread(md5_text, data))]
        (await self._requests.send("PUT", key, query=query, headers=headers, body=data)).close()

    async def commit(self, key: str, staged: Staged, headers: Sent, condition: Condition) -> ObjectInfo:
        """Put Block List: the blob of those blocks, with the properties, metadata, tags and condition in `headers`."""
        sent = [*headers, *([("x-ms-blob-content-md5", staged.md5)] if staged.md5 else [])]
        return await self._publish(key, block_list_xml(staged.names), sent, condition, (staged.size, staged.md5))

    async def delete(self, key: str, condition: Condition) -> None:
        """`Store.delete`. Snapshots go with their blob."""
        headers = [*await self._requests.condition_headers(condition, key), ("x-ms-delete-snapshots", "include")]
        try:
            (await self._requests.send("DELETE", key, headers=headers)).close()
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except NotFound:
            if condition:
                raise
            await self._requests.check_container()

    async def set_tags(self, key: str, tags: Pairs) -> None:
        """`Store.set_tags`: the ETag stays."""
        body = tags_xml([(tag_text(name), tag_text(value)) for name, value in checked_tags(tags)])
        headers = [("content-type", "application/xml; charset=UTF-8"), ("content-md5", md5_text(body))]
        (await self._requests.send("PUT", key, query=(("comp", "tags"),), headers=headers, body=body)).close()

    async def _put(self, key: str, data: bytes, headers: Sent, condition: Condition) -> ObjectInfo:
        md5 = md5_text(data)
        sent = [*headers, ("x-ms-blob-type", "BlockBlob"), ("content-md5", md5)]
        return await self._publish(key, data, sent, condition, (len(data), md5))

    async def _publish(self, key: str, body: bytes, headers: Sent, condition: Condition, made: tuple[int, str]) -> ObjectInfo:
        query = () if ("x-ms-blob-type", "BlockBlob") in headers else (("comp", "blocklist"),)
        try:
            response = await self._requests.send("PUT", key, query=query, headers=headers, body=body)
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except Throttled:
            raise
        except Unavailable:
            found = await self._settled(key, headers, made)
            if found is None:
                raise
            return found
        response.close()
        return written_info(key, made[0], response.headers, headers)

    async def _settled(self, key: str, headers: Sent, made: tuple[int, str]) -> ObjectInfo | None:
        """The blob that a conditional request without an answer made: it has its bytes, and is not what the request found."""
        pins = [value.strip('"') for name, value in headers if name in ("if-match", "if-none-match")]
        if not pins or not made[1]:
            return None
        try:
            found = await self._requests.look(key)
        except HeadraceError:
            return None  # what went wrong first is told
        if found is None or found.etag in pins:
            return None
        return found if (found.size, dict(found.checksums).get("md5")) == made else None


def md5_text(data: bytes) -> str:
    """The MD5 as the service writes it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
