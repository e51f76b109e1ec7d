"""Bodies of uploads in every form: what is right comes through whole, what is wrong never does."""

from __future__ import annotations

import hashlib
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.incoming import buffered, incoming_body, stored_encoding
from headrace.model.checksums import Algorithm, checksum
from headrace.model.writing import Body
from support.gateway import KEY_ID, SECRET, signed_request
from support.uploads import (
    SIGNED,
    SIGNED_TRAILER,
    UNSIGNED_TRAILER,
    Door,
    Signer,
    Upload,
    call_for,
    door,
    framed,
    pieces_until_error,
    read,
)

CRC64 = "x-amz-checksum-crc64nvme"
DATA = Upload().data
SUM = checksum(Algorithm.CRC64NVME, DATA)
TRAILER = {CRC64: SUM}
PROVED = (("crc64nvme", SUM), ("type", "FULL_OBJECT"))
SHA = hashlib.sha256(DATA).hexdigest()
MD5 = b64encode(hashlib.md5(DATA).digest()).decode()
CUTS = tuple(range(0, 40_000, 4096))
FORMS = {
    "hash": Upload(content=SHA),
    "unsigned": Upload(),
    "chunks": Upload(content=SIGNED),
    "signed trailer": Upload(content=SIGNED_TRAILER, trailer=TRAILER),
    "unsigned trailer": Upload(content=UNSIGNED_TRAILER, trailer=TRAILER),
}


def call(upload: Upload, **options: Any) -> Call:
    headers, body = upload.wire()
    return call_for("PUT", upload.path, headers, body, cuts=CUTS, **options)


def body_of(upload: Upload, **options: Any) -> Body:
    return incoming_body(call(upload, **options))


def refused_at_once(upload: Upload, **options: Any) -> S3Error:
    """From the headers alone: nothing of the body was asked for."""
    asked: list[bool] = []
    with pytest.raises(S3Error) as caught:
        incoming_body(call(upload, asked=asked, **options))
    assert not asked
    return caught.value


async def refused_at_last(upload: Upload, **options: Any) -> S3Error:
    """By what arrives. The whole body has not been given out by then."""
    given, error = await pieces_until_error(body_of(upload, **options))
    assert len(given) < max(len(upload.data), 1)
    assert upload.data.startswith(given), "what was given out was right as far as it went"
    return error


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_comes_through(form: str) -> None:
    upload = FORMS[form]
    body = body_of(upload)
    assert body.length == len(DATA)
    assert body.checksums() == ()
    assert not body.rewindable
    assert await read(body) == DATA
    assert body.checksums() == (PROVED if "trailer" in form else ())


@pytest.mark.parametrize("form", FORMS)
async def test_an_empty_body_in_every_form(form: str) -> None:
    trailer = {CRC64: checksum(Algorithm.CRC64NVME, b"")} if "trailer" in form else None
    content = hashlib.sha256(b"").hexdigest() if form == "hash" else FORMS[form].content
    body = body_of(Upload(b"", content=content, trailer=trailer))
    assert body.length == 0
    assert [piece async for piece in body] == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", [{CRC64: SUM}, {"content-md5": MD5}, {CRC64: SUM, "content-md5": MD5}])
async def test_checksums_in_headers(form: str, header: dict[str, str]) -> None:
    if "trailer" in form and CRC64 in header:
        header = {"content-md5": MD5}
    upload = FORMS[form]
    body = body_of(Upload(content=upload.content, trailer=upload.trailer, extra=header))
    assert await read(body) == DATA
    assert body.checksums() == (PROVED if CRC64 in header or "trailer" in form else ())


@pytest.mark.parametrize("form", FORMS)
async def test_a_wrong_md5_or_checksum_in_headers(form: str) -> None:
    upload = FORMS[form]
    headers = [{"content-md5": b64encode(bytes(16)).decode()}]
    headers += [] if "trailer" in form else [{f"x-amz-checksum-{a.value}": checksum(a, b"other")} for a in Algorithm]
    for header in headers:
        wrong = Upload(content=upload.content, trailer=upload.trailer, extra=header)
        assert (await refused_at_last(wrong)).code == "BadDigest"


async def test_an_altered_body_of_a_signed_hash() -> None:
    for place in (0, len(DATA) // 2, len(DATA) - 1):
        upload = Upload(content=SHA, tamper=lambda data, at=place: data[:at] + b"!" + data[at + 1 :])
        given, error = await pieces_until_error(body_of(upload))
        assert len(given) < len(DATA)
        assert (error.code, error.status) == ("XAmzContentSHA256Mismatch", 400)


@pytest.mark.parametrize("form", ["chunks", "signed trailer"])
@pytest.mark.parametrize("chunk", range(4))
async def test_a_chunk_that_was_signed_wrongly(form: str, chunk: int) -> None:
    upload = FORMS[form]

    def tamper(wire: bytes) -> bytes:
        at = -1
        for _ in range(chunk + 1):
            at = wire.index(b"chunk-signature=", at + 1)
        return wire[: at + 16] + bytes(wire[at + 16 : at + 80][::-1]) + wire[at + 80 :]

    error = await refused_at_last(Upload(content=upload.content, trailer=upload.trailer, tamper=tamper))
    assert (error.code, error.status, error.audited, error.caller) == ("SignatureDoesNotMatch", 403, True, KEY_ID)


@pytest.mark.parametrize("form", ["chunks", "signed trailer"])
async def test_an_altered_dropped_repeated_or_swapped_chunk(form: str) -> None:
    upload = FORMS[form]
    chunks = [bytes([n]) * 8192 for n in (1, 2, 3)]
    whole = b"".join(chunks)
    for order in ([0, 1], [1, 0, 2], [0, 1, 1], [0, 0, 2], [2, 1, 0]):

        def tamper(wire: bytes, order: list[int] = order) -> bytes:
            size = wire.index(b"\r\n") + 2 + 8192 + 2
            parts = [wire[at : at + size] for at in range(0, 3 * size, size)]
            return b"".join(parts[n] for n in order) + wire[3 * size :]

        trailer = {CRC64: checksum(Algorithm.CRC64NVME, whole)} if upload.trailer else None
        sent = Upload(whole, content=upload.content, trailer=trailer, chunk_bytes=8192, tamper=tamper)
        _, error = await pieces_until_error(body_of(sent))
        assert error.status in (400, 403)


@pytest.mark.parametrize("form", ["chunks", "signed trailer", "unsigned trailer"])
async def test_no_final_chunk_and_bytes_behind_it(form: str) -> None:
    upload = FORMS[form]
    for tamper, code in (
        (lambda wire: wire[: wire.rindex(b"\r\n0") + 2], "IncompleteBody"),
        (lambda wire: wire + b"x", "InvalidRequest"),
        (lambda wire: wire + wire, "InvalidRequest"),
    ):
        sent = Upload(content=upload.content, trailer=upload.trailer, tamper=tamper)
        assert (await refused_at_last(sent)).code == code


@pytest.mark.parametrize("form", FORMS)
async def test_a_body_that_ends_early_anywhere(form: str) -> None:
    upload = FORMS[form]
    _, wire = upload.wire()
    for cut_at in (0, 1, 5000, 20_000, len(wire) - 1):
        error = await refused_at_last(upload, cut_at=cut_at)
        assert (error.code, error.status) == ("IncompleteBody", 400)


@pytest.mark.parametrize("form", ["chunks", "signed trailer", "unsigned trailer"])
@pytest.mark.parametrize(
    ("value", "code", "status"),
    [
        (None, "MissingContentLength", 411),
        ("-1", "InvalidArgument", 400),
        ("2.0", "InvalidArgument", 400),
        ("0x10", "InvalidArgument", 400),
        ("", "", 0),
        (str(2**63), "InvalidArgument", 400),
        ("9" * 30, "InvalidArgument", 400),
        ("29,000", "InvalidArgument", 400),
    ],
)
def test_decoded_lengths_that_are_none(form: str, value: str | None, code: str, status: int) -> None:
    upload = FORMS[form]
    wrong = Upload(content=upload.content, trailer=upload.trailer, decoded_length=value)
    if code:
        error = refused_at_once(wrong)
        assert (error.code, error.status) == (code, status)
    else:
        assert body_of(wrong).length == len(DATA)


@pytest.mark.parametrize("form", ["chunks", "signed trailer", "unsigned trailer"])
async def test_a_decoded_length_that_is_smaller_or_larger(form: str) -> None:
    upload = FORMS[form]
    for length, code in ((len(DATA) + 1, "IncompleteBody"), (len(DATA) - 1, "InvalidRequest"), (2**63 - 1, "IncompleteBody")):
        wrong = Upload(content=upload.content, trailer=upload.trailer, decoded_length=str(length))
        assert (await refused_at_last(wrong)).code == code


@pytest.mark.parametrize("content", [SIGNED_TRAILER, UNSIGNED_TRAILER])
async def test_trailers_that_are_wrong(content: str) -> None:
    other = checksum(Algorithm.CRC64NVME, b"other")
    for trailer, declared, code in (
        ({CRC64: other}, CRC64, "BadDigest"),
        ({CRC64: "nonsense"}, CRC64, "InvalidRequest"),
        ({"x-amz-checksum-crc32c": checksum(Algorithm.CRC32C, DATA)}, CRC64, "InvalidRequest"),
        ({CRC64: SUM, "x-amz-meta-a": "b"}, CRC64, "InvalidRequest"),
        ({}, CRC64, "InvalidRequest"),
        (TRAILER, None, "InvalidRequest"),
    ):
        upload = Upload(content=content, trailer=trailer or None, declared=declared)
        if declared is None:
            headers, wire = Upload(content=content, trailer=trailer).wire()
            signer = Signer()
            plain = signer.head("PUT", "/data/key", {"host": "s3", "x-amz-decoded-content-length": str(len(DATA))}, content)
            assert "x-amz-trailer" in headers
            wire = framed([DATA], signer if content == SIGNED_TRAILER else None, trailer)
            _, error = await pieces_until_error(incoming_body(call_for("PUT", "/data/key", plain, wire)))
            assert error.code == code
        else:
            assert (await refused_at_last(upload)).code == code


async def test_a_trailer_named_twice() -> None:
    def twice(wire: bytes) -> bytes:
        line = f"{CRC64}:{SUM}\r\n".encode()
        return wire.replace(line, line + line)

    for content in (SIGNED_TRAILER, UNSIGNED_TRAILER):
        assert (await refused_at_last(Upload(content=content, trailer=TRAILER, tamper=twice))).code == "InvalidRequest"
        assert refused_at_once(Upload(content=content, trailer=TRAILER, declared=f"{CRC64},{CRC64}")).code == "InvalidRequest"


@pytest.mark.parametrize(
    ("upload", "code"),
    [
        (Upload(content="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), "NotImplemented"),
        (Upload(content="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"), "NotImplemented"),
        (Upload(content="STREAMING-UNSIGNED-PAYLOAD"), "NotImplemented"),
        (Upload(content="STREAMING-AWS4-HMAC-SHA256-EVENTS"), "NotImplemented"),
        (Upload(declared=CRC64), "InvalidRequest"),
        (Upload(content=SHA, declared=CRC64), "InvalidRequest"),
        (Upload(content=SIGNED, declared=CRC64), "InvalidRequest"),
        (Upload(content=UNSIGNED_TRAILER, trailer=TRAILER, extra={CRC64: SUM}), "InvalidRequest"),
        (Upload(extra={"content-md5": "nonsense"}), "InvalidDigest"),
        (Upload(extra={CRC64: "nonsense"}), "InvalidRequest"),
        (Upload(extra={CRC64: SUM, "x-amz-checksum-crc32": checksum(Algorithm.CRC32, DATA)}), "InvalidRequest"),
    ],
)
def test_headers_that_contradict_themselves(upload: Upload, code: str) -> None:
    assert refused_at_once(upload).code == code


def test_a_body_without_a_length() -> None:
    headers, _ = Upload(b"").wire()
    error = None
    try:
        incoming_body(call_for("PUT", "/data/key", headers, b"", length=False))
    except S3Error as caught:
        error = caught
    assert error is not None
    assert (error.code, error.status) == ("MissingContentLength", 411)


@pytest.mark.parametrize("form", FORMS)
async def test_http_chunks_around_any_form(form: str) -> None:
    headers, wire = FORMS[form].wire()
    body = incoming_body(call_for("PUT", "/data/key", {**headers, "transfer-encoding": "chunked"}, wire, cuts=CUTS, length=False))
    assert body.length == (None if form in ("hash", "unsigned") else len(DATA))
    assert await read(body) == DATA


async def test_http_chunks_with_a_length_announced_beside_them() -> None:
    for length, code in ((len(DATA), ""), (len(DATA) + 1, "IncompleteBody"), (len(DATA) - 1, "InvalidRequest")):
        headers, wire = Upload(extra={"x-amz-decoded-content-length": str(length)}).wire()
        made = call_for("PUT", "/data/key", {**headers, "transfer-encoding": "chunked"}, wire, cuts=CUTS, length=False)
        body = incoming_body(made)
        assert body.length == length
        if code:
            assert (await pieces_until_error(body))[1].code == code
        else:
            assert await read(body) == DATA


async def test_nobody_may_send_every_form_that_needs_no_key() -> None:
    for content, wire in (("", DATA), ("UNSIGNED-PAYLOAD", DATA), (SHA, DATA), (UNSIGNED_TRAILER, framed([DATA], None, TRAILER))):
        headers = {"host": "s3.example", **({"x-amz-content-sha256": content} if content else {})}
        if content == UNSIGNED_TRAILER:
            headers |= {"x-amz-trailer": CRC64, "x-amz-decoded-content-length": str(len(DATA))}
        assert await read(incoming_body(call_for("PUT", "/data/key", headers, wire))) == DATA
    headers = {"host": "s3.example", "x-amz-trailer": CRC64, "x-amz-decoded-content-length": str(len(DATA))}
    assert await read(incoming_body(call_for("PUT", "/data/key", headers, framed([DATA], None, TRAILER)))) == DATA
    with pytest.raises(S3Error, match="signed") as caught:
        incoming_body(call_for("PUT", "/data/key", {"host": "s3.example", "x-amz-content-sha256": SIGNED}, b"x"))
    assert caught.value.status == 403
    with pytest.raises(S3Error, match="x-amz-content-sha256"):
        incoming_body(call_for("PUT", "/data/key", {"host": "s3.example", "x-amz-content-sha256": "nonsense"}, b"x"))
    wrong = call_for("PUT", "/data/key", {"host": "s3.example", "x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}, b"x")
    assert (await pieces_until_error(incoming_body(wrong)))[1].code == "XAmzContentSHA256Mismatch"


@pytest.mark.parametrize("content", [UNSIGNED_TRAILER, SIGNED, SIGNED_TRAILER])
def test_a_streamed_body_with_credentials_in_the_query_alone(content: str) -> None:
    signed = signed_request("http://s3.example", "PUT", "/data/key", {"x-amz-content-sha256": content}, presign=60)
    target = signed.split(b" ")[1].decode()
    headers = {"host": "s3.example", "x-amz-content-sha256": content}
    with pytest.raises(S3Error) as caught:
        call_for("PUT", target, headers, framed([DATA], None, TRAILER), now_s=time.time())
    assert (caught.value.code, caught.value.status, caught.value.audited) == ("AccessDenied", 403, True)


@pytest.mark.parametrize(
    "added",
    [
        {"x-amz-copy-source": "/other/secret"},
        {"x-amz-acl": "public-read"},
        {"x-amz-meta-a": "b"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-content-sha256": UNSIGNED_TRAILER},
        {"x-amz-trailer": CRC64},
        {"x-amz-decoded-content-length": "1"},
        {CRC64: SUM},
    ],
)
def test_a_header_that_was_added_to_what_was_signed(added: dict[str, str]) -> None:
    url = signed_request("http://s3.example", "PUT", "/data/key", presign=60).split(b" ")[1].decode()
    with pytest.raises(S3Error, match="not signed") as caught:
        call_for("PUT", url, {"host": "s3.example", **added}, DATA, now_s=time.time())
    assert caught.value.status == 403
    for form in FORMS.values():
        headers, wire = Upload(content=form.content, trailer=form.trailer).wire()
        if not headers.keys() & added.keys():
            with pytest.raises(S3Error) as caught:
                call_for("PUT", "/data/key", {**headers, **added}, wire)
            assert caught.value.status == 403


def test_credentials_in_header_and_query() -> None:
    url = signed_request("http://s3.example", "PUT", "/data/key", presign=60).split(b" ")[1].decode()
    headers, wire = Upload().wire()
    with pytest.raises(S3Error, match="Only one") as caught:
        call_for("PUT", url, headers, wire)
    assert caught.value.status == 400


async def test_a_document_is_proved_like_an_upload() -> None:
    for form in FORMS.values():
        assert await buffered(call(form), len(DATA)) == DATA
        asked: list[bool] = []
        with pytest.raises(S3Error) as caught:
            await buffered(call(form, asked=asked), len(DATA) - 1)
        assert not asked, "what is announced too long is not asked for"
        assert (caught.value.code, caught.value.status) == ("MaxMessageLengthExceeded", 400)
    headers, wire = Upload().wire()
    endless = call_for("PUT", "/data/key", {**headers, "transfer-encoding": "chunked"}, wire, length=False)
    with pytest.raises(S3Error):
        await buffered(endless, 10)
    with pytest.raises(S3Error):
        await buffered(call(Upload(content=hashlib.sha256(b"other").hexdigest())), len(DATA))


async def test_no_document_at_all() -> None:
    headers, _ = Upload(b"").wire()
    assert await buffered(call_for("PUT", "/data/key", headers, b"", length=False), 10) == b""
    headers, _ = Upload(b"", extra={"content-md5": MD5}).wire()
    with pytest.raises(S3Error) as caught:
        await buffered(call_for("PUT", "/data/key", headers, b"", length=False), 10)
    assert caught.value.code == "BadDigest"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("aws-chunked", ""),
        ("gzip", "gzip"),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("deflate, gzip", "deflate, gzip"),
        ("aws-chunked, gzip, AWS-Chunked", "gzip"),
        ("", ""),
    ],
)
def test_the_codings_that_are_kept(sent: str, kept: str) -> None:
    assert stored_encoding({b"content-encoding": sent.encode()}) == kept


@pytest.fixture
def taking() -> Iterator[tuple[Door, int]]:
    with door() as opened:
        yield opened


def client(port: int) -> Any:
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    return boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
        region_name="us-east-1", config=config,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.MD5])
def test_boto3_with_every_checksum(taking: tuple[Door, int], algorithm: Algorithm) -> None:
    at, port = taking
    data = b"some bytes" * 300_000
    client(port).put_object(Bucket="data", Key="key", Body=data, ChecksumAlgorithm=algorithm.name)
    assert at.objects["/data/key"] == (data, {algorithm.value: checksum(algorithm, data), "type": "FULL_OBJECT"})
    assert at.largest_piece <= 1 << 19, "a body is handed on as it comes"
    with pytest.raises(ClientError, match="BadDigest"):
        client(port).put_object(
            Bucket="data", Key="wrong", Body=data, **{f"Checksum{algorithm.name}": checksum(algorithm, b"other")}
        )
    assert "/data/wrong" not in at.objects


def test_a_presigned_url_of_boto3(taking: tuple[Door, int]) -> None:
    at, port = taking
    url = client(port).generate_presigned_url("put_object", Params={"Bucket": "data", "Key": "key", "ContentType": "a/b"})
    with urlopen(UrlRequest(url, data=b"body", method="PUT", headers={"content-type": "a/b"}), timeout=10) as answer:
        assert answer.status == 200
    assert at.objects["/data/key"][0] == b"body"


@pytest.mark.parametrize(("secret", "first"), [(SECRET, b"HTTP/1.1 100"), ("a-forged-secret-for-tests", b"HTTP/1.1 403")])
def test_the_body_is_asked_for_once_its_sender_is_known(taking: tuple[Door, int], secret: str, first: bytes) -> None:
    at, port = taking
    head = signed_request(
        f"http://127.0.0.1:{port}", "PUT", "/data/key", {"expect": "100-continue"}, body=DATA, secret=secret
    ).removesuffix(DATA)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head)
        answer = sock.recv(12)
        assert answer == first
        if secret == SECRET:
            sock.sendall(DATA)
        while sock.recv(1 << 16):
            pass
    assert at.objects.get("/data/key", (b"",))[0] == (DATA if secret == SECRET else b"")


def test_headers_that_are_wrong_are_refused_before_the_body_is_asked_for(taking: tuple[Door, int]) -> None:
    _, port = taking
    headers, wire = Upload(content=SIGNED, decoded_length="-1", extra={"expect": "100-continue"}, now_s=time.time()).wire()
    lines = [f"{name}: {value}" for name, value in {**headers, "content-length": str(len(wire))}.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall("\r\n".join(["PUT /data/key HTTP/1.1", *lines, "", ""]).encode())
        assert sock.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_over_a_connection(taking: tuple[Door, int], form: str) -> None:
    at, port = taking
    data = b"0123456789abcdef" * 400_000
    trailer = {CRC64: checksum(Algorithm.CRC64NVME, data)} if "trailer" in form else None
    content = hashlib.sha256(data).hexdigest() if form == "hash" else FORMS[form].content
    upload = Upload(data, content=content, trailer=trailer, chunk_bytes=100_000, now_s=time.time())
    headers, wire = upload.wire()
    lines = [f"{name}: {value}" for name, value in {**headers, "content-length": str(len(wire))}.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall("\r\n".join(["PUT /data/key HTTP/1.1", *lines, "", ""]).encode() + wire)
        assert sock.recv(12) == b"HTTP/1.1 200"
    assert at.objects["/data/key"][0] == data


@pytest.mark.parametrize("content", [SHA, "UNSIGNED-PAYLOAD"])
@pytest.mark.parametrize("header", [{}, {CRC64: SUM}, {"content-md5": MD5}])
def test_a_body_that_has_come_whole_is_proved_when_it_is_taken_at_once(content: str, header: dict[str, str]) -> None:
    body = body_of(Upload(content=content, extra=header))
    assert body.at_hand() == DATA
    assert body.checksums() == (PROVED if CRC64 in header else ())


@pytest.mark.parametrize(
    ("header", "code"),
    [({}, "XAmzContentSHA256Mismatch"), ({CRC64: SUM}, "BadDigest"), ({"content-md5": MD5}, "BadDigest")],
)
def test_a_body_that_is_wrong_is_never_at_hand(header: dict[str, str], code: str) -> None:
    content = "UNSIGNED-PAYLOAD" if header else SHA
    body = body_of(Upload(content=content, extra=header, tamper=lambda data: data[:-1] + b"!"))
    with pytest.raises(S3Error) as caught:
        body.at_hand()
    assert caught.value.code == code


@pytest.mark.parametrize("form", ["chunks", "signed trailer", "unsigned trailer"])
def test_a_body_in_frames_is_never_at_hand(form: str) -> None:
    assert body_of(FORMS[form]).at_hand() is None


def test_a_body_that_breaks_off_is_never_at_hand() -> None:
    assert body_of(FORMS["hash"], cut_at=100).at_hand() is None
