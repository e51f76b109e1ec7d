"""What requests say about checksums: exactly one, well-formed, of a kind that S3 knows."""

from __future__ import annotations

import pytest

from headrace.gateways.s3.checksums import (
    Declared,
    UploadChecksum,
    checksum_type,
    content_md5,
    declared_checksum,
    upload_checksum,
)
from headrace.gateways.s3.errors import S3Error
from headrace.model.checksums import Algorithm, ChecksumType, checksum

CRC32 = checksum(Algorithm.CRC32, b"").encode()
SHA256 = checksum(Algorithm.SHA256, b"").encode()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm_by_header_and_by_trailer(algorithm: Algorithm) -> None:
    value = checksum(algorithm, b"data")
    name = f"x-amz-checksum-{algorithm.value}".encode()
    wanted = algorithm.name.encode()
    assert declared_checksum({name: value.encode()}) == Declared(algorithm, value)
    assert declared_checksum({name: value.encode(), b"x-amz-sdk-checksum-algorithm": wanted}) == Declared(algorithm, value)
    assert declared_checksum({b"x-amz-trailer": name}) == Declared(algorithm)


def test_none_is_declared() -> None:
    assert declared_checksum({b"x-amz-checksum-mode": b"ENABLED", b"x-amz-checksum-algorithm": b"CRC32"}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-amz-checksum-crc32": CRC32, b"x-amz-checksum-sha256": SHA256},
        {b"x-amz-checksum-crc32": CRC32, b"x-amz-trailer": b"x-amz-checksum-crc32"},
        {b"x-amz-checksum-crc16": CRC32},
        {b"x-amz-checksum-": CRC32},
        {b"x-amz-trailer": b"x-amz-checksum-crc16"},
        {b"x-amz-trailer": b"x-amz-meta-a"},
        {b"x-amz-trailer": b"x-amz-checksum-crc32,x-amz-checksum-sha256"},
        {b"x-amz-trailer": b"x-amz-checksum-crc32,x-amz-checksum-crc32"},
        {b"x-amz-sdk-checksum-algorithm": b"CRC32"},
        {b"x-amz-sdk-checksum-algorithm": b"SHA256", b"x-amz-checksum-crc32": CRC32},
        {b"x-amz-sdk-checksum-algorithm": b"CRC16", b"x-amz-checksum-crc32": CRC32},
    ],
)
def test_refuses_what_is_not_one_checksum(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(S3Error) as caught:
        declared_checksum(headers)
    assert caught.value.code == "InvalidRequest"


@pytest.mark.parametrize("value", [SHA256, b"", CRC32 + b"," + CRC32, b"\xc3\x84AAAA=="])
def test_refuses_what_no_checksum_looks_like(value: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        declared_checksum({b"x-amz-checksum-crc32": value})
    assert caught.value.code == "InvalidRequest"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({b"x-amz-checksum-algorithm": b"CRC32"}, UploadChecksum(Algorithm.CRC32, ChecksumType.COMPOSITE)),
        ({b"x-amz-checksum-algorithm": b"crc64nvme"}, UploadChecksum(Algorithm.CRC64NVME, ChecksumType.FULL_OBJECT)),
        (
            {b"x-amz-checksum-algorithm": b"CRC32C", b"x-amz-checksum-type": b"FULL_OBJECT"},
            UploadChecksum(Algorithm.CRC32C, ChecksumType.FULL_OBJECT),
        ),
    ],
)
def test_what_parts_will_be_sent_with(headers: dict[bytes, bytes], expected: UploadChecksum | None) -> None:
    assert upload_checksum(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-amz-checksum-type": b"FULL_OBJECT"},
        {b"x-amz-checksum-algorithm": b"CRC16"},
        {b"x-amz-checksum-algorithm": b"SHA256", b"x-amz-checksum-type": b"FULL_OBJECT"},
        {b"x-amz-checksum-algorithm": b"CRC64NVME", b"x-amz-checksum-type": b"COMPOSITE"},
        {b"x-amz-checksum-algorithm": b"CRC32", b"x-amz-checksum-type": b"HALF"},
    ],
)
def test_refuses_uploads_that_no_checksum_could_be_made_for(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(S3Error) as caught:
        upload_checksum(headers)
    assert caught.value.code == "InvalidRequest"


def test_the_type_alone() -> None:
    assert checksum_type({}) is None
    assert checksum_type({b"x-amz-checksum-type": b"COMPOSITE"}) is ChecksumType.COMPOSITE


def test_content_md5() -> None:
    assert content_md5({}) is None
    assert content_md5({b"content-md5": b" 1B2M2Y8AsgTpgAmY7PhCfg== "}) == bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    for wrong in (b"", b"AAAA", b"1B2M2Y8AsgTpgAmY7PhCfg", b"d41d8cd98f00b204e9800998ecf8427e", b"1B2M2Y8AsgTpgAmY7PhCfg==,x"):
        with pytest.raises(S3Error) as caught:
            content_md5({b"content-md5": wrong})
        assert caught.value.code == "InvalidDigest"
