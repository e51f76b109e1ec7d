"""An answer of HTTP/1.1 as it comes off the wire: its head, strictly read, and where its body ends.

llhttp (httptools) reads heads and chunks. It refuses what two readers could understand differently: both a length and chunks,
two lengths, a length that is no number, folded lines, lines without CR. What it leaves open is decided here.
"""

from __future__ import annotations

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

CHUNKED = -1
UNTIL_CLOSE = -2

MAX_HEAD_BYTES = 64 * 1024
_MAX_FIELDS = 256
_MAX_INTERIM = 16
_MAX_FRAMING_BYTES = 64 * 1024
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1, or can be read in two ways."""


class Head(msgspec.Struct, frozen=True):
    """Status and headers, whose names are in lower case; `length` is the body's in bytes, or `CHUNKED`, or `UNTIL_CLOSE`."""

    status: int
    headers: dict[str, str]
    length: int
    keeps_alive: bool
    """Whether another request may follow on the connection."""


class _Fields:
    """What llhttp finds in a head."""

    __slots__ = ("count", "found")

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("utf-8", "surrogateescape")
        self.found[key] = f"{self.found[key]}, {text}" if key in self.found else text


def read_head(data: bytes, *, is_head: bool) -> Head:
    """The head in `data`, which ends with its empty line; `is_head`: the request was a HEAD. Raises `BadAnswer`."""
    fields = _Fields()
    parser = HttpResponseParser(fields)
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        raise BadAnswer("it changes to another protocol, which was not asked for") from None
    except HttpParserError as error:
        raise BadAnswer(str(error)) from error
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadAnswer(f"it is of HTTP/{version}")
    status = parser.get_status_code()
    if not 100 <= status <= 999:
        raise BadAnswer(f"its status is {status}")
    if fields.count > _MAX_FIELDS:
        raise BadAnswer(f"it has more than {_MAX_FIELDS} headers")
    headers = fields.found
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    keeps_alive = "close" not in options and (version == "1.1" or "keep-alive" in options)
    coding = headers.get("transfer-encoding")
    if status < 200 or status in (204, 304):
        return Head(status, headers, 0, keeps_alive and coding is None)
    if coding is not None and (coding.lower() != "chunked" or version != "1.1"):
        raise BadAnswer(f"its transfer-encoding is {coding[:40]!r}")
    if is_head:
        return Head(status, headers, 0, keeps_alive)
    if coding is not None:
        return Head(status, headers, CHUNKED, keeps_alive)
    length = headers.get("content-length")
    if length is None:
        return Head(status, headers, UNTIL_CLOSE, False)
    return Head(status, headers, int(length), keeps_alive)


class ChunkedBody:
    """Takes the framing off a body in chunks; what follows it as trailers is dropped."""

    __slots__ = ("_framing", "_parser", "_pieces", "done", "extra")

    def __init__(self) -> None:
        self.done = False
        """Whether all of it has come, its last chunk and trailers included."""
        self.extra = False
        """Whether more came than the body."""
        self._framing = 0
        self._pieces: list[bytes] = []
        self._parser = HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def feed(self, data: bytes) -> list[bytes]:
        """The body's bytes among the next ones. Raises `BadAnswer`."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.done:
                raise BadAnswer(str(error)) from error
            self.extra = True
        pieces, self._pieces = self._pieces, []
        self._framing = 0 if pieces else self._framing + len(data)
        if self._framing > _MAX_FRAMING_BYTES:
            raise BadAnswer("its chunks are more framing than body")
        return pieces

    def on_message_begin(self) -> None:
        """Called by llhttp, a second time when bytes follow the body."""
        self.extra = self.done

    def on_body(self, piece: bytes) -> None:
        """Called by llhttp."""
        if not self.done:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Called by llhttp."""
        self.done = True


class AnswerReader:
    """Takes one answer apart as it comes: a state machine without IO."""

    __slots__ = ("_buffer", "_chunks", "_interim", "_is_head", "_left", "extra", "head", "is_complete")

    def __init__(self, *, is_head: bool) -> None:
        self.head: Head | None = None
        self.is_complete = False
        """Whether all of the answer has come."""
        self.extra = False
        """Whether more came than the answer."""
        self._is_head = is_head
        self._buffer = b""
        self._interim = 0
        self._left = 0
        self._chunks: ChunkedBody | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The body's bytes among the next ones. Raises `BadAnswer`."""
        if self.head is None:
            data = self._take_head(data)
            if self.head is None:
                return []
        if self._chunks is not None:
            pieces = self._chunks.feed(data) if data else []
            self.is_complete, self.extra = self._chunks.done, self._chunks.extra
            return pieces
        if self._left != UNTIL_CLOSE:
            self.extra = len(data) > self._left
            data = data[: self._left] if self.extra else data
            self._left -= len(data)
            self.is_complete = not self._left
        return [data] if data else []

    def end(self) -> None:
        """The other side has said that nothing will follow."""
        self.is_complete = self.is_complete or (self.head is not None and self.head.length == UNTIL_CLOSE)

    def _take_head(self, data: bytes) -> bytes:
        """What follows the head in `data`, when it is there."""
        seen = max(len(self._buffer) - 3, 0)
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n", seen) + 4
            if end > MAX_HEAD_BYTES or (end < 4 and len(data) > MAX_HEAD_BYTES):
                raise BadAnswer(f"its head is longer than {MAX_HEAD_BYTES} bytes")
            if end < 4:
                self._buffer = data
                return b""
            head = read_head(data[:end], is_head=self._is_head)
            data, self._buffer, seen = data[end:], b"", 0
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadAnswer(f"more than {_MAX_INTERIM} heads came before its own")
            if not data:
                return b""
        self.head = head
        self._left = head.length
        self._chunks = ChunkedBody() if head.length == CHUNKED else None
        return data
