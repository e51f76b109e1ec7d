"""What a presigned URL says in its query counts like a header, once."""

from __future__ import annotations

import time

import pytest

from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.hoisted import request_headers
from headrace.gateways.s3.incoming import incoming_body
from headrace.model.checksums import Algorithm, checksum
from support.gateway import signed_request
from support.uploads import call_for, pieces_until_error, read


def presigned(query: str, body: bytes = b"body", headers: dict[str, str] | None = None) -> Call:
    target = signed_request("http://s3.example", "PUT", f"/data/key?{query}", headers, presign=60).split(b" ")[1].decode()
    return call_for("PUT", target, {"host": "s3.example", **(headers or {})}, body, now_s=time.time())


def test_they_count_like_headers() -> None:
    headers = request_headers(presigned("X-Amz-Meta-A=b%20c&x-amz-tagging=x%3Dy&x-id=PutObject"))
    assert headers[b"x-amz-meta-a"] == b"b c"
    assert headers[b"x-amz-tagging"] == b"x=y"
    assert b"x-id" not in headers
    assert not any(b"signature" in name or b"credential" in name for name in headers)


def test_a_query_that_is_no_presigned_url_has_none() -> None:
    call = call_for("PUT", "/data/key?x-amz-meta-a=b", {"host": "s3.example"}, b"")
    assert b"x-amz-meta-a" not in request_headers(call)


def test_two_that_are_not_alike() -> None:
    alike = presigned("x-amz-meta-a=b", headers={"x-amz-meta-a": "b"})
    assert request_headers(alike)[b"x-amz-meta-a"] == b"b"
    for query, headers in (("x-amz-meta-a=b", {"x-amz-meta-a": "c"}), ("x-amz-meta-a=b&X-Amz-Meta-A=c", None)):
        with pytest.raises(S3Error, match="twice"):
            request_headers(presigned(query, headers=headers))


async def test_a_checksum_in_the_query_is_proved() -> None:
    good, other = (checksum(Algorithm.CRC32, data).replace("=", "%3D").replace("+", "%2B") for data in (b"body", b""))
    assert await read(incoming_body(presigned(f"x-amz-checksum-crc32={good}&x-amz-sdk-checksum-algorithm=CRC32"))) == b"body"
    assert (await pieces_until_error(incoming_body(presigned(f"x-amz-checksum-crc32={other}"))))[1].code == "BadDigest"
