"""Checksums against published values, other implementations, and the objects that parts make."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from base64 import b64encode

import botocore.session
import pytest
import xxhash
from awscrt import checksums as crt
from botocore.httpchecksum import _CHECKSUM_CLS
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.checksums import (
    DIGEST_BYTES,
    Algorithm,
    Checksummer,
    ChecksumType,
    PartSum,
    allows,
    checksum,
    default_type,
    of_parts,
    read_digest,
)

CRCS = (Algorithm.CRC32, Algorithm.CRC32C, Algorithm.CRC64NVME)
CHECK = b"123456789"


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (Algorithm.CRC32, "cbf43926"),
        (Algorithm.CRC32C, "e3069283"),
        (Algorithm.CRC64NVME, "ae8b14860a799888"),
        (Algorithm.SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (Algorithm.SHA256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        (Algorithm.MD5, "25f9e794323b453885f5181f1b624d0b"),
        (Algorithm.XXHASH64, "8cb841db40e6ae83"),
    ],
)
def test_published_check_values(algorithm: Algorithm, digest: str) -> None:
    assert checksum(algorithm, CHECK) == b64encode(bytes.fromhex(digest)).decode()


def test_the_checksum_of_awss_trailer_example() -> None:
    assert checksum(Algorithm.CRC32C, b"a" * 66560) == "sOO8/Q=="


@given(data=st.binary(max_size=3000), cut=st.integers(0, 3000), algorithm=st.sampled_from(Algorithm))
def test_equals_other_implementations_however_it_is_cut(data: bytes, cut: int, algorithm: Algorithm) -> None:
    summer = Checksummer(algorithm)
    summer.update(data[:cut])
    summer.update(memoryview(data)[cut:])
    if algorithm is Algorithm.MD5:
        assert summer.digest() == hashlib.md5(data).digest()
    else:
        other = _CHECKSUM_CLS[algorithm.value]()
        other.update(data)
        assert summer.digest() == other.digest()
    assert summer.base64() == checksum(algorithm, data)
    assert len(summer.digest()) == DIGEST_BYTES[algorithm]


def test_every_algorithm_of_botocores_model_is_known() -> None:
    model = botocore.session.get_session().get_service_model("s3")
    assert set(model.shape_for("ChecksumAlgorithm").enum) == {algorithm.name for algorithm in Algorithm}
    assert set(model.shape_for("ChecksumType").enum) == {kind.value for kind in ChecksumType}


@given(parts=st.lists(st.binary(max_size=500), min_size=1, max_size=6), algorithm=st.sampled_from(CRCS))
def test_the_parts_crcs_make_the_whole_ones(parts: list[bytes], algorithm: Algorithm) -> None:
    sums = [PartSum(checksum(algorithm, part), len(part)) for part in parts]
    assert of_parts(algorithm, ChecksumType.FULL_OBJECT, sums) == checksum(algorithm, b"".join(parts))


def test_crcs_of_parts_larger_than_memory() -> None:
    """Two parts of 5 TiB of zeros: the CRC of zeros is that of one byte, moved on by doubling."""
    length = 5 << 40
    value, size = crt.crc32(b"\0"), 1
    zeros, done = 0, 0
    while done < length:
        if (length >> (size.bit_length() - 1)) & 1:
            zeros = crt.combine_crc32(zeros, value, size)
            done += size
        value, size = crt.combine_crc32(value, value, size), size * 2
    part = PartSum(b64encode(zeros.to_bytes(4, "big")).decode(), length)
    whole = of_parts(Algorithm.CRC32, ChecksumType.FULL_OBJECT, [part, part])
    assert whole == b64encode(crt.combine_crc32(zeros, zeros, length).to_bytes(4, "big")).decode()
    assert whole != part.value


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.CRC64NVME])
def test_composite_is_the_hash_of_the_parts_hashes(algorithm: Algorithm) -> None:
    parts = [b"one" * 100, b"two", b""]
    digests = b"".join(_digest(algorithm, part) for part in parts)
    expected = b64encode(_digest(algorithm, digests)).decode() + "-3"
    assert (
        of_parts(algorithm, ChecksumType.COMPOSITE, [PartSum(checksum(algorithm, part), len(part)) for part in parts]) == expected
    )


def _digest(algorithm: Algorithm, data: bytes) -> bytes:
    made = {
        Algorithm.CRC32: lambda: zlib.crc32(data).to_bytes(4, "big"),
        Algorithm.CRC32C: lambda: crt.crc32c(data).to_bytes(4, "big"),
        Algorithm.XXHASH64: lambda: xxhash.xxh64(data).digest(),
        Algorithm.XXHASH3: lambda: xxhash.xxh3_64(data).digest(),
        Algorithm.XXHASH128: lambda: xxhash.xxh3_128(data).digest(),
    }.get(algorithm)
    return made() if made is not None else hashlib.new(algorithm.value, data).digest()


def test_what_s3_calls_the_types() -> None:
    full = [a for a in Algorithm if allows(a, ChecksumType.FULL_OBJECT)]
    composite = [a for a in Algorithm if allows(a, ChecksumType.COMPOSITE)]
    assert full == list(CRCS)
    assert composite == [a for a in Algorithm if a is not Algorithm.CRC64NVME]
    assert all(allows(a, default_type(a)) for a in Algorithm)
    assert default_type(Algorithm.CRC32) is ChecksumType.COMPOSITE
    assert [a.name for a in CRCS] == ["CRC32", "CRC32C", "CRC64NVME"]


@pytest.mark.parametrize(
    ("algorithm", "kind", "parts"),
    [
        (Algorithm.CRC32, ChecksumType.FULL_OBJECT, []),
        (Algorithm.SHA256, ChecksumType.FULL_OBJECT, [PartSum(checksum(Algorithm.SHA256, b""), 0)]),
        (Algorithm.CRC64NVME, ChecksumType.COMPOSITE, [PartSum(checksum(Algorithm.CRC64NVME, b""), 0)]),
        (Algorithm.CRC32, ChecksumType.COMPOSITE, [PartSum("AAAA", 3)]),
    ],
)
def test_refuses_what_cannot_be_put_together(algorithm: Algorithm, kind: ChecksumType, parts: list[PartSum]) -> None:
    with pytest.raises(ValueError, match=r"CRC|SHA"):
        of_parts(algorithm, kind, parts)


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAA", "AAAAAA=", "AAAAAA==\n", "ÄAAAAA==", "AAAAAA==x", "!AAAAA=="])
def test_what_is_no_digest(text: str) -> None:
    assert read_digest(Algorithm.CRC32, text) is None


def test_the_package_for_crcs_is_loaded_when_one_is_met() -> None:
    code = (
        "import sys; from headrace.model.checksums import Algorithm, checksum; checksum(Algorithm.SHA256, b''); "
        "checksum(Algorithm.CRC32, b''); print('awscrt' in sys.modules); "
        "checksum(Algorithm.CRC32C, b''); print('awscrt' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=30).split() == ["False", "True"]
