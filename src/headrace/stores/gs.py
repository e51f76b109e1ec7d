"""GsStore: one bucket of Google Cloud Storage, through its JSON API."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import NotFound, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.uploads import MIN_PART_BYTES
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.account_copies import BucketStore, CopyingAccountStore
from headrace.stores.cloud_uploads import CloudUploads
from headrace.stores.gs_auth import google_tokens
from headrace.stores.gs_buckets import GsBuckets
from headrace.stores.gs_copy import copy
from headrace.stores.gs_objects import OWN, Item, check_gs_key, decoded, generation_of, header_info, item_info
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_uploads import GsUploads
from headrace.stores.gs_write import GsWrites
from headrace.stores.http import Http, HttpResponse, range_header
from headrace.stores.http_reads import read_object
from headrace.stores.keys import check_text
from headrace.stores.merging import PageMerger
from headrace.stores.multipart import Multipart
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.store import Store
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url, shown_url

_ENDPOINT = "https://storage.googleapis.com"
_PAGE = 1000
_MAX_PAGES = 1000
_MAX_LIST_BYTES = 16 << 20
_FIELDS = "nextPageToken,prefixes,items(name,size,generation,updated,contentType,storageClass,crc32c,md5Hash)"


class _Page(msgspec.Struct, rename="camel"):
    items: list[Item] = []
    prefixes: list[str] = []
    next_page_token: str = ""


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of a `gs://…` URL: a bucket, a prefix of one, or all buckets of the project. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    emulator = environ.get("STORAGE_EMULATOR_HOST", "")
    endpoint = check_endpoint(spec) or (emulator if "://" in emulator or not emulator else f"http://{emulator}")
    tokens = google_tokens(spec.credentials, environ=environ, clock=clock, emulated=bool(emulator))
    project = environ.get("GOOGLE_CLOUD_PROJECT") or tokens.project
    if not url.bucket and not project:
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: name the bucket, as in gs://bucket/prefix, or for all of a project's buckets "
            "set GOOGLE_CLOUD_PROJECT"
        )
    http = Http(http_settings(spec), guard=guard_of(spec))
    requests = GsRequests(url.bucket, endpoint=endpoint or _ENDPOINT, tokens=tokens, http=http, clock=clock, project=project)
    if not url.bucket:
        return gs_account(requests)
    if not url.prefix:
        return GsStore(requests)
    return PrefixedStore(GsStore(requests, own=f"{url.prefix}/{OWN}"), url.prefix + "/")


def gs_account(requests: GsRequests) -> CopyingAccountStore:
    """All buckets of the project that `requests` are about."""
    return CopyingAccountStore(GsBuckets(requests), lambda name: GsStore(requests.for_bucket(name)), requests.close)


class GsStore(BucketStore):
    """The objects of one bucket. A version is the object's generation, and so is its entity tag.

    What belongs to unfinished uploads lies below `own`, which is neither listed nor a key.
    """

    def __init__(self, requests: GsRequests, *, own: str = OWN, min_part_bytes: int = MIN_PART_BYTES) -> None:
        self.name = requests.bucket
        self._requests = requests
        self._own = own
        self._writes = GsWrites(requests)
        self._uploads = CloudUploads(GsUploads(requests, own), requests.clock, min_part_bytes, self._read_version)

    async def info(self, key: str) -> ObjectInfo:
        check_gs_key(key, self._own)
        return item_info(await self._requests.item(key))

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        check_gs_key(key, self._own)
        try:
            # The JSON API leaves out what an object's metadata says when it sends the bytes.
            return await self._media(self._requests.xml_path(key), key, byte_range, version)
        except NotFound:
            item = await self._requests.item(key)
        # Emulators that know the JSON API alone say that there is no such object.
        described = item_info(item)
        if version is not None and described.version != version:
            raise VersionChanged(f"{key!r} is now {described.version.token}, not {version.token}", path=key)
        reading = await self._media(self._requests.object_path(key), key, byte_range, described.version)
        reading.info = described
        return reading

    async def _media(self, target: str, key: str, byte_range: ByteRange | None, version: Version | None) -> Reading:
        async def get() -> HttpResponse:
            # Without gzip in Accept-Encoding, objects stored packed are unpacked on the way and lose their length.
            headers = [("accept-encoding", "gzip")] + ([] if byte_range is None else [range_header(byte_range)])
            query = {"alt": "media"} if target == self._requests.object_path(key) else {}
            if version is not None:
                generation = generation_of(version, key)
                headers.append(("x-goog-if-generation-match", generation))
                query["ifGenerationMatch"] = generation
            return await self._requests.send("GET", target, path=key, query=query, headers=headers)

        return await read_object(key, byte_range, version, get=get, info=self.info, describe=header_info)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        merger = PageMerger(prefix, delimiter, after, limit, hidden=self._own)
        query = {"prefix": prefix, "delimiter": merger.store_delimiter, "startOffset": merger.start(), "pageToken": ""}
        query |= {"maxResults": str(min(limit + 1, _PAGE)), "fields": _FIELDS}
        for _ in range(_MAX_PAGES):
            response = await self._requests.send("GET", self._requests.object_path(""), path=prefix, query=query)
            page = decoded(await response.read(_MAX_LIST_BYTES), _Page, self.name)
            skip_to = merger.add([item_info(item) for item in page.items], page.prefixes)
            if merger.enough() or not page.next_page_token:
                return merger.listing()
            query |= {"startOffset": skip_to, "pageToken": ""} if skip_to else {"pageToken": page.next_page_token}
        raise Unavailable(f"bucket {self.name!r}: the store's listing does not get ahead, try again", path=prefix)

    async def tags(self, key: str) -> Pairs:
        check_gs_key(key, self._own)
        return (await self._requests.item(key)).kept().tags

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._uploads.part_of(info, number) or await super().part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        check_gs_key(key, self._own)
        return await self._writes.write(key, body, attributes, condition)

    async def copy_from(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo:
        check_gs_key(source.key, self._own)
        check_gs_key(key, self._own)
        return await copy(self._requests, bucket, source, key, attributes, condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        check_gs_key(key, self._own)
        await self._writes.delete(key, condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        check_gs_key(key, self._own)
        await self._writes.set_tags(key, tags)

    def multipart(self) -> Multipart:
        return self._uploads

    async def close(self) -> None:
        await self._uploads.close()
        await self._requests.close()

    async def _read_version(self, key: str, byte_range: ByteRange | None, version: Version) -> Reading:
        return await self.read(key, byte_range, version=version)
