"""Where a Google Cloud Storage bucket's unfinished uploads lie, listed and removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from headrace.model.errors import ConditionFailed, Conflict, NotFound
from headrace.model.uploads import Upload
from headrace.stores.gs_objects import FIELDS, Item, decoded
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_upload_items import GsBegun, read_description
from headrace.stores.keys import text_behind
from headrace.stores.upload_sweeper import UPLOAD_AGE_S

_PAGE = 1000
_MAX_LIST_BYTES = 16 << 20
_AT_ONCE = 16


class _Page(msgspec.Struct, rename="camel"):
    items: list[Item] = []
    prefixes: list[str] = []
    next_page_token: str = ""


class UploadFolder:
    """The objects below `own`."""

    def __init__(self, requests: GsRequests, own: str) -> None:
        self._requests = requests
        self.descriptions = own + "uploads/"
        self._parts = own + "parts/"

    def description(self, upload: Upload) -> str:
        """The key of an upload's description."""
        return self.descriptions + upload.id

    def part(self, upload: Upload, name: str) -> str:
        """The key of what belongs to an upload. Without a name: what all such keys begin with."""
        return f"{self._parts}{upload.id}/{name}"

    async def items(self, prefix: str, *, start: str = "", page: int = _PAGE) -> AsyncIterator[Item]:
        """What begins with `prefix` and does not sort before `start`."""
        query = {"prefix": prefix, "startOffset": start, "pageToken": "", "maxResults": str(min(page, _PAGE))}
        query["fields"] = f"nextPageToken,items({FIELDS})"
        while True:
            found = await self._page(query)
            for item in found.items:
                yield item
            if not found.next_page_token:
                return
            query["pageToken"] = found.next_page_token

    async def begun(self) -> AsyncIterator[GsBegun]:
        """All uploads that are described."""
        async for item in self.items(self.descriptions):
            found = read_description(item)
            if found is not None:
                yield found

    async def drop(self, begun: GsBegun) -> None:
        """Remove a description that nothing happened to meanwhile, then what belongs to it. Raises `Conflict`, `NotFound`."""
        key = self.description(begun.upload)
        target = self._requests.object_path(key)
        try:
            (await self._requests.send("DELETE", target, path=key, query=begun.same())).close()
        except ConditionFailed as error:
            message = f"gs {begun.upload.key!r}: the upload is being completed, or something else happened to it meanwhile"
            raise Conflict(message, path=begun.upload.key) from error
        await self.clear(begun.upload)

    async def clear(self, upload: Upload) -> None:
        """Remove what belongs to an upload that is over."""
        await self._remove_all(self.part(upload, ""))

    async def remove(self, key: str) -> None:
        """Remove one object, if it is there."""
        try:
            (await self._requests.send("DELETE", self._requests.object_path(key), path=key)).close()
        except NotFound:
            return

    async def sweep(self) -> None:
        """Drop uploads that are too old, and what belongs to none: calls that were ended left it."""
        known: set[str] = set()
        now_s = self._requests.clock.time()
        async for begun in self.begun():
            known.add(begun.upload.id)
            if begun.upload.begun_s < now_s - UPLOAD_AGE_S:
                await self.drop(begun)
        query = {"prefix": self._parts, "delimiter": "/", "fields": "nextPageToken,prefixes", "startOffset": ""}
        while True:
            prefixes = (await self._page(query)).prefixes
            for prefix in prefixes:
                upload = Upload("", prefix[len(self._parts) : -1])
                if upload.id not in known and await self._requests.look(self.description(upload)) is None:
                    await self._remove_all(prefix)
            if not prefixes:
                return
            query["startOffset"] = text_behind(prefixes[-1])

    async def _page(self, query: dict[str, str]) -> _Page:
        response = await self._requests.send("GET", self._requests.object_path(""), path=query["prefix"], query=query)
        return decoded(await response.read(_MAX_LIST_BYTES), _Page, self._requests.bucket)

    async def _remove_all(self, prefix: str) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def remove(key: str) -> None:
            async with gate:
                await self.remove(key)

        keys = [item.name async for item in self.items(prefix)]
        await asyncio.gather(*(remove(key) for key in keys))
