"""AzStore: one container of Azure Blob Storage, through its REST API."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode, urlsplit

from headrace.model.clock import Clock
from headrace.model.errors import CorruptData, InvalidKey, InvalidRange, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.stores.az_auth import AzureRequest, azure_credentials, check_key_text, is_sas, signed_headers
from headrace.stores.az_xml import BlobPage, http_date, parse_blob_page
from headrace.stores.credentials import CredentialsProvider
from headrace.stores.http import Headers, Http, HttpReading, HttpResponse, body_range, range_header, status_error
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.merging import PageMerger
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.store import Store
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url, shown_url

_PAGE = 1000
_MAX_PAGES = 10_000
_MAX_LIST_BYTES = 32 << 20
_MARKERS = 1024
_CONTENT = ("cache-control", "content-disposition", "content-encoding", "content-language")


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of an `az://container/prefix` URL. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    if not url.bucket:
        raise SettingsError(f"store {shown_url(spec.store)!r}: name the container, as in az://container/prefix")
    credentials = azure_credentials(spec.credentials, environ=environ, clock=clock)
    http = Http(http_settings(spec), guard=guard_of(spec))
    store = AzStore(url.bucket, endpoint=check_endpoint(spec), credentials=credentials, http=http, clock=clock)
    return PrefixedStore(store, url.prefix + "/") if url.prefix else store


class AzStore(Store):
    """The blobs of one container. A version is the blob's ETag.

    Azure's listings go on at opaque markers only, so the store remembers where recent pages ended;
    a listing that starts elsewhere is paged through from the nearest place that is known.
    """

    def __init__(self, container: str, *, endpoint: str, credentials: CredentialsProvider, http: Http, clock: Clock) -> None:
        self._container = container
        self._endpoint = endpoint
        self._credentials = credentials
        self._http = http
        self._clock = clock
        self._markers: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    async def info(self, key: str) -> ObjectInfo:
        _check(key)
        response = await self._send(AzureRequest("HEAD", "/" + quote(key, safe="")), key)
        response.close()
        size = response.headers.get("content-length", "")
        if not (size.isascii() and size.isdigit()):
            raise CorruptData(f"{key!r}: the store did not say how long the object is", path=key)
        return _info(key, int(size), response.headers)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        _check(key)
        if byte_range is not None and not 0 <= byte_range.start < byte_range.end:
            cut_range(byte_range, (await self.info(key)).size, key)
        # `x-ms-range` is signed with the other x-ms- headers and means the same as `range`.
        headers = () if byte_range is None else (("x-ms-range", range_header(byte_range)[1]),)
        try:
            response = await self._send(AzureRequest("GET", "/" + quote(key, safe=""), (), (*headers, *_pin(version, key))), key)
        except InvalidRange as error:
            if not error.size:
                cut_range(byte_range, (await self.info(key)).size, key)
            raise
        try:
            held, size = body_range(response, byte_range)
            cut_range(byte_range, size, key)  # Azurite answers a range right behind the end with nothing
            info = _info(key, size, response.headers)
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
        except CorruptData:
            response.close()
            cut_range(byte_range, (await self.info(key)).size, key)  # it may be empty: Azurite has no 416 for that
            raise
        except BaseException:  # whatever it is: tidied up here, raised on
            response.close()
            raise
        return HttpReading(info, held, response)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        merger = PageMerger(prefix, delimiter, after, limit)
        asked = merger.store_delimiter
        marker = self._marker_before(prefix, asked, after)
        last = ""
        for _ in range(_MAX_PAGES):
            page = await self._page(prefix, asked, marker, min(limit + 1, _PAGE))
            last = self._check_order(page.objects, last)
            merger.add(page.objects, page.prefixes)
            marker = page.marker
            if marker:
                ends = [info.key for info in page.objects[-1:]] + [*page.prefixes[-1:]]
                self._remember(prefix, asked, max(ends, default=""), marker)
            if merger.enough() or not marker:
                return merger.listing()
        raise Unavailable(f"container {self._container!r}: the store's listing does not get ahead, try again", path=prefix)

    async def close(self) -> None:
        await self._http.close()
        await self._credentials.close()

    async def _page(self, prefix: str, delimiter: str, marker: str, count: int) -> BlobPage:
        query = [("restype", "container"), ("comp", "list"), ("maxresults", str(count))]
        query += [(name, text) for name, text in (("prefix", prefix), ("delimiter", delimiter), ("marker", marker)) if text]
        response = await self._send(AzureRequest("GET", "", tuple(query)), prefix)
        return parse_blob_page(await response.read(_MAX_LIST_BYTES), self._container)

    def _check_order(self, objects: Sequence[ObjectInfo], last: str) -> str:
        for key in (info.key for info in objects):
            if key < last:
                # Going on behind a key would pass others by: better no listing than one with gaps.
                message = f"container {self._container!r} lists {last!r} before {key!r}, which is not the order of UTF-8 bytes"
                raise CorruptData(message, path=key)
            last = key
        return last

    def _marker_before(self, prefix: str, delimiter: str, after: str) -> str:
        known = [place for place in self._markers if place[:2] == (prefix, delimiter) and place[2] <= after]
        if not known:
            return ""
        nearest = max(known)
        self._markers.move_to_end(nearest)
        return self._markers[nearest]

    def _remember(self, prefix: str, delimiter: str, key: str, marker: str) -> None:
        self._markers[prefix, delimiter, key] = marker
        while len(self._markers) > _MARKERS:
            self._markers.popitem(last=False)

    async def _send(self, request: AzureRequest, path: str) -> HttpResponse:
        credentials = await self._credentials.get()
        account, secret = (credentials.key_id, credentials.secret) if credentials is not None else ("", "")
        base = self._endpoint or f"https://{account}.blob.core.windows.net"
        if not account and not self._endpoint:
            raise SettingsError("an anonymous az mount needs an endpoint, such as https://ACCOUNT.blob.core.windows.net")
        # Emulators and proxies carry the account as the path's first segment instead of in the host's name.
        in_host = not account or (urlsplit(base).hostname or "").startswith(account + ".")
        target = ("" if in_host else "/" + account) + "/" + quote(self._container, safe="") + request.path
        query = urlencode(request.query, quote_via=quote, safe="")
        if is_sas(secret):
            query = "&".join(part for part in (query, secret.lstrip("?")) if part)
            secret = ""
        elif secret:
            check_key_text(secret)
        sent = AzureRequest(request.method, target, request.query, request.headers)
        headers = signed_headers(sent, account, secret, self._clock.time())
        url = base + target + (f"?{query}" if query else "")
        response = await self._http.request(request.method, url, headers=headers, path=path)
        if response.status in (200, 206):
            return response
        response.close()
        code = response.headers.get("x-ms-error-code", "")
        message = f"container {self._container!r} answered {response.status} {code} for {path!r}"
        raise status_error(response.status, message, path=path, headers=response.headers, now_s=self._clock.time())


def _check(key: str) -> None:
    check_key(key)
    if "\\" in key or any(segment in (".", "..") for segment in key.split("/")):
        message = f"{key!r} cannot be a blob's name: Azure turns a back-slash into a slash and resolves '.' and '..' segments"
        raise InvalidKey(message, path=key)


def _pin(version: Version | None, key: str) -> tuple[tuple[str, str], ...]:
    if version is None:
        return ()
    kind, _, etag = version.token.partition(":")
    if kind != "etag" or not etag.isascii() or not etag.isprintable():
        raise VersionChanged(f"{key!r} has no version {version.token}: Azure versions are ETags", path=key)
    return (("if-match", f'"{etag}"'),)


def _info(key: str, size: int, headers: Headers) -> ObjectInfo:
    etag = headers.get("etag", "").strip('"')
    if not etag:
        raise CorruptData(f"{key!r}: the store did not say which version it sent", path=key)
    metadata = [
        (name.lower().removeprefix("x-ms-meta-"), value)
        for name, value in headers.items()
        if name.lower().startswith("x-ms-meta-")
    ]
    return ObjectInfo(
        key=key,
        size=size,
        version=Version(f"etag:{etag}"),
        modified_s=http_date(headers.get("last-modified", "")),
        etag=etag,
        content_type=headers.get("content-type", ""),
        headers=tuple((name, headers[name]) for name in _CONTENT if headers.get(name)),
        metadata=tuple(sorted(metadata)),
        storage_class=headers.get("x-ms-access-tier", ""),
    )
