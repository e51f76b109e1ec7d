"""WebStore: what lies below a URL of a web server, read-only.

A server promises less than an object store: its `Last-Modified` counts seconds, and it sends what lies in a file that others
may write into meanwhile. So what was changed a moment ago is waited for until no further change can bear the same stamp, and
the last bytes of a body wait until the server has said, after it sent them, that the object is still what it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

from headrace.model.clock import Clock
from headrace.model.errors import InvalidKey, NotFound, Unavailable, Unsupported, VersionChanged
from headrace.model.objects import ByteRange, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.http import HttpResponse, body_range, range_header
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.store import Store
from headrace.stores.tree_listing import FileStatus, Tree, list_page
from headrace.stores.web_requests import WebRequests
from headrace.stores.web_versions import Seen, seen

_LOOKS = 3
_AT_ONCE = 16


class WebStore(Store):
    """The files below `requests.root`. Without `lists`, no index page is asked for and listing is `Unsupported`."""

    def __init__(
        self,
        requests: WebRequests,
        clock: Clock,
        *,
        lists: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._requests = requests
        self._clock = clock
        self._lists = lists
        self._sleep = sleep

    async def info(self, key: str) -> ObjectInfo:
        target = _target(key)

        async def look() -> Seen:
            response = await self._requests.send("HEAD", target, key)
            response.close()
            return self._seen(key, response, _length(response))

        return await self._settled(key, look)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        target = _target(key)
        if byte_range is not None and not 0 <= byte_range.start < byte_range.end:
            cut_range(byte_range, (await self.info(key)).size, key)
        for _ in range(_LOOKS):
            response = await self._ask(target, key, byte_range)
            try:
                if response.status == 416:
                    return await self._outside(key, byte_range, version)
                found, held, skipped = self._opened(key, response, byte_range)
                if version is not None and found.info.version != version:
                    raise VersionChanged(f"{key!r} is now {found.info.version.token}, not {version.token}", path=key)
            except BaseException:  # whatever it is: tidied up here, raised on
                response.close()
                raise
            if not found.unsettled_s:
                return _WebReading(self, found.info, held, response, skipped)
            response.close()
            await self._sleep(found.unsettled_s)
        raise _restless(key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        if not self._lists:
            raise Unsupported("the mount says index_pages = false: what lies there is read by key, never listed", path=prefix)
        tree = Tree(self._requests, "", _placeholder, hidden="")
        page = await list_page(tree, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def entry(placed: Entry) -> Entry | None:
            if not isinstance(placed, ObjectInfo):
                return placed
            async with gate:
                try:
                    return await self.info(placed.key)
                except (NotFound, Unsupported, InvalidKey):
                    return None  # gone since, or nothing that is an object here

        found = await asyncio.gather(*(entry(placed) for placed in page.entries))
        return Listing(tuple([one for one in found if one is not None]), page.after)

    async def close(self) -> None:
        await self._requests.close()

    async def _ask(self, target: str, key: str, byte_range: ByteRange | None) -> HttpResponse:
        headers = () if byte_range is None else (range_header(byte_range),)
        return await self._requests.send("GET", target, key, headers=headers, passed=(416,))

    def _opened(self, key: str, response: HttpResponse, asked: ByteRange | None) -> tuple[Seen, ByteRange, int]:
        """What is being sent, which bytes of it are wanted, and how many come before them."""
        if response.status == 200:  # also where ranges are not known
            size = _length(response)
            held = cut_range(asked, size, key)
            return self._seen(key, response, size), held, held.start
        held, size = body_range(response, asked)
        return self._seen(key, response, size), held, 0

    async def _outside(self, key: str, asked: ByteRange | None, version: Version | None) -> Reading:
        """A range that the server refused lies behind the object, unless the object is another one now."""
        info = await self.info(key)
        if version is not None and info.version != version:
            raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
        cut_range(asked, info.size, key)
        raise Unavailable(f"{key!r}: the server refused a range that lies in it: it is being changed, try again", path=key)

    async def _settled(self, key: str, look: Callable[[], Awaitable[Seen]]) -> ObjectInfo:
        for _ in range(_LOOKS):
            found = await look()
            if not found.unsettled_s:
                return found.info
            await self._sleep(found.unsettled_s)
        raise _restless(key)

    def _seen(self, key: str, response: HttpResponse, size: int) -> Seen:
        return seen(key, size, response.headers, self._clock.time())


class _WebReading(Reading):
    """A body without its first `skipped` bytes. The last piece waits until the object is known to be still the same."""

    __slots__ = ("_response", "_skipped", "_store")

    def __init__(self, store: WebStore, info: ObjectInfo, byte_range: ByteRange, response: HttpResponse, skipped: int) -> None:
        super().__init__(info, byte_range)
        self._store = store
        self._response = response
        self._skipped = skipped

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        held: Buffer = b""
        async for piece in self._wanted():
            if held:
                yield held
            held = piece
        if not held:
            return
        key = self.info.key
        try:
            now = await self._store.info(key)
        except NotFound as error:
            raise VersionChanged(f"{key!r} was removed while it was read", path=key) from error
        if now.version != self.info.version:
            raise VersionChanged(f"{key!r} was changed while it was read", path=key)
        yield held

    async def _wanted(self) -> AsyncIterator[Buffer]:
        skipped, left = self._skipped, self.range.length
        try:
            async for piece in self._response.chunks():
                view = memoryview(piece)[skipped:]
                skipped -= len(piece) - len(view)
                wanted = view[:left]
                left -= len(wanted)
                if wanted:
                    yield wanted
                if not left:
                    return
        finally:
            self._response.close()
        if left:
            raise Unavailable(f"{self.info.key!r}: the server ended {left} bytes early, try again", path=self.info.key)

    async def aclose(self) -> None:
        self._response.close()


def _target(key: str) -> str:
    """The path of a key, percent-encoded. Raises `InvalidKey` for keys that servers do not keep exactly."""
    check_key(key)
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidKey(f"{key!r} can be no path of a web server (NUL, or an empty, '.' or '..' segment)", path=key)
    return quote(key, safe="/")


def _length(response: HttpResponse) -> int:
    text = response.headers.get("content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        message = f"{response.path!r}: the server does not say how long it is (no Content-Length), so it is no object here"
        raise Unsupported(message, path=response.path)
    return int(text)


def _placeholder(key: str, status: FileStatus) -> ObjectInfo:  # noqa: ARG001  an index page tells names alone
    return ObjectInfo(key, 0, Version(""))


def _restless(key: str) -> Unavailable:
    return Unavailable(
        f"{key!r} was changed within the last seconds whenever it was looked at, and Last-Modified cannot tell such changes "
        "apart: try again",
        path=key,
    )
