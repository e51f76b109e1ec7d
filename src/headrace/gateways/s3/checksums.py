"""What a request says about checksums, read from its headers strictly.

After "Checking object integrity" of the Amazon S3 User Guide and the headers of PutObject, UploadPart
and CreateMultipartUpload in the Amazon S3 API Reference.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping

import msgspec

from headrace.gateways.s3.errors import S3Error
from headrace.model.checksums import Algorithm, ChecksumType, allows, default_type, read_digest

PREFIX = "x-amz-checksum-"
_HEADERS = {f"{PREFIX}{algorithm.value}".encode(): algorithm for algorithm in Algorithm}
_ABOUT = frozenset((b"x-amz-checksum-algorithm", b"x-amz-checksum-type", b"x-amz-checksum-mode"))
_PREFIX = PREFIX.encode()
_MD5_BYTES = 16

Headers = Mapping[bytes, bytes]


class Declared(msgspec.Struct, frozen=True):
    """The checksum that a body is sent with. `value` is base64; empty: it comes in the trailer."""

    algorithm: Algorithm
    value: str = ""


class UploadChecksum(msgspec.Struct, frozen=True):
    """What CreateMultipartUpload says that parts will be sent with."""

    algorithm: Algorithm
    type: ChecksumType


def declared_checksum(headers: Headers) -> Declared | None:
    """The one checksum of a request's body. Raises `S3Error` when it is malformed, or is not one."""
    found = [_declared_header(name, value) for name, value in headers.items() if name.startswith(_PREFIX) and name not in _ABOUT]
    trailer = trailing_checksum(headers)
    if trailer is not None:
        found.append(trailer)
    if len(found) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    wanted = headers.get(b"x-amz-sdk-checksum-algorithm")
    if wanted is not None:
        _check_wanted(_algorithm(wanted, "x-amz-sdk-checksum-algorithm"), found)
    return found[0] if found else None


def trailing_checksum(headers: Headers) -> Declared | None:
    """The checksum that `x-amz-trailer` promises."""
    trailer = headers.get(b"x-amz-trailer")
    if trailer is None:
        return None
    algorithm = _HEADERS.get(trailer.strip(b" \t").lower())
    if algorithm is None:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return Declared(algorithm)


def upload_checksum(headers: Headers) -> UploadChecksum | None:
    """From `x-amz-checksum-algorithm` and `x-amz-checksum-type`. Raises `S3Error` for what S3 does not know."""
    name, kind = headers.get(b"x-amz-checksum-algorithm"), checksum_type(headers)
    if name is None:
        if kind is not None:
            raise S3Error(
                "InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )
        return None
    algorithm = _algorithm(name, "x-amz-checksum-algorithm")
    kind = kind or default_type(algorithm)
    if not allows(algorithm, kind):
        raise S3Error(
            "InvalidRequest", f"The {kind.value} checksum type cannot be used with the {algorithm.value} checksum algorithm."
        )
    return UploadChecksum(algorithm, kind)


def checksum_type(headers: Headers) -> ChecksumType | None:
    """From `x-amz-checksum-type`, also with CompleteMultipartUpload."""
    raw = headers.get(b"x-amz-checksum-type")
    if raw is None:
        return None
    try:
        return ChecksumType(raw.decode("latin-1").upper())
    except ValueError:
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.") from None


def content_md5(headers: Headers) -> bytes | None:
    """The digest in `content-md5`."""
    raw = headers.get(b"content-md5")
    if raw is None:
        return None
    try:
        digest = b64decode(raw.strip(b" \t"), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _MD5_BYTES:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return digest


def _declared_header(name: bytes, raw: bytes) -> Declared:
    algorithm = _HEADERS.get(name)
    if algorithm is None:
        raise S3Error("InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid.")
    value = raw.strip(b" \t").decode("latin-1")
    if read_digest(algorithm, value) is None:
        raise S3Error("InvalidRequest", f"Value for {PREFIX}{algorithm.value} header is invalid.")
    return Declared(algorithm, value)


def _algorithm(raw: bytes, header: str) -> Algorithm:
    try:
        return Algorithm(raw.strip(b" \t").decode("latin-1").lower())
    except ValueError:
        raise S3Error("InvalidRequest", f"Value for {header} header is invalid.") from None


def _check_wanted(wanted: Algorithm, found: list[Declared]) -> None:
    if not found:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )
    if found[0].algorithm is not wanted:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
