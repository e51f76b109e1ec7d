"""Copying one local file into the namespace, and one object to another path: verified, and gone on with after a break."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import mimetypes
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headrace.console.copying import Copied, Report
from headrace.gateways import changing, writing
from headrace.gateways.sending import file_etag, send_file
from headrace.model.errors import CorruptData, NoSuchUpload, NotFound
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Upload
from headrace.model.writing import Attributes
from headrace.namespace.namespace import Namespace
from headrace.namespace.uploads import NamespaceUploads

if TYPE_CHECKING:
    from headrace.client import Client

PARTS_AT_ONCE = 8
"""Of all files that are sent at one time."""

_LARGEST_NOTE = 64 * 1024


class Left(msgspec.Struct, frozen=True):
    """An upload that was broken off, and the file whose bytes its parts are."""

    upload: Upload
    size: int
    modified_ns: int


class Claim:
    """The right to go on with one copy's upload, and what is written down about it. Other runs leave it alone meanwhile."""

    def __init__(self, fd: int, file: Path) -> None:
        self._fd = fd
        self._file = file

    def read(self) -> Left | None:
        """What an earlier run left of this copy."""
        try:
            return msgspec.json.decode(os.pread(self._fd, _LARGEST_NOTE, 0), type=Left)
        except msgspec.DecodeError:
            return None

    def write(self, left: Left) -> bool:
        """Write it down, in place of what was; whether that was possible."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(left), 0)
        except OSError:
            return False
        return True

    def end(self, *, keep: bool) -> None:
        """Let others claim it, with `keep` to go on with what is written down."""
        if not keep:
            self._file.unlink(missing_ok=True)
        os.close(self._fd)


class Leftovers:
    """Uploads under way, each written down in `directory` for as long as it lasts, so that the next run goes on with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def claim(self, source: Path, target: str) -> Claim | None:
        """None where nothing can be written down, or another run has it: an upload that breaks is given up then."""
        name = hashlib.blake2b(f"{source.absolute()}\0{target}".encode(errors="surrogateescape"), digest_size=12).hexdigest()
        file = self._directory / f"{name}.json"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), file.stat()):
                return Claim(fd, file)
        except OSError:  # another run has it, or just ended it
            pass
        os.close(fd)
        return None


class Sender:
    """Copies into the namespace, many at a time from many threads, with bounded memory."""

    def __init__(self, client: Client, leftovers: Leftovers, report: Report) -> None:
        self._client = client
        self._leftovers = leftovers
        self._report = report
        self._gate = asyncio.Semaphore(PARTS_AT_ONCE)

    def send(self, source: Path, path: str) -> Copied:
        """The file as the object at `path` (`/bucket/key`), unless that has the same bytes already.

        Raises `CorruptData` when what the store has is not what was sent.
        """
        size = source.stat().st_size
        there = self._there(path)
        if there is not None and there.size == size and there.etag == file_etag(source, there.etag):
            self._report(size)
            if size > writing.PART_BYTES:
                self._client.session.run(partial(self._drop_left, source=source, path=path))
            return Copied(str(source), path, size, True, "etag")
        info, etag = self._client.session.run(partial(self._send, source=source, path=path))
        return Copied(str(source), path, info.size, False, self._verified(source, info, etag))

    def copy(self, source: str, target: str) -> Copied:
        """The object at `source` at `target`, too, unless the same bytes are there already."""
        was = self._client.stat(source)
        there = self._there(target)
        if there is not None and _alike(was, there):
            self._report(was.size)
            return Copied(source, target, was.size, True, "etag")
        work = partial(changing.copy, source=source[1:], target=target[1:])
        was, made = self._client.session.run(work)
        self._report(was.size)
        if made.size != was.size:
            raise CorruptData(f"{target} has {made.size} bytes, {source} has {was.size}: copy it again", path=target)
        return Copied(source, target, was.size, False, "etag" if _alike(was, made) else "size")

    def _there(self, path: str) -> ObjectInfo | None:
        try:
            return self._client.stat(path)
        except NotFound:
            return None

    async def _send(self, namespace: Namespace, source: Path, path: str) -> tuple[ObjectInfo, str]:
        attributes = Attributes(content_type=mimetypes.guess_type(source.name)[0] or "")
        made = await writing.outgoing(namespace, path[1:], attributes, gate=self._gate)
        made.progress = self._report
        stat = await asyncio.to_thread(source.stat)
        claim = self._leftovers.claim(source, path) if stat.st_size > writing.PART_BYTES else None
        try:
            if claim is not None:
                await _go_on(namespace, made, claim, stat)
            await send_file(made, source)
            info = await made.publish()
        finally:
            if claim is not None:
                claim.end(keep=made.is_paused)
        return info, made.expected_etag

    async def _drop_left(self, namespace: Namespace, source: Path, path: str) -> None:
        """Nobody needs what an earlier run left: the object is there."""
        claim = self._leftovers.claim(source, path)
        if claim is None:
            return
        left = claim.read()
        try:
            if left is not None:
                await NamespaceUploads(namespace).abort(left.upload)
        except NoSuchUpload:
            pass
        finally:
            claim.end(keep=False)

    def _verified(self, source: Path, info: ObjectInfo, etag: str) -> str:
        """How the object is known to have the file's bytes. A store whose ETags are no MD5s is asked for them."""
        if info.etag == etag:
            return "etag"
        digest = hashlib.md5(usedforsecurity=False)
        with self._client.open(info.key) as opened:
            while piece := opened.read(writing.PART_BYTES):
                digest.update(piece)
        with source.open("rb") as file:
            if hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).digest() != digest.digest():
                raise CorruptData(f"{info.key} has other bytes than {source}: copy it again", path=info.key)
        return "read back"


async def _go_on(namespace: Namespace, made: writing.Outgoing, claim: Claim, stat: os.stat_result) -> None:
    """Take up what was left of the same file; drop what was left of another one."""

    def begun(upload: Upload) -> None:
        made.resumable = claim.write(Left(upload, stat.st_size, stat.st_mtime_ns))

    made.begun = begun
    left = claim.read()
    if left is None:
        return
    with suppress(NoSuchUpload):
        if (left.size, left.modified_ns) != (stat.st_size, stat.st_mtime_ns):
            await NamespaceUploads(namespace).abort(left.upload)
        else:
            await made.go_on(left.upload)
            made.resumable = True


def _alike(one: ObjectInfo, other: ObjectInfo) -> bool:
    if one.size != other.size:
        return False
    sums = dict(one.checksums), dict(other.checksums)
    if sums[0].pop("type", "") == sums[1].pop("type", "") and sums[0].keys() & sums[1].keys():
        return all(sums[0][name] == sums[1][name] for name in sums[0].keys() & sums[1].keys())
    return bool(one.etag) and one.etag == other.etag
