"""S3Store's writes against answers that no real server gives on request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidPart,
    NoSpace,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Buffer
from headrace.model.uploads import MAX_PART_NUMBER, Part, Upload
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores.contract_tools import BoomError, PiecesBody
from headrace.stores.keys import PROOF_NAME
from headrace.stores.s3 import S3Store
from headrace.stores.s3_parts import FIRST_PART_BYTES, BodyCutter, growing_part_bytes, part_bytes
from support.s3_stores import s3_requests
from support.scripted import Answer, Scripted, http_answer, scripted

ETAG = "0123456789abcdef0123456789abcdef"
SOURCE = ObjectInfo("s", 3, Version(f"etag:{ETAG}"), etag=ETAG, content_type="text/plain")
LARGE = 3 << 20
UPLOAD = Upload("k", "u1")
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"

Use = Callable[[S3Store], object]


def error(status: int, code: str, **headers: str) -> bytes:
    return http_answer(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode(), **headers)


def done(**headers: str) -> bytes:
    return http_answer(200, etag=f'"{ETAG}"', **headers)


def with_bucket(answer: Answer) -> Answer:
    """Before its first write a store is asked what it is, which is not what these tests are about."""
    return lambda first, headers: http_answer(200) if first.startswith("HEAD /bucket/ ") else answer(first, headers)


def written(server: Scripted) -> list[str]:
    """The requests that change something."""
    return [first for first, _ in server.requests if not first.startswith(("GET", "HEAD"))]


async def outcome(server: Scripted, use: Use, *, patience_s: float = 1.0) -> object:
    store = S3Store(s3_requests(server.endpoint, "bucket", key_id="id", secret="planted-secret", read_timeout_s=patience_s))
    try:
        return await use(store)  # type: ignore[misc]
    finally:
        await store.close()


async def outcome_of(answer: Answer, use: Use) -> object:
    async with scripted(with_bucket(answer)) as server:
        return await outcome(server, use)


PARTED = ObjectInfo("k", 7, Version(f"etag:{ETAG}-2"), etag=f"{ETAG}-2", parts=2)


def attributes(*numbers: int, etag: str = PARTED.etag) -> bytes:
    told = "".join(f"<Part><ChecksumSHA1>s{n}</ChecksumSHA1><PartNumber>{n}</PartNumber><Size>{n}</Size></Part>" for n in numbers)
    parts = f"<ObjectParts><PartsCount>{len(numbers)}</PartsCount>{told}</ObjectParts>"
    return f"<GetObjectAttributesResponse><ETag>{etag}</ETag>{parts}</GetObjectAttributesResponse>".encode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (http_answer(200, attributes(1, 2, etag="other-2")), VersionChanged),
        (http_answer(200, attributes()), Unsupported),
        (http_answer(200, attributes(3, 7)), Unsupported),
        (http_answer(200, attributes(1, 2), etag=f'"{PARTED.etag}"'), Unsupported),
        (http_answer(200, b"no XML"), CorruptData),
        (http_answer(200, b"<ListBucketResult/>"), CorruptData),
        (error(403, "AccessDenied"), Unsupported),
        (error(404, "NoSuchKey"), NotFound),
        (error(501, "NotImplemented"), Unsupported),
    ],
)
async def test_parts_that_the_store_does_not_tell_are_not_made_up(answer: bytes, expected: type[HeadraceError]) -> None:
    """An answer with an ETag of its own is the object, whatever its bytes say."""
    with pytest.raises(expected):
        await outcome_of(lambda _, __: answer, lambda store: store.multipart().parts_of(PARTED))


async def test_parts_are_told_with_their_checksums() -> None:
    found = await outcome_of(lambda _, __: http_answer(200, attributes(1, 2)), lambda store: store.multipart().parts_of(PARTED))
    assert found == tuple(Part(number, "", number, checksums=(("sha1", f"s{number}"),)) for number in (1, 2))


def put(store: S3Store) -> object:
    return store.write("k", BytesBody(b"body"))


def put_large(store: S3Store) -> object:
    return store.write("k", PiecesBody([b"x" * 65536] * (LARGE // 65536), LARGE))


@pytest.mark.parametrize("use", [put, put_large], ids=["at hand", "streamed"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(412, "PreconditionFailed"), ConditionFailed),
        (http_answer(412), ConditionFailed),
        (error(409, "ConditionalRequestConflict"), Conflict),
        (error(501, "NotImplemented"), Unsupported),
        (error(400, "EntityTooLarge"), Unsupported),
        (http_answer(507), NoSpace),
        (error(403, "QuotaExceeded"), NoSpace),
        (error(507, "XMinioStorageFull"), NoSpace),
        (error(400, "BadDigest"), CorruptData),
        (error(400, "XAmzContentSHA256Mismatch"), CorruptData),
        (error(503, "SlowDown"), Throttled),
        (error(500, "InternalError"), Unavailable),
        (error(409, "OperationAborted"), Unavailable),
        (error(404, "NoSuchBucket"), NotFound),
    ],
)
async def test_refusals_of_a_write_mean_errors(use: Use, answer: bytes, expected: type[HeadraceError]) -> None:
    with pytest.raises(HeadraceError) as caught:
        await outcome_of(lambda *_: answer, use)
    assert type(caught.value) is expected
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchUpload", 404, NoSuchUpload),
        ("NoSuchKey", 404, NoSuchUpload),
        ("InvalidPart", 400, InvalidPart),
        ("InvalidPartOrder", 400, InvalidPart),
        ("EntityTooSmall", 400, PartTooSmall),
    ],
)
async def test_refusals_of_a_completion_mean_errors(code: str, status: int, expected: type[HeadraceError]) -> None:
    def answer(first: str, _: dict[str, str]) -> bytes:
        return http_answer(404) if first.startswith("HEAD") else error(status, code)

    with pytest.raises(HeadraceError) as caught:
        await outcome_of(answer, lambda store: store.multipart().complete(UPLOAD, (Part(1, ETAG),)))
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.write("d/k", BytesBody(b"x"), condition=Condition(if_none_match="*")),
        lambda store: store.write("d/k", BytesBody(b"x"), condition=Condition(if_match=ETAG)),
        lambda store: store.write("d/k", BytesBody(b"x"), condition=Condition(if_match="*")),
        lambda store: store.delete("d/k", condition=Condition(if_match=ETAG)),
        lambda store: store.multipart().complete(Upload("d/k", "u1"), (Part(1, ETAG),), condition=Condition(if_none_match="*")),
        lambda store: store.copy(SOURCE, "d/k", condition=Condition(if_none_match="*")),
    ],
    ids=["put none", "put match", "put any", "delete", "complete", "copy"],
)
async def test_a_store_that_ignores_conditions_is_never_given_one(use: Use) -> None:
    """It says yes to everything: the object in question stays untouched, and so the answer is `Unsupported`."""

    def answer(first: str, headers: dict[str, str]) -> bytes:
        if "uploads=" in first:
            return http_answer(200, BEGUN)
        if first.startswith("POST"):
            return http_answer(200, b"<CompleteMultipartUploadResult/>")
        if "x-amz-copy-source" in headers:
            return http_answer(200, b"<CopyObjectResult/>")
        if "tagging" in first:
            return http_answer(200)
        if first.startswith("GET"):
            return http_answer(200, b"abc", etag=f'"{ETAG}"')
        if first.startswith("HEAD"):
            return b'HTTP/1.1 200 X\r\ncontent-length: 3\r\netag: "' + ETAG.encode() + b'"\r\n\r\n'
        return done()

    async with scripted(with_bucket(answer)) as server:
        with pytest.raises(Unsupported, match="does not obey"):
            await outcome(server, use)
    assert written(server)
    assert all(PROOF_NAME in first for first in written(server))


async def test_a_verdict_is_kept() -> None:
    held: dict[str, bytes] = {}

    def answer(first: str, headers: dict[str, str]) -> bytes:
        method, path, _ = first.split(" ")
        if method == "DELETE":
            held.pop(path, None)
            return http_answer(204)
        if headers.get("if-none-match") == "*" and path in held:
            return error(412, "PreconditionFailed")
        held[path] = b""
        return done()

    async def use(store: S3Store) -> None:
        await store.write("a", BytesBody(b"x"), condition=Condition(if_none_match="*"))
        proved = len(server.requests)
        await store.write("b", BytesBody(b"x"), condition=Condition(if_none_match="*"))
        with pytest.raises(ConditionFailed):
            await store.write("a", BytesBody(b"x"), condition=Condition(if_none_match="*"))
        assert len(server.requests) == proved + 2

    async with scripted(with_bucket(answer)) as server:
        await outcome(server, use)
    assert sorted(held) == ["/bucket/a", "/bucket/b"]


@pytest.mark.parametrize(
    ("code", "expected"), [("InternalError", Unavailable), ("SlowDown", Throttled), ("NoSuchKey", Unavailable)]
)
async def test_an_error_inside_a_200_is_an_error(code: str, expected: type[HeadraceError]) -> None:
    def answer(first: str, headers: dict[str, str]) -> bytes:
        if first.startswith("GET"):
            return http_answer(200, b"<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>")
        return http_answer(200, b"   \n" + error(200, code).split(b"\r\n\r\n")[1])

    with pytest.raises(HeadraceError) as caught:
        await outcome_of(answer, lambda store: store.multipart().complete(UPLOAD, (Part(1, ETAG),)))
    assert type(caught.value) is expected
    with pytest.raises(HeadraceError) as caught:
        await outcome_of(answer, lambda store: store.multipart().copy(UPLOAD, 1, SOURCE))
    assert type(caught.value) is expected


@pytest.mark.parametrize("cut_after", [1, 65536, LARGE - 1])
async def test_a_connection_cut_in_mid_upload_is_an_unknown_outcome_and_ends_the_body(cut_after: int) -> None:
    ended = []

    class Noted(PiecesBody):
        async def __aiter__(self) -> AsyncIterator[Buffer]:
            try:
                async for piece in super().__aiter__():
                    yield piece
            finally:
                ended.append(True)

    async with scripted(with_bucket(lambda *_: done()), cut_after=cut_after) as server:
        with pytest.raises(Unavailable):
            await outcome(server, lambda store: store.write("k", Noted([b"x" * 65536] * (LARGE // 65536), LARGE)))
    assert ended == [True]
    assert len(written(server)) == 1


async def test_a_store_that_takes_no_bytes_is_unavailable() -> None:
    async with scripted(with_bucket(lambda *_: None), takes_bodies=False) as server:
        with pytest.raises(Unavailable, match=r"took no byte of the body for 0\.3 s"):
            body = PiecesBody([b"x" * 65536] * 1024, 64 << 20)
            await outcome(server, lambda store: store.write("k", body), patience_s=0.3)


async def test_a_sender_that_takes_its_time_is_not_the_stores_fault() -> None:
    class Slow(PiecesBody):
        async def __aiter__(self) -> AsyncIterator[Buffer]:
            async for piece in super().__aiter__():
                await asyncio.sleep(0.15)
                yield piece

    async with scripted(with_bucket(lambda *_: done())) as server:
        body = Slow([b"x" * 200_000] * 4, 800_000)
        info = await outcome(server, lambda store: store.write("k", body), patience_s=0.3)
    assert isinstance(info, ObjectInfo)
    assert server.bodies == [b"x" * 800_000]


async def test_a_success_before_the_whole_body_is_no_success() -> None:
    async with scripted(with_bucket(lambda *_: done()), takes_bodies=False) as server:
        with pytest.raises(Unavailable, match="before it had the whole body"):
            body = PiecesBody([b"x" * 65536] * 1024, 64 << 20)
            await outcome(server, lambda store: store.write("k", body))


@pytest.mark.parametrize("at_end", [False, True])
async def test_a_body_that_fails_never_sends_its_last_byte(at_end: bool) -> None:
    pieces = [b"x" * 65536] * (16 if at_end else 8)
    async with scripted(with_bucket(lambda *_: done())) as server:
        with pytest.raises(BoomError):
            await outcome(server, lambda store: store.write("k", PiecesBody(pieces, 1 << 20, error=BoomError())))
    assert all(len(body) < 1 << 20 for body in server.bodies)


@pytest.mark.parametrize("conditional", [False, True])
async def test_a_write_is_never_sent_again_by_itself(conditional: bool) -> None:
    """The connection that was kept is closed under it: only who knows what a second try does may try."""
    writes = []

    def answer(first: str, _: dict[str, str]) -> bytes | None:
        if first.startswith("PUT") or first.startswith("DELETE"):
            writes.append(first)
        return done()

    async def use(store: S3Store) -> None:
        await store.info("warm")
        server.drop_next = True
        with pytest.raises(Unavailable):
            await (store.delete("k") if conditional else store.write("k", BytesBody(b"x")))

    async with scripted(with_bucket(answer)) as server:
        await outcome(server, use)
    assert len(writes) == 1


async def test_an_etag_of_other_bytes_is_found_once_the_store_is_known_to_make_md5s() -> None:
    answers = [hashlib.md5(b"one").hexdigest(), "f" * 32]

    async def use(store: S3Store) -> None:
        assert await store.write("k", BytesBody(b"one"))
        with pytest.raises(Unavailable, match="MD5"):
            await store.write("k", BytesBody(b"two"))

    await outcome_of(lambda *_: http_answer(200, etag=f'"{answers.pop(0)}"'), use)


async def test_a_write_says_everything_in_one_request() -> None:
    attributes = Attributes("text/css", (("cache-control", "no-store"),), (("owner", "me"),), (("a b", "1&2"),))
    crc = ("crc32", "AAAAAA==")

    async def use(store: S3Store) -> ObjectInfo:
        return await store.write("k", BytesBody(b"body", (crc,)), attributes)

    async with scripted(with_bucket(lambda *_: done(x_amz_version_id="v1", x_amz_checksum_crc32="AAAAAA=="))) as server:
        info = await outcome(server, use)
    assert isinstance(info, ObjectInfo)
    assert (info.version, info.etag, info.size, info.checksums) == (Version("id:v1"), ETAG, 4, (crc,))
    assert (info.content_type, info.headers, info.metadata) == (attributes.content_type, attributes.headers, attributes.metadata)
    ((head, sent),) = [(first, headers) for first, headers in server.requests if first.startswith("PUT")]
    assert head == "PUT /bucket/k HTTP/1.1"
    assert sent["x-amz-content-sha256"] == hashlib.sha256(b"body").hexdigest()
    wanted = {
        "content-length": "4",
        "content-type": "text/css",
        "cache-control": "no-store",
        "x-amz-meta-owner": "me",
        "x-amz-tagging": "a%20b=1%262",
        "x-amz-checksum-crc32": "AAAAAA==",
    }
    assert {name: sent[name] for name in wanted} == wanted
    assert "transfer-encoding" not in sent


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
async def test_what_no_header_can_hold_is_refused(value: str) -> None:
    async with scripted(with_bucket(lambda *_: done())) as server:
        with pytest.raises(Unsupported):
            await outcome(server, lambda store: store.write("k", BytesBody(b"x"), Attributes(metadata=(("m", value),))))
    assert not written(server)


async def test_a_completion_whose_answer_was_lost_is_found_by_its_etag() -> None:
    parts = (Part(1, ETAG), Part(2, ETAG))
    etag = hashlib.md5(bytes.fromhex(ETAG) * 2).hexdigest() + "-2"

    def answer(first: str, _: dict[str, str]) -> bytes:
        if first.startswith("HEAD"):
            return b'HTTP/1.1 200 X\r\ncontent-length: 3\r\netag: "' + etag.encode() + b'"\r\n\r\n'
        return error(404, "NoSuchUpload")

    info = await outcome_of(answer, lambda store: store.multipart().complete(UPLOAD, parts))
    assert isinstance(info, ObjectInfo)
    assert info.etag == etag
    with pytest.raises(NoSuchUpload):
        await outcome_of(answer, lambda store: store.multipart().complete(UPLOAD, parts[:1]))


async def test_a_changed_source_is_told_from_a_failed_condition() -> None:
    with pytest.raises(VersionChanged):
        await outcome_of(
            lambda *_: error(412, "PreconditionFailed"),
            lambda store: store.multipart().copy(UPLOAD, 1, SOURCE, ByteRange(0, 2)),
        )


@given(st.integers(1, 5 << 40))
def test_ten_thousand_parts_suffice_for_every_length(length: int) -> None:
    size = part_bytes(length)
    assert size >= FIRST_PART_BYTES
    assert -(-length // size) <= MAX_PART_NUMBER


@given(st.integers(1, MAX_PART_NUMBER - 1))
def test_parts_of_unknown_bodies_grow_and_stay_bounded(number: int) -> None:
    assert FIRST_PART_BYTES <= growing_part_bytes(number) <= growing_part_bytes(number + 1) <= 64 << 20


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_a_body_is_cut_without_losing_a_byte(pieces: list[bytes], size: int) -> None:
    async def cut() -> list[bytes]:
        cutter = BodyCutter(PiecesBody(pieces), "k")
        parts = []
        while part := b"".join(await cutter.gather(size)):
            parts.append(part)
        assert cutter.is_ended
        return parts

    parts = asyncio.run(cut())
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == size for part in parts[:-1])
