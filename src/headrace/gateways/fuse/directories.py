"""Directories that are being read: page by page, however long they are."""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass

from headrace.gateways import fsspec as calls
from headrace.gateways.fuse import abi
from headrace.gateways.fuse.inodes import Inode, number_of
from headrace.gateways.fuse.names import LINK_MAX_BYTES, Names, joined
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.model.errors import HeadraceError
from headrace.model.objects import CommonPrefix, ObjectInfo

_PAGE = 1000
_ASKED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. `kind` is 0 where only the object itself tells whether it is a link."""

    name: bytes
    kind: int
    ino: int
    inode: Inode | None = None
    """What is known of it without asking."""


class OpenDirectory:
    """One reading of a directory. Entries are numbered from 1; the kernel goes on behind the number it has."""

    def __init__(self, shared: Shared, inode: Inode) -> None:
        self._shared = shared
        self._inode = inode
        self._entries: AsyncIterator[Entry] | None = None
        self._held: Entry | None = None
        self._position = 0

    async def read(self, offset: int, size: int) -> bytes:
        """READDIR: names behind number `offset`, at most `size` bytes of them."""
        return b"".join([line for _, line in await self._lines(offset, size, 0)])

    async def read_plus(self, offset: int, size: int, names: Names) -> bytes:
        """READDIRPLUS: names with what they stand for.

        The first names are told with what is known already: whether more is wanted than names, only the kernel's next call shows.
        """
        lines = await self._lines(offset, size, len(abi.NO_ENTRY))
        found: list[Inode | None] = [entry.inode for entry, _ in lines]
        if offset:
            gate = asyncio.Semaphore(_ASKED_AT_ONCE)
            found = await asyncio.gather(*(self._look(entry, names, gate) for entry, _ in lines))
        parts: list[bytes] = []
        for inode, (_, line) in zip(found, lines, strict=True):
            parts += (names.known(inode) if inode is not None else abi.NO_ENTRY, line)
        return b"".join(parts)

    async def _look(self, entry: Entry, names: Names, gate: asyncio.Semaphore) -> Inode | None:
        if entry.inode is not None or entry.name in (b".", b".."):
            return entry.inode
        async with gate:
            try:
                return await names.lookup(self._inode, entry.name)
            except (HeadraceError, Refused):
                return None  # only its name is told; who asks for more gets the error

    async def _lines(self, offset: int, size: int, each: int) -> list[tuple[Entry, bytes]]:
        await self._seek(offset)
        lines: list[tuple[Entry, bytes]] = []
        while (entry := await self._next()) is not None:
            line = abi.dirent(entry.ino, self._position + 1, entry.name, entry.kind)
            size -= len(line) + each
            if size < 0:
                break
            lines.append((entry, line))
            self._held = None
            self._position += 1
        return lines

    async def _seek(self, offset: int) -> None:
        if self._entries is None or offset < self._position:
            self._entries, self._held, self._position = self._walk(), None, 0
        while self._position < offset and await self._next() is not None:
            self._held = None
            self._position += 1

    async def _next(self) -> Entry | None:
        if self._held is None and self._entries is not None:
            self._held = await anext(self._entries, None)
        return self._held

    async def _walk(self) -> AsyncIterator[Entry]:
        inode = self._inode
        yield Entry(b".", stat.S_IFDIR, inode.number)
        yield Entry(b"..", stat.S_IFDIR, (inode.parent or inode).number)
        seen = set()
        for child in [child for child in inode.children.values() if child.staged is not None or child.made_here]:
            seen.add(child.name)
            yield Entry(child.name.encode(), stat.S_IFMT(child.modes.mode), child.number, child)
        async for name, info in self._stored():
            if name not in seen:
                yield self._entry(name, info)

    def _entry(self, name: str, info: ObjectInfo | None) -> Entry:
        child = self._inode.children.get(name)
        if child is not None and child.is_directory and info is None:
            return Entry(name.encode(), stat.S_IFDIR, child.number, child)
        kind = stat.S_IFDIR if info is None else stat.S_IFREG if info.size > LINK_MAX_BYTES else 0
        number = child.number if child is not None else number_of(joined(self._inode, name))
        return Entry(name.encode(), kind, number)

    async def _stored(self) -> AsyncIterator[tuple[str, ObjectInfo | None]]:
        """Names that the stores have, each once: an object hides a directory of its name."""
        bucket, key = calls.split(self._inode.path)
        root, prefix = ("/" + bucket, f"{key}/" if key else "") if bucket else ("/", "")
        after: str | None = ""
        objects: set[str] = set()
        while after is not None:
            page = await self._shared.namespace.list(root, prefix, delimiter="/", after=after, limit=_PAGE)
            for entry in page.entries:
                name = entry.key[len(prefix) :].removesuffix("/") if isinstance(entry, CommonPrefix) else entry.key[len(prefix) :]
                if not _showable(name) or name in objects:
                    continue
                if isinstance(entry, ObjectInfo):
                    # Only a directory that sorts behind it can have the same name, within what a name may add.
                    objects = {one for one in objects if one + "/" > name} | {name}
                yield name, entry if isinstance(entry, ObjectInfo) else None
            after = page.after


def _showable(name: str) -> bool:
    """Whether a directory can have an entry of that name: keys such as `a//b` and `..` have no path."""
    return name not in ("", ".", "..") and "\0" not in name and len(name.encode()) <= abi.NAME_MAX_BYTES


class Directories:
    """The open directories of one mount."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[int, OpenDirectory] = {}
        self._next = 1

    def open(self, inode: Inode) -> bytes:
        if not inode.is_directory:
            raise Refused(errno.ENOTDIR)
        handle, self._next = self._next, self._next + 1
        self._open[handle] = OpenDirectory(self._shared, inode)
        return abi.opened(handle, 0)

    def get(self, handle: int) -> OpenDirectory:
        try:
            return self._open[handle]
        except KeyError:
            raise Refused(errno.EBADF) from None

    def release(self, handle: int) -> None:
        self._open.pop(handle, None)
