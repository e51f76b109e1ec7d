"""Bytes on their way to Google Cloud Storage: one request for a small object, a resumable session for a large one.

Nothing is published before the body has proved itself and the service has compared its CRC32C with the one computed here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import msgspec

from headrace.model.checksums import Algorithm, Checksummer
from headrace.model.errors import CorruptData, HeadraceError, Throttled, Unavailable
from headrace.model.reading import Buffer
from headrace.model.writing import Body, Pairs
from headrace.stores.gs_objects import Item
from headrace.stores.gs_requests import GsRequests, Query
from headrace.stores.http import HttpResponse, Redirected
from headrace.stores.s3_parts import BodyCutter
from headrace.stores.sending import Sending
from headrace.stores.writes import TYPE, whole

AT_HAND_BYTES = 8 << 20
"""Up to here a body is taken in whole and sent with its checksum; longer ones of unknown length go in pieces of as much."""

_UNIT = 256 * 1024
"""All requests of a session but the last carry a multiple of it."""

_MAX_ANSWER_BYTES = 1 << 20
_RESUME = 308

Document = dict[str, object]
Describe = Callable[[Pairs], Document]
"""An object's resource, given the checksums of its body."""


class Outgoing:
    """A body with its length held to, and its checksums computed while it passes."""

    def __init__(self, body: Body, key: str, algorithm: str = "") -> None:
        self.length = body.length
        self.size = 0
        self.cutter = BodyCutter(self._summed(body, key), key)
        self._body = body
        self._crc32c = Checksummer(Algorithm.CRC32C)
        self._extra = Checksummer(Algorithm(algorithm)) if algorithm and algorithm != Algorithm.CRC32C else None
        self._algorithm = algorithm

    @property
    def crc32c(self) -> str:
        """Of the bytes that have passed, in base64."""
        return self._crc32c.base64()

    def checksums(self) -> Pairs:
        """The sender's checksums, and that of the wished algorithm."""
        told = tuple([pair for pair in self._body.checksums() if pair[0] not in (TYPE, "md5")])
        if not self._algorithm or self._algorithm in dict(told):
            return told
        return (*told, (self._algorithm, self.crc32c if self._extra is None else self._extra.base64()))

    async def _summed(self, body: Body, key: str) -> AsyncGenerator[Buffer]:
        pieces = whole(body, key)
        try:
            async for piece in pieces:
                self.size += len(piece)
                self._crc32c.update(piece)
                if self._extra is not None:
                    self._extra.update(piece)
                yield piece
        finally:
            await pieces.aclose()


class GsSender:
    """Makes objects of one bucket."""

    def __init__(self, requests: GsRequests) -> None:
        self._requests = requests

    async def send(self, key: str, out: Outgoing, describe: Describe, query: Query) -> Item:
        """The object that was made; `query` is its condition.

        Raises `ConditionFailed`; after `Unavailable` it may have been made.
        """
        noted = out.checksums() if out.size else ()
        try:
            if out.length is None:
                pieces = await out.cutter.gather(AT_HAND_BYTES)
                if not out.cutter.is_ended:
                    item = await self._send_open(key, pieces, out, describe(noted), query)
                else:
                    noted = out.checksums()
                    item = await self._send_at_once(key, pieces, out, describe(noted), query)
            elif out.length > AT_HAND_BYTES:
                item = await self._send_long(key, out.length, out, describe(noted), query)
            else:
                pieces = await out.cutter.gather(out.length + 1)
                noted = out.checksums()
                item = await self._send_at_once(key, pieces, out, describe(noted), query)
        finally:
            await out.cutter.aclose()
        await self.compare(key, item, out.crc32c, out.size)
        if out.checksums() == noted:
            return item
        # They came behind the body, when its metadata had been sent; the version stays.
        late = {"metadata": describe(out.checksums())["metadata"]}
        target, same = self._requests.object_path(key), {"ifGenerationMatch": item.generation}
        return self._requests.described(await self._requests.change("PATCH", target, late, path=key, query=same), key)

    async def compare(self, key: str, item: Item, crc32c: str, size: int) -> None:
        """Remove an object that is not what was sent. Raises `Unavailable`."""
        if item.size == str(size) and item.crc32c in ("", crc32c):
            return
        query = {"ifGenerationMatch": item.generation, "generation": item.generation}
        (await self._requests.send("DELETE", self._requests.object_path(key), path=key, query=query)).close()
        message = (
            f"gs {self._requests.bucket}/{key}: the service made {item.size} bytes with the CRC32C {item.crc32c} of the {size} "
            f"with {crc32c} that were sent; they were removed again: write the object again"
        )
        raise Unavailable(message, path=key)

    async def _send_at_once(self, key: str, pieces: Sequence[Buffer], out: Outgoing, document: Document, query: Query) -> Item:
        boundary = secrets.token_hex(16)
        kind = document.get("contentType") or "application/octet-stream"
        described = msgspec.json.encode(document | {"name": key, "crc32c": out.crc32c})
        head = f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode() + described
        head += f"\r\n--{boundary}\r\ncontent-type: {kind}\r\n\r\n".encode()
        message = [head, *pieces, f"\r\n--{boundary}--\r\n".encode()]
        body = Sending(_each(message), sum(map(len, message)), path=key)
        headers = [("content-type", f"multipart/related; boundary={boundary}")]
        asked = {"uploadType": "multipart", "name": key, **query}
        try:
            response = await self._requests.send(
                "POST", self._requests.upload_path(), path=key, query=asked, headers=headers, body=body
            )
            return self._requests.described(await response.read(_MAX_ANSWER_BYTES), key)
        except Throttled:
            raise
        except Unavailable:
            found = await self._settled(key, out, query)
            if found is None:
                raise
            return found

    async def _settled(self, key: str, out: Outgoing, query: Query) -> Item | None:
        """The object that a conditional request without an answer made: it has its bytes, and is not what the request found."""
        if "ifGenerationMatch" not in query:
            return None
        try:
            found = await self._requests.look(key)
        except HeadraceError:
            return None  # what went wrong first is told
        if found is None or found.generation == query["ifGenerationMatch"]:
            return None
        return found if (found.size, found.crc32c) == (str(out.size), out.crc32c) else None

    async def _send_long(self, key: str, length: int, out: Outgoing, document: Document, query: Query) -> Item:
        session = await self._begin(key, document, query)
        start = (length - 1) // _UNIT * _UNIT
        lead = Sending(out.cutter.take(start), start, path=key)
        await self._more(session, key, lead, f"bytes 0-{start - 1}/{length}", start)
        rest = await out.cutter.gather(length - start + 1)
        return await self._finish(session, key, start, rest, out.crc32c)

    async def _send_open(self, key: str, first: list[Buffer], out: Outgoing, document: Document, query: Query) -> Item:
        session = await self._begin(key, document, query)
        start, rest = await self._send_pieces(session, key, first, out.cutter)
        return await self._finish(session, key, start, rest, out.crc32c)

    async def _send_pieces(self, session: str, key: str, first: list[Buffer], cutter: BodyCutter) -> tuple[int, list[Buffer]]:
        """Send what fills requests, one while the next comes in; where the last begins, and it."""
        start, pieces = 0, first
        while not cutter.is_ended:
            end = start + AT_HAND_BYTES
            body = Sending(_each(pieces), AT_HAND_BYTES, path=key)
            sending = asyncio.create_task(self._more(session, key, body, f"bytes {start}-{end - 1}/*", end))
            try:
                pieces = await cutter.gather(AT_HAND_BYTES)
                await sending
            except BaseException:  # whatever it is: tidied up here, raised on
                sending.cancel()
                await asyncio.wait([sending])
                raise
            start = end
        return start, pieces

    async def _begin(self, key: str, document: Document, query: Query) -> str:
        asked = {"uploadType": "resumable", "name": key, **query}
        headers = [("content-type", "application/json; charset=UTF-8")]
        response = await self._requests.send(
            "POST",
            self._requests.upload_path(),
            path=key,
            query=asked,
            headers=headers,
            body=msgspec.json.encode(document | {"name": key}),
        )
        response.close()
        session = self._requests.same_origin(response.headers.get("location", ""))
        if not session:
            raise CorruptData(f"gs {self._requests.bucket}/{key}: the service began an upload without saying where", path=key)
        return session

    async def _more(self, session: str, key: str, body: Sending, content_range: str, end: int) -> None:
        """Send bytes that do not end the object."""
        response = await self._put(session, key, body, [("content-range", content_range)])
        if response.headers.get("range", "") != f"bytes=0-{end - 1}":
            raise Unavailable(
                f"gs {self._requests.bucket}/{key}: the service did not take all it was sent: write again", path=key
            )

    async def _finish(self, session: str, key: str, start: int, pieces: Sequence[Buffer], crc32c: str) -> Item:
        """Send the bytes that end the object, with the checksum of all."""
        size = sum(map(len, pieces))
        total = start + size
        place = f"bytes {start}-{total - 1}/{total}" if size else f"bytes */{total}"
        headers = [("content-range", place), ("x-goog-hash", f"crc32c={crc32c}")]
        try:
            response = await self._put(session, key, Sending(_each(pieces), size, path=key), headers)
            if isinstance(response, HttpResponse):
                return self._requests.described(await response.read(_MAX_ANSWER_BYTES), key)
        except Throttled:
            raise
        except Unavailable:
            found = await self._outcome(session, key, total)
            if found is None:
                raise
            return found
        raise Unavailable(f"gs {self._requests.bucket}/{key}: the service lost a part of what it was sent: write again", path=key)

    async def _outcome(self, session: str, key: str, total: int) -> Item | None:
        """The object, when a session whose last answer was lost made it."""
        try:
            response = await self._put(session, key, b"", [("content-range", f"bytes */{total}")])
            if isinstance(response, HttpResponse):
                return self._requests.described(await response.read(_MAX_ANSWER_BYTES), key)
        except HeadraceError:
            return None  # what went wrong first is told
        return None

    async def _put(
        self, session: str, key: str, body: Sending | bytes, headers: Sequence[tuple[str, str]]
    ) -> HttpResponse | Redirected:
        """The answer to a session's request; 308 means that more is expected."""
        try:
            return await self._requests.send("PUT", session, path=key, headers=headers, body=body)
        except Redirected as error:
            if error.status != _RESUME:
                raise
            return error


async def _each(pieces: Sequence[Buffer]) -> AsyncIterator[Buffer]:
    for piece in pieces:
        yield piece
