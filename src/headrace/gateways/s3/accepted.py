"""Headers that change what a request means: which are honoured where, and the refusal of all others.

A write takes only `x-amz-…` headers that are known here, so that none is ever acknowledged and ignored.
"""

from __future__ import annotations

from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.routes import Operation, Route

EXPECTED_OWNER = b"x-amz-expected-bucket-owner"
EXPECTED_SOURCE_OWNER = b"x-amz-source-expected-bucket-owner"
_API_VERSION = (b"x-amz-api-version", b"2006-03-01")
"""AWS's SDK for C++ (so PyArrow, too) says which API it speaks. S3 has had no other since."""

UNSUPPORTED_HEADERS = frozenset(
    (
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-aws-kms-key-id",
        b"x-amz-server-side-encryption-bucket-key-enabled",
        b"x-amz-server-side-encryption-context",
        b"x-amz-server-side-encryption-customer-algorithm",
        b"x-amz-server-side-encryption-customer-key",
        b"x-amz-server-side-encryption-customer-key-md5",
    )
)
PLAIN_HEADERS = frozenset(
    (
        b"accept", b"accept-encoding", b"amz-sdk-invocation-id", b"amz-sdk-request", b"authorization", b"connection",
        b"content-length", b"content-type", b"expect", b"host", b"user-agent", b"x-amz-content-sha256", b"x-amz-date",
    )
)  # fmt: skip
"""A request with no other headers is like most: it asks for nothing beyond its operation, of which one look assures."""
_ALWAYS = frozenset(
    (
        EXPECTED_OWNER, EXPECTED_SOURCE_OWNER, b"x-amz-content-sha256", b"x-amz-date", b"x-amz-decoded-content-length",
        b"x-amz-request-payer", b"x-amz-sdk-checksum-algorithm", b"x-amz-trailer", b"x-amz-user-agent",
    )
)  # fmt: skip
_DESCRIBING = frozenset((b"x-amz-acl", b"x-amz-storage-class", b"x-amz-tagging"))
_SOURCE = frozenset(
    (
        b"x-amz-copy-source", b"x-amz-copy-source-if-match", b"x-amz-copy-source-if-none-match",
        b"x-amz-copy-source-if-modified-since", b"x-amz-copy-source-if-unmodified-since",
    )
)  # fmt: skip
_CHECKSUM_WISH = frozenset((b"x-amz-checksum-algorithm", b"x-amz-checksum-type"))
_NO_LOCKS = frozenset((b"x-amz-bypass-governance-retention",))
"""Nothing is ever retained here, so that there is nothing to bypass."""
_TAKEN: dict[Operation, frozenset[bytes]] = {
    Operation.CREATE_BUCKET: frozenset((b"x-amz-acl", b"x-amz-bucket-object-lock-enabled", b"x-amz-object-ownership")),
    Operation.PUT_OBJECT: _DESCRIBING,
    Operation.COPY_OBJECT: _DESCRIBING
    | _SOURCE
    | {b"x-amz-metadata-directive", b"x-amz-tagging-directive", b"x-amz-checksum-algorithm"},
    Operation.DELETE_OBJECT: _NO_LOCKS,
    Operation.DELETE_OBJECTS: _NO_LOCKS,
    # s3cmd sends the directive where S3 has no use for it: a new upload has no source, its metadata are those sent with it.
    Operation.CREATE_MULTIPART_UPLOAD: _DESCRIBING | _CHECKSUM_WISH | {b"x-amz-metadata-directive"},
    Operation.UPLOAD_PART_COPY: _SOURCE | {b"x-amz-copy-source-range"},
    Operation.PUT_BUCKET_ACL: frozenset((b"x-amz-acl",)),
    Operation.PUT_OBJECT_ACL: frozenset((b"x-amz-acl",)),
    Operation.COMPLETE_MULTIPART_UPLOAD: frozenset((b"x-amz-checksum-type", b"x-amz-mp-object-size")),
}
_WITH_METADATA = frozenset((Operation.PUT_OBJECT, Operation.COPY_OBJECT, Operation.CREATE_MULTIPART_UPLOAD))
_CONDITIONS = frozenset((b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"content-range"))
_CONDITIONAL = frozenset(
    (Operation.PUT_OBJECT, Operation.COPY_OBJECT, Operation.COMPLETE_MULTIPART_UPLOAD, Operation.DELETE_OBJECT)
)
_CANNED_ACLS = frozenset(
    ("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
     "bucket-owner-full-control", "log-delivery-write")
)  # fmt: skip
_OWNERS_ALONE = ("private", "bucket-owner-full-control")


def check_headers(route: Route, headers: dict[bytes, bytes]) -> None:
    """Raises `S3Error` for headers that the operation does not honour."""
    if headers.keys() <= PLAIN_HEADERS:
        return
    for name, value in headers.items():
        if name in UNSUPPORTED_HEADERS or (route.writes and not _taken(route.operation, name) and (name, value) != _API_VERSION):
            raise not_honoured(name)


def check_expected_owner(headers: dict[bytes, bytes], owner_id: str, name: bytes = EXPECTED_OWNER) -> None:
    """Raises `S3Error` when another owner is expected than there is."""
    if name in headers and headers[name].strip(b" \t") != owner_id.encode():
        raise refused("AccessDenied", "Access Denied")


def check_acl(headers: dict[bytes, bytes], *, public: bool) -> None:
    """Raises `S3Error` for a canned ACL that says anything else than what is so.

    Mounts and rules decide who may do what, not buckets and objects: they are their owner's alone, and may be read by
    everybody where their mount says so (`public`).
    """
    name = canned_acl(headers)
    if name not in _OWNERS_ALONE and not (public and name == "public-read"):
        raise not_honoured(b"x-amz-acl")


def canned_acl(headers: dict[bytes, bytes]) -> str:
    """What `x-amz-acl` names; `private` where there is none. Raises `S3Error`."""
    name = headers.get(b"x-amz-acl", b"private").strip(b" \t").decode("latin-1")
    if name not in _CANNED_ACLS:
        raise S3Error("InvalidArgument", "The canned ACL is none that S3 knows.", detail=(("ArgumentName", "x-amz-acl"),))
    return name


def check_storage_class(headers: dict[bytes, bytes]) -> None:
    """Raises `S3Error` unless objects are asked to be kept as they are kept: the store decides."""
    wish = headers.get(b"x-amz-storage-class")
    if wish is not None and wish.strip(b" \t") != b"STANDARD":
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid: only STANDARD is taken here.")


def not_honoured(name: bytes) -> S3Error:
    """The refusal of a header."""
    return S3Error(
        "NotImplemented", "A header you provided implies functionality that is not implemented",
        detail=(("Header", name.decode("latin-1")),),
    )  # fmt: skip


def _taken(operation: Operation, name: bytes) -> bool:
    if not name.startswith(b"x-amz-"):
        return name not in _CONDITIONS or (operation in _CONDITIONAL and name in (b"if-match", b"if-none-match"))
    if name in _ALWAYS or name in _TAKEN.get(operation, ()):
        return True
    if name.startswith(b"x-amz-meta-"):
        return operation in _WITH_METADATA
    return name.startswith(b"x-amz-checksum-") and name not in _CHECKSUM_WISH
