"""SwiftStore: one container of OpenStack Swift, through its own API."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlencode

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import (
    CorruptData,
    HeadraceError,
    InvalidKey,
    NotFound,
    SettingsError,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition
from headrace.stores.http import Http, HttpReading, HttpResponse, body_range, range_header, status_error
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.merging import PageMerger
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.sending import Sending
from headrace.stores.store import Store
from headrace.stores.swift_auth import SwiftAuth, swift_auth
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url, shown_url
from headrace.stores.writes import whole

_PAGE = 1000
_MAX_PAGES = 10_000
_MAX_LIST_BYTES = 32 << 20
_MAX_UNANNOUNCED_BYTES = 64 << 20
_META = "x-object-meta-"
_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_LAST = "\U0010ffff"


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of a `swift://container/prefix` URL; `endpoint` is where one logs in. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    if not url.bucket:
        raise SettingsError(f"store {shown_url(spec.store)!r}: name the container: swift://container/prefix")
    endpoint = check_endpoint(spec)
    if not endpoint:
        raise SettingsError(f"store {shown_url(spec.store)!r}: set endpoint to where one logs in, such as http://swift:8080")
    http = Http(http_settings(spec), guard=guard_of(spec))
    auth = swift_auth(spec.credentials, endpoint, environ, http, clock)
    store = SwiftStore(url.bucket, auth, http, clock)
    return PrefixedStore(store, url.prefix + "/") if url.prefix else store


class SwiftStore(Store):
    """The objects of one container. A version is the MD5 that Swift keeps of an object's bytes."""

    def __init__(self, container: str, auth: SwiftAuth, http: Http, clock: Clock) -> None:
        self._container = container
        self._auth = auth
        self._http = http
        self._clock = clock

    async def info(self, key: str) -> ObjectInfo:
        response = await self._send("HEAD", key)
        response.close()
        return _described(key, int(response.headers.get("content-length", "0")), response.headers)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        if byte_range is not None and not 0 <= byte_range.start < byte_range.end:
            cut_range(byte_range, (await self.info(key)).size, key)
        headers = [range_header(byte_range)] if byte_range is not None else []
        if version is not None:
            etag = version.token.removeprefix("etag:")
            if etag == version.token or not etag.isalnum():
                raise VersionChanged(f"{key!r} is not {version.token!r}, which is no version of Swift", path=key)
            headers.append(("if-match", f'"{etag}"'))
        response = await self._send("GET", key, headers=headers)
        try:
            held, size = body_range(response, byte_range)
            info = _described(key, size, response.headers)
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
        except BaseException:  # whatever it is: tidied up here, raised on
            response.close()
            raise
        return HttpReading(info, held, response)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        merger = PageMerger(prefix, delimiter, after, limit)
        marker = after
        start = merger.start()
        if start != after:  # behind all that a CommonPrefix stands for
            marker = after[: after.index(delimiter, len(prefix)) + len(delimiter)] + _LAST
        for _ in range(_MAX_PAGES):
            page = await self._page(prefix, merger.store_delimiter, marker, min(limit + 1, _PAGE))
            merger.add([_listed(entry) for entry in page if not entry.subdir], [entry.subdir for entry in page if entry.subdir])
            if merger.enough() or not page:
                return merger.listing()
            last = page[-1]
            marker = last.subdir + _LAST if last.subdir else last.name
        raise Unavailable(f"container {self._container!r}: the store's listing does not get ahead, try again", path=prefix)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        if condition:
            raise Unsupported(f"{key!r}: Swift looks at conditions before the body comes, so two writers may both pass", path=key)
        digest = hashlib.md5(usedforsecurity=False)

        async def noted() -> AsyncIterator[Buffer]:
            async for piece in whole(body, key):
                digest.update(piece)
                yield piece

        length, source = body.length, noted()
        if length is None:
            held = await self._gathered(source, key)
            length, source = len(held), _once(held)
        response = await self._send("PUT", key, headers=_put_headers(attributes), body=Sending(source, length, path=key))
        await response.read()
        if response.headers.get("etag", "").strip('"') != digest.hexdigest():
            raise CorruptData(f"{key!r}: Swift has other bytes than were sent: write it again", path=key)
        return await self.info(key)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        if condition:
            raise Unsupported(f"{key!r}: Swift removes nothing under a condition", path=key)
        try:
            await (await self._send("DELETE", key)).read()
        except NotFound:
            if not await self._is_there():
                raise

    async def close(self) -> None:
        await self._http.close()

    async def _is_there(self) -> bool:
        """Whether the container is; raises what keeps that from being known."""
        await self._page("", "", "", 1)
        return True

    async def _gathered(self, source: AsyncIterator[Buffer], key: str) -> bytes:
        held = bytearray()
        async for piece in source:
            held += piece
            if len(held) > _MAX_UNANNOUNCED_BYTES:
                raise Unsupported(
                    f"{key!r}: a body of unknown length is taken up to {_MAX_UNANNOUNCED_BYTES} bytes: announce its length",
                    path=key,
                )
        return bytes(held)

    async def _page(self, prefix: str, delimiter: str, marker: str, count: int) -> Sequence[_Entry]:
        query = [("format", "json"), ("limit", str(count))]
        query += [(name, text) for name, text in (("prefix", prefix), ("delimiter", delimiter), ("marker", marker)) if text]
        response = await self._send("GET", "", query="?" + urlencode(query, quote_via=quote, safe=""))
        body = await response.read(_MAX_LIST_BYTES)
        if not body:
            return []
        try:
            return msgspec.json.decode(body, type=list[_Entry])
        except msgspec.DecodeError as error:
            raise CorruptData(
                f"container {self._container!r}: its listing is none that Swift makes ({error})", path=prefix
            ) from error

    async def _send(
        self, method: str, key: str, *, headers: Sequence[tuple[str, str]] = (), query: str = "", body: Sending | None = None
    ) -> HttpResponse:
        """A 2xx answer for an object, or for the container where `key` is empty and there is a query."""
        if not query:
            check_key(key)
            if "\0" in key:
                raise InvalidKey(f"{key!r}: Swift keeps no NUL in names", path=key)
        refused = ""
        while True:
            grant = await self._auth.grant(refused=refused)
            url = f"{grant.storage_url}/{quote(self._container, safe='')}" + (query or "/" + quote(key, safe="/"))
            response = await self._http.request(
                method, url, headers=[("x-auth-token", grant.token), *headers], body=body, path=key
            )
            if response.status < 300:
                return response
            response.close()
            if response.status != 401 or refused or body is not None:
                raise self._refusal(response, key)
            refused = grant.token  # it may have been revoked before its time

    def _refusal(self, response: HttpResponse, key: str) -> HeadraceError:
        message = f"{response.url} answered {response.status}"
        if response.status == 401:
            self._auth.forget()
        if response.status == 412 and not key:
            return InvalidKey(f"{message}: Swift takes no such listing", path=key)
        return status_error(response.status, message, path=key, headers=response.headers, now_s=self._clock.time())


class _Entry(msgspec.Struct):
    name: str = ""
    subdir: str = ""
    bytes: int = 0
    hash: str = ""
    slo_etag: str = ""
    content_type: str = ""
    last_modified: str = ""


def _listed(entry: _Entry) -> ObjectInfo:
    etag = (entry.slo_etag or entry.hash).strip('"')
    try:
        modified_s = datetime.fromisoformat(entry.last_modified).replace(tzinfo=UTC).timestamp()
    except ValueError:
        modified_s = 0.0
    return ObjectInfo(entry.name, entry.bytes, Version(f"etag:{etag}"), modified_s, etag, content_type=entry.content_type)


def _described(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    etag = headers.get("etag", "").strip('"')
    if not etag:
        raise CorruptData(f"{key!r}: Swift told no ETag", path=key)
    try:
        modified_s = float(headers.get("x-timestamp", "")) or 0.0
    except ValueError:
        modified_s = parsedate_to_datetime(headers.get("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")).timestamp()
    return ObjectInfo(
        key=key,
        size=size,
        version=Version(f"etag:{etag}"),
        modified_s=modified_s,
        etag=etag,
        content_type=headers.get("content-type", ""),
        headers=tuple((name, headers[name]) for name in _HEADERS if headers.get(name)),
        metadata=tuple(sorted((name.removeprefix(_META), text) for name, text in headers.items() if name.startswith(_META))),
    )


def _put_headers(attributes: Attributes) -> list[tuple[str, str]]:
    headers = [("content-type", attributes.content_type or "application/octet-stream"), *attributes.headers]
    return headers + [(_META + name, text) for name, text in attributes.metadata]


async def _once(data: bytes) -> AsyncIterator[Buffer]:
    yield data
