"""Azure's XML: listings, block lists and tags, parsed and written."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

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


class Block(msgspec.Struct, frozen=True):
    """A block of a blob, or one that was sent for it: its name and its length in bytes."""

    name: str
    size: int


def parse_block_list(body: bytes, key: str) -> tuple[Block, ...]:
    """The blocks of a blob, then those that belong to none yet. Raises `CorruptData`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
        return tuple(
            [
                Block(block.findtext("Name") or "", int(block.findtext("Size") or ""))
                for kind in ("CommittedBlocks", "UncommittedBlocks")
                for block in root.iterfind(f"{kind}/Block")
            ]
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise CorruptData(f"{key!r}: the store answered something that is no list of blocks", path=key) from error


def block_list_xml(names: Iterable[str]) -> bytes:
    """The blob that Put Block List is to make."""
    blocks = "".join([f"<Latest>{name}</Latest>" for name in names])
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()


def parse_tags(body: bytes, key: str) -> tuple[tuple[str, str], ...]:
    """A blob's tags as they stand there. Raises `CorruptData`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
    except ElementTree.ParseError as error:
        raise CorruptData(f"{key!r}: the store answered something that is no list of tags", path=key) from error
    return tuple([(tag.findtext("Key") or "", tag.findtext("Value") or "") for tag in root.iterfind("TagSet/Tag")])


def tags_xml(tags: Iterable[tuple[str, str]]) -> bytes:
    """The body of Set Blob Tags."""
    each = "".join([f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags])
    return f'<?xml version="1.0" encoding="utf-8"?><Tags><TagSet>{each}</TagSet></Tags>'.encode()


class ContainerPage(msgspec.Struct, frozen=True):
    """One page of an account's containers with their times of change; `marker` goes on with it."""

    names: tuple[tuple[str, float], ...]
    marker: str


def parse_containers(body: bytes) -> ContainerPage:
    """Raises `CorruptData`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
    except ElementTree.ParseError as error:
        raise CorruptData("the account answered something that is no list of containers") from error
    found = [
        (container.findtext("Name") or "", http_date(container.findtext("Properties/Last-Modified") or ""))
        for container in root.iterfind("Containers/Container")
    ]
    return ContainerPage(tuple(found), root.findtext("NextMarker") or "")


class NotedPage(msgspec.Struct, frozen=True):
    """One page of blobs with their metadata by lower-case names; `marker` goes on with it."""

    blobs: tuple[tuple[str, dict[str, str]], ...]
    marker: str


def parse_noted(body: bytes, container: str) -> NotedPage:
    """The answer of a List Blobs that includes metadata. Raises `CorruptData`."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as above
        blobs = tuple(
            [
                (_name(blob), {child.tag.lower(): child.text or "" for child in blob.find("Metadata") or ()})
                for blob in root.iterfind("Blobs/Blob")
            ]
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise CorruptData(f"container {container!r} answered something that is no listing") from error
    return NotedPage(blobs, root.findtext("NextMarker") or "")


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
