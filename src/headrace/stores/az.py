"""AzStore: one container of Azure Blob Storage, through its REST API."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from headrace.model.clock import Clock
from headrace.model.errors import CorruptData, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import MIN_PART_BYTES
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.account_copies import BucketStore, CopyingAccountStore
from headrace.stores.az_auth import azure_credentials
from headrace.stores.az_containers import AzContainers
from headrace.stores.az_copy import AzCopies
from headrace.stores.az_objects import OWN, blob_info, check_az_key, check_new_az_key, pin
from headrace.stores.az_requests import AzRequests
from headrace.stores.az_uploads import AzUploads
from headrace.stores.az_write import AzWrites
from headrace.stores.az_xml import BlobPage, parse_blob_page
from headrace.stores.cloud_uploads import CloudUploads
from headrace.stores.http import Http, HttpResponse, range_header
from headrace.stores.http_reads import read_object
from headrace.stores.keys import check_text, cut_range
from headrace.stores.merging import PageMerger
from headrace.stores.multipart import Multipart
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.store import Store
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url, shown_url

_PAGE = 1000
_MAX_PAGES = 10_000
_MAX_LIST_BYTES = 32 << 20
_MARKERS = 1024


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of an `az://…` URL: a container, a prefix of one, or all containers of the account. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    if not url.bucket and spec.credentials == "anonymous":
        raise SettingsError(f"store {shown_url(spec.store)!r}: listing an account takes credentials: name the container")
    credentials = azure_credentials(spec.credentials, environ=environ, clock=clock)
    http = Http(http_settings(spec), guard=guard_of(spec))
    requests = AzRequests(url.bucket, endpoint=check_endpoint(spec), credentials=credentials, http=http, clock=clock)
    if not url.bucket:
        return az_account(requests)
    if not url.prefix:
        return AzStore(requests)
    return PrefixedStore(AzStore(requests, own=f"{url.prefix}/{OWN}"), url.prefix + "/")


def az_account(requests: AzRequests) -> CopyingAccountStore:
    """All containers of the account that `requests` are about."""

    def open_container(name: str) -> AzStore:
        return AzStore(requests.for_container(name))

    return CopyingAccountStore(AzContainers(requests, open_container), open_container, requests.close)


class AzStore(BucketStore):
    """The blobs of one container. A version is the blob's ETag.

    Azure's listings go on at opaque markers only, so the store remembers where recent pages ended;
    a listing that starts elsewhere is paged through from the nearest place that is known. What belongs to unfinished uploads
    lies below `own`, which is neither listed nor a key.
    """

    def __init__(self, requests: AzRequests, *, own: str = OWN, min_part_bytes: int = MIN_PART_BYTES) -> None:
        self.name = requests.container
        self._requests = requests
        self._own = own
        self._writes = AzWrites(requests)
        self._copies = AzCopies(requests, self._writes)
        steps = AzUploads(requests, self._writes, own, self._read)
        self._uploads = CloudUploads(steps, requests.clock, min_part_bytes, self._read)
        self._markers: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    async def info(self, key: str) -> ObjectInfo:
        check_az_key(key, self._own)
        return await self._requests.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        check_az_key(key, self._own)
        return await self._read(key, byte_range, version)

    async def _read(self, key: str, byte_range: ByteRange | None, version: Version | None) -> Reading:
        async def get() -> HttpResponse:
            # `x-ms-range` is signed with the other x-ms- headers and means the same as `range`.
            headers = () if byte_range is None else (("x-ms-range", range_header(byte_range)[1]),)
            return await self._requests.send("GET", key, headers=(*headers, *pin(version, key)))

        try:
            return await read_object(key, byte_range, version, get=get, info=self._requests.info, describe=blob_info)
        except CorruptData:
            # It may be empty: Azurite has no 416 for that.
            cut_range(byte_range, (await self._requests.info(key)).size, key)
            raise

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        merger = PageMerger(prefix, delimiter, after, limit, hidden=self._own)
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
        raise Unavailable(f"container {self.name!r}: the store's listing does not get ahead, try again", path=prefix)

    async def tags(self, key: str) -> Pairs:
        check_az_key(key, self._own)
        return await self._requests.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._uploads.part_of(info, number) or await super().part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        check_new_az_key(key, self._own)
        return await self._writes.write(key, body, attributes, condition)

    async def copy_from(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        check_az_key(source.key, self._own)
        check_new_az_key(key, self._own)
        return await self._copies.copy(bucket, source, key, attributes, condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        check_az_key(key, self._own)
        await self._writes.delete(key, condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        check_az_key(key, self._own)
        await self._writes.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return self._uploads

    async def close(self) -> None:
        await self._uploads.close()
        await self._requests.close()

    async def _page(self, prefix: str, delimiter: str, marker: str, count: int) -> BlobPage:
        query = [("restype", "container"), ("comp", "list"), ("maxresults", str(count))]
        query += [(name, text) for name, text in (("prefix", prefix), ("delimiter", delimiter), ("marker", marker)) if text]
        response = await self._requests.send("GET", "", query=tuple(query), path=prefix)
        return parse_blob_page(await response.read(_MAX_LIST_BYTES), self.name)

    def _check_order(self, objects: Sequence[ObjectInfo], last: str) -> str:
        for key in (info.key for info in objects):
            if key < last:
                # Going on behind a key would pass others by: better no listing than one with gaps.
                message = f"container {self.name!r} lists {last!r} before {key!r}, which is not the order of UTF-8 bytes"
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
