"""Documents that callers send: read strictly, with bounded depth, items and text, and no document type or entities."""

from __future__ import annotations

from xml.parsers import expat

import msgspec

from headrace.gateways.s3.errors import S3Error

_MAX_TEXT_CHARS = 8192
_ENCODINGS = ("utf-8", "us-ascii")


class Shape(msgspec.Struct, frozen=True):
    """What a document may hold: leaves below its root, and items that hold leaves themselves."""

    root: str
    leaves: frozenset[str] = frozenset()
    item: tuple[str, ...] = ()
    """Where items are, from below the root; empty: there are none."""
    item_leaves: frozenset[str] = frozenset()
    max_items: int = 0
    holders: frozenset[str] = frozenset()
    """Elements, below the root or in an item, that hold leaves, which are then called `holder/leaf`."""


class Document(msgspec.Struct):
    """What a document holds."""

    leaves: dict[str, str]
    items: list[dict[str, str]]


def read_document(data: bytes, shape: Shape) -> Document:
    """Raises `S3Error` MalformedXML for whatever is not exactly of that shape: not well-formed, of another encoding than
    UTF-8, with elements that are unknown, repeated or too many, or with a document type.
    """
    reader = _Reader(shape)
    try:
        if "\0" in data.decode():
            raise malformed()
        reader.parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        raise malformed() from None
    return reader.document


def malformed() -> S3Error:
    """The refusal of a document."""
    return S3Error("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")


class _Reader:
    def __init__(self, shape: Shape) -> None:
        self.document = Document({}, [])
        self._shape = shape
        self._path: list[str] = []
        self._below: dict[str, str] | None = None
        """The leaves that the text belongs among; None while it must be blank."""
        self._leaf = ""
        self._text: list[str] = []
        self._length = 0
        self._seen: set[str] = set()
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ProcessingInstructionHandler = _refuse

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise malformed()

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if self._below is not None:
            raise malformed()
        self._path.append(name.rpartition(":")[2])
        path, shape = tuple(self._path[1:]), self._shape
        if not path:
            if self._path[0] != shape.root:
                raise malformed()
        elif path == shape.item:
            if len(self.document.items) >= shape.max_items:
                raise malformed()
            self.document.items.append({})
        elif shape.item and path == shape.item[: len(path)]:
            if path[-1] in self._seen:
                raise malformed()
            self._seen.add(path[-1])
        elif path[-1] not in shape.holders or path[:-1] not in ((), shape.item):
            self._below = self._leaves(path)
        self._text.clear()
        self._length = 0

    def _leaves(self, path: tuple[str, ...]) -> dict[str, str]:
        """Where the text of a leaf goes; raises for one that is unknown or there already."""
        shape, name, above = self._shape, path[-1], path[:-1]
        if above and above[-1] in shape.holders:
            name, above = f"{above[-1]}/{name}", above[:-1]
        if not above and name in shape.leaves:
            leaves = self.document.leaves
        elif shape.item and above == shape.item and name in shape.item_leaves:
            leaves = self.document.items[-1]
        else:
            raise malformed()
        if name in leaves:
            raise malformed()
        self._leaf = name
        return leaves

    def _characters(self, text: str) -> None:
        if self._below is None:
            if text.strip(" \t\r\n"):
                raise malformed()
            return
        self._length += len(text)
        if self._length > _MAX_TEXT_CHARS:
            raise malformed()
        self._text.append(text)

    def _end(self, _name: str) -> None:
        self._path.pop()
        if self._below is not None:
            self._below[self._leaf] = "".join(self._text)
            self._below = None


def _refuse(*_declaration: object) -> None:
    raise malformed()
