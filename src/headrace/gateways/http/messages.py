"""Request and Response: the plain values between the engine and a handler."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Protocol

import msgspec

from headrace.model.reading import Buffer, Reading


class BadFraming(Exception):
    """What came in is not one well-formed request; the connection ends after the refusal.

    `status` is the HTTP status to refuse with; the text says why, for the refusal's message.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Body(Protocol):
    """The body of a request. Reading it is what makes the engine ask for it (`100 Continue`)."""

    length: int | None
    """Announced length in bytes; None when chunked."""
    received: int
    """Bytes that have come so far, framing included."""

    def allow(self, max_bytes: int | None) -> None:
        """How many bytes it may have, from now on; None: as many as come. At first: as for a request that is no upload."""

    def at_hand(self) -> bytes | None:
        """All of it, where it has come and nothing of it was read; it then counts as read. Raises as the iteration."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body's bytes in order. Raises `BadFraming` when it ends early, is malformed, or has more than is allowed."""


class Request(msgspec.Struct):
    """One request as it came: raw path and query, header names in lower case, nothing decoded.

    `headers` joins repeated names' values with commas in their order; values keep spaces at their end.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    http11: bool
    peer: str
    keep_alive: bool = True
    started_s: float = 0.0
    """Monotonic seconds when the head was complete."""
    body: Body | None = None
    local: str = ""
    """The address that the client has reached, `host:port`."""
    note: object = None
    """The handler's own, from `quick` or `handle` to `finished`."""


class Chunks:
    """A body whose length is not known when its first bytes leave. Sent in chunks; to HTTP/1.0 clients until the close.

    Like a `Reading` it must be iterated to its end or closed.
    """

    __slots__ = ("_pieces", "framed")

    def __init__(self, pieces: AsyncGenerator[bytes]) -> None:
        self._pieces = pieces
        self.framed = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        await self._pieces.aclose()


class Response(msgspec.Struct, frozen=True):
    """What to answer. `fields` are whole header lines, as `render_fields` makes them.

    The engine adds `content-length` and `connection`. `length` is what to announce when no body
    follows (HEAD); -1: the body's own length.
    """

    status: int
    fields: bytes = b""
    body: bytes | Reading | Chunks = b""
    length: int = -1
    close: bool = False


class Begun(msgspec.Struct, frozen=True):
    """A request that `Handler.glance` has read, and its answer; `finished` follows when it has left."""

    request: Request
    response: Response


Glanced = tuple[bytes, tuple[Buffer, ...], int] | Begun | None
"""What `Handler.glance` makes of a head: a whole answer (its head, its body and that one's length), which is counted
already; or an answer to be sent like any other; or nothing."""


class Handler(Protocol):
    """A protocol above HTTP. `quick`, `handle` and `glance` never raise on purpose."""

    def form(self, request: Request, head: bytes) -> object | None:
        """Asked after `quick` answered: what `glance` may read further heads of the same connection by; None: nothing yet."""

    def glance(self, form: object, head: bytes, date_line: bytes) -> Glanced:
        """The answer to a head that may have the form, on a connection that stays open. None: read it the long way."""

    def quick(self, request: Request) -> Response | None:
        """The answer, if it can be given at once; None: `handle` will. Only asked for requests without a body."""

    async def handle(self, request: Request) -> Response:
        """The answer. A `Reading` in it is closed by the engine."""

    def refuse(self, status: int, reason: str, peer: str) -> Response:
        """The engine's own refusal (bad framing, limits, overload) in the protocol's form."""

    def failed(self, request: Request, error: Exception) -> None:
        """The body broke while it was sent; the connection is aborted. `finished` follows."""

    def finished(self, request: Request, response: Response, sent: int, *, complete: bool) -> None:
        """The answer has left, or was cut after `sent` body bytes."""


_FORBIDDEN = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"
_NAME_OK = b"abcdefghijklmnopqrstuvwxyz0123456789-_"


def render_fields(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Header lines from names and values. Text outside Latin-1 is sent as UTF-8, as S3 does.

    Control characters, which could split the response, become spaces; a name that is no token
    is left out.
    """
    lines = []
    for name, value in pairs:
        raw_name, raw = name.encode("utf-8", "replace"), value.encode("utf-8", "replace")
        if not raw_name or raw_name.lower().strip(_NAME_OK):
            continue
        if raw.translate(None, _FORBIDDEN) != raw:
            raw = bytes(32 if byte in _FORBIDDEN else byte for byte in raw)
        lines.append(raw_name + b": " + raw + b"\r\n")
    return b"".join(lines)
