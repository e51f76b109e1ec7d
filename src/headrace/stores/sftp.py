"""SftpStore: a directory of an SSH server as objects. Files are written aside and renamed into place.

SFTP tells times in seconds and no inode: a version is time and length. So what was changed a moment ago is waited for until no
further change can bear the same second, what is written here never bears the second of what it replaces, and a body ends only
when its open file still is what it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, cast

from headrace.model.clock import Clock
from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    HeadraceError,
    InvalidKey,
    NotFound,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import ByteRange, Entry, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.sftp_client import SftpClient
from headrace.stores.store import Store
from headrace.stores.tree_listing import OWN, FileStatus, Tree, list_page
from headrace.stores.writes import whole

if TYPE_CHECKING:
    import asyncssh

_SETTLED_S = 2.0
_AHEAD_S = 60.0
_LOOKS = 3
_PIECE_BYTES = 1 << 20
_CHUNK_BYTES = 4 << 20
_NAME_BYTES = 255
_TRIES = 10


class SftpStore(Store):
    """The files below directory `root` (without a slash at its end; empty: all of the server)."""

    def __init__(
        self, client: SftpClient, root: str, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._client = client
        self._root = root
        self._clock = clock
        self._sleep = sleep
        self._publishing = 0

    async def info(self, key: str) -> ObjectInfo:
        path = self._path(key)
        return _described(key, await self._settled(key, lambda: self._client.status(path)))

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        path = self._path(key)
        if not (await self._client.status(path)).is_file:
            raise NotFound(f"{key!r} is a directory, not an object", path=key)
        file = await self._client.open(path, "rb")
        try:
            info = _described(key, await self._settled(key, lambda: self._status_of(file, key)))
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
            return _SftpReading(self, info, cut_range(byte_range, info.size, key), file)
        except BaseException:  # whatever it is: tidied up here, raised on
            await self.shut(file)
            raise

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        if self._root:
            await self._client.status(self._root)  # a mount's directory that is not there is an error, never empty
        tree = Tree(self._client, self._root, _described)
        page = await list_page(tree, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        entries: list[Entry] = []
        for entry in page.entries:
            if not isinstance(entry, ObjectInfo) or not self._unsettled_s(entry.modified_s):
                entries.append(entry)
                continue
            with contextlib.suppress(NotFound):  # removed since
                entries.append(await self.info(entry.key))
        return Listing(tuple(entries), page.after)

    async def write(
        self,
        key: str,
        body: Body,
        attributes: Attributes = PLAIN,  # noqa: ARG002  SFTP keeps bytes alone
        *,
        condition: Condition = ALWAYS,
    ) -> ObjectInfo:
        path = self._path(key)
        only_new = await self._only_new(key, condition)
        aside = f"{self._root}/{OWN}/new/{uuid.uuid4().hex}"
        try:
            await self._put_aside(aside, body, key)
            self._publishing += 1  # no directory is taken away under it
            try:
                await self._publish(aside, path, key, only_new=only_new)
            finally:
                self._publishing -= 1
        except BaseException:  # whatever it is: tidied up here, raised on
            await self._discard(aside)
            raise
        return _described(key, await self._client.status(path))

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        path = self._path(key)
        if condition:
            raise Unsupported(f"{key!r}: SFTP removes nothing under a condition", path=key)
        try:
            if not (await self._client.status(path)).is_file:
                return
            await self._client.delete(path)
        except NotFound:
            return
        await self._prune(path)

    async def close(self) -> None:
        await self._client.close()

    async def check_same(self, info: ObjectInfo, file: asyncssh.SFTPClientFile) -> None:
        """Raises `VersionChanged` unless the open file is still what `info` says."""
        if _described(info.key, await self._status_of(file, info.key)).version != info.version:
            raise VersionChanged(f"{info.key!r} was changed while it was read", path=info.key)

    async def piece(self, file: asyncssh.SFTPClientFile, start: int, length: int, key: str) -> bytes:
        """Bytes of an open file. Raises `VersionChanged` where it has become shorter."""
        with self._client.translated(key):
            data = cast("bytes", await file.read(length, start))  # opened as binary
        if len(data) != length:
            raise VersionChanged(f"{key!r} became shorter while it was read", path=key)
        return data

    async def shut(self, file: asyncssh.SFTPClientFile) -> None:
        """Close an open file; a lost connection has closed it."""
        with contextlib.suppress(HeadraceError), self._client.translated(""):
            await file.close()

    async def _status_of(self, file: asyncssh.SFTPClientFile, key: str) -> FileStatus:
        with self._client.translated(key):
            told = await file.stat()
        return FileStatus("", True, told.size or 0, int(told.mtime or 0) * 1000)

    async def _settled(self, key: str, look: Callable[[], Awaitable[FileStatus]]) -> FileStatus:
        for _ in range(_LOOKS):
            status = await look()
            if not status.is_file:
                raise NotFound(f"{key!r} is a directory, not an object", path=key)
            unsettled_s = self._unsettled_s(status.modified_ms / 1000)
            if not unsettled_s:
                return status
            await self._sleep(unsettled_s)
        raise Unavailable(
            f"{key!r} was changed within the last seconds whenever it was looked at, and SFTP cannot tell such changes apart: "
            "try again",
            path=key,
        )

    def _unsettled_s(self, modified_s: float) -> float:
        age_s = self._clock.time() - modified_s
        return max(0.0, _SETTLED_S - age_s) if age_s > -_AHEAD_S else 0.0

    async def _only_new(self, key: str, condition: Condition) -> bool:
        """Whether the write may replace nothing. Raises where the condition cannot hold, or cannot be evaluated in one step."""
        if not condition:
            return False
        if condition != Condition(if_none_match="*"):
            raise Unsupported(f"{key!r}: SFTP replaces under no condition, it only makes what is not there", path=key)
        with contextlib.suppress(NotFound):
            if (await self._client.status(self._path(key))).is_file:
                raise ConditionFailed(f"{key!r} is there already", path=key)
        return True

    async def _put_aside(self, aside: str, body: Body, key: str) -> None:
        import asyncssh  # noqa: PLC0415  an extra

        await self._client.make_directories(aside.rpartition("/")[0])
        file = await self._client.open(aside, "xb")
        length = 0
        held = bytearray()
        try:
            async for piece in whole(body, key):
                held += piece
                length += len(piece)
                if len(held) >= _CHUNK_BYTES:
                    await self._append(file, held, length, aside)
            await self._append(file, held, length, aside)
            with self._client.translated(aside), contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await file.fsync()
        finally:
            await self.shut(file)
        found = await self._client.status(aside)
        if found.size != length:
            raise Unavailable(f"{aside!r}: the server has {found.size} of the {length} bytes that were written", path=aside)

    async def _append(self, file: asyncssh.SFTPClientFile, held: bytearray, length: int, aside: str) -> None:
        if held:
            with self._client.translated(aside):
                await file.write(bytes(held), length - len(held))
            held.clear()

    async def _publish(self, aside: str, path: str, key: str, *, only_new: bool) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(NotFound):
                # Another's removal may take a directory that it finds empty between these steps.
                await self._client.make_directories(path.rpartition("/")[0] or "/")
                await self._stamp_behind(aside, path, key)
                try:
                    await self._client.rename(aside, path, overwrite=not only_new)
                except Conflict as error:
                    raise ConditionFailed(f"{key!r} was made by somebody else meanwhile", path=key) from error
                return
        raise Conflict(f"{key!r}: its directory is being removed again and again; try again", path=key)

    async def _stamp_behind(self, aside: str, path: str, key: str) -> None:
        """Give what replaces a file a later second than that has."""
        with contextlib.suppress(NotFound):
            replaced = await self._client.status(path)
            if not replaced.is_file:
                raise InvalidKey(f"{key!r}: a directory lies there", path=key)
            if replaced.modified_ms >= (await self._client.status(aside)).modified_ms:
                await self._client.stamp(aside, replaced.modified_ms // 1000 + 1)

    async def _discard(self, path: str) -> None:
        """Remove what was prepared, also when this task is being cancelled."""
        with contextlib.suppress(HeadraceError):
            await asyncio.shield(asyncio.ensure_future(self._client.delete(path)))

    async def _prune(self, path: str) -> None:
        """Remove the directories that a removal left empty, as far as that is allowed and no write is on its way."""
        directory = path.rpartition("/")[0]
        while len(directory) > len(self._root) and not self._publishing:
            try:
                await self._client.delete_directory(directory)
            except HeadraceError:
                return
            directory = directory.rpartition("/")[0]

    def _path(self, key: str) -> str:
        check_key(key)
        segments = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in segments):
            raise InvalidKey(f"{key!r} can be no path (NUL, or an empty, '.' or '..' segment)", path=key)
        if segments[0] == OWN:
            raise InvalidKey(f"{key!r}: {OWN} is reserved", path=key)
        if any(len(part.encode()) > _NAME_BYTES for part in segments):
            raise InvalidKey(f"{key!r}: names have at most {_NAME_BYTES} bytes", path=key)
        return f"{self._root}/{key}"


class _SftpReading(Reading):
    """Bytes of one open file. The last piece waits until the file is known to be unchanged."""

    __slots__ = ("_file", "_is_open", "_store")

    def __init__(self, store: SftpStore, info: ObjectInfo, byte_range: ByteRange, file: asyncssh.SFTPClientFile) -> None:
        super().__init__(info, byte_range)
        self._store = store
        self._file = file
        self._is_open = True

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        position = self.range.start
        try:
            while position < self.range.end:
                piece = await self._store.piece(self._file, position, min(_PIECE_BYTES, self.range.end - position), self.info.key)
                position += len(piece)
                if position == self.range.end:
                    await self._store.check_same(self.info, self._file)
                yield piece
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._store.shut(self._file)


def _described(key: str, status: FileStatus) -> ObjectInfo:
    seconds = status.modified_ms // 1000
    return ObjectInfo(
        key=key,
        size=status.size,
        version=Version(f"stat:{seconds * 1_000_000_000}-{status.size}"),
        modified_s=float(seconds),
        etag=f"{seconds:x}-{status.size:x}",
    )
