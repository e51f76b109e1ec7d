"""Blobs as Azure describes them, and how their attributes are kept there."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from headrace.model.errors import CorruptData, InvalidKey, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo, Version
from headrace.model.writing import Attributes, Pairs
from headrace.stores.az_xml import http_date
from headrace.stores.http import Headers
from headrace.stores.kept_text import CONTENT_HEADERS, NAMES, NOTHING, Kept, noted, read_notes
from headrace.stores.keys import check_key
from headrace.stores.writes import COMPOSITE, FULL_OBJECT, TYPE

OWN = ".headrace/"
"""Below this prefix of a mount's container lies what belongs to no object: unfinished uploads."""

PREFIX = "headrace_"
META = "x-ms-meta-"
_PLAIN_TYPE = "application/octet-stream"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(rb"_x([0-9a-f]{2})_")
_LIKE_ESCAPED = re.compile(r"_x[0-9a-f]{2}")
_PLAIN_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*")
_WORD = re.compile(r"=\?UTF-8\?B\?([A-Za-z0-9+/=]*)\?=")
_TAG_TEXT = re.compile(r"[A-Za-z0-9 +./:=_-]*")
_CODED_TAG = "headrace:"
_MOST_TAGS = 10
_LONGEST_TAG_NAME = 128
_LONGEST_TAG_VALUE = 256

Sent = list[tuple[str, str]]


def check_az_key(key: str, own: str) -> None:
    """Raises `InvalidKey` for what cannot be a blob's name, and for what belongs to the store itself."""
    check_key(key)
    if "\\" in key or any(segment in (".", "..") for segment in key.split("/")):
        message = f"{key!r} cannot be a blob's name: Azure turns a back-slash into a slash and resolves '.' and '..' segments"
        raise InvalidKey(message, path=key)
    if key.startswith(own):
        raise InvalidKey(f"{key!r}: {own} belongs to the store itself, it holds no objects", path=key)


def check_new_az_key(key: str, own: str) -> None:
    """`check_az_key` for a blob that is to be made: the service takes no control characters."""
    check_az_key(key, own)
    if _CONTROL.search(key):
        raise InvalidKey(f"{key!r} cannot be a blob's name: Azure takes no control characters", path=key)


def pin(version: Version | None, key: str) -> tuple[tuple[str, str], ...]:
    """The header that makes a read one of `version`. Raises `VersionChanged` for one of another kind of store."""
    if version is None:
        return ()
    kind, _, etag = version.token.partition(":")
    if kind != "etag" or not is_etag(etag):
        raise VersionChanged(f"{key!r} has no version {version.token}: Azure versions are ETags", path=key)
    return (("if-match", f'"{etag}"'),)


def is_etag(text: str) -> bool:
    """Whether a blob may have that entity tag."""
    return text.isascii() and text.isprintable() and '"' not in text and text not in ("", "*")


def property_headers(attributes: Attributes) -> Sent:
    """The headers by which a blob gets the properties in `attributes`."""
    known = [(f"x-ms-blob-{name}", value) for name, value in attributes.headers if _is_known(name, value)]
    return [("x-ms-blob-content-type", attributes.content_type or _PLAIN_TYPE), *known]


def metadata_headers(attributes: Attributes, kept: Kept = NOTHING, *, note_tags: bool = False) -> Sent:
    """The headers by which a blob gets the metadata in `attributes`, and what is noted beside.

    Tags are noted only where they are not yet a blob's own. Raises `Unsupported` for what cannot be kept.
    """
    other = tuple([pair for pair in attributes.headers if not _is_known(*pair)])
    notes = noted(msgspec.structs.replace(kept, headers=other, tags=attributes.tags if note_tags else ()))
    sent = [(META + PREFIX + name, text) for name, text in notes.items()]
    for name, value in attributes.metadata:
        if not _NAME.fullmatch(name):
            raise Unsupported(f"{name[:50]!r} cannot be the name of metadata")
        sent.append((META + identifier(name), metadata_value(value)))
    return sent


def tag_headers(tags: Pairs) -> Sent:
    """The header by which a blob gets tags. Raises `Unsupported`."""
    return [("x-ms-tags", urlencode([(tag_text(name), tag_text(value)) for name, value in checked_tags(tags)]))] if tags else []


def checked_tags(tags: Pairs) -> Pairs:
    """Raises `Unsupported` for tags that a blob cannot have."""
    if len(tags) > _MOST_TAGS:
        raise Unsupported(f"{len(tags)} tags: Azure keeps at most {_MOST_TAGS} with a blob")
    for name, value in tags:
        if len(tag_text(name)) > _LONGEST_TAG_NAME or len(tag_text(value)) > _LONGEST_TAG_VALUE:
            raise Unsupported(f"tag {name[:50]!r} is too long for Azure, which keeps letters other than a few of ASCII in base64")
    return tags


def tag_text(text: str) -> str:
    """A tag's name or value as Azure takes it, which allows few letters."""
    if _TAG_TEXT.fullmatch(text) and not text.startswith(_CODED_TAG):
        return text
    return _CODED_TAG + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_tag_text(text: str) -> str:
    """What `tag_text` made such a text of."""
    coded = text.removeprefix(_CODED_TAG)
    try:
        return text if coded == text else base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
    except ValueError:
        return text


def identifier(name: str) -> str:
    """A name as Azure takes it, which allows those of C#: everything else is written `_xHH_`."""
    if name.lower().startswith(PREFIX):
        return _escaped(name[0].lower()) + _identifier(name[1:].lower(), is_first=False)
    return _identifier(name.lower(), is_first=True)


def read_identifier(text: str) -> str:
    """The name that `identifier` made such a text of."""
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), text.lower().encode()).decode(errors="replace")


def metadata_value(text: str) -> str:
    """A value as a header keeps it exactly."""
    if _PLAIN_VALUE.fullmatch(text) and not _WORD.fullmatch(text):
        return text
    return f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def read_metadata_value(text: str) -> str:
    """The value that `metadata_value` made such a text of."""
    match = _WORD.fullmatch(text)
    try:
        return text if match is None else base64.b64decode(match[1], validate=True).decode()
    except ValueError:
        return text


def raw_metadata(headers: Headers) -> dict[str, str]:
    """A blob's metadata as it stands there, by lower-case names."""
    found = [(name.lower(), value) for name, value in headers.items()]
    return {name.removeprefix(META): value for name, value in found if name.startswith(META)}


def kept_of(raw: Mapping[str, str]) -> Kept:
    """What was noted in a blob's metadata."""
    return read_notes({name: raw.get(PREFIX + name, "") for name in NAMES})


def blob_info(key: str, size: int, headers: Headers) -> ObjectInfo:
    """A blob as the headers of a HEAD or GET describe it; `size` is the whole blob's. Raises `CorruptData`."""
    etag = headers.get("etag", "").strip('"')
    if not etag:
        raise CorruptData(f"{key!r}: the store did not say which version it sent", path=key)
    # Of a range, `content-md5` would be the range's.
    md5 = headers.get("x-ms-blob-content-md5") or ("" if "content-range" in headers else headers.get("content-md5", ""))
    known = tuple([(name, headers[name]) for name in CONTENT_HEADERS if headers.get(name)])
    tags = headers.get("x-ms-tag-count", "")
    info = ObjectInfo(
        key=key,
        size=size,
        version=Version(f"etag:{etag}"),
        modified_s=http_date(headers.get("last-modified", "")),
        etag=etag,
        content_type=headers.get("content-type", ""),
        headers=known,
        storage_class=headers.get("x-ms-access-tier", ""),
        tag_count=int(tags) if tags.isascii() and tags.isdigit() and len(tags) < 4 else 0,
    )
    return _with_notes(info, raw_metadata(headers), md5)


def written_info(key: str, size: int, headers: Headers, sent: Sent) -> ObjectInfo:
    """The blob that a write with the headers `sent` made, which answered with `headers`."""
    names = {"x-ms-blob-" + name: name for name in ("content-type", *CONTENT_HEADERS)}
    told = {names.get(name, name): value for name, value in sent if name in names or name.startswith(META)}
    sums = [value for name, value in sent if name in ("content-md5", "x-ms-blob-content-md5")]
    told["x-ms-blob-content-md5"] = "".join(sums[:1])
    told |= {name: headers[name] for name in ("etag", "last-modified") if name in headers}
    return blob_info(key, size, told)


def _with_notes(info: ObjectInfo, raw: Mapping[str, str], md5: str) -> ObjectInfo:
    kept = kept_of(raw)
    shown = [(read_identifier(n), read_metadata_value(value)) for n, value in raw.items() if not n.startswith(PREFIX)]
    checksums = kept.checksums
    if dict(checksums).get(TYPE) != COMPOSITE:
        found = [pair for pair in checksums if pair[0] not in (TYPE, "md5")] + ([("md5", md5)] if md5 else [])
        checksums = (*found, (TYPE, FULL_OBJECT)) if found else ()
    return msgspec.structs.replace(
        info,
        headers=(*info.headers, *kept.headers),
        metadata=tuple(sorted(shown)),
        checksums=checksums,
        parts=kept.parts,
    )


def _is_known(name: str, value: str) -> bool:
    return name in CONTENT_HEADERS and _PLAIN_VALUE.fullmatch(value) is not None


def _identifier(name: str, *, is_first: bool) -> str:
    made = []
    for at, letter in enumerate(name):
        is_plain = letter == "_" or (letter.isascii() and letter.isalnum() and not (is_first and not at and letter.isdigit()))
        made.append(letter if is_plain and not _LIKE_ESCAPED.match(name, at) else _escaped(letter))
    return "".join(made)


def _escaped(letter: str) -> str:
    return "".join([f"_x{byte:02x}_" for byte in letter.encode()])
