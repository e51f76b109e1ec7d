"""S3Store: one bucket of any S3-compatible service."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, CorruptData, InvalidRange, NotFound, Unavailable, Unsupported, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.account_copies import BucketStore
from headrace.stores.credentials import CredentialsProvider, credentials_provider
from headrace.stores.http import Headers, Http, HttpReading, HttpResponse, held_range, range_header
from headrace.stores.http_reads import read_object
from headrace.stores.keys import check_key, check_text, rolled_up
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.proved import Etags, ProvedReading
from headrace.stores.s3_account import S3AccountStore
from headrace.stores.s3_copy import S3Copies
from headrace.stores.s3_list_xml import ListPage, ListParser
from headrace.stores.s3_objects import object_info
from headrace.stores.s3_requests import S3Requests, S3Settings
from headrace.stores.s3_seaweedfs import DirectoryWalk, OutOfOrder, Question, SmallestEntries, check_kept, is_seaweedfs
from headrace.stores.s3_uploads import S3Uploads
from headrace.stores.s3_write import S3Writes
from headrace.stores.s3_xml import parse_tags
from headrace.stores.store import Store
from headrace.stores.urls import check_endpoint, guard_of, http_settings, parse_store_url

_CHECKSUM_MODE = ("x-amz-checksum-mode", "ENABLED")
_MAX_KEYS = 1000
_MAX_EMPTY_PAGES = 100
_MAX_LIST_BYTES = 64 << 20
_LAST = "\U0010ffff"


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of an `s3://…` URL: a bucket, a prefix of one, or all buckets of the account. Raises `SettingsError`."""
    url = parse_store_url(spec.store)
    settings = S3Settings(bucket=url.bucket, endpoint=check_endpoint(spec), region=spec.region)
    credentials = credentials_provider(spec.credentials, environ=environ, clock=clock)
    http = Http(http_settings(spec), guard=guard_of(spec))
    requests = S3Requests(settings, credentials, http, clock)
    if not url.bucket:
        return S3AccountStore(requests, lambda bucket: S3Store(requests.for_bucket(bucket)))
    store = S3Store(requests)
    return PrefixedStore(store, url.prefix + "/") if url.prefix else store


class S3Store(BucketStore):
    """The objects of one bucket. Reads are pinned by ETag (`If-Match`) or by version id."""

    def __init__(self, requests: S3Requests) -> None:
        self._requests = requests
        self.name = requests.settings.bucket
        self._writes = writes = S3Writes(requests, self.info)
        self._copies = S3Copies(requests, writes, self.info)
        self._etags = Etags()
        self._may_read_versions = True
        self._sorts_by_directory = False

    @classmethod
    def open(cls, settings: S3Settings, credentials: CredentialsProvider, http: Http, *, clock: Clock) -> S3Store:
        """The store of `settings.bucket`; closing it closes `credentials` and `http`."""
        return cls(S3Requests(settings, credentials, http, clock))

    async def info(self, key: str) -> ObjectInfo:
        check_key(key)
        response = await self._requests.send("HEAD", key, headers=[_CHECKSUM_MODE])
        response.close()
        size = response.headers.get("content-length", "")
        if not (size.isascii() and size.isdigit()):
            raise CorruptData(f"{key!r}: the store did not say how long the object is", path=key)
        return _described(key, int(size), response.headers)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        check_key(key)

        reading = await self._read(key, byte_range, version)
        info, held = reading.info, reading.range
        if held.length != info.size or not self._etags.prove(info, reading.headers):
            return reading
        return ProvedReading(reading, self._etags, lambda: self._read(key, byte_range, info.version))

    async def _read(self, key: str, byte_range: ByteRange | None, version: Version | None) -> HttpReading:
        async def get() -> HttpResponse:
            return await self._get(key, byte_range, version)

        return await read_object(key, byte_range, version, get=get, info=self.info, describe=_described)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        query = [(b"list-type", b"2"), (b"encoding-type", b"url"), (b"prefix", prefix.encode())]
        if delimiter:
            query.append((b"delimiter", delimiter.encode()))
        if self._sorts_by_directory:
            return await self._list_directories(query, prefix, delimiter, after, limit)
        sized = [*query, (b"max-keys", str(min(limit, _MAX_KEYS)).encode())]
        start = (b"start-after", start_after(prefix, delimiter, after).encode())
        token = ""
        for _ in range(_MAX_EMPTY_PAGES):
            position = [(b"continuation-token", token.encode())] if token else [start] if after else []
            page = await self._list_page([*sized, *position])
            if page.by_directory:
                return await self._list_directories(query, prefix, delimiter, after, limit)
            entries = ordered(page.entries, prefix, after)
            if entries or not page.truncated:
                return Listing(entries, entries[-1].key if page.truncated else None)
            if not page.token:
                break
            token = page.token
        raise self._stuck(prefix)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        if info.parts <= 1 or number > info.parts:
            return await super().part(info, number)
        headers = [("if-match", f'"{info.etag}"')]
        try:
            response = await self._requests.send("HEAD", info.key, headers=headers, query=[(b"partNumber", str(number).encode())])
        except InvalidRange:
            return await super().part(info, number)  # SeaweedFS goes by the numbers that the parts were uploaded with
        response.close()
        found = held_range(response.headers)
        if found is None:
            return await super().part(info, number)  # a server that knows no part numbers describes the whole object
        return found

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        check_key(key)
        try:
            response = await self._requests.send("GET", key, query=[(b"tagging", b"")])
        except Unsupported:
            await self.info(key)
            return ()
        found = parse_tags(await response.read())
        if is_seaweedfs(response.headers):
            await self.info(key)  # it tells the tags of directories and of other keys' objects, too
        return found

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self._writes.write(key, body, attributes, condition)

    async def copy_from(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        check_key(key)
        await self._requests.check_kept(key, source.size)
        return await self._copies.copy(bucket, source, key, attributes, condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._writes.delete(key, condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self._writes.set_tags(key, tags)

    def multipart(self) -> S3Uploads:
        return self._writes.uploads

    async def close(self) -> None:
        await self._writes.parted.close()
        await self._requests.close()

    async def _get(self, key: str, byte_range: ByteRange | None, version: Version | None) -> HttpResponse:
        headers = [_CHECKSUM_MODE] if byte_range is None else [range_header(byte_range)]
        kind, _, value = version.token.partition(":") if version is not None else ("", "", "")
        if kind == "etag":
            headers.append(("if-match", f'"{value}"'))
        if kind != "id" or not self._may_read_versions:
            return await self._requests.send("GET", key, headers=headers)
        try:
            return await self._requests.send("GET", key, headers=headers, query=[(b"versionId", value.encode())])
        except (NotFound, Unsupported) as error:
            raise VersionChanged(f"{key!r} has no version {value} any more", path=key) from error
        except AccessDenied:
            # Reading by version id needs a right of its own; without it, the answer's version is compared instead.
            response = await self._requests.send("GET", key, headers=headers)
            self._may_read_versions = False
            return response

    async def _list_page(self, query: Sequence[tuple[bytes, bytes]]) -> ListPage:
        response = await self._requests.send("GET", "", query=query)
        parser = ListParser()
        length = 0
        try:
            async for piece in response.chunks():
                length += len(piece)
                if length > _MAX_LIST_BYTES:
                    raise CorruptData(f"bucket {self._requests.settings.bucket!r}: one page of the listing is too long")
                parser.feed(piece)
        finally:
            response.close()
        self._sorts_by_directory = is_seaweedfs(response.headers)
        return parser.finish(by_directory=self._sorts_by_directory)

    async def _list_directories(
        self, query: Sequence[tuple[bytes, bytes]], prefix: str, delimiter: str, after: str, limit: int
    ) -> Listing:
        if delimiter in ("", "/"):
            with contextlib.suppress(OutOfOrder):
                return await DirectoryWalk(self._ask, prefix, delimiter, after, limit).listing()
        return await self._list_all(query, SmallestEntries(prefix, after, limit))

    async def _ask(self, question: Question) -> ListPage:
        query = [(b"list-type", b"2"), (b"encoding-type", b"url"), (b"max-keys", b"%d" % question.max_keys)]
        texts = {b"prefix": question.prefix, b"delimiter": question.delimiter}
        texts |= {b"start-after": question.start_after, b"continuation-token": question.token}
        return await self._list_page([*query, *((name, text.encode()) for name, text in texts.items() if text)])

    async def _list_all(self, query: Sequence[tuple[bytes, bytes]], found: SmallestEntries) -> Listing:
        """One page out of a listing that is not in key order: all of it is seen, little of it is held."""
        token = ""
        while True:
            page = await self._list_page([*query, (b"continuation-token", token.encode())] if token else query)
            found.add(page.entries)
            if not page.truncated:
                return found.listing()
            if not page.token or page.token == token:
                raise self._stuck("")
            token = page.token

    def _stuck(self, prefix: str) -> Unavailable:
        bucket = self._requests.settings.bucket
        return Unavailable(f"bucket {bucket!r}: the store's listing does not get ahead, try again", path=prefix)


def start_after(prefix: str, delimiter: str, after: str) -> str:
    """The `start-after` behind which exactly the entries that follow `after` lie."""
    return after + _LAST if after.startswith(prefix) and rolled_up(after, prefix, delimiter) == after else after


def ordered(entries: tuple[Entry, ...], prefix: str, after: str) -> tuple[Entry, ...]:
    """Entries behind `after` in the order of their keys' bytes: S3 sends objects and prefixes apart."""
    behind = after.encode()
    keyed = [(entry.key.encode(), entry) for entry in entries if entry.key.startswith(prefix)]
    keyed.sort(key=_first)
    return tuple([entry for encoded, entry in keyed if encoded > behind])


def _described(key: str, size: int, headers: Headers) -> ObjectInfo:
    if is_seaweedfs(headers):
        check_kept(key, size)
    return object_info(key, size, headers)


def _first(pair: tuple[bytes, Entry]) -> bytes:
    return pair[0]
