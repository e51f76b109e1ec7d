"""S3Store against answers that no real server gives on request, and what SeaweedFS makes necessary."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import (
    AccessDenied,
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    NotFound,
    SettingsError,
    Throttled,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, CommonPrefix, Entry, ObjectInfo, Version
from headrace.stores.contract_hooks import read_all
from headrace.stores.http import Redirected
from headrace.stores.s3 import S3Store, ordered, start_after
from support.s3_stores import s3_requests, s3_store
from support.scripted import Answer, http_answer, scripted
from support.servers import S3Server

KEYS = st.text(st.sampled_from("ab/-é\U0001f600"), min_size=1, max_size=6)


def error(status: int, code: str, message: str = "m", **headers: str) -> bytes:
    return http_answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), **headers)


async def answer_of(answer: Answer, verb: str = "read", version: Version | None = None) -> object:
    async with scripted(answer) as server:
        store = S3Store(s3_requests(server.endpoint, "bucket", key_id="id", secret="planted-secret", read_timeout_s=1.0))
        try:
            if verb == "read":
                return await read_all(store, "k", version=version)
            return await getattr(store, verb)("k")
        finally:
            await store.close()


@pytest.mark.parametrize("verb", ["read", "tags", "list"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(404, "NoSuchKey"), NotFound),
        (error(404, "NoSuchBucket"), NotFound),
        (http_answer(404, b"<html>not here</html>"), Unavailable),
        (http_answer(404, b"<html/>", content_type="text/html"), Unavailable),
        (error(404, "SomethingElse"), Unavailable),
        (error(403, "AccessDenied"), AccessDenied),
        (error(403, "SignatureDoesNotMatch"), AccessDenied),
        (error(400, "ExpiredToken"), AccessDenied),
        (error(503, "SlowDown", retry_after="3"), Throttled),
        (http_answer(503), Unavailable),
        (http_answer(429), Throttled),
        (http_answer(500), Unavailable),
        (http_answer(502, b"<html>bad gateway</html>"), Unavailable),
        (error(400, "RequestTimeout"), Unavailable),
        (error(409, "OperationAborted"), Unavailable),
        (error(400, "KeyTooLongError"), InvalidKey),
        (error(400, "AuthorizationHeaderMalformed", x_amz_bucket_region="eu-west-1"), SettingsError),
        (http_answer(301, x_amz_bucket_region="eu-west-1"), SettingsError),
        (http_answer(307, location="http://127.0.0.1:1/"), Redirected),
    ],
)
async def test_refusals_mean_errors(verb: str, answer: bytes, expected: type[HeadraceError]) -> None:
    with pytest.raises(HeadraceError) as caught:
        await answer_of(lambda *_: answer, verb)
    assert type(caught.value) is expected
    assert "planted-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", NotFound),
        (b"HTTP/1.1 404 X\r\ncontent-length: 9\r\ncontent-type: text/html\r\n\r\n", Unavailable),
        (b"HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n", AccessDenied),
        (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", Unavailable),
        (b"HTTP/1.1 200 X\r\n\r\n", CorruptData),
    ],
)
async def test_refusals_of_head_mean_errors(answer: bytes, expected: type[HeadraceError]) -> None:
    with pytest.raises(expected):
        await answer_of(lambda *_: answer, "info")


async def test_the_bucket_is_named_when_it_is_what_is_missing() -> None:
    with pytest.raises(NotFound, match="bucket 'bucket' does not exist"):
        await answer_of(lambda *_: error(404, "NoSuchBucket"))


async def test_retry_after_is_handed_on() -> None:
    with pytest.raises(Throttled) as caught:
        await answer_of(lambda *_: error(503, "SlowDown", retry_after="3"))
    assert caught.value.retry_after_s == 3.0


async def test_a_pinned_read_asks_for_its_version_and_checks_the_answer() -> None:
    asked: list[str] = []

    def answer(first: str, headers: dict[str, str]) -> bytes:
        asked.append(headers.get("if-match", ""))
        return http_answer(200, b"other", etag='"new"')

    with pytest.raises(VersionChanged):
        await answer_of(answer, version=Version("etag:old"))
    assert asked == ['"old"']


async def test_412_is_a_changed_version() -> None:
    with pytest.raises(VersionChanged):
        await answer_of(lambda *_: error(412, "PreconditionFailed"), version=Version("etag:old"))


async def test_a_version_id_is_read_without_the_right_to_it_when_it_is_still_the_current_one() -> None:
    targets: list[str] = []

    def answer(first: str, headers: dict[str, str]) -> bytes:
        targets.append(first.split(" ")[1])
        if "versionId" in first:
            return error(403, "AccessDenied")
        return http_answer(200, b"body", etag='"e"', x_amz_version_id="v1")

    assert await answer_of(answer, version=Version("id:v1")) == b"body"
    assert targets == ["/bucket/k?versionId=v1", "/bucket/k"]
    with pytest.raises(VersionChanged):
        await answer_of(answer, version=Version("id:v0"))


async def test_a_version_that_is_gone_has_changed() -> None:
    for answer in (error(404, "NoSuchVersion"), error(405, "MethodNotAllowed"), error(400, "InvalidArgument")):
        with pytest.raises(VersionChanged):
            await answer_of(lambda *_, answer=answer: answer, version=Version("id:v1"))


async def test_everything_an_object_says_of_itself_is_kept() -> None:
    headers = {
        "etag": '"0123-3"',
        "content_type": "text/csv",
        "cache_control": "no-cache",
        "content_encoding": "gzip",
        "x_amz_meta_Owner": "me",
        "x_amz_version_id": "null",
        "x_amz_checksum_crc64nvme": "AAAA",
        "x_amz_checksum_type": "FULL_OBJECT",
        "x_amz_storage_class": "GLACIER",
        "last_modified": "Sat, 31 Jan 2026 23:59:59 GMT",
    }
    info = await answer_of(lambda *_: http_answer(200, b"", length=7, **headers), "info")
    assert info == ObjectInfo(
        key="k",
        size=7,
        version=Version("etag:0123-3"),
        modified_s=1769903999.0,
        etag="0123-3",
        content_type="text/csv",
        headers=(("cache-control", "no-cache"), ("content-encoding", "gzip")),
        metadata=(("owner", "me"),),
        checksums=(("crc64nvme", "AAAA"), ("type", "FULL_OBJECT")),
        parts=3,
        storage_class="GLACIER",
    )


async def test_a_listing_that_does_not_get_ahead_is_unavailable() -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    with pytest.raises(Unavailable, match="ahead"):
        await answer_of(lambda *_: http_answer(200, body), "list")


async def test_a_listing_cut_in_the_middle_is_unavailable() -> None:
    async with scripted(lambda *_: http_answer(200, b"<ListBucketResult>", length=500), close_after=True) as server:
        store = S3Store(s3_requests(server.endpoint, "bucket"))
        with pytest.raises(Unavailable):
            await store.list()
        await store.close()


async def test_without_credentials_nothing_is_signed() -> None:
    async with scripted(lambda *_: http_answer(200, b"x", etag='"e"')) as server:
        store = S3Store(s3_requests(server.endpoint, "bucket"))
        await read_all(store, "k")
        await store.close()
        assert "authorization" not in server.requests[0][1]


@settings(deadline=None)
@given(st.sets(KEYS, max_size=12), st.text(st.sampled_from("ab/-"), max_size=3), KEYS | st.just(""))
def test_entries_behind_a_key_are_sorted_by_bytes(keys: set[str], prefix: str, after: str) -> None:
    entries: tuple[Entry, ...] = tuple(CommonPrefix(key) for key in keys)
    found = [entry.key for entry in ordered(entries, prefix, after)]
    expected = [key for key in keys if key.startswith(prefix) and key.encode() > after.encode()]
    assert found == sorted(expected, key=str.encode)


def test_behind_a_common_prefix_means_behind_all_below_it() -> None:
    assert start_after("a/", "/", "a/b/") == "a/b/\U0010ffff"
    assert start_after("", "/", "a/b") == "a/b"
    assert start_after("a/", "/", "a/") == "a/"
    assert start_after("", "", "a/") == "a/"


@pytest.mark.servers
async def test_a_bucket_that_lists_by_directory_is_listed_in_key_order(seaweedfs_server: S3Server) -> None:
    bucket = "listed-by-directory"
    await asyncio.to_thread(seaweedfs_server.make_bucket, bucket)
    keys = ["a", "a-b", "a.b", "a0", "a/b", "a/b-c", "a/b/c", "a/b.d/e", "b", "z-1", "z/1"]
    for key in keys:
        await asyncio.to_thread(seaweedfs_server.put, bucket, key, b"x")
    store = s3_store(seaweedfs_server, bucket)
    for limit in (1, 2, 3, 100):
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await store.list(after=after, limit=limit)
            found += [entry.key for entry in page.entries]
            after = page.after
        assert found == sorted(keys, key=str.encode)
    for folded in ("a//b", "/a", "./a", "x/../a", "a/"):
        with pytest.raises((InvalidKey, NotFound)):
            await store.info(folded)
        with pytest.raises((InvalidKey, NotFound)):
            await store.read(folded)
    await store.close()


@pytest.mark.servers
async def test_tags_and_versions_on_a_real_server(seaweedfs_server: S3Server) -> None:
    bucket, client = "tagged", seaweedfs_server.client()
    await asyncio.to_thread(seaweedfs_server.make_bucket, bucket)
    versioning = {"Status": "Enabled"}
    await asyncio.to_thread(lambda: client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning))
    await asyncio.to_thread(lambda: seaweedfs_server.put(bucket, "k", b"old", Tagging="b=2&a=1"))
    store = s3_store(seaweedfs_server, bucket)
    old = await store.info("k")
    assert old.version == Version(f"id:{old.version_id}")
    assert await store.tags("k") == (("a", "1"), ("b", "2"))
    await asyncio.to_thread(seaweedfs_server.put, bucket, "k", b"newer")
    assert await read_all(store, "k", version=old.version) == b"old"
    assert await read_all(store, "k", ByteRange(1, 3), version=old.version) == b"ld"
    assert await read_all(store, "k") == b"newer"
    with pytest.raises(InvalidRange) as caught:
        await store.read("k", ByteRange(5, 6))
    assert caught.value.size == 5
    await store.close()
