"""The head of a request: one strict reading of it, or `BadFraming`.

httptools splits the headers; what it is lenient about (repeated spaces, blank lines before the
request, other versions, absolute targets) is refused here, and the framing of the body is decided
here alone, so that no two readings of one message exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools

from headrace.gateways.http.messages import BadFraming, Request

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[!-\"$-~]*) HTTP/1\.([01])\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNKED = -1
NO_BODY = 0


class HeadParser:
    """Parses heads one after another; each is handed in whole, up to and with its blank line."""

    __slots__ = ("_max_headers", "_parser", "_seen")

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers
        self._seen: dict[bytes, bytes] = {}
        self._parser = httptools.HttpRequestParser(self)

    @property
    def on_header(self) -> Callable[[bytes, bytes], None]:
        """What httptools calls for each header; bound once, so no Python frame is made for it."""
        return self._seen.__setitem__

    def parse(self, head: bytes, peer: str) -> Request:
        """The request of a complete head. Raises `BadFraming`; the parser must not be used after that."""
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise _bad_request_line(head)
        seen = self._seen
        seen.clear()
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            raise BadFraming(400, f"malformed request head: {error}") from error
        headers = {name.lower(): value for name, value in seen.items()}
        count = head.count(b"\r\n") - 2
        if count > self._max_headers:
            raise BadFraming(431, f"more than {self._max_headers} headers")
        if len(headers) != count:
            headers = _repeated(head)
        http11 = line[3] == b"1"
        if http11 and b"host" not in headers:
            raise BadFraming(400, "an HTTP/1.1 request names its host")
        path, _, query = line[2].partition(b"?")
        return Request(line[1], path, query, headers, http11, peer, http11)

    def expect_head(self) -> None:
        """Forget the body of the request before: the next bytes are a head again."""
        self._parser = httptools.HttpRequestParser(self)


_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect"))


def _repeated(head: bytes) -> dict[bytes, bytes]:
    """The headers of a head, well-formed already, in which some names come more than once."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:-2]:
        raw, _, value = line.partition(b":")
        name, value = raw.lower(), value.lstrip(b" \t")
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise BadFraming(400, f"more than one {name.decode()} header")
        else:
            headers[name] += b"," + value
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
