"""The one HTTP layer under the cloud stores: exact paths, guarded addresses, bounded bodies, our errors.

A store makes one `Http` and calls `request`; it gets an `HttpResponse` whatever the status (but
never a redirect) and must `read` or `close` it. `body_range` checks what a 200 or 206 holds,
`HttpReading` streams it with its length checked, `status_error` turns other statuses into errors.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from yarl import URL

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
from headrace.stores.guard import AddressGuard, AddressRefused, GuardedResolver
from headrace.stores.sending import Sending

Headers = Mapping[str, str]
"""Header names are compared without case."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")
_MAX_RETRY_AFTER_S = 3600.0
_READS = frozenset({"GET", "HEAD"})
_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


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

    __slots__ = ("_response", "headers", "path", "status")

    def __init__(self, response: aiohttp.ClientResponse, path: str) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = response.headers
        self.path = path

    @property
    def url(self) -> str:
        """Where the answer came from, for messages: without its query."""
        return str(self._response.url.with_query(None))

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
        stream = self._response.content
        try:
            while True:
                piece, _ = await stream.readchunk()
                if piece:
                    yield piece
                elif stream.at_eof():
                    return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise translate(error, self.url, path=self.path) from error

    def close(self) -> None:
        """Give up the rest. A connection with an unread body is dropped, a finished one is kept."""
        self._response.close()


class Http:
    """A pool of connections that obeys one mount's address rule. Belongs to one event loop."""

    def __init__(self, settings: HttpSettings | None = None, *, guard: AddressGuard | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._guard = guard or AddressGuard()
        self._session: aiohttp.ClientSession | None = None
        self._checked_host: str | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Sending | None = None,
        path: str = "",
    ) -> HttpResponse:
        """Send one request and wait for the answer's head.

        `url` is sent exactly as given: percent-encode path and query first. No retry (but for a
        read on a kept connection that the store had closed), no redirect, no decompression, no cookies.
        Raises `Unavailable`, `AccessDenied` (address rule), `Redirected` and `SettingsError` (bad URL), and what a
        `Sending`'s source raises; the store then never had the whole body.
        """
        target = URL(url, encoded=True)
        try:
            if target.host != self._checked_host:
                self._guard.check_host(target.host or "")
                self._checked_host = target.host
            if method not in _READS:
                body = body if isinstance(body, Sending) else Sending(_Once(body or b""), len(body or b""), path=path)
                response = await self._send(method, target, headers, body)
            else:
                response = await self._open_session().request(method, target, headers=list(headers), allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise translate(error, str(target.with_query(None)), path=path) from error
        if 300 <= response.status < 400:
            response.close()
            place = response.headers.get("location", "another place")
            message = (
                f"{target.origin()} answered {response.status} and pointed to {place}: "
                "redirects are not followed, set the endpoint that holds the data"
            )
            raise Redirected(message, path=path, status=response.status, headers=response.headers)
        return HttpResponse(response, path)

    async def close(self) -> None:
        """Close all connections. May be called more than once."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, method: str, target: URL, headers: Iterable[tuple[str, str]], body: Sending) -> aiohttp.ClientResponse:
        """A request that may change something. Its body is an iterator even when it is empty: those are never sent twice."""
        patience_s = self._settings.read_timeout_s
        sent = [*headers, ("content-length", str(body.length))]
        try:
            async with asyncio.timeout(None) as watch:
                body.watched_by(watch, patience_s)
                response = await self._open_session().request(
                    method, target, headers=sent, data=body.pieces(), allow_redirects=False
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await body.stop()
            if body.error is not None:
                raise body.error from None
            if watch.expired():
                message = f"{target.with_query(None)}: took no byte of the body for {patience_s:g} s"
                raise Unavailable(message, path=body.path) from error
            raise
        except BaseException:  # whatever it is: tidied up here, raised on
            await body.stop()
            raise
        finally:
            body.unwatched()
        if response.status < 300 and not body.is_whole:
            response.close()
            message = f"{target.with_query(None)}: answered {response.status} before it had the whole body"
            raise Unavailable(message, path=body.path)
        return response

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            connector = aiohttp.TCPConnector(
                # A copy that passes through here reads on one connection while it writes on another: how many calls run at
                # once is bounded above, and none of them may wait for a connection that only another such copy can free.
                limit=2 * settings.max_connections,
                resolver=GuardedResolver(self._guard, settings.connect_timeout_s),
                ttl_dns_cache=30,
                keepalive_timeout=15.0,
                socket_factory=self._guard.open_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                requote_redirect_url=False,
                skip_auto_headers=_SKIPPED,
                headers={"Accept-Encoding": "identity", "User-Agent": "headrace"},
                max_line_size=16 * 1024,
                max_field_size=16 * 1024,
            )
        return self._session


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
    cause: Any = getattr(error, "os_error", None) or error
    if isinstance(cause, AddressRefused):
        return AccessDenied(str(cause), path=path)
    if isinstance(error, aiohttp.InvalidURL):
        return SettingsError(f"{where} is not a usable address: {error}", path=path)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unavailable(f"{where}: the host's name could not be resolved ({cause}): check the endpoint and DNS", path=path)
    if isinstance(cause, ssl.SSLError) or isinstance(error, aiohttp.ClientSSLError):
        return Unavailable(f"{where}: no secure connection ({cause}): check the certificate and the clock", path=path)
    if isinstance(error, (aiohttp.ClientPayloadError, asyncio.IncompleteReadError)):
        return Unavailable(f"{where}: the connection ended in the middle of the body", path=path)
    if isinstance(error, TimeoutError):
        return Unavailable(f"{where}: no answer in time", path=path)
    if isinstance(cause, ConnectionRefusedError):
        return Unavailable(f"{where}: connection refused: is the store running there?", path=path)
    return Unavailable(f"{where}: {type(cause).__name__}: {cause}", path=path)


def _content_length(response: HttpResponse) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
