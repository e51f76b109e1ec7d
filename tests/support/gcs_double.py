"""A Google Cloud Storage in this process, as strict as the service is where emulators are not.

It obeys every precondition (also of copies, compositions, deletes and changes of metadata), copies in two steps with a token,
composes at most 32 objects, compares declared checksums, and can lose an answer or spoil what it was sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from headrace.model.checksums import Algorithm, checksum

_UNIT = 256 * 1024


@dataclass(frozen=True)
class Held:
    """A live object."""

    data: bytes
    generation: int
    metageneration: int
    document: dict[str, Any]
    updated: datetime
    composed: bool = False


@dataclass
class Session:
    """A resumable upload."""

    document: dict[str, Any]
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    answer: dict[str, Any] | None = None


class GcsDouble:
    """Its buckets, and what it does wrong next."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.buckets: dict[str, dict[str, Held]] = {}
        self.next_bucket_page = ""
        self.requests: list[tuple[str, str]] = []
        self.lost: list[str] = []
        """Requests whose method and path hold all words of one of these are carried out, but their answer is lost."""
        self.spoil = False
        """Whether what is sent next is kept with another last byte."""
        self._generations = count(1_700_000_000_000_000)
        self._sessions: dict[str, Session] = {}
        self._rewrites: set[str] = set()

    def make_bucket(self, name: str) -> None:
        self.buckets[name] = {}

    def put(self, bucket: str, name: str, data: bytes, document: dict[str, Any] | None = None) -> Held:
        """Make or overwrite an object."""
        held = Held(data, next(self._generations), 1, document or {}, datetime.now(UTC))
        self.buckets[bucket][name] = held
        return held

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.requests.append((request.method, request.raw_path))
        try:
            answer = await self._answer(request)
        except web.HTTPException as error:
            told = {"error": {"code": error.status, "message": error.text or "", "errors": [{"reason": "x"}]}}
            answer = web.json_response(told, status=error.status)
        is_last = request.method == "PUT" and answer.status == 200
        asked = f"{request.method} {request.raw_path}" + " last-of-session" * is_last
        lost = next((text for text in self.lost if all(part in asked for part in text.split())), None)
        if lost is not None and request.transport is not None:
            self.lost.remove(lost)
            request.transport.abort()
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, query = request.raw_path.partition("?")[0], dict(request.query)
        parts = [unquote(part) for part in path.split("/")[1:]]
        body = await request.read()
        if parts[:2] == ["storage", "v1"]:
            return self._json(request, parts[3:], query, body)
        if parts[:3] == ["upload", "storage", "v1"]:
            return self._upload(request, parts[4], query, body)
        condition = {"ifGenerationMatch": request.headers.get("x-goog-if-generation-match", "")}
        return self._media(parts[0], parts[1], request, condition)

    def _json(self, request: web.Request, parts: list[str], query: dict[str, str], body: bytes) -> web.StreamResponse:
        method = request.method
        if len(parts) < 2:
            return self._bucket(method, parts, query, body)
        bucket, name = parts[0], parts[2] if len(parts) > 2 else ""
        objects = self._bucket_of(bucket)
        if not name:
            return web.json_response(self._list(bucket, query))
        if len(parts) > 3 and parts[3] == "compose":
            return web.json_response(self._compose(bucket, name, query, json.loads(body)))
        if len(parts) > 3 and parts[3] == "rewriteTo":
            return web.json_response(self._rewrite(bucket, name, parts[5], parts[7], query, body))
        if method == "GET" and query.get("alt") == "media":
            return self._media(bucket, name, request, query)
        held = self._live(bucket, name)
        self._check(held, query)
        if method == "GET":
            return web.json_response(self._resource(bucket, name))
        if method == "DELETE":
            del objects[name]
            return web.Response(status=204)
        changes = json.loads(body)
        metadata = {**held.document.get("metadata", {}), **changes.get("metadata", {})}
        document = {**held.document, **changes, "metadata": {k: v for k, v in metadata.items() if v is not None}}
        objects[name] = replace(held, document=document, metageneration=held.metageneration + 1)
        return web.json_response(self._resource(bucket, name))

    def _bucket(self, method: str, parts: list[str], query: dict[str, str], body: bytes) -> web.StreamResponse:
        if method == "POST":
            name = json.loads(body)["name"]
            if name in self.buckets:
                raise web.HTTPConflict(text="the bucket exists")
            self.make_bucket(name)
            return web.json_response({"name": name, "timeCreated": datetime.now(UTC).isoformat()})
        if method == "DELETE":
            if self._bucket_of(parts[0]):
                raise web.HTTPConflict(text="the bucket is not empty")
            del self.buckets[parts[0]]
            return web.Response(status=204)
        assert query["project"] == "test"
        now = datetime.now(UTC).isoformat()
        items = [{"name": name, "timeCreated": now} for name in self.buckets]
        return web.json_response({"items": items, "nextPageToken": self.next_bucket_page})

    def _upload(self, request: web.Request, bucket: str, query: dict[str, str], body: bytes) -> web.StreamResponse:
        objects = self._bucket_of(bucket)
        kind = query["uploadType"]
        if kind == "resumable" and "upload_id" in query:
            return self._resume(request, bucket, self._sessions[query["upload_id"]], body)
        self._check(objects.get(query["name"]), query)
        if kind == "resumable":
            upload_id = f"session-{len(self._sessions)}"
            self._sessions[upload_id] = Session(json.loads(body), query)
            place = f"https://elsewhere.invalid{request.path}?uploadType=resumable&upload_id={upload_id}"
            return web.Response(headers={"location": place})
        if kind == "media":
            document: dict[str, Any] = {"contentType": request.headers.get("content-type", "")}
        else:
            boundary = request.headers["content-type"].partition("boundary=")[2].encode()
            _, head, rest = body.split(b"--" + boundary + b"\r\n", 2)
            document = json.loads(head.partition(b"\r\n\r\n")[2])
            body = rest.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n--" + boundary + b"--\r\n")
        return web.json_response(self._made(bucket, query["name"], body, document))

    def _resume(self, request: web.Request, bucket: str, session: Session, body: bytes) -> web.StreamResponse:
        place, total = request.headers["content-range"].removeprefix("bytes ").split("/")
        if session.answer is None and place != "*":
            start = int(place.partition("-")[0])
            assert start == len(session.data)
            assert len(body) == int(place.partition("-")[2]) + 1 - start
            session.data += body
            assert total == str(len(session.data)) or len(body) % _UNIT == 0
        if session.answer is None and total == str(len(session.data)) and (body or place == "*"):
            name = session.query["name"]
            self._check(self._bucket_of(bucket).get(name), session.query)
            sums = {pair.partition("=")[0]: pair.partition("=")[2] for pair in request.headers.get("x-goog-hash", "").split(",")}
            document = session.document | ({"crc32c": sums["crc32c"]} if sums.get("crc32c") else {})
            session.answer = self._made(bucket, name, bytes(session.data), document)
        if session.answer is not None:
            return web.json_response(session.answer)
        return web.Response(status=308, headers={"range": f"bytes=0-{len(session.data) - 1}"} if session.data else {})

    def _made(self, bucket: str, name: str, data: bytes, document: dict[str, Any]) -> dict[str, Any]:
        wanted = document.pop("crc32c", "")
        if wanted and wanted != checksum(Algorithm.CRC32C, data):
            raise web.HTTPBadRequest(text=f"Provided CRC32C {wanted} doesn't match")
        self.put(bucket, name, self._kept(data), document)
        return self._resource(bucket, name)

    def _kept(self, data: bytes) -> bytes:
        if self.spoil:
            self.spoil, data = False, data[:-1] + bytes([data[-1] ^ 1])
        return data

    def _compose(self, bucket: str, name: str, query: dict[str, str], message: dict[str, Any]) -> dict[str, Any]:
        sources = message["sourceObjects"]
        assert 1 <= len(sources) <= 32
        pieces = []
        for source in sources:
            held = self._live(bucket, source["name"])
            if source.get("generation", str(held.generation)) != str(held.generation):
                raise web.HTTPNotFound(text="no such generation")
            pieces.append(held.data)
        self._check(self._bucket_of(bucket).get(name), query)
        made = self.put(bucket, name, self._kept(b"".join(pieces)), message.get("destination", {}))
        self.buckets[bucket][name] = replace(made, composed=True)
        return self._resource(bucket, name)

    def _rewrite(self, bucket: str, name: str, to: str, target: str, query: dict[str, str], body: bytes) -> dict[str, Any]:
        held = self._live(bucket, name)
        if query.get("sourceGeneration", str(held.generation)) != str(held.generation):
            raise web.HTTPNotFound(text="no such generation")
        self._check(self._bucket_of(to).get(target), query)
        token = query.get("rewriteToken", "")
        if len(held.data) > 1000 and token not in self._rewrites:
            token = f"token-{len(self._rewrites)}"
            self._rewrites.add(token)
            return {"done": False, "rewriteToken": token, "totalBytesRewritten": "1000", "objectSize": str(len(held.data))}
        document = json.loads(body) if body else dict(held.document)
        made = self.put(to, target, held.data, document)
        self.buckets[to][target] = replace(made, composed=held.composed)
        return {"done": True, "totalBytesRewritten": str(len(held.data)), "resource": self._resource(to, target)}

    def _list(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, token = query.get("startOffset", "").encode(), query.get("pageToken", "")
        most = int(query.get("maxResults", "1000"))
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        last = ""
        for name in sorted(self._bucket_of(bucket), key=str.encode):
            is_rolled_up = delimiter != "" and token.endswith(delimiter) and token != prefix and name.startswith(token)
            is_seen = name.encode() <= token.encode() or is_rolled_up
            if not name.startswith(prefix) or name.encode() < start or (token and is_seen):
                continue
            at = name.find(delimiter, len(prefix)) if delimiter else -1
            common = name[: at + len(delimiter)] if at >= 0 else ""
            if common in prefixes:
                continue
            if len(items) + len(prefixes) == most:
                return {"items": items, "prefixes": prefixes, "nextPageToken": last}
            last = common or name
            if common:
                prefixes.append(common)
            else:
                items.append(self._resource(bucket, name))
        return {"items": items, "prefixes": prefixes}

    def _media(self, bucket: str, name: str, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        held = self._live(bucket, name)
        self._check(held, query)
        told = self._resource(bucket, name)
        sums = [f"{short}={told[long]}" for short, long in (("crc32c", "crc32c"), ("md5", "md5Hash")) if long in told]
        headers = {
            "x-goog-generation": str(held.generation),
            "x-goog-hash": ",".join(sums),
            "x-goog-storage-class": "STANDARD",
            "last-modified": format_datetime(held.updated, usegmt=True),
            "content-type": told.get("contentType", "application/octet-stream"),
        }
        names = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage")
        if request.path.startswith("/storage/"):
            headers["cache-control"] = "no-cache"  # the JSON API tells neither these nor the metadata
        else:
            for long in names:
                if long in held.document:
                    headers["cache-control" if long == "cacheControl" else "content-" + long[7:].lower()] = held.document[long]
            headers |= {f"x-goog-meta-{key}": value for key, value in held.document.get("metadata", {}).items()}
        asked = request.headers.get("range", "")
        if not asked:
            return web.Response(body=held.data, headers=headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(held.data))
        if start >= len(held.data):
            return web.Response(status=416, headers={"content-range": f"bytes */{len(held.data)}"})
        headers["content-range"] = f"bytes {start}-{end - 1}/{len(held.data)}"
        return web.Response(status=206, body=held.data[start:end], headers=headers)

    def _bucket_of(self, bucket: str) -> dict[str, Held]:
        if bucket not in self.buckets:
            raise web.HTTPNotFound(text="The specified bucket does not exist.")
        return self.buckets[bucket]

    def _live(self, bucket: str, name: str) -> Held:
        held = self._bucket_of(bucket).get(name)
        if held is None:
            raise web.HTTPNotFound(text=f"No such object: {bucket}/{name}")
        return held

    def _check(self, held: Held | None, query: dict[str, str]) -> None:
        generation, meta = (held.generation, held.metageneration) if held is not None else (0, 0)
        for name, value in (("ifGenerationMatch", generation), ("ifMetagenerationMatch", meta)):
            if query.get(name, "") not in ("", str(value)):
                raise web.HTTPPreconditionFailed(text="At least one of the pre-conditions you specified did not hold.")

    def _resource(self, bucket: str, name: str) -> dict[str, Any]:
        held = self.buckets[bucket][name]
        told = {
            **held.document,
            "name": name,
            "bucket": bucket,
            "size": str(len(held.data)),
            "generation": str(held.generation),
            "metageneration": str(held.metageneration),
            "updated": held.updated.isoformat().replace("+00:00", "Z"),
            "storageClass": "STANDARD",
            "crc32c": checksum(Algorithm.CRC32C, held.data),
            "contentType": held.document.get("contentType", "application/octet-stream"),
        }
        if not held.composed:
            told["md5Hash"] = base64.b64encode(hashlib.md5(held.data, usedforsecurity=False).digest()).decode()
        return told


@asynccontextmanager
async def gcs_double() -> AsyncIterator[GcsDouble]:
    """One that listens at its `endpoint`."""
    double = GcsDouble()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", double.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    double.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
