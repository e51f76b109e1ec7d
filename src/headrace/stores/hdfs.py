"""HdfsStore: a directory of HDFS as objects. Files are written aside and renamed into place, which HDFS does in one step.

A version is modification time, length and inode: HDFS gives every file that is made a number that no other ever has, so an
object that was replaced is never taken for the one before, and reading by that number never meets another. Where a protocol
does not tell that number a version is the first two, and what was opened by name is looked at again before it is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator

from headrace.model.clock import Clock
from headrace.model.errors import (
    ConditionFailed,
    Conflict,
    HeadraceError,
    InvalidKey,
    NotFound,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition
from headrace.stores.hdfs_client import FileBytes, HdfsClient
from headrace.stores.keys import check_key, check_text, cut_range
from headrace.stores.store import Store
from headrace.stores.tree_listing import OWN, FileStatus, Tree, list_page

_INODES = "/.reserved/.inodes/"
_NAME_BYTES = 255
_CHUNK_BYTES = 8 << 20
_TRIES = 5
_CLAIM_S = 120.0
"""A claim that is older was left by a process that died: claims are held for a few requests."""


class HdfsStore(Store):
    """The files below directory `root` (without a slash at its end; empty: the whole file system)."""

    def __init__(self, client: HdfsClient, root: str, clock: Clock) -> None:
        self._client = client
        self._root = root
        self._clock = clock

    async def info(self, key: str) -> ObjectInfo:
        return _described(key, await self._status(key))

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        for _ in range(_TRIES):
            status = await self._status(key)
            info = _described(key, status)
            if version is not None and info.version != version:
                raise VersionChanged(f"{key!r} is now {info.version.token}, not {version.token}", path=key)
            held = cut_range(byte_range, info.size, key)
            place = f"{_INODES}{status.file_id}" if status.file_id else self._path(key)
            if not held.length:
                return _HdfsReading(self._client, info, held, None, place)
            # Replaced or removed since: the next look tells which.
            with contextlib.suppress(NotFound):
                body = await self._client.open(place, held.start, held.length)
                # What is open keeps to its blocks. Where it was found by name, it may be another's.
                if status.file_id or _described(key, await self._status(key)).version == info.version:
                    return _HdfsReading(self._client, info, held, body, place)
                body.close()
        raise Unavailable(f"{key!r} is replaced faster than it can be opened: try again", path=key)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        tree = Tree(self._client, self._root, _described)
        return await list_page(tree, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    async def write(
        self,
        key: str,
        body: Body,
        attributes: Attributes = PLAIN,  # noqa: ARG002  HDFS keeps bytes alone
        *,
        condition: Condition = ALWAYS,
    ) -> ObjectInfo:
        path = self._path(key)
        await self._check_before(key, condition)
        aside = f"{self._root}/{OWN}/new/{uuid.uuid4().hex}"
        try:
            await self._put_aside(aside, body)
            made = await self._client.status(aside)
            async with self._claimed(key, condition) as replaced:
                await self._publish(aside, path, overwrite=not condition or replaced is not None, key=key)
        except BaseException:  # whatever it is: tidied up here, raised on
            await self._discard(aside)
            raise
        return _described(key, made)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        path = self._path(key)
        try:
            status = await self._status(key)
        except NotFound:
            if condition.if_match:
                raise
            return
        if not condition.holds(_described(key, status)):
            raise ConditionFailed(f"{key!r} is not the object that was to be removed", path=key)
        async with self._claimed(key, condition):
            await self._client.delete(path)
        await self._prune(path)

    async def close(self) -> None:
        await self._client.close()

    def _path(self, key: str) -> str:
        check_key(key)
        segments = key.split("/")
        if any(part in ("", ".", "..", ".snapshot") or ":" in part or "\0" in part for part in segments):
            raise InvalidKey(f"{key!r} can be no path in HDFS (empty, '.', '..' or '.snapshot' segments, colons)", path=key)
        if segments[0] == OWN or (not self._root and segments[0] == ".reserved"):
            raise InvalidKey(f"{key!r}: {segments[0]} is reserved", path=key)
        if any(len(part.encode()) > _NAME_BYTES for part in segments):
            raise InvalidKey(f"{key!r}: names in HDFS have at most {_NAME_BYTES} bytes", path=key)
        return f"{self._root}/{key}"

    async def _status(self, key: str) -> FileStatus:
        status = await self._client.status(self._path(key))
        if not status.is_file:
            raise NotFound(f"{key!r} is a directory, not an object", path=key)
        return status

    async def _find(self, key: str) -> FileStatus | None:
        try:
            return await self._status(key)
        except NotFound:
            return None

    async def _check_before(self, key: str, condition: Condition) -> None:
        """Spare the body of a write whose condition does not hold even now."""
        if condition:
            found = await self._find(key)
            _require(key, condition, found)

    async def _put_aside(self, aside: str, body: Body) -> None:
        if body.length is not None:
            await self._client.create(aside, body, body.length)
            length = body.length
        else:
            length = await self._put_in_chunks(aside, body)
        found = await self._client.status(aside)
        if found.size != length:
            raise Unavailable(f"{aside}: the cluster has {found.size} of the {length} bytes that were written", path=aside)

    async def _put_in_chunks(self, aside: str, body: Body) -> int:
        held = bytearray()
        length = 0
        made = False
        async for chunk in _in_chunks(body, held):
            length += len(chunk)
            if made:
                await self._client.append(aside, chunk)
            else:
                await self._client.create(aside, _once(chunk), len(chunk))
                made = True
        return length

    async def _publish(self, aside: str, path: str, *, overwrite: bool, key: str) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(NotFound):
                # Another's removal may take a directory that it finds empty between these two.
                await self._client.make_directories(path.rpartition("/")[0] or "/")
                try:
                    await self._client.rename(aside, path, overwrite=overwrite)
                except Conflict as error:
                    if not overwrite:
                        raise ConditionFailed(f"{key!r} was made by somebody else meanwhile", path=key) from error
                    raise
                return
        raise Conflict(f"{key!r}: its directory is being removed again and again; try again", path=key)

    @contextlib.asynccontextmanager
    async def _claimed(self, key: str, condition: Condition) -> AsyncIterator[FileStatus | None]:
        """The object that a condition is about, while no other conditional change of this version can take effect.

        A claim is a file named after the inode that is to be replaced. HDFS makes it for one of all who try, on any machine.
        """
        if not condition:
            yield None
            return
        found = await self._find(key)
        _require(key, condition, found)
        if found is None:
            yield None  # a rename that replaces nothing settles it
            return
        claim = f"{self._root}/{OWN}/claims/{found.file_id or _named(key, found)}"
        await self._claim(claim, key)
        try:
            _require(key, condition, now := await self._find(key))
            yield now
        finally:
            await self._discard(claim)

    async def _claim(self, claim: str, key: str) -> None:
        for _ in range(2):
            try:
                await self._client.create(claim, _once(b""), 0)
            except Conflict:
                with contextlib.suppress(NotFound):
                    age_s = self._clock.time() - (await self._client.status(claim)).modified_ms / 1000
                    if age_s > _CLAIM_S:
                        await self._client.delete(claim)
                        continue
                break
            else:
                return
        raise Conflict(f"{key!r}: another change of it runs at this moment; nothing was changed", path=key)

    async def _discard(self, path: str) -> None:
        """Remove what was prepared, also when this task is being cancelled."""
        with contextlib.suppress(HeadraceError):
            await asyncio.shield(asyncio.ensure_future(self._client.delete(path)))

    async def _prune(self, path: str) -> None:
        """Remove the directories that a removal left empty, as far as that is allowed."""
        directory = path.rpartition("/")[0]
        while len(directory) > len(self._root):
            try:
                if not await self._client.delete(directory):
                    return
            except HeadraceError:
                return
            directory = directory.rpartition("/")[0]


class _HdfsReading(Reading):
    """Bytes of one inode. The last of them wait until it is known that the file is still what it was."""

    __slots__ = ("_body", "_client", "_place")

    def __init__(self, client: HdfsClient, info: ObjectInfo, byte_range: ByteRange, body: FileBytes | None, place: str) -> None:
        super().__init__(info, byte_range)
        self._client = client
        self._body = body
        self._place = place

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self._body is None:
            return
        held = b""
        async for piece in self._body:
            if held:
                yield held
            held = piece
        try:
            now = _described(self.info.key, await self._client.status(self._place))
        except NotFound as error:
            raise VersionChanged(f"{self.info.key!r} was replaced or removed while it was read", path=self.info.key) from error
        if now.version != self.info.version:
            raise VersionChanged(f"{self.info.key!r} was changed while it was read", path=self.info.key)
        yield held

    async def aclose(self) -> None:
        if self._body is not None:
            self._body.close()


def _described(key: str, status: FileStatus) -> ObjectInfo:
    mark = f"{status.modified_ms * 1_000_000}-{status.size}-{status.file_id}"
    return ObjectInfo(
        key=key,
        size=status.size,
        version=Version(f"stat:{mark}"),
        modified_s=status.modified_ms / 1000,
        etag=f"{status.modified_ms:x}-{status.size:x}-{status.file_id:x}",
    )


def _named(key: str, found: FileStatus) -> str:
    """A name for this version of this object where no number of the file is told."""
    return hashlib.blake2b(f"{key}\0{_described(key, found).version.token}".encode(), digest_size=16).hexdigest()


def _require(key: str, condition: Condition, found: FileStatus | None) -> None:
    """Raises unless the condition holds for what is there."""
    if condition.holds(_described(key, found) if found is not None else None):
        return
    if found is None:
        raise NotFound(f"{key!r} is not there, so it cannot be replaced", path=key)
    raise ConditionFailed(f"{key!r} is not what the condition asks for", path=key)


async def _in_chunks(body: Body, held: bytearray) -> AsyncGenerator[bytes, None]:
    """The body in pieces of one size, the last of them smaller; at least one."""
    made = False
    async for piece in body:
        held += piece
        while len(held) >= _CHUNK_BYTES:
            yield bytes(held[:_CHUNK_BYTES])
            del held[:_CHUNK_BYTES]
            made = True
    if held or not made:
        yield bytes(held)


async def _once(data: bytes) -> AsyncGenerator[Buffer, None]:
    yield data
