"""ListObjectsV2 answers. Those of the form that services send are read by one expression, all others by the XML parser.

A page of a thousand objects costs the parser's callbacks 15 ms, and the expression 2. What it accepts is a small part of XML
whose meaning needs no parser: ASCII without references (but quotes around an ETag), attributes or white space between
elements, each object with the same elements as the first one. Anything else is left to `XmlReader`, which also decides what is
refused.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from headrace.model.errors import CorruptData
from headrace.model.objects import CommonPrefix, Entry, ObjectInfo, Version
from headrace.stores.s3_xml import MAX_TEXT_BYTES, XmlReader, parse_time, part_count, unquote_key

MAX_ITEMS = 20_000
_PLAIN_BYTES = 4 << 20
"""A longer answer goes through the parser as it comes: a thousand keys of the longest kind are shorter."""

_TEXT = f"[ -%'-;=?-~]{{0,{MAX_TEXT_BYTES}}}"
_NAME = "[A-Za-z]{1,40}"
_ROOT = re.compile(r'(?:<\?xml version="1\.0" encoding="(?:UTF|utf)-8"\?>\n?)?<ListBucketResult(?: xmlns="[!#-%\'-;=?-~]*")?>')
_END = re.compile(r"</ListBucketResult>\n?")
# The last group of this and of a row takes all that follows the first thing that is something else.
_LEAVES = re.compile(rf"<({_NAME})(?:/>|>({_TEXT})</\1>)|([\s\S]+)")
_OBJECT, _OBJECT_END = "<Contents>", "</Contents>"
_ELEMENT = re.compile(rf"<({_NAME})>((?:<{_NAME}>{_TEXT}</{_NAME}>)*|[^<>]*)</\1>")
_QUOTE = '(?:&quot;|&#34;|")?'
_TAKEN = {
    "Key": f"({_TEXT})",
    "Size": "([0-9]{1,19})",
    "ETag": f"{_QUOTE}([0-9A-Za-z-]{{0,200}}){_QUOTE}",
    "LastModified": f"({_TEXT})",
    "StorageClass": f"({_TEXT})",
}
# Only objects whose checksums are kept have these.
_OF_SOME = f"(?:<ChecksumAlgorithm>{_TEXT}</ChecksumAlgorithm>){{0,9}}(?:<ChecksumType>{_TEXT}</ChecksumType>)?"
_CHECKSUMS = frozenset(("ChecksumAlgorithm", "ChecksumType"))
_MAX_ELEMENTS = 16


class ListPage(msgspec.Struct, frozen=True):
    """A ListObjectsV2 answer: entries in the server's order, objects and prefixes mixed as they came."""

    entries: tuple[Entry, ...]
    truncated: bool
    token: str
    by_directory: bool = False
    """The entries are in the order of directories, not of keys."""


class ListParser:
    """ListObjectsV2: `feed` the body, then `finish`."""

    def __init__(self) -> None:
        self._held: list[bytes] | None = []
        self._held_bytes = 0
        self._general = GeneralListParser()

    def feed(self, data: bytes) -> None:
        """Raises `CorruptData` for what cannot become a listing."""
        if self._held is None:
            self._general.feed(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _PLAIN_BYTES:
            self._give_over(self._held)

    def finish(self, *, by_directory: bool = False) -> ListPage:
        """Raises `CorruptData` when this was not a whole listing."""
        if self._held is not None:
            page = plain_page(b"".join(self._held), by_directory=by_directory)
            if page is not None:
                return page
            self._give_over(self._held)
        return self._general.finish(by_directory=by_directory)

    def _give_over(self, held: list[bytes]) -> None:
        self._held = None
        self._general.feed(b"".join(held))


class GeneralListParser:
    """As `ListParser`, for any XML, as it comes and with memory for its entries alone."""

    def __init__(self) -> None:
        self._reader = XmlReader(self._on_end)
        self._fields: dict[str, str] = {}
        self._top: dict[str, str] = {}
        self._raw: list[tuple[bool, dict[str, str]]] = []
        self._root = ""

    def feed(self, data: bytes) -> None:
        """As `ListParser.feed`."""
        self._reader.feed(data)

    def finish(self, *, by_directory: bool = False) -> ListPage:
        """As `ListParser.finish`."""
        self._reader.feed(b"", final=True)
        truncated = self._top.get("IsTruncated", "")
        if self._root != "ListBucketResult" or truncated not in ("true", "false"):
            raise CorruptData("the store's answer is not a bucket listing")
        encoded = self._top.get("EncodingType", "") == "url"
        if self._reader.replaced and not encoded:
            raise CorruptData("the store listed a key that XML cannot hold, without encoding it")
        entries = tuple([_entry(is_prefix, fields, encoded) for is_prefix, fields in self._raw])
        return ListPage(entries, truncated == "true", self._top.get("NextContinuationToken", ""), by_directory)

    def _on_end(self, path: tuple[str, ...], text: str) -> None:
        depth = len(path)
        if depth == 3:
            self._fields[path[2]] = text
        elif depth == 2 and path[1] in ("Contents", "CommonPrefixes"):
            if len(self._raw) >= MAX_ITEMS:
                raise CorruptData("the store listed far more than it was asked for")
            self._raw.append((path[1] == "CommonPrefixes", self._fields))
            self._fields = {}
        elif depth == 2:
            self._top[path[1]] = text
            self._fields = {}
        elif depth == 1:
            self._root = path[0]


def plain_page(body: bytes, *, by_directory: bool = False) -> ListPage | None:
    """What `GeneralListParser` makes of a body, where that can be told without it; None: ask it.

    Raises `CorruptData` for a key that is not UTF-8.
    """
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        return None
    root = _ROOT.match(text)
    first, last = text.find(_OBJECT), text.rfind(_OBJECT_END) + len(_OBJECT_END)
    end = text.rfind("</ListBucketResult>")
    if root is None or not root.end() <= first < last <= end or _END.fullmatch(text, end) is None:
        return None
    top = _leaves(text[root.end() : first]), _leaves(text[last:end])
    rows = _rows(text, first, last)
    if top[0] is None or top[1] is None or rows is None:
        return None
    fields = top[0] | top[1]
    truncated = fields.get("IsTruncated", "")
    if truncated not in ("true", "false"):
        return None
    encoded = fields.get("EncodingType", "") == "url"
    entries = tuple([_object(_key(key, encoded), size, etag, modified, kind) for key, size, etag, modified, kind in rows])
    return ListPage(entries, truncated == "true", fields.get("NextContinuationToken", ""), by_directory)


def _leaves(text: str) -> dict[str, str] | None:
    """Elements with nothing but text."""
    found: dict[str, str] = {}
    for name, value, other in _LEAVES.findall(text):
        if other or name in ("Contents", "CommonPrefixes"):
            return None
        found[name] = value
    return found


def _rows(text: str, first: int, last: int) -> list[tuple[str, str, str, str, str]] | None:
    """Key, size, ETag, time and storage class of each object."""
    begun = first + len(_OBJECT)
    names = tuple([(found[1], _names_in(found[2])) for found in _ELEMENT.finditer(text, begun, text.find(_OBJECT_END, begun))])
    row = _row(names) if len(names) <= _MAX_ELEMENTS else None
    if row is None:
        return None
    pattern, order = row
    found: list[tuple[str, ...]] = pattern.findall(text, first, last)
    if found[-1][-1] or len(found) > MAX_ITEMS:
        return None
    a, b, c, d, e = order
    return [(one[a], one[b], one[c], one[d], one[e]) for one in found]


def _names_in(text: str) -> tuple[str, ...]:
    return tuple([found[1] for found in _ELEMENT.finditer(text)])


@lru_cache(maxsize=64)
def _row(names: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[re.Pattern[str], tuple[int, ...]] | None:
    """An expression for objects with such elements, and which of its groups are key, size, ETag, time, storage class.

    None unless it is known what such an object is called and how long it is.
    """
    seen = [name for name, _ in names]
    if len(set(seen)) != len(seen) or not {"Key", "Size"}.issubset(seen):
        return None
    pattern = _OBJECT
    for name, inner in names:
        if name in _CHECKSUMS:
            continue
        if inner and (name in _TAKEN or len(inner) > _MAX_ELEMENTS):
            return None
        inside = _TAKEN.get(name) or "".join([f"<{one}>{_TEXT}</{one}>" for one in inner]) or _TEXT
        pattern += f"<{name}>{inside}</{name}>" + (_OF_SOME if name == "ETag" else "")
    taken = [name for name in seen if name in _TAKEN]
    absent = len(taken)  # the group of what is something else is empty in every row that is used
    order = tuple([taken.index(name) if name in taken else absent for name in _TAKEN])
    return re.compile(rf"{pattern}{_OBJECT_END}|([\s\S]+)"), order


def _entry(is_prefix: bool, fields: dict[str, str], encoded: bool) -> Entry:
    name = fields.get("Prefix" if is_prefix else "Key")
    if name is None:
        raise CorruptData("the store listed an entry without a name")
    name = _key(name, encoded)
    if is_prefix:
        return CommonPrefix(name)
    size = fields.get("Size", "")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise CorruptData(f"the store listed {name!r} with the size {size[:30]!r}")
    return _object(name, size, fields.get("ETag", "").strip('"'), fields.get("LastModified", ""), fields.get("StorageClass", ""))


def _key(text: str, encoded: bool) -> str:
    return unquote_key(text) if encoded and ("%" in text or "+" in text) else text


def _object(key: str, size: str, etag: str, modified: str, storage_class: str) -> ObjectInfo:
    modified_s = parse_time(modified)
    version = Version(f"etag:{etag}" if etag else f"stat:{int(modified_s * 1e9)}-{size}")
    parts = part_count(etag) if "-" in etag else 0
    return ObjectInfo(key, int(size), version, modified_s, etag, parts=parts, storage_class=storage_class)
