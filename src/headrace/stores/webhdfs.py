"""WebHDFS: HDFS over HTTP, spoken to with the one HTTP layer.

Bytes go to and from DataNodes, to which a NameNode points by redirect: that is how WebHDFS works, so these are followed, once,
to whatever address the mount's address rule allows, with nothing but the query that the NameNode wrote.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from headrace.model.errors import (
    AccessDenied,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    Unavailable,
    Unsupported,
)
from headrace.model.reading import Buffer
from headrace.stores.hdfs_client import REFUSALS, FileBytes, HdfsClient
from headrace.stores.http import Http, HttpResponse, Redirected
from headrace.stores.sending import Sending
from headrace.stores.tree_listing import FileStatus

_PREFIX = "/webhdfs/v1"
_MAX_ANSWER_BYTES = 1 << 20
_MAX_LIST_BYTES = 256 << 20
_BINARY = ("content-type", "application/octet-stream")
_T = TypeVar("_T")


class _Status(msgspec.Struct, rename="camel"):
    path_suffix: str
    type: str
    length: int
    modification_time: int
    file_id: int = 0
    children_num: int = 1

    def plain(self) -> FileStatus:
        return FileStatus(
            self.path_suffix, self.type == "FILE", self.length, self.modification_time, self.file_id, self.children_num
        )


class _OneStatus(msgspec.Struct, rename="pascal"):
    file_status: _Status


class _Statuses(msgspec.Struct, rename="pascal"):
    file_status: list[_Status]


class _Listing(msgspec.Struct, rename="pascal"):
    file_statuses: _Statuses


class _Partial(msgspec.Struct, rename={"listing": "partialListing", "remaining": "remainingEntries"}):
    listing: _Listing
    remaining: int


class _Batch(msgspec.Struct, rename="pascal"):
    directory_listing: _Partial


class _Said(msgspec.Struct):
    boolean: bool


class _Remote(msgspec.Struct):
    exception: str = ""
    message: str = ""


class _Refusal(msgspec.Struct, rename="pascal"):
    remote_exception: _Remote


class WebHdfs(HdfsClient):
    """Asks the first of `namenodes` (`http://host:port`) that is active; `identity` goes into every query."""

    def __init__(self, namenodes: Sequence[str], identity: tuple[tuple[str, str], ...], http: Http) -> None:
        self._namenodes = tuple(namenodes)
        self._identity = identity
        self._http = http
        self._active = 0
        self._batches = True

    async def status(self, path: str) -> FileStatus:
        return (await self._ask("GET", path, _OneStatus, op="GETFILESTATUS")).file_status.plain()

    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:
        if self._batches:
            try:
                batch = await self._ask("GET", path, _Batch, op="LISTSTATUS_BATCH", startAfter=after)
            except Unsupported:
                self._batches = False  # before Hadoop 2.8 a directory is told in one piece
            else:
                told = batch.directory_listing
                return [one.plain() for one in told.listing.file_statuses.file_status], told.remaining > 0
        listing = await self._ask("GET", path, _Listing, op="LISTSTATUS")
        return [one.plain() for one in listing.file_statuses.file_status], False

    async def open(self, path: str, start: int, length: int) -> FileBytes:
        query = {"op": "OPEN", "offset": str(start), "length": str(length)}
        response = await self._on_datanode("GET", path, query, None)
        return _Body(response, length)

    async def create(self, path: str, pieces: AsyncIterable[Buffer], length: int) -> None:
        query = {"op": "CREATE", "overwrite": "false"}
        response = await self._on_datanode("PUT", path, query, Sending(pieces, length, path=path))
        response.close()

    async def append(self, path: str, data: Buffer) -> None:
        response = await self._on_datanode("POST", path, {"op": "APPEND"}, Sending(_once(data), len(data), path=path))
        response.close()

    async def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        options = "OVERWRITE" if overwrite else "NONE"
        answer = await self._namenode("PUT", source, {"op": "RENAME", "destination": target, "renameoptions": options})
        await answer.read(_MAX_ANSWER_BYTES)

    async def make_directories(self, path: str) -> None:
        try:
            done = (await self._ask("PUT", path, _Said, op="MKDIRS")).boolean
        except Conflict as error:
            raise InvalidKey(f"{path}: a file lies where a directory is needed", path=path) from error
        if not done:
            raise Unavailable(f"{path}: the directory could not be made", path=path)

    async def delete(self, path: str) -> bool:
        return (await self._ask("DELETE", path, _Said, op="DELETE", recursive="false")).boolean

    async def close(self) -> None:
        await self._http.close()

    async def _ask(self, method: str, path: str, kind: type[_T], **query: str) -> _T:
        body = await (await self._namenode(method, path, query)).read(_MAX_LIST_BYTES)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise CorruptData(f"{path}: the NameNode's answer is no WebHDFS answer ({error})", path=path) from error

    async def _namenode(self, method: str, path: str, query: dict[str, str]) -> HttpResponse:
        """An answer of the active NameNode. Raises `Redirected` where it points to a DataNode."""
        asked = urlencode([*query.items(), *self._identity], quote_via=quote)
        last: HeadraceError | None = None
        for _ in self._namenodes:
            url = f"{self._namenodes[self._active]}{_PREFIX}{quote(path)}?{asked}"
            try:
                response = await self._http.request(method, url, path=path)
                if response.status in (200, 201):
                    return response
                raise await _refused(response, path)
            except _Standby as error:
                last = error
            except Unavailable as error:
                # Only a connection that was refused says that nothing was done: then another may be asked.
                if "connection refused" not in str(error):
                    raise
                last = error
            self._active = (self._active + 1) % len(self._namenodes)
        raise last or Unavailable(f"{path}: no NameNode is named", path=path)

    async def _on_datanode(self, method: str, path: str, query: dict[str, str], body: Sending | None) -> HttpResponse:
        try:
            response = await self._namenode(method, path, query)
        except Redirected as redirect:
            place = urlsplit(redirect.headers.get("location", ""))
        else:
            response.close()
            raise CorruptData(f"{path}: the NameNode answered {query['op']} itself instead of naming a DataNode", path=path)
        if place.scheme not in ("http", "https") or not place.netloc or "@" in place.netloc or not place.path.startswith(_PREFIX):
            raise CorruptData(f"{path}: the NameNode pointed to something that is no DataNode", path=path)
        # The path is ours: some releases write it back decoded.
        url = f"{place.scheme}://{place.netloc}{_PREFIX}{quote(path)}?{place.query}"
        answer = await self._http.request(method, url, headers=[_BINARY] if body is not None else [], body=body, path=path)
        if answer.status in (200, 201):
            return answer
        raise await _refused(answer, path)


class _Standby(Unavailable):
    """This NameNode is not the active one."""


async def _once(data: Buffer) -> AsyncGenerator[Buffer, None]:
    yield data


class _Body(FileBytes):
    """A DataNode's answer, with its length checked."""

    def __init__(self, response: HttpResponse, length: int) -> None:
        self._response = response
        self._length = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        path, left = self._response.path, self._length
        try:
            async for piece in self._response.chunks():
                left -= len(piece)
                if left < 0:
                    raise CorruptData(f"{path}: the DataNode sent more than the {self._length} bytes asked for", path=path)
                yield piece
            if left:
                raise Unavailable(f"{path}: the DataNode's answer ended {left} bytes early", path=path)
        finally:
            self.close()

    def close(self) -> None:
        self._response.close()


async def _refused(response: HttpResponse, path: str) -> HeadraceError:
    """What an answer that is no success means."""
    body = await response.read(_MAX_ANSWER_BYTES)
    try:
        told = msgspec.json.decode(body, type=_Refusal).remote_exception
    except msgspec.DecodeError:
        told = _Remote()
    words = told.message.partition("\n")[0] or f"status {response.status}"
    message = f"{response.url} for {path!r}: {told.exception or 'refused'}: {words}".replace("\r", " ")
    if told.exception in ("StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException"):
        return (_Standby if told.exception == "StandbyException" else Unavailable)(message, path=path)
    if told.exception == "IllegalArgumentException":
        return (Unsupported if '"op"' in told.message else InvalidKey)(message, path=path)
    if told.exception == "IOException" and "must both be" in told.message:
        return InvalidKey(f"{path}: a directory lies there", path=path)
    if told.exception == "IOException" and "out of" in told.message.lower():
        return InvalidRange(message, path=path)
    if told.exception in REFUSALS:
        return REFUSALS[told.exception](message, path=path)
    if response.status in (401, 403) and not told.exception:
        return AccessDenied(message, path=path)
    if not told.exception and response.status == 404:
        return Unavailable(f"{message}: is WebHDFS served there?", path=path)
    return Unavailable(message, path=path)
