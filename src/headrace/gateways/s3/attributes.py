"""What a write's headers say about the object to be: its attributes, and the conditions under which it may be written."""

from __future__ import annotations

from headrace.gateways.s3.accepted import PLAIN_HEADERS, check_acl, check_storage_class
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.grants import with_acl
from headrace.gateways.s3.incoming import stored_encoding
from headrace.gateways.s3.tags import header_tags
from headrace.model.writing import ALWAYS, Attributes, Condition, Pairs

DEFAULT_TYPE = "binary/octet-stream"
_MAX_METADATA_BYTES = 2048
_META = b"x-amz-meta-"
_KEPT = (b"cache-control", b"content-disposition", b"content-language", b"expires")
Headers = dict[bytes, bytes]


def read_attributes(call: Call) -> Attributes:
    """Raises `S3Error` for metadata, tags, a canned ACL or a storage class that cannot be kept."""
    headers = call.request.headers
    if headers.keys() <= PLAIN_HEADERS:
        return Attributes(text(headers.get(b"content-type", b"")) or DEFAULT_TYPE, tags=with_acl(call, ()))
    if call.bucket_acl is None:
        check_acl(headers, public=call.public)
    check_storage_class(headers)
    kept = [(name.decode(), text(headers[name])) for name in _KEPT if name in headers]
    encoding = stored_encoding(headers)
    if encoding:
        kept.append(("content-encoding", encoding))
    return Attributes(
        content_type=text(headers.get(b"content-type", b"")) or DEFAULT_TYPE,
        headers=tuple(sorted(pair for pair in kept if pair[1])),
        metadata=_metadata(headers),
        tags=with_acl(call, header_tags(headers.get(b"x-amz-tagging"))),
    )


def check_metadata(metadata: Pairs) -> Pairs:
    """Raises `S3Error` for more of it than S3 keeps."""
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata) > _MAX_METADATA_BYTES:
        raise S3Error(
            "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size",
            detail=(("MaxSizeAllowed", str(_MAX_METADATA_BYTES)),),
        )  # fmt: skip
    return metadata


def _metadata(headers: Headers) -> Pairs:
    found = [(name[len(_META) :].decode("latin-1"), text(value)) for name, value in headers.items() if name.startswith(_META)]
    return check_metadata(tuple(sorted(found)))


def text(raw: bytes) -> str:
    """A header's value: UTF-8, as S3 takes it, else Latin-1, as HTTP once said."""
    raw = raw.strip(b" \t")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_condition(headers: Headers) -> Condition:
    """From `If-Match` and `If-None-Match`, each `*` or one entity tag. Raises `S3Error`."""
    if b"if-match" not in headers and b"if-none-match" not in headers:
        return ALWAYS
    return Condition(_entity_tag(headers.get(b"if-match")), _entity_tag(headers.get(b"if-none-match")))


def plain_tag(text: str) -> str:
    """An entity tag without its quotes."""
    text = text.strip(" \t")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _entity_tag(raw: bytes | None) -> str:
    if raw is None:
        return ""
    tag = plain_tag(raw.decode("latin-1"))
    if not tag or "," in tag or '"' in tag or tag.startswith("W/"):
        raise S3Error("NotImplemented", "A condition of a write names one strong entity tag, or is *.")
    return tag
