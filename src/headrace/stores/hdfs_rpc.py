"""HDFS in the NameNode's own protocol, spoken by the client library `hdfs-native` (extra `hdfs`).

It knows clusters by their `core-site.xml` and `hdfs-site.xml`, follows the active NameNode, and speaks Kerberos. It does not
tell the number that HDFS gives a file, so all of these statuses have none.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from headrace.model.errors import (
    AccessDenied,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    NotFound,
    Unavailable,
    Unsupported,
)
from headrace.model.reading import Buffer
from headrace.stores.hdfs_client import REFUSALS, FileBytes, HdfsClient
from headrace.stores.tree_listing import FileStatus

if TYPE_CHECKING:
    from hdfs_native import Client
    from hdfs_native import FileStatus as NativeStatus

_PAGE_NAMES = 5000
_OPEN_LISTINGS = 8
_DIRECTORY_MODE = 0o755
_FIRST_READ_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_WRITE_BYTES = 1 << 20
_REFUSAL = re.compile(r'(?:Fatal)?RPCError\("([\w.$]+)", "((?:[^"\\]|\\.)*)')
_Args = TypeVarTuple("_Args")
_DENIED = re.compile(r"(?:SASLError|GSSAPIError|NoSASLMechanism)\b.*", re.DOTALL)
_T = TypeVar("_T")


class HdfsRpc(HdfsClient):
    """`timeout_s` bounds each exchange with the cluster, `threads` how many of them run at once.

    The library's blocking form, on threads of its own: its asynchronous one ends in a panic wherever it has to wait before it
    tries again (0.14.7: no timer runs outside of its runtime).
    """

    def __init__(self, client: Client, *, timeout_s: float, threads: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hdfs")
        self._listings: dict[tuple[str, str], Iterator[NativeStatus]] = {}

    async def status(self, path: str) -> FileStatus:
        return _plain("", await self.done(path, self._client.get_file_info, path))

    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:
        # The protocol's own pages begin where the last one ended, which the library keeps to itself.
        listing = self._listings.pop((path, after), None)
        rest, names = await self.done(path, self._children, path, listing, after.encode() if listing is None else b"")
        if len(names) < _PAGE_NAMES:
            return names, False
        # Few are kept: one that was given up is never asked for again.
        self._listings[path, names[-1].name] = rest
        while len(self._listings) > _OPEN_LISTINGS:
            del self._listings[next(iter(self._listings))]
        return names, True

    async def open(self, path: str, start: int, length: int) -> FileBytes:
        reader = await self.done(path, self._client.read, path)
        if len(reader) < start + length:
            raise NotFound(f"{path}: it has {len(reader)} bytes now, fewer than were asked for", path=path)
        return _Bytes(self, path, reader.read_range_stream(start, length), length)

    async def create(self, path: str, pieces: AsyncIterable[Buffer], length: int) -> None:
        from hdfs_native import WriteOptions  # noqa: PLC0415  an extra

        writer = await self.done(path, self._client.create, path, WriteOptions(overwrite=False, create_parent=True))
        written = 0
        async for piece in _joined(pieces):
            written += len(piece)
            await self.done(path, writer.write, piece)
        if written != length:
            raise CorruptData(f"{path}: {written} bytes came where {length} were announced", path=path)
        await self.done(path, writer.close)

    async def append(self, path: str, data: Buffer) -> None:
        writer = await self.done(path, self._client.append, path)
        await self.done(path, writer.write, bytes(data))
        await self.done(path, writer.close)

    async def rename(self, source: str, target: str, *, overwrite: bool) -> None:
        await self.done(source, self._client.rename, source, target, overwrite)

    async def make_directories(self, path: str) -> None:
        try:
            await self.done(path, self._client.mkdirs, path, _DIRECTORY_MODE, True)
        except Conflict as error:
            raise InvalidKey(f"{path}: a file lies where a directory is needed", path=path) from error

    async def delete(self, path: str) -> bool:
        return await self.done(path, self._client.delete, path, False)

    async def close(self) -> None:
        self._listings.clear()
        self._threads.shutdown(wait=False)

    def _children(
        self, path: str, listing: Iterator[NativeStatus] | None, after: bytes
    ) -> tuple[Iterator[NativeStatus], list[FileStatus]]:
        listing = listing or self._client.list_status(path)
        found: list[FileStatus] = []
        for one in listing:
            if one.path.rstrip("/") == path:
                raise InvalidKey(f"{path}: it is a file, not a directory", path=path)
            name = one.path.rpartition("/")[2]
            if name.encode() > after:
                found.append(_plain(name, one))
            if len(found) == _PAGE_NAMES:
                break
        return listing, found

    async def done(self, path: str, ask: Callable[[*_Args], _T], *args: *_Args) -> _T:
        """The result of a call of the library, with whatever it raises as one of the known errors.

        A call that is not waited for any more ends by itself: the library bounds its waits for sockets.
        """
        work = asyncio.get_running_loop().run_in_executor(self._threads, ask, *args)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except TimeoutError as error:
            raise Unavailable(f"HDFS did not answer within {self._timeout_s:g} s for {path!r}", path=path) from error
        except HeadraceError:
            raise
        except (OSError, RuntimeError, NotImplementedError, ValueError) as error:
            raise _translated(error, path) from error


class _Bytes(FileBytes):
    """A stream of the library's, with its length checked."""

    def __init__(self, client: HdfsRpc, path: str, stream: Iterator[bytes], length: int) -> None:
        self._client = client
        self._path = path
        self._stream: Iterator[bytes] | None = stream
        self._left = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        size = _FIRST_READ_BYTES
        coming = self._next(size)
        try:
            while self._left:
                piece = await coming
                if not piece:
                    raise Unavailable(f"{self._path}: HDFS ended {self._left} bytes early", path=self._path)
                self._left -= len(piece)
                if self._left < 0:
                    raise CorruptData(f"{self._path}: HDFS sent more than was asked for", path=self._path)
                if self._left:
                    size = min(2 * size, _READ_BYTES)
                    coming = self._next(size)  # on its way while this one is used
                yield piece
        finally:
            self.close()
            # A stream is one thread's at a time, and what went wrong with bytes that nobody wants any more is nobody's error.
            coming.add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        self._stream = None

    def _next(self, size: int) -> asyncio.Future[bytes]:
        if self._stream is None:
            raise Unavailable(f"{self._path}: the reading was given up", path=self._path)
        return asyncio.ensure_future(self._client.done(self._path, _some, self._stream, size))


def _some(stream: Iterator[bytes], size: int) -> bytes:
    """At least so many of the next bytes, unless there are no more: piece by piece each would cost a message between threads."""
    found: list[bytes] = []
    for piece in stream:
        found.append(piece)
        size -= len(piece)
        if size <= 0:
            break
    return b"".join(found)


def _plain(name: str, status: NativeStatus) -> FileStatus:
    return FileStatus(name, not status.isdir, status.length, status.modification_time)


async def _joined(pieces: AsyncIterable[Buffer]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of at least so many: each costs a message to another thread."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= _WRITE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _translated(error: Exception, path: str) -> HeadraceError:
    """What an error of the library means. Most of what a NameNode says comes as the debugging form of a Rust value."""
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path}: HDFS has nothing there", path=path)
    if isinstance(error, FileExistsError):
        return Conflict(f"{path}: something is there already", path=path)
    if isinstance(error, IsADirectoryError):
        return InvalidKey(f"{path}: a directory lies there", path=path)
    if isinstance(error, NotImplementedError):
        return Unsupported(f"{path}: {error}", path=path)
    told = _REFUSAL.search(str(error))
    if told is None and (denied := _DENIED.search(str(error))):
        return AccessDenied(f"HDFS for {path!r}: Kerberos: {denied[0]}", path=path)
    if told is None:
        return Unavailable(f"HDFS for {path!r}: {type(error).__name__}: {error}", path=path)
    name = told[1].rpartition(".")[2]
    words = told[2].partition("\\n")[0]
    return REFUSALS.get(name, Unavailable)(f"HDFS for {path!r}: {name}: {words}", path=path)
