"""GsStore: one bucket of Google Cloud Storage, through its JSON API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import CorruptData, InvalidKey, InvalidRange, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.stores.gs_auth import GoogleTokens, google_tokens
from headrace.stores.http import Headers, Http, HttpReading, HttpResponse, body_range, range_header, status_error
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.merging import PageMerger
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.store import Store
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url, shown_url

T = TypeVar("T")
_ENDPOINT = "https://storage.googleapis.com"
_PAGE = 1000
_MAX_PAGES = 1000
_MAX_LIST_BYTES = 16 << 20
_FIELDS = "nextPageToken,prefixes,items(name,size,generation,updated,contentType,storageClass,crc32c)"


class _Item(msgspec.Struct, rename="camel"):
    name: str
    size: str = "0"
    generation: str = ""
    updated: str = ""
    content_type: str = ""
    storage_class: str = ""
    crc32c: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    metadata: dict[str, str] = {}


class _Page(msgspec.Struct, rename="camel"):
    items: list[_Item] = []
    prefixes: list[str] = []
    next_page_token: str = ""


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of a `gs://bucket/prefix` URL. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    if not url.bucket:
        raise SettingsError(f"store {shown_url(spec.store)!r}: name the bucket, as in gs://bucket/prefix")
    emulator = environ.get("STORAGE_EMULATOR_HOST", "")
    endpoint = check_endpoint(spec) or (emulator if "://" in emulator or not emulator else f"http://{emulator}")
    tokens = google_tokens(spec.credentials, environ=environ, clock=clock, emulated=bool(emulator))
    http = Http(http_settings(spec), guard=guard_of(spec))
    store = GsStore(url.bucket, endpoint=endpoint or _ENDPOINT, tokens=tokens, http=http, clock=clock)
    return PrefixedStore(store, url.prefix + "/") if url.prefix else store


class GsStore(Store):
    """The objects of one bucket. A version is the object's generation."""

    def __init__(self, bucket: str, *, endpoint: str, tokens: GoogleTokens, http: Http, clock: Clock) -> None:
        self._bucket = bucket
        self._objects = f"{endpoint.rstrip('/')}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._tokens = tokens
        self._http = http
        self._clock = clock

    async def info(self, key: str) -> ObjectInfo:
        _check(key)
        response = await self._get(f"/{quote(key, safe='')}", key)
        item = _decode(await response.read(), _Item, self._bucket)
        if item.name != key:
            raise CorruptData(f"bucket {self._bucket!r} answered for {item.name!r} instead of {key!r}", path=key)
        return _item_info(item)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        _check(key)
        if byte_range is not None and not 0 <= byte_range.start < byte_range.end:
            cut_range(byte_range, (await self.info(key)).size, key)
        # Without gzip in Accept-Encoding, objects stored packed are unpacked on the way and lose their length.
        headers = [("accept-encoding", "gzip")] + ([] if byte_range is None else [range_header(byte_range)])
        query = "?alt=media" + _pin(version, key)
        try:
            response = await self._get(f"/{quote(key, safe='')}{query}", key, headers=headers)
        except InvalidRange as error:
            if not error.size:
                cut_range(byte_range, (await self.info(key)).size, key)
            raise
        try:
            held, size = body_range(response, byte_range)
            info = _header_info(key, size, response.headers)
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
        except BaseException:  # whatever it is: tidied up here, raised on
            response.close()
            raise
        return HttpReading(info, held, response)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        merger = PageMerger(prefix, delimiter, after, limit)
        query = {"prefix": prefix, "delimiter": merger.store_delimiter, "startOffset": merger.start(), "pageToken": ""}
        query |= {"maxResults": str(min(limit + 1, _PAGE)), "fields": _FIELDS}
        for _ in range(_MAX_PAGES):
            asked = urlencode({name: value for name, value in query.items() if value}, quote_via=quote, safe="")
            page = _decode(await (await self._get(f"?{asked}", prefix)).read(_MAX_LIST_BYTES), _Page, self._bucket)
            skip_to = merger.add([_item_info(item) for item in page.items], page.prefixes)
            if merger.enough() or not page.next_page_token:
                return merger.listing()
            query |= {"startOffset": skip_to, "pageToken": ""} if skip_to else {"pageToken": page.next_page_token}
        raise Unavailable(f"bucket {self._bucket!r}: the store's listing does not get ahead, try again", path=prefix)

    async def close(self) -> None:
        await self._http.close()
        await self._tokens.close()

    async def _get(self, target: str, path: str, *, headers: Sequence[tuple[str, str]] = ()) -> HttpResponse:
        sent = [*headers, *await self._tokens.headers()]
        response = await self._http.request("GET", self._objects + target, headers=sent, path=path)
        if response.status in (200, 206):
            return response
        response.close()
        message = f"bucket {self._bucket!r} answered {response.status} for {path!r}"
        raise status_error(response.status, message, path=path, headers=response.headers, now_s=self._clock.time())


def _check(key: str) -> None:
    check_key(key)
    if key in (".", "..") or "\r" in key or "\n" in key:
        raise InvalidKey(f"{key!r} cannot be an object's name in GCS ('.', '..', line ends)", path=key)


def _pin(version: Version | None, key: str) -> str:
    if version is None:
        return ""
    kind, _, generation = version.token.partition(":")
    if kind != "id" or not (generation.isascii() and generation.isdigit()):
        raise VersionChanged(f"{key!r} has no version {version.token}: GCS versions are generations", path=key)
    return f"&ifGenerationMatch={generation}"


def _item_info(item: _Item) -> ObjectInfo:
    content = (
        ("cache-control", item.cache_control),
        ("content-disposition", item.content_disposition),
        ("content-encoding", item.content_encoding),
        ("content-language", item.content_language),
    )
    try:
        return ObjectInfo(
            key=item.name,
            size=int(item.size),
            version=Version(f"id:{item.generation}"),
            modified_s=datetime.fromisoformat(item.updated).timestamp() if item.updated else 0.0,
            etag=item.generation,
            content_type=item.content_type,
            headers=tuple(pair for pair in content if pair[1]),
            metadata=tuple(sorted((name.lower(), value) for name, value in item.metadata.items())),
            checksums=_checksums(item.crc32c),
            storage_class=item.storage_class,
        )
    except ValueError as error:
        raise CorruptData(f"{item.name!r}: the store described it wrongly", path=item.name) from error


def _header_info(key: str, size: int, headers: Headers) -> ObjectInfo:
    generation = headers.get("x-goog-generation", "")
    if not generation:
        raise CorruptData(f"{key!r}: the store did not say which generation it sent", path=key)
    try:
        modified_s = parsedate_to_datetime(headers.get("last-modified", "")).timestamp()
    except (ValueError, OverflowError):
        modified_s = 0.0
    names = ("cache-control", "content-disposition", "content-encoding", "content-language")
    metadata = [
        (name.lower().removeprefix("x-goog-meta-"), value)
        for name, value in headers.items()
        if name.lower().startswith("x-goog-meta-")
    ]
    sums = dict(part.strip().partition("=")[::2] for part in headers.get("x-goog-hash", "").split(","))
    return ObjectInfo(
        key=key,
        size=size,
        version=Version(f"id:{generation}"),
        modified_s=modified_s,
        etag=generation,
        content_type=headers.get("content-type", ""),
        headers=tuple((name, headers[name]) for name in names if headers.get(name)),
        metadata=tuple(sorted(metadata)),
        checksums=_checksums(sums.get("crc32c", "")),
        storage_class=headers.get("x-goog-storage-class", ""),
    )


def _checksums(crc32c: str) -> tuple[tuple[str, str], ...]:
    return (("crc32c", crc32c), ("type", "FULL_OBJECT")) if crc32c else ()


def _decode(body: bytes, kind: type[T], bucket: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise CorruptData(f"bucket {bucket!r} answered something that is no GCS answer") from error
