"""Checksums as S3 knows them: their names, computing them while bytes pass, and those of a multipart object from its parts'.

After "Checking object integrity" of the Amazon S3 User Guide. The CRCs other than CRC32 come from a
package that is loaded when the first such checksum is met, so that processes without one stay small.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from typing import Protocol

import msgspec

from headrace.model.reading import Buffer


class Algorithm(StrEnum):
    """By the names in `ObjectInfo.checksums`; `name` is S3's own spelling in XML."""

    CRC32 = "crc32"
    CRC32C = "crc32c"
    CRC64NVME = "crc64nvme"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    MD5 = "md5"
    XXHASH64 = "xxhash64"
    XXHASH3 = "xxhash3"
    XXHASH128 = "xxhash128"


class ChecksumType(StrEnum):
    """Of what a multipart object's checksum is one."""

    FULL_OBJECT = "FULL_OBJECT"
    """Of all its bytes."""
    COMPOSITE = "COMPOSITE"
    """Of its parts' checksums, with their number behind it."""


class PartSum(msgspec.Struct, frozen=True):
    """One part's checksum in base64, and its length in bytes."""

    value: str
    length: int


class _Hash(Protocol):
    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


_Crc = Callable[[Buffer, int], int]
_Combine = Callable[[int, int, int], int]

_WIDTHS = {Algorithm.CRC32: 4, Algorithm.CRC32C: 4, Algorithm.CRC64NVME: 8}
DIGEST_BYTES = {
    **_WIDTHS, Algorithm.SHA1: 20, Algorithm.SHA256: 32, Algorithm.SHA512: 64, Algorithm.MD5: 16,
    Algorithm.XXHASH64: 8, Algorithm.XXHASH3: 8, Algorithm.XXHASH128: 16,
}  # fmt: skip


class Checksummer:
    """One checksum while its bytes pass."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self._hash = _new(algorithm)

    def update(self, data: Buffer) -> None:
        """Take in what comes next."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """Of what has been taken in so far."""
        return self._hash.digest()

    def base64(self) -> str:
        """The digest as S3 writes it."""
        return b64encode(self.digest()).decode()


def checksum(algorithm: Algorithm, data: Buffer) -> str:
    """Of bytes at hand, in base64."""
    summer = Checksummer(algorithm)
    summer.update(data)
    return summer.base64()


def read_digest(algorithm: Algorithm, text: str) -> bytes | None:
    """The digest that base64 text stands for; None when it is no digest of this algorithm."""
    try:
        digest = b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return digest if len(digest) == DIGEST_BYTES[algorithm] else None


def default_type(algorithm: Algorithm) -> ChecksumType:
    """What a multipart upload's checksum is of when its sender does not say."""
    return ChecksumType.FULL_OBJECT if algorithm is Algorithm.CRC64NVME else ChecksumType.COMPOSITE


def allows(algorithm: Algorithm, kind: ChecksumType) -> bool:
    """Whether multipart objects have such checksums: only CRCs can be put together, and CRC64NVME never is composite."""
    return algorithm in _WIDTHS if kind is ChecksumType.FULL_OBJECT else algorithm is not Algorithm.CRC64NVME


def of_parts(algorithm: Algorithm, kind: ChecksumType, parts: Sequence[PartSum]) -> str:
    """The checksum of an object made of `parts`, in their order, without its bytes.

    Raises `ValueError` when there are none, one is malformed, or the algorithm has no such checksum.
    """
    if not parts or not allows(algorithm, kind):
        raise ValueError(f"no {kind} {algorithm.name} of {len(parts)} parts")
    digests = [_digest(algorithm, part.value) for part in parts]
    if kind is ChecksumType.COMPOSITE:
        return f"{checksum(algorithm, b''.join(digests))}-{len(digests)}"
    combine, width = _combiner(algorithm), _WIDTHS[algorithm]
    total = int.from_bytes(digests[0], "big")
    for digest, part in zip(digests[1:], parts[1:], strict=True):
        total = combine(total, int.from_bytes(digest, "big"), part.length)
    return b64encode(total.to_bytes(width, "big")).decode()


def _digest(algorithm: Algorithm, text: str) -> bytes:
    digest = read_digest(algorithm, text)
    if digest is None:
        raise ValueError(f"{text!r} is no {algorithm.name} in base64")
    return digest


class _CrcHash:
    def __init__(self, algorithm: Algorithm) -> None:
        self._crc = crc_function(algorithm)
        self._width = _WIDTHS[algorithm]
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def _new(algorithm: Algorithm) -> _Hash:
    if algorithm in _WIDTHS:
        return _CrcHash(algorithm)
    if algorithm in _XXHASHES:
        return _xxhash(algorithm)
    return hashlib.new(algorithm.value, usedforsecurity=False)


_XXHASHES = {Algorithm.XXHASH64: "xxh64", Algorithm.XXHASH3: "xxh3_64", Algorithm.XXHASH128: "xxh3_128"}


def _xxhash(algorithm: Algorithm) -> _Hash:
    import xxhash  # noqa: PLC0415  seldom met

    made: _Hash = getattr(xxhash, _XXHASHES[algorithm])()
    return made


@cache
def crc_function(algorithm: Algorithm) -> _Crc:
    """What computes one of the CRCs: (bytes, the value before them) → the value behind them."""
    if algorithm is Algorithm.CRC32:
        return zlib.crc32
    import awscrt.checksums as crt  # noqa: PLC0415  60 ms and 9 MB, only for clients that send such checksums

    found: _Crc = crt.crc32c if algorithm is Algorithm.CRC32C else crt.crc64nvme
    return found


@cache
def _combiner(algorithm: Algorithm) -> _Combine:
    import awscrt.checksums as crt  # noqa: PLC0415  see above

    found: _Combine = getattr(crt, f"combine_{algorithm.value}")
    return found
