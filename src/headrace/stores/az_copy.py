"""Copies that Azure makes by itself: at once up to 256 MiB, else block by block."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from headrace.model.errors import ConditionFailed, NotFound, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, Condition, attributes_of
from headrace.stores.az_objects import (
    Sent,
    blob_info,
    kept_of,
    metadata_headers,
    property_headers,
    raw_metadata,
    tag_headers,
)
from headrace.stores.az_requests import AzRequests, described
from headrace.stores.az_write import AzWrites, Staged, block_id

LARGEST_AT_ONCE = 256 << 20
"""What Copy Blob From URL takes."""

BLOCK_BYTES = 256 << 20
_MAX_BLOCKS = 50_000
_AT_ONCE = 4


class AzCopies:
    """Copies into one container. An answer of None means that the service cannot: the bytes have to pass through here."""

    def __init__(self, requests: AzRequests, writes: AzWrites) -> None:
        self._requests = requests
        self._writes = writes

    async def copy(
        self, container: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        """`Store.copy` of a blob of `container`."""
        origin = self._requests.for_container(container)
        head = await origin.head(source.key)
        known = described(source.key, head)
        if known.etag != source.etag:
            raise VersionChanged(f"{source.key!r} is now {known.version.token}, not {source.version.token}", path=source.key)
        conditions = await self._requests.condition_headers(condition, key)
        try:
            if attributes is None and known.size <= LARGEST_AT_ONCE:
                tagged = [("x-ms-copy-source-tag-option", "COPY")] if known.tag_count else []
                return await self.at_once(origin, known, key, [*tagged, *conditions])
            if attributes is None:
                tags = await origin.tags(source.key) if known.tag_count else ()
                attributes = attributes_of(known, tags)
            kept = msgspec.structs.replace(kept_of(raw_metadata(head.headers)), upload="")
            sent = [*property_headers(attributes), *metadata_headers(attributes, kept), *tag_headers(attributes.tags)]
            staged = await self.in_blocks(origin, known, key)
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except Unsupported:
            return None
        made = await self._writes.commit(key, staged, [*sent, *conditions], condition)
        return msgspec.structs.replace(made, tag_count=len(attributes.tags))

    async def at_once(self, origin: AzRequests, source: ObjectInfo, key: str, headers: Sent) -> ObjectInfo:
        """Copy Blob From URL, with the source's attributes. Raises `VersionChanged`, `ConditionFailed`, `Unsupported`."""
        sent = [
            ("x-ms-copy-source", await origin.source_url(source.key)),
            ("x-ms-source-if-match", f'"{source.etag}"'),
            ("x-ms-requires-sync", "true"),
            *headers,
        ]
        try:
            response = await self._requests.send("PUT", key, headers=sent)
        except ConditionFailed:
            await self._check_same(origin, source)
            raise
        except NotFound as error:
            await self._requests.check_container()
            raise VersionChanged(f"{source.key!r} is not there any more", path=source.key) from error
        response.close()
        told = blob_info(key, source.size, response.headers)
        return msgspec.structs.replace(
            source, key=key, version=told.version, etag=told.etag, modified_s=told.modified_s, storage_class=""
        )

    async def in_blocks(self, origin: AzRequests, source: ObjectInfo, key: str) -> Staged:
        """Put Block From URL for all of the source; not committed. Raises `VersionChanged`, `Unsupported`."""
        size = max(BLOCK_BYTES, -(-source.size // _MAX_BLOCKS))
        nonce, gate, address = secrets.token_bytes(16), asyncio.Semaphore(_AT_ONCE), await origin.source_url(source.key)
        names = [block_id(nonce, count) for count in range(-(-source.size // size))]

        async def copied(count: int) -> None:
            start = count * size
            headers = [
                ("x-ms-copy-source", address),
                ("x-ms-source-if-match", f'"{source.etag}"'),
                ("x-ms-source-range", f"bytes={start}-{min(source.size, start + size) - 1}"),
            ]
            query = (("comp", "block"), ("blockid", names[count]))
            async with gate:
                (await self._requests.send("PUT", key, query=query, headers=headers)).close()

        tasks = [asyncio.create_task(copied(count)) for count in range(len(names))]
        try:
            await asyncio.gather(*tasks)
        except BaseException as error:  # whatever it is: tidied up here, raised on
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if isinstance(error, ConditionFailed):
                message = f"{source.key!r} is not {source.version.token} any more"
                raise VersionChanged(message, path=source.key) from error
            raise
        return Staged(tuple(names), source.size, dict(source.checksums).get("md5", ""))

    async def _check_same(self, origin: AzRequests, source: ObjectInfo) -> None:
        found = await origin.info(source.key)
        if found.etag != source.etag:
            raise VersionChanged(f"{source.key!r} is now {found.version.token}, not {source.version.token}", path=source.key)
