"""Objects as Google Cloud Storage describes them, and how their attributes are kept there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from headrace.model.errors import CorruptData, InvalidKey, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo, Version
from headrace.model.writing import Attributes, Pairs
from headrace.stores.http import Headers
from headrace.stores.kept_text import CONTENT_HEADERS, NAMES, NOTHING, Kept, noted, read_notes
from headrace.stores.keys import check_key
from headrace.stores.writes import COMPOSITE, FULL_OBJECT, TYPE

T = TypeVar("T")

OWN = ".headrace/"
"""Below this prefix of a mount's bucket lies what belongs to no object: unfinished uploads."""

FIELDS = "name,size,generation,metageneration,updated,contentType,storageClass,crc32c,md5Hash,metadata"
PREFIX = "headrace-"
_USER = "headrace-user-"
_META = "x-goog-meta-"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNSET_CACHE_CONTROL = ("private, max-age=0", "public, max-age=3600")
"""What the service sends for objects without a `cacheControl` of their own."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Item(msgspec.Struct, rename="camel"):
    """An object's resource, as far as it is looked at."""

    name: str
    bucket: str = ""
    size: str = "0"
    generation: str = ""
    metageneration: str = ""
    updated: str = ""
    content_type: str = ""
    storage_class: str = ""
    crc32c: str = ""
    md5_hash: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    metadata: dict[str, str | None] = {}

    def kept(self) -> Kept:
        """What was noted with it."""
        return read_notes({name: self.metadata.get(PREFIX + name) or "" for name in NAMES})


def check_gs_key(key: str, own: str) -> None:
    """Raises `InvalidKey` for what cannot be an object's name there, and for what belongs to the store itself."""
    check_key(key)
    if key in (".", "..") or "\r" in key or "\n" in key or key.startswith(".well-known/acme-challenge/"):
        raise InvalidKey(
            f"{key!r} cannot be an object's name in GCS ('.', '..', line ends, .well-known/acme-challenge/)", path=key
        )
    if key.startswith(own):
        raise InvalidKey(f"{key!r}: {own} belongs to the store itself, it holds no objects", path=key)


def resource(attributes: Attributes, kept: Kept = NOTHING) -> dict[str, object]:
    """The part of an object's resource that keeps `attributes`. Raises `Unsupported` for what cannot be kept."""
    known = tuple([pair for pair in attributes.headers if pair[0] in CONTENT_HEADERS])
    other = tuple([pair for pair in attributes.headers if pair[0] not in CONTENT_HEADERS])
    notes = noted(msgspec.structs.replace(kept, headers=other, tags=attributes.tags))
    metadata = {PREFIX + name: text for name, text in notes.items()}
    for name, value in attributes.metadata:
        if not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise Unsupported(f"{name!r}: {value[:50]!r} cannot be kept as metadata")
        metadata[PREFIX + "user-" + name if name.startswith(PREFIX) else name] = value
    made: dict[str, object] = {_camel(name): value for name, value in known}
    if attributes.content_type:
        made["contentType"] = attributes.content_type
    return made | {"metadata": metadata}


def tags_change(tags: Pairs) -> dict[str, object]:
    """What puts `tags` in place of an object's."""
    return {"metadata": {PREFIX + "tags": noted(Kept(tags=tags)).get("tags")}}


def item_info(item: Item) -> ObjectInfo:
    """The object that `item` describes. Raises `CorruptData`."""
    content = (item.cache_control, item.content_disposition, item.content_encoding, item.content_language)
    headers = tuple([(name, value) for name, value in zip(CONTENT_HEADERS, content, strict=True) if value])
    try:
        size = int(item.size)
        modified_s = datetime.fromisoformat(item.updated).timestamp() if item.updated else 0.0
    except ValueError as error:
        raise CorruptData(f"{item.name!r}: the store described it wrongly", path=item.name) from error
    info = ObjectInfo(
        key=item.name,
        size=size,
        version=Version(f"id:{item.generation}"),
        modified_s=modified_s,
        etag=item.generation,
        content_type=item.content_type,
        headers=headers,
        storage_class=item.storage_class,
    )
    return _with_notes(info, item.metadata, item.crc32c, item.md5_hash)


def header_info(key: str, size: int, headers: Headers) -> ObjectInfo:
    """The object whose bytes an answer with `headers` carries. Raises `CorruptData`."""
    generation = headers.get("x-goog-generation", "")
    if not generation:
        raise CorruptData(f"{key!r}: the store did not say which generation it sent", path=key)
    try:
        modified_s = parsedate_to_datetime(headers.get("last-modified", "")).timestamp()
    except (ValueError, OverflowError):
        modified_s = 0.0
    metadata = {name.lower().removeprefix(_META): value for name, value in headers.items() if name.lower().startswith(_META)}
    sums = dict(part.strip().partition("=")[::2] for part in _values(headers, "x-goog-hash"))
    info = ObjectInfo(
        key=key,
        size=size,
        version=Version(f"id:{generation}"),
        modified_s=modified_s,
        etag=generation,
        content_type=headers.get("content-type", ""),
        headers=tuple([(name, headers[name]) for name in CONTENT_HEADERS if _is_set(name, headers.get(name, ""))]),
        storage_class=headers.get("x-goog-storage-class", ""),
    )
    return _with_notes(info, metadata, sums.get("crc32c", ""), sums.get("md5", ""))


def generation_of(version: Version, key: str) -> str:
    """The generation that a version stands for. Raises `VersionChanged` for one of another kind of store."""
    kind, _, generation = version.token.partition(":")
    if kind != "id" or not is_generation(generation):
        raise VersionChanged(f"{key!r} has no version {version.token}: GCS versions are generations", path=key)
    return generation


def is_generation(text: str) -> bool:
    """Whether an object may have it. 0 stands for none."""
    return text.isascii() and text.isdigit() and len(text) < 20 and text.strip("0") != ""


def decoded(body: bytes, kind: type[T], bucket: str) -> T:
    """Raises `CorruptData`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise CorruptData(f"bucket {bucket!r} answered something that is no GCS answer") from error


def _with_notes(info: ObjectInfo, metadata: Mapping[str, str | None], crc32c: str, md5: str) -> ObjectInfo:
    kept = read_notes({name: metadata.get(PREFIX + name) or "" for name in NAMES})
    hidden = {PREFIX + name for name in NAMES}
    shown = [(name.lower().removeprefix(_USER), value or "") for name, value in metadata.items() if name not in hidden]
    return msgspec.structs.replace(
        info,
        headers=(*info.headers, *kept.headers),
        metadata=tuple(sorted(shown)),
        checksums=_checksums(kept.checksums, (("crc32c", crc32c), ("md5", md5))),
        parts=kept.parts,
        tag_count=len(kept.tags),
    )


def _checksums(kept: Pairs, own: Pairs) -> Pairs:
    """Those noted, and the service's own where they are of the same kind: of all bytes."""
    if dict(kept).get(TYPE) == COMPOSITE:
        return kept
    names = dict(kept)
    found = [pair for pair in kept if pair[0] != TYPE] + [pair for pair in own if pair[1] and pair[0] not in names]
    return (*found, (TYPE, FULL_OBJECT)) if found else ()


def _is_set(name: str, value: str) -> bool:
    return bool(value) and not (name == "cache-control" and value in _UNSET_CACHE_CONTROL)


def _values(headers: Headers, name: str) -> Iterable[str]:
    """Of a header that may come more than once."""
    return [part for found, text in headers.items() if found.lower() == name for part in text.split(",")]


def _camel(name: str) -> str:
    first, *others = name.split("-")
    return first + "".join([other.title() for other in others])
