"""What was promised about a body, checked while it passes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from hmac import compare_digest

from headrace.gateways.s3.checksums import PREFIX, Declared
from headrace.gateways.s3.errors import S3Error
from headrace.model.checksums import Checksummer, ChecksumType, read_digest
from headrace.model.reading import Buffer
from headrace.model.writing import Pairs


class Proofs:
    """Digests and length of one body; what was not promised costs nothing.

    `sha256` is in hexadecimal, as a caller signs it. `length` is exact; `least` and `most` are limits of a policy.
    """

    def __init__(
        self,
        checksum: Declared | None = None,
        *,
        md5: bytes | None = None,
        sha256: bytes | None = None,
        length: int | None = None,
        least: int = 0,
        most: int | None = None,
    ) -> None:
        self._declared = checksum
        self._summer = None if checksum is None else Checksummer(checksum.algorithm)
        self._md5 = md5
        self._md5_hash = None if md5 is None else hashlib.md5(usedforsecurity=False)
        self._sha256 = sha256
        self._sha256_hash = None if sha256 is None else hashlib.sha256()
        self._length = length
        self._least = least
        self._most = most
        self._passed = 0
        self._proved: Pairs = ()

    def update(self, data: Buffer) -> None:
        """Bytes of the body, in order. Raises `S3Error` when there are more than may be."""
        self._passed += len(data)
        if self._length is not None and self._passed > self._length:
            raise S3Error("InvalidRequest", "The body has more bytes than its length says.")
        if self._most is not None and self._passed > self._most:
            raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        if self._summer is not None:
            self._summer.update(data)
        if self._md5_hash is not None:
            self._md5_hash.update(data)
        if self._sha256_hash is not None:
            self._sha256_hash.update(data)

    def end(self, trailer: Mapping[bytes, bytes]) -> None:
        """The body is whole, and this came behind it. Raises `S3Error` unless every promise holds."""
        if self._passed < self._least:
            raise S3Error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        if self._length is not None and self._passed != self._length:
            raise S3Error("IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
        if self._sha256_hash is not None and not compare_digest(self._sha256_hash.hexdigest().encode(), self._sha256 or b""):
            raise S3Error(
                "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        if self._md5_hash is not None and self._md5_hash.digest() != self._md5:
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if self._declared is not None and self._summer is not None:
            self._check_sum(self._declared, self._summer, trailer)

    def checksums(self) -> Pairs:
        """What was proved, named as in `ObjectInfo.checksums`."""
        return self._proved

    def _check_sum(self, declared: Declared, summer: Checksummer, trailer: Mapping[bytes, bytes]) -> None:
        algorithm = declared.algorithm
        value = declared.value or trailer.get(f"{PREFIX}{algorithm.value}".encode(), b"").decode("latin-1")
        digest = read_digest(algorithm, value)
        if digest is None:
            raise S3Error("InvalidRequest", f"Value for {PREFIX}{algorithm.value} trailing header is invalid.")
        if digest != summer.digest():
            raise S3Error("BadDigest", f"The {algorithm.name} you specified did not match the calculated checksum.")
        self._proved = ((algorithm.value, summer.base64()), ("type", ChecksumType.FULL_OBJECT.value))
