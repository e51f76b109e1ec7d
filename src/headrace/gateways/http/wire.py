"""The bytes of a response's head."""

from __future__ import annotations

from http import HTTPStatus

from headrace.gateways.http.messages import Chunks, Request, Response
from headrace.model.reading import Reading

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_BODILESS = frozenset((204, 304))


def response_head(request: Request | None, response: Response, date_line: bytes, close: bool) -> bytes:
    """Status line, headers and the blank line. `request` is None for a refusal before there was one."""
    if close:
        connection = b"connection: close\r\n"
    else:
        connection = b"" if request is None or request.http11 else b"connection: keep-alive\r\n"
    status = response.status
    if status in _BODILESS:
        return b"%s%s%s%s\r\n" % (STATUS_LINES[status], date_line, response.fields, connection)
    length = response.length
    if length < 0:
        body = response.body
        if isinstance(body, Chunks):
            coding = b"transfer-encoding: chunked\r\n" if body.framed else b""
            return b"%s%s%s%s%s\r\n" % (STATUS_LINES[status], date_line, response.fields, coding, connection)
        if isinstance(body, Reading):
            wanted = body.range
            length = wanted.end - wanted.start
        else:
            length = len(body)
    return b"%s%s%scontent-length: %d\r\n%s\r\n" % (STATUS_LINES[status], date_line, response.fields, length, connection)
