"""S3's XML answers, parsed as they arrive, with bounded memory. Entities are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote_plus
from xml.parsers import expat

import msgspec

from headrace.model.errors import CorruptData

MAX_DEPTH = 12
MAX_TEXT_BYTES = 16 * 1024

_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r")
_REPLACE_CONTROLS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))
_CONTROL_REFERENCE = re.compile(
    rb"&#(?:x0*(?:1[0-9a-f]|[0-8bcef]|fff[ef])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]|6553[45]));", re.IGNORECASE
)
_NONCHARACTER = re.compile(rb"\xef\xbf[\xbe\xbf]")
_LONGEST_REFERENCE = 12


class S3Error(msgspec.Struct, frozen=True):
    """An `<Error>`; all empty when the body was none."""

    code: str = ""
    message: str = ""
    region: str = ""
    actual_size: int | None = None


class XmlReader:
    """Feeds expat and hands out, for each element that ends, its path and text.

    `on_end(path, text)` gets the names from the root down without namespaces; text is that of a
    leaf. Raises `CorruptData` for what is not well-formed, too deep, too long, or declares entities.
    Some servers send characters which XML cannot hold, in fields that echo the request:
    they become `?` and `replaced` tells.
    """

    def __init__(self, on_end: Callable[[tuple[str, ...], str], None]) -> None:
        self.replaced = False
        self._on_end = on_end
        self._held = b""
        self._path: list[str] = []
        self._text: list[str] = []
        self._text_length = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._refuse
        parser.StartDoctypeDeclHandler = self._refuse
        self._parser = parser

    def feed(self, data: bytes, *, final: bool = False) -> None:
        data = self._held + data
        cut = len(data) if final else _whole_references(data)
        self._held = data[cut:]
        try:
            self._parser.Parse(self._readable(data[:cut]), final)
        except expat.ExpatError as error:
            raise CorruptData(f"the store's answer is not well-formed XML: {error}") from error

    def _readable(self, data: bytes) -> bytes:
        plain = data.translate(_REPLACE_CONTROLS)
        if b"&#" in plain:
            plain = _CONTROL_REFERENCE.sub(b"?", plain)
        if b"\xef\xbf" in plain:
            plain = _NONCHARACTER.sub(b"?", plain)
        self.replaced = self.replaced or plain != data
        return plain

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise CorruptData("the store's XML is nested too deeply")
        self._path.append(name.rpartition(":")[2])
        self._text.clear()
        self._text_length = 0

    def _characters(self, data: str) -> None:
        self._text_length += len(data)
        if self._text_length > MAX_TEXT_BYTES:
            raise CorruptData("the store's XML holds a text that is too long")
        self._text.append(data)

    def _end(self, _name: str) -> None:
        self._on_end(tuple(self._path), "".join(self._text))
        self._path.pop()
        self._text.clear()
        self._text_length = 0

    def _refuse(self, *_declaration: object) -> None:
        raise CorruptData("the store's XML declares a document type or entities, which is refused")


def parse_error(body: bytes) -> S3Error:
    """The `<Error>` in a body; an empty one when it holds none. Never raises."""
    fields: dict[str, str] = {}
    root: list[str] = []

    def on_end(path: tuple[str, ...], text: str) -> None:
        if len(path) == 2:
            fields.setdefault(path[1], text)
        elif len(path) == 1:
            root.append(path[0])

    try:
        reader = XmlReader(on_end)
        reader.feed(body, final=True)
    except CorruptData:
        return S3Error()
    if root != ["Error"]:
        return S3Error()
    size = fields.get("ActualObjectSize", "")
    actual = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None
    return S3Error(fields.get("Code", ""), " ".join(fields.get("Message", "")[:500].split()), fields.get("Region", ""), actual)


def parse_tags(body: bytes) -> tuple[tuple[str, str], ...]:
    """A `<Tagging>` answer, sorted by name. Raises `CorruptData`."""
    if not body.strip():
        return ()  # old Ceph says so that there are none
    found: list[tuple[str, str]] = []
    fields: dict[str, str] = {}
    root: list[str] = []

    def on_end(path: tuple[str, ...], text: str) -> None:
        if len(path) == 4 and path[1:3] == ("TagSet", "Tag"):
            fields[path[3]] = text
        elif path[1:] == ("TagSet", "Tag"):
            found.append((fields.pop("Key", ""), fields.pop("Value", "")))
        elif len(path) == 1:
            root.append(path[0])

    XmlReader(on_end).feed(body, final=True)
    if root != ["Tagging"]:
        raise CorruptData("the store's answer is not a set of tags")
    return tuple(sorted(found))


@lru_cache(maxsize=1024)  # objects that lie beside each other were often written in the same second
def parse_time(text: str) -> float:
    """Seconds since 1970 UTC of an ISO 8601 time; 0 when it cannot be read."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def part_count(etag: str) -> int:
    """Parts of a multipart object, as its ETag's suffix tells; 0 when it tells nothing."""
    digits = etag.rpartition("-")[2] if "-" in etag else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0


def _whole_references(data: bytes) -> int:
    """How much of `data` surely ends outside of a character reference and of a noncharacter."""
    if data.endswith((b"\xef", b"\xef\xbf")):
        return data.rindex(b"\xef")
    start = data.rfind(b"&", max(0, len(data) - _LONGEST_REFERENCE))
    return len(data) if start < 0 or b";" in data[start:] else start


def unquote_key(text: str) -> str:
    """A key that was sent url-encoded. Raises `CorruptData`."""
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError as error:
        raise CorruptData(f"the store listed a key that is not UTF-8: {text[:100]!r}") from error
