"""The head of a request: one strict reading of it, or `BadFraming`.

httptools splits the headers; what it is lenient about (repeated spaces, blank lines before the
request, other versions, absolute targets) is refused here, and the framing of the body is decided
here alone, so that no two readings of one message exist.
"""

from __future__ import annotations

import re

import httptools

from headrace.gateways.http.messages import BadFraming, Request

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[!-\"$-~]*) HTTP/1\.([01])\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNKED = -1
NO_BODY = 0


class HeadParser:
    """Parses heads one after another; each is handed in whole, up to and with its blank line."""

    __slots__ = ("_fields", "_max_headers", "_parser")

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers
        self._fields: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._fields.append((name.lower(), value))

    def parse(self, head: bytes, peer: str) -> Request:
        """The request of a complete head. Raises `BadFraming`; the parser must not be used after that."""
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise _bad_request_line(head)
        fields = self._fields = []
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            raise BadFraming(400, f"malformed request head: {error}") from error
        headers = dict(fields)
        if len(fields) > self._max_headers:
            raise BadFraming(431, f"more than {self._max_headers} headers")
        if len(headers) != len(fields):
            headers = _joined(fields)
        if b"host" not in headers and line[3] == b"1":
            raise BadFraming(400, "an HTTP/1.1 request names its host")
        return Request(line[1], line[2], headers, http11=line[3] == b"1", peer=peer)

    def expect_head(self) -> None:
        """Forget the body of the request before: the next bytes are a head again."""
        self._parser = httptools.HttpRequestParser(self)


_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect"))


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in headers:
            if name in _ONCE:
                raise BadFraming(400, f"more than one {name.decode()} header")
            headers[name] += b"," + value
        else:
            headers[name] = value
    return headers


def _bad_request_line(head: bytes) -> BadFraming:
    line = head.split(b"\n", 1)[0]
    if re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/[0-9]\.[0-9]\r", line) and b"#" not in line:
        return BadFraming(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return BadFraming(400, "malformed request line")


def body_length(request: Request) -> int:
    """Bytes of the body, or `CHUNKED`. Raises `BadFraming` where two readings would be possible."""
    headers = request.headers
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None or not request.http11:
            raise BadFraming(400, "transfer-encoding with content-length, or in HTTP/1.0")
        if coding.strip(b" \t").lower() != b"chunked":
            raise BadFraming(400, "the only transfer-encoding is chunked")
        return CHUNKED
    if length is None:
        return NO_BODY
    if not _LENGTH.fullmatch(length.strip(b" \t")):
        raise BadFraming(400, "content-length is not a number of bytes")
    return int(length)


def keeps_alive(request: Request) -> bool:
    """Whether the client wants the connection to stay open after the answer."""
    wish = request.headers.get(b"connection")
    if wish is None:
        return request.http11
    tokens = {token.strip(b" \t").lower() for token in wish.split(b",")}
    return b"close" not in tokens if request.http11 else b"keep-alive" in tokens and b"close" not in tokens
