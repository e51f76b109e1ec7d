"""The answer of Azure's List Blobs, parsed."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree

import msgspec

from headrace.model.errors import CorruptData
from headrace.model.objects import ObjectInfo, Version


class BlobPage(msgspec.Struct, frozen=True):
    """One page; `marker` goes on with it, empty at the end."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    marker: str


def parse_blob_page(body: bytes, container: str) -> BlobPage:
    """Raises `CorruptData`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
        blobs = root.find("Blobs")
        found = list(blobs) if blobs is not None else []
        objects = tuple(_object(blob) for blob in found if blob.tag == "Blob")
        prefixes = tuple(_name(blob) for blob in found if blob.tag == "BlobPrefix")
    except (ElementTree.ParseError, ValueError) as error:
        raise CorruptData(f"container {container!r} answered something that is no listing") from error
    return BlobPage(objects, prefixes, root.findtext("NextMarker") or "")


def http_date(text: str) -> float:
    """Seconds since 1970 UTC, 0 when it cannot be read."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _object(blob: ElementTree.Element) -> ObjectInfo:
    properties = {child.tag.lower(): child.text or "" for child in blob.find("Properties") or ()}
    etag = properties.get("etag", "").strip('"')
    if not etag:
        raise ValueError("a blob without an ETag")
    return ObjectInfo(
        key=_name(blob),
        size=int(properties["content-length"]) if "content-length" in properties else -1,
        version=Version(f"etag:{etag}"),
        modified_s=http_date(properties.get("last-modified", "")),
        etag=etag,
        content_type=properties.get("content-type", ""),
        storage_class=properties.get("accesstier", ""),
    )


def _name(blob: ElementTree.Element) -> str:
    name = blob.find("Name")
    if name is None or not name.text:
        raise ValueError("a blob without a name")
    # Names that XML cannot hold come percent-encoded and say so.
    return unquote(name.text, errors="strict") if name.get("Encoded") == "true" else name.text
