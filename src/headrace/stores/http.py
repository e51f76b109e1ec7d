"""The one HTTP layer under the cloud stores: exact paths, guarded addresses, bounded bodies, our errors.

A store makes one `Http` and calls `request`; it gets an `HttpResponse` whatever the status (but
never a redirect) and must `read` or `close` it. `body_range` checks what a 200 or 206 holds,
`HttpReading` streams it with its length checked, `status_error` turns other statuses into errors.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from headrace.model.errors import (
    AccessDenied,
    CorruptData,
    HeadraceError,
    InvalidRange,
    NoSpace,
    NotFound,
    SettingsError,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, Reading
from headrace.stores.guard import AddressGuard, AddressRefused
from headrace.stores.http_answer import BadAnswer
from headrace.stores.http_exchange import Answer, ConnectionCut
from headrace.stores.http_pool import ConnectFailed, ConnectionPool, Origin
from headrace.stores.sending import Sending

Headers = Mapping[str, str]
"""Names are in lower case. What an answer says twice is joined by commas."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")
_MAX_RETRY_AFTER_S = 3600.0
_READS = frozenset({"GET", "HEAD"})
_TARGET = re.compile(r"[!-~]*")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BAD_VALUE = re.compile(r"[\x00\r\n]")
_MAX_ORIGINS = 64
_AT_ONCE_BYTES = 256 * 1024


class HttpSettings(msgspec.Struct, frozen=True):
    """Bounds on the connections of one mount. Times are seconds."""

    max_connections: int = 64
    connect_timeout_s: float = 5.0
    """To resolve the name, and again to connect (with TLS)."""
    read_timeout_s: float = 30.0
    """Without a single byte of an answer."""


class Redirected(SettingsError):
    """The store pointed elsewhere. Never followed: credentials go to no other host."""

    def __init__(self, message: str, *, path: str, status: int, headers: Headers) -> None:
        super().__init__(message, path=path)
        self.status = status
        self.headers = headers


class HttpResponse:
    """An answer whose body is still to come. `path` names the object in errors."""

    __slots__ = ("_answer", "headers", "path", "status", "url")

    def __init__(self, answer: Answer, status: int, headers: Headers, *, url: str, path: str) -> None:
        self._answer = answer
        self.status = status
        self.headers: Headers = headers
        self.url = url
        """Where the answer came from, for messages: without its query."""
        self.path = path

    async def read(self, limit_bytes: int = 1 << 20) -> bytes:
        """The whole body, then the connection is free. Raises `CorruptData` when it is longer than `limit_bytes`."""
        pieces = []
        length = 0
        try:
            async for piece in self.chunks():
                length += len(piece)
                if length > limit_bytes:
                    raise CorruptData(f"{self.url}: the answer is longer than {limit_bytes} bytes", path=self.path)
                pieces.append(piece)
        finally:
            self.close()
        return b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, at most some hundred KiB held. Raises our errors when it is cut."""
        try:
            while piece := await self._answer.piece():
                yield piece
        except (BadAnswer, OSError, TimeoutError) as error:
            raise translate(error, self.url, path=self.path) from error

    def close(self) -> None:
        """Give up the rest. A connection with an unread body is dropped, a finished one is kept."""
        self._answer.close()


class Http:
    """A pool of connections that obeys one mount's address rule. Belongs to one event loop. Proxies are not used."""

    def __init__(self, settings: HttpSettings | None = None, *, guard: AddressGuard | None = None) -> None:
        settings = settings or HttpSettings()
        self._guard = guard or AddressGuard()
        self._pool = ConnectionPool(
            self._guard,
            # A copy that passes through here reads on one connection while it writes on another: how many calls run at
            # once is bounded above, and none of them may wait for a connection that only another such copy can free.
            limit=2 * settings.max_connections,
            connect_timeout_s=settings.connect_timeout_s,
            patience_s=settings.read_timeout_s,
        )
        self._origins: dict[str, Origin] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Collection[tuple[str, str]] = (),
        body: bytes | Sending | None = None,
        path: str = "",
    ) -> HttpResponse:
        """Send one request and wait for the answer's head.

        `url` is sent exactly as given: percent-encode path and query first. No retry (but for a
        read on a kept connection that the store had closed), no redirect, no decompression, no cookies.
        Raises `Unavailable`, `AccessDenied` (address rule), `Redirected` and `SettingsError` (bad URL), and what a
        `Sending`'s source raises; the store then never had the whole body.
        """
        shown = url.partition("?")[0]
        is_read = method in _READS
        body = body or b""
        if not isinstance(body, Sending) and len(body) > _AT_ONCE_BYTES:
            body = Sending(_Once(body), len(body), path=path)
        length = body.length if isinstance(body, Sending) else len(body)
        try:
            origin, target = self._split(url)
            head = _request_head(
                f"{method} {target} HTTP/1.1", origin.authority, headers, None if is_read and not length else length
            )
            answer = await self._exchange(origin, method, head, body)
        except (BadAnswer, OSError, TimeoutError) as error:
            if isinstance(body, Sending) and error is body.error:
                raise
            raise translate(error, shown, path=path) from error
        found = await answer.begun()
        if found.status < 300 and answer.is_early and not is_read:
            answer.close()
            raise Unavailable(f"{shown}: answered {found.status} before it had the whole body", path=path)
        if 300 <= found.status < 400:
            answer.close()
            place = found.headers.get("location", "another place")
            message = (
                f"{origin.url} answered {found.status} and pointed to {place}: "
                "redirects are not followed, set the endpoint that holds the data"
            )
            raise Redirected(message, path=path, status=found.status, headers=found.headers)
        return HttpResponse(answer, found.status, found.headers, url=shown, path=path)

    async def close(self) -> None:
        """Close all connections. May be called more than once."""
        await self._pool.close()

    async def _exchange(self, origin: Origin, method: str, head: bytes, body: bytes | Sending) -> Answer:
        connection = await self._pool.acquire(origin)
        try:
            return await connection.exchange(method, head, body)
        except ConnectionCut:
            # The store may close a kept connection just as it is used. Only a read may then be sent again: whether anything
            # else was done is not known.
            if method not in _READS or connection.uses < 2 or connection.is_heard:
                raise
        return await (await self._pool.acquire(origin, is_new=True)).exchange(method, head, body)

    def _split(self, url: str) -> tuple[Origin, str]:
        """Origin and target of a URL. Raises `SettingsError`, and `AddressRefused` for a host that the rule forbids."""
        scheme, _, rest = url.partition("://")
        end = rest.find("/")
        start, target = (rest, "/") if end < 0 else (rest[:end], rest[end:])
        text = f"{scheme}://{start}"
        origin = self._origins.get(text)
        if origin is None:
            origin = _origin(scheme, start)
            self._guard.check_host(origin.host)
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            self._origins[text] = origin
        if not _TARGET.fullmatch(target) or "#" in target:
            raise SettingsError(f"{text}: a path or query that is not percent-encoded cannot be sent")
        return origin, target


def _origin(scheme: str, authority: str) -> Origin:
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if scheme not in ("http", "https") or not host or "@" in authority or not _TARGET.fullmatch(authority) or "?" in authority:
        raise SettingsError(
            f"{scheme}://{authority.rpartition('@')[2]} is not a usable address: write http:// or https:// and a host"
        )
    is_tls = scheme == "https"
    return Origin(is_tls, host, port or (443 if is_tls else 80), authority)


def _request_head(first: str, authority: str, headers: Collection[tuple[str, str]], length: int | None) -> bytes:
    """The head as it goes out. `host`, `user-agent` and `accept-encoding` are added where they are not given."""
    lines = [first]
    given = set()
    for name, value in headers:
        given.add(_lowered(name))
        lines.append(f"{name}: {value}")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if "\0" in text or text.count("\r") != breaks or text.count("\n") != breaks:
        name, value = next((pair for pair in headers if _BAD_VALUE.search(pair[1])), (first, ""))
        raise SettingsError(f"{name[:50]!r}: its value {value[:50]!r} cannot be sent as a header")
    lines = [text]
    if "host" not in given:
        lines.append(f"host: {authority}")
    if "accept-encoding" not in given:
        lines.append("accept-encoding: identity")
    if "user-agent" not in given:
        lines.append("user-agent: headrace")
    if length is not None:
        lines.append(f"content-length: {length}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=256)
def _lowered(name: str) -> str:
    """The name of a header in lower case. Raises `SettingsError` for what cannot be one."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name[:50]!r} cannot be sent as a header")
    return name.lower()


class _Once:
    """Bytes at hand as a source."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        yield self._data


class HttpReading(Reading):
    """A body on its way, with its length checked: short is `Unavailable`, long is `CorruptData`.

    `byte_range` is what `body_range` returned for the response.
    """

    __slots__ = ("_response",)

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, response: HttpResponse) -> None:
        super().__init__(info, byte_range)
        self._response = response

    @property
    def headers(self) -> Headers:
        """Those of the answer."""
        return self._response.headers

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        left = self.range.length
        path = self._response.path
        try:
            async for piece in self._response.chunks():
                left -= len(piece)
                if left < 0:
                    raise CorruptData(f"{path!r}: the store sent more bytes than the {self.range.length} it announced", path=path)
                yield piece
        finally:
            self._response.close()
        if left:
            raise Unavailable(f"{path!r}: the store ended {left} bytes early, try again", path=path)

    async def aclose(self) -> None:
        self._response.close()


def body_range(response: HttpResponse, asked: ByteRange | None) -> tuple[ByteRange, int]:
    """Which bytes the body of a 200 or 206 holds, and the object's whole size.

    Raises `InvalidRange` when the range lies behind the object and `CorruptData` when the body
    is anything else than what was asked for.
    """
    path = response.path
    length = _content_length(response)
    if response.status == 200:
        if length is None:
            raise CorruptData(f"{path!r}: the store did not say how long the object is", path=path)
        if asked is not None and not length:
            raise InvalidRange(f"{path!r} is empty: a range from {asked.start} lies behind it", path=path, size=0)
        if asked is not None and (asked.start > 0 or asked.end < length):
            raise CorruptData(f"{path!r}: the store ignored the range and sent all {length} bytes", path=path)
        return ByteRange(0, length), length
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status != 206 or asked is None or match is None or match[1] is None or match[3] == "*":
        raise CorruptData(f"{path!r}: the store answered {response.status} with a range that does not fit the request", path=path)
    start, end, size = int(match[1]), int(match[2]) + 1, int(match[3])
    if start != asked.start or end != min(asked.end, size) or (length is not None and length != end - start):
        found = f"bytes {start} to {end} of {size} ({length} sent)"
        raise CorruptData(f"{path!r}: the store sent {found} instead of bytes {asked.start} to {asked.end}", path=path)
    return ByteRange(start, end), size


def range_header(asked: ByteRange) -> tuple[str, str]:
    """The header that asks for `asked`. Raises `InvalidRange` for a range that HTTP cannot say."""
    if asked.start < 0 or asked.end <= asked.start:
        raise InvalidRange(f"bytes {asked.start} up to {asked.end} are no range")
    return "range", f"bytes={asked.start}-{asked.end - 1}"


def held_range(headers: Headers) -> ByteRange | None:
    """The bytes that an answer's `content-range` says it holds, or None."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return ByteRange(int(match[1]), int(match[2]) + 1) if match is not None and match[1] is not None else None


def range_size(headers: Headers) -> int | None:
    """The object's size that a 416 tells, or None."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return int(match[3]) if match is not None and match[3] != "*" else None


def status_error(status: int, message: str, *, path: str, headers: Headers, now_s: float) -> HeadraceError:
    """The error that a status means. The store's own code may know better: look there first."""
    if status in (429, 500, 502, 503, 504, 408, 425) or (status > 504 and status != 507):
        kind = Throttled if status == 429 else Unavailable
        return kind(message, path=path, retry_after_s=retry_after_s(headers, now_s))
    if status == 416:
        return InvalidRange(message, path=path, size=range_size(headers) or 0)
    plain: dict[int, type[HeadraceError]] = {
        401: AccessDenied,
        403: AccessDenied,
        404: NotFound,
        410: NotFound,
        412: VersionChanged,
        507: NoSpace,
    }
    return plain.get(status, Unsupported)(message, path=path)


def retry_after_s(headers: Headers, now_s: float) -> float | None:
    """The wish in `Retry-After` in seconds from now, at most an hour; None when there is none that can be read."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        at_s = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, at_s - now_s), _MAX_RETRY_AFTER_S)


def translate(error: Exception, where: str, *, path: str = "") -> HeadraceError:
    """What went wrong below HTTP, in our terms. `where` is the URL without its query."""
    cause = error.cause if isinstance(error, ConnectFailed) else error
    if isinstance(cause, AddressRefused):
        return AccessDenied(str(cause), path=path)
    if isinstance(cause, BadAnswer):
        return Unavailable(f"{where}: what answers is no sound HTTP/1.1 ({cause}): is the endpoint right?", path=path)
    if isinstance(cause, socket.gaierror):
        return Unavailable(f"{where}: the host's name could not be resolved ({cause}): check the endpoint and DNS", path=path)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"the certificate is refused ({cause.verify_message})"
        message = f"{where}: {reason}: check the endpoint's name, or name its authority's file in SSL_CERT_FILE"
        return Unavailable(message, path=path)
    if isinstance(cause, ssl.SSLError):
        return Unavailable(f"{where}: no secure connection ({cause}): check the certificate and the clock", path=path)
    if isinstance(cause, (TimeoutError, ConnectionCut)):
        return Unavailable(f"{where}: {cause}", path=path)
    if isinstance(cause, ConnectionRefusedError):
        return Unavailable(f"{where}: connection refused: is the store running there?", path=path)
    return Unavailable(f"{where}: {type(cause).__name__}: {cause}", path=path)


def _content_length(response: HttpResponse) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
