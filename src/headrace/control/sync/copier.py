"""Copying one object to another path of the namespace: of one version, onto what the plan saw, proved, with bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import xxhash

from headrace.control.sync.notes import Notes
from headrace.control.sync.pace import Pacer
from headrace.control.sync.parts import PartsOut, check_sum
from headrace.control.sync.steps import Seen
from headrace.model.checksums import Algorithm, Checksummer
from headrace.model.errors import ConditionFailed, CorruptData, HeadraceError, NotFound, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, Attributes, Body, BytesBody, Condition, Pairs, attributes_of
from headrace.namespace.namespace import Namespace
from headrace.namespace.uploads import NamespaceUploads
from headrace.stores.s3_parts import FIRST_PART_BYTES, BodyCutter, part_bytes
from headrace.stores.writes import COMPOSITE, TYPE

LIGHT_BYTES = 1 << 20
"""Objects up to here do not count against the memory of a process: as many are held as there are steps under way."""
HEAVY_AT_ONCE = 8
"""Longer objects, and parts of them, that a process holds at the same time: mostly of 8 MiB."""

_MD5 = re.compile("[0-9a-f]{32}")
_CRCS = (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32)
_ABSENT = Condition(if_none_match="*")
_T = TypeVar("_T")

OwnCopy = Callable[[ObjectInfo, str, Condition], Awaitable[ObjectInfo | None]]
"""A copy that the store of both paths makes by itself; None where they have none in common."""


class Copier:
    """Copies and removes in one namespace. `heavy` bounds the memory of a process."""

    def __init__(
        self, namespace: Namespace, pacer: Pacer, own_copy: OwnCopy, heavy: asyncio.Semaphore, notes: Notes | None = None
    ) -> None:
        self.namespace = namespace
        self._uploads = NamespaceUploads(namespace)
        self._pacer = pacer
        self._own_copy = own_copy
        self._heavy = heavy
        self._notes = notes

    async def copy(self, source: ObjectInfo, path: str, target: Seen | None) -> tuple[ObjectInfo, bool]:
        """The version that `source` describes at `path`, where `target` is now, and whether its bytes were proved there.

        Raises `VersionChanged`, `ConditionFailed` or `NotFound` when either is something else by now: nothing was changed then.
        Raises `CorruptData` when other bytes arrived than were sent; they were removed again.
        """
        made = await self._guarded(path, target, lambda condition: self._own_copy(source, path, condition))
        if made is not None:
            return made, _check_own_copy(source, made)
        reading = await self.namespace.read(source.key, version=source.version)
        try:
            made, is_proved = await self._send(reading, source, path, target)
        finally:
            await reading.aclose()
        if not is_proved:
            await self._read_back(made, source)
        return made, True

    async def delete(self, path: str, doomed: Seen) -> None:
        """Remove what the plan saw. Raises as `copy`."""
        with suppress(NotFound):  # somebody else removed it
            await self._guarded(path, doomed, lambda condition: self.namespace.delete(path, condition=condition))

    async def digest(self, info: ObjectInfo) -> bytes:
        """Of all bytes of a version, for comparing."""
        summer = xxhash.xxh3_128()
        async for piece in self._read(info):
            summer.update(piece)
        return summer.digest()

    async def _send(self, reading: Reading, source: ObjectInfo, path: str, target: Seen | None) -> tuple[ObjectInfo, bool]:
        """What was made, and whether what the store says of it proves its bytes."""
        if reading.info.size != source.size:
            raise VersionChanged(f"{source.key} has {reading.info.size} bytes now, not {source.size}", path=source.key)
        tags = await self.namespace.tags(source.key) if reading.info.tag_count else ()
        attributes = attributes_of(reading.info, tags)
        if source.size > FIRST_PART_BYTES:
            return await self._send_parts(reading, source, path, target, attributes)
        if source.size <= LIGHT_BYTES:
            return await self._send_whole(reading, source, path, target, attributes)
        async with self._heavy:
            return await self._send_whole(reading, source, path, target, attributes)

    async def _send_whole(
        self, reading: Reading, source: ObjectInfo, path: str, target: Seen | None, attributes: Attributes
    ) -> tuple[ObjectInfo, bool]:
        pieces = [bytes(piece) async for piece in _PacedBody(reading, self._pacer)]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        digest = await asyncio.to_thread(_md5, data) if len(data) > LIGHT_BYTES else _md5(data)
        if is_md5(source.etag) and digest.hex() != source.etag:
            # Entity tags of encrypted objects look like MD5s and are none: then another reading has the same bytes.
            check_sum(source.key, (await self._read_md5(source)).hex(), digest.hex())
        body = BytesBody(data, (("md5", b64encode(digest).decode()), *_full_sums(reading.info)))
        write = self.namespace.write
        made = await self._guarded(path, target, lambda condition: write(path, body, attributes, condition=condition))
        return made, made.size == source.size and made.etag == digest.hex()

    async def _send_parts(
        self, reading: Reading, source: ObjectInfo, path: str, target: Seen | None, attributes: Attributes
    ) -> tuple[ObjectInfo, bool]:
        out = PartsOut(self._uploads, path, self._heavy, self._notes)
        try:
            await out.begin(attributes, source.version.token)
            await self._cut(reading, out)
            parts = await out.sent()
            complete, upload = self._uploads.complete, out.upload
            made = await self._guarded(path, target, lambda condition: complete(upload, parts, condition=condition))
        except BaseException as error:  # whatever it is: tidied up here, raised on
            await out.give_up(error)
            raise
        await out.published()
        if attributes.tags and not made.tag_count:
            # Some stores take none with a multipart upload; a tag changes no version.
            await self.namespace.set_tags(path, attributes.tags)
        return made, out.proves(made)

    async def _cut(self, reading: Reading, out: PartsOut) -> None:
        size, step = reading.info.size, part_bytes(reading.info.size)
        sums = dict(_full_sums(reading.info))
        summer = next((Checksummer(algorithm) for algorithm in _CRCS if algorithm in sums), None)
        cutter = BodyCutter(_PacedBody(reading, self._pacer), reading.info.key)
        for number, start in enumerate(range(0, size, step), 1):
            await self._heavy.acquire()
            try:
                out.check()
                data = b"".join(await cutter.gather(min(step, size - start)))
                if summer is not None:
                    summer.update(data)
            except BaseException:  # whatever it is: the place is given back, the error raised on
                self._heavy.release()
                raise
            out.add(number, data)
        if summer is not None:
            check_sum(reading.info.key, sums[summer.algorithm], summer.base64())

    async def _guarded(self, path: str, target: Seen | None, change: Callable[[Condition], Awaitable[_T]]) -> _T:
        """Make a change on the condition that the path still holds what the plan saw.

        Where a store cannot compare as it changes, it is looked at just before.
        """
        condition = _ABSENT if target is None else Condition(if_match=target.etag)
        if condition:
            with suppress(Unsupported):
                return await change(condition)
        try:
            now = mark_of(await self.namespace.info(path))
        except NotFound:
            now = None
        if now != (None if target is None else target.mark):
            raise ConditionFailed(f"{path} was changed meanwhile: the next round looks at it again", path=path)
        return await change(ALWAYS)

    async def _read_back(self, made: ObjectInfo, source: ObjectInfo) -> None:
        """Compare by reading what the destination's words do not prove. What is wrong there is removed again."""
        if made.size == source.size and await self.digest(made) == await self.digest(source):
            return
        with suppress(HeadraceError):
            await self.delete(made.key, Seen("", made.size, made.etag, made.version.token))
        raise CorruptData(f"{made.key} had other bytes than {source.key}: it was removed, the next round copies it again")

    async def _read_md5(self, info: ObjectInfo) -> bytes:
        summer = hashlib.md5(usedforsecurity=False)
        async for piece in self._read(info):
            summer.update(piece)
        return summer.digest()

    async def _read(self, info: ObjectInfo) -> AsyncIterator[Buffer]:
        reading = await self.namespace.read(info.key, version=info.version)
        try:
            async for piece in _PacedBody(reading, self._pacer):
                yield piece
        finally:
            await reading.aclose()


class _PacedBody(Body):
    """What a reading yields, no faster than the pacer lets it."""

    def __init__(self, reading: Reading, pacer: Pacer) -> None:
        self.length = reading.range.length
        self._reading = reading
        self._pacer = pacer

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        async for piece in self._reading:
            await self._pacer.take(len(piece))
            yield piece


def is_md5(etag: str) -> bool:
    """Whether an entity tag has the form of an MD5."""
    return _MD5.fullmatch(etag) is not None


def mark_of(info: ObjectInfo) -> str:
    """As `Seen.mark`."""
    return info.etag or info.version.token


def _check_own_copy(source: ObjectInfo, made: ObjectInfo) -> bool:
    if made.size != source.size:
        raise CorruptData(f"{made.key} has {made.size} bytes, but {source.key} has {source.size}", path=made.key)
    return is_md5(made.etag) and made.etag == source.etag


def _full_sums(info: ObjectInfo) -> Pairs:
    """The checksums that a store told of all of an object's bytes."""
    return () if (TYPE, COMPOSITE) in info.checksums else tuple([pair for pair in info.checksums if pair[0] != TYPE])


def _md5(data: Buffer) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
