"""Objects as S3's headers describe them."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from headrace.model.errors import Unsupported
from headrace.model.objects import ObjectInfo, Version
from headrace.model.sigv4 import quote_path, quote_query
from headrace.model.writing import Attributes, Pairs
from headrace.stores.http import Headers
from headrace.stores.s3_write_xml import CHECKSUM_NAMES
from headrace.stores.s3_xml import part_count

_CONTENT_HEADERS = frozenset({"cache-control", "content-disposition", "content-encoding", "content-language", "expires"})
_CHECKSUM = "x-amz-checksum-"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_METADATA = "x-amz-meta-"
_MD5 = re.compile("[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLAIN_TYPE = "binary/octet-stream"


def object_info(key: str, size: int, headers: Headers) -> ObjectInfo:
    """An object as the headers of a HEAD or GET describe it; `size` is the whole object's."""
    etag = headers.get("etag", "").removeprefix("W/").strip('"')
    version_id = headers.get("x-amz-version-id", "")
    if version_id == "null":
        version_id = ""  # "null" names whatever was written last without versioning, not a version
    content: list[tuple[str, str]] = []
    metadata: list[tuple[str, str]] = []
    checksums: list[tuple[str, str]] = []
    for name, value in headers.items():
        if name in _CONTENT_HEADERS:
            content.append((name, value))
        elif name[:6] != "x-amz-":
            continue
        elif name.startswith(_METADATA):
            metadata.append((name.removeprefix(_METADATA), value))
        elif name.startswith(_CHECKSUM):
            checksums.append((name.removeprefix(_CHECKSUM), value))
    modified_s = http_date(headers.get("last-modified", ""))
    return ObjectInfo(
        key=key,
        size=size,
        version=_version(version_id, etag, modified_s, size),
        modified_s=modified_s,
        etag=etag,
        version_id=version_id,
        content_type=headers.get("content-type", ""),
        headers=tuple(content),
        metadata=tuple(metadata),
        checksums=tuple(checksums),
        parts=part_count(etag),
        storage_class=headers.get("x-amz-storage-class", ""),
        tag_count=_count(headers.get("x-amz-tagging-count", "")),
    )


def attribute_headers(attributes: Attributes, *, with_tags: bool = True) -> list[tuple[str, str]]:
    """The headers by which a write keeps `attributes` with its object. An object without a type gets S3's own default.

    Raises `Unsupported` for what no header can hold.
    """
    sent = [("content-type", attributes.content_type or _PLAIN_TYPE), *attributes.headers]
    sent.extend((_METADATA + name, value) for name, value in attributes.metadata)
    for name, value in sent:
        if not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise Unsupported(f"{name!r}: {value[:50]!r} cannot be sent as a header")
    if attributes.tags and with_tags:
        pairs = [(name.encode(), value.encode()) for name, value in attributes.tags]
        sent.append(("x-amz-tagging", "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])))
    return sent


def checksum_headers(checksums: Pairs) -> list[tuple[str, str]]:
    """The headers by which the store proves and keeps a checksum of the body; S3 takes one, and an MD5."""
    if ("type", "COMPOSITE") in checksums:
        return []
    sent = [(_CHECKSUM + name, value) for name, value in checksums if name in CHECKSUM_NAMES][:1]
    return sent + [("content-md5", value) for name, value in checksums if name == "md5"]


def copy_source(bucket: str, key: str, version_id: str = "") -> tuple[str, str]:
    """The header that names the source of a copy."""
    place = quote_path(f"{bucket}/{key}".encode()).decode()
    return "x-amz-copy-source", f"/{place}?versionId={_quoted(version_id.encode())}" if version_id else "/" + place


def source_headers(bucket: str, source: ObjectInfo) -> list[tuple[str, str]]:
    """The headers that make exactly that version of an object of `bucket` the source of a copy."""
    headers = [copy_source(bucket, source.key, source.version_id)]
    if source.etag:
        headers.append(("x-amz-copy-source-if-match", f'"{source.etag}"'))
    return headers


def is_md5_etag(etag: str) -> bool:
    """Whether an entity tag looks like the MD5 of the bytes."""
    return _MD5.fullmatch(etag) is not None


def written_info(key: str, size: int, headers: Headers, attributes: Attributes, *, etag: str = "") -> ObjectInfo | None:
    """The object that a write made, out of its answer's headers; None where they do not tell its version.

    `etag` is what the answer's body said. The time of change is the answer's own: S3 tells no other.
    """
    told = object_info(key, size, headers)
    etag = etag or told.etag
    if not etag:
        return None
    return msgspec.structs.replace(
        told,
        version=_version(told.version_id, etag, 0.0, size),
        modified_s=http_date(headers.get("date", "")),
        etag=etag,
        content_type=attributes.content_type or _PLAIN_TYPE,
        headers=attributes.headers,
        metadata=attributes.metadata,
        parts=part_count(etag),
        tag_count=len(attributes.tags),
    )


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _quoted(data: bytes) -> str:
    return quote_query(data).decode()


def _version(version_id: str, etag: str, modified_s: float, size: int) -> Version:
    if version_id:
        return Version(f"id:{version_id}")
    return Version(f"etag:{etag}" if etag else f"stat:{int(modified_s * 1e9)}-{size}")


@lru_cache(maxsize=1024)
def http_date(text: str) -> float:
    """Seconds since 1970 UTC of an HTTP date; 0 when it cannot be read."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
