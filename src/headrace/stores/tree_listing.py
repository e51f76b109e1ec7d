"""Listing a remote directory tree as keys in the order of their UTF-8 bytes."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, Protocol

import msgspec

from headrace.model.errors import InvalidKey, NotFound
from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo
from headrace.stores.keys import MAX_KEY_BYTES, rolled_up

OWN = ".headrace"
"""The folder at the store's root in which writes are prepared. It holds no keys."""
_WINDOW_NAMES = 20_000


class FileStatus(msgspec.Struct, frozen=True):
    """One file or directory. `name` is the last segment of its path; of the path that was asked for it is empty."""

    name: str
    is_file: bool
    size: int = 0
    modified_ms: int = 0
    file_id: int = 0
    """A number that no other file ever has; 0 where the store does not tell."""
    children: int = 1
    """Entries of a directory; 1 where the store does not tell."""


class Directories(Protocol):
    """Whoever can tell what a directory holds."""

    async def children(self, path: str, after: str = "") -> tuple[list[FileStatus], bool]:
        """Entries of a directory behind the name `after` in the store's own order, and whether more follow.

        Raises `NotFound` or `InvalidKey` where there is no such directory.
        """


class Tree(NamedTuple):
    """A directory tree whose files are objects."""

    directories: Directories
    root: str
    """Without a slash at its end."""
    describe: Callable[[str, FileStatus], ObjectInfo]
    """What is listed of the file under a key."""
    hidden: str = OWN
    """A name at the root that is not listed."""


async def list_page(tree: Tree, *, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
    """One page of the keys below the root of `tree`."""
    start, _, _ = prefix.rpartition("/")
    if prefix.startswith("/") or "\0" in prefix or any(part in ("", ".", "..") for part in start.split("/") if start):
        return Listing(())
    entries: list[Entry] = []
    walk = _Walk(tree, prefix, delimiter, after).below(start + "/" if start else "")
    try:
        async for entry in walk:
            if len(entries) == limit:
                return Listing(tuple(entries), entries[-1].key if entries else after)
            entries.append(entry)
    finally:
        await walk.aclose()
    return Listing(tuple(entries))


class _Walk:
    """One walk in key order, from behind `after`."""

    def __init__(self, tree: Tree, prefix: str, delimiter: str, after: str) -> None:
        self._tree = tree
        self._prefix = prefix
        self._delimiter = delimiter
        self._after = after.encode()
        self._common = ""

    async def below(self, directory: str) -> AsyncGenerator[Entry, None]:
        """Entries of `directory` (empty, or ending with a slash) and of all below it."""
        low = b""
        while True:
            names, more = await self._names(directory, low)
            for name, status in names:
                path = directory + name
                if self._common and path.startswith(self._common):
                    continue
                if not status.is_file:
                    async for entry in self._directory(path, status):
                        yield entry
                elif path.encode() > self._after:
                    entry_of_file = self._file(path, status)
                    if entry_of_file is not None:
                        yield entry_of_file
            if not more:
                return
            low = names[-1][0].encode() + b"\0"

    async def _directory(self, path: str, status: FileStatus) -> AsyncGenerator[Entry, None]:
        common = rolled_up(path, self._prefix, self._delimiter)
        if common is None:
            if path.encode() > self._after or self._after.startswith(path.encode()):
                async for entry in self.below(path):
                    yield entry
        elif common.encode() > self._after and status.children:
            self._common = common
            yield CommonPrefix(common)

    def _file(self, path: str, status: FileStatus) -> Entry | None:
        common = rolled_up(path, self._prefix, self._delimiter)
        if common is None:
            return self._tree.describe(path, status)
        if common.encode() <= self._after:
            return None
        self._common = common
        return CommonPrefix(common)

    async def _names(self, directory: str, low: bytes) -> tuple[list[tuple[str, FileStatus]], bool]:
        """The smallest names from `low` on that matter, directories with a slash behind them, and whether more follow."""
        wanted = self._prefix[len(directory) :].encode() if self._prefix.startswith(directory) else b""
        if self._after.startswith(directory.encode()):
            first, slash, _ = self._after[len(directory.encode()) :].partition(b"/")
            low = max(low, wanted, first + slash)
        elif self._after > directory.encode():
            return [], False
        kept: list[tuple[bytes, FileStatus]] = []
        more, last = True, ""
        cut = False
        while more:
            try:
                batch, more = await self._tree.directories.children(f"{self._tree.root}/{directory}".rstrip("/") or "/", last)
            except (NotFound, InvalidKey):
                return [], False
            if not batch or not batch[0].name:  # the path is a file
                break
            last = batch[-1].name
            kept += [found for status in batch if (found := self._matters(directory, status, low, wanted)) is not None]
            if len(kept) > 2 * _WINDOW_NAMES:
                kept, cut = heapq.nsmallest(_WINDOW_NAMES, kept, key=lambda one: one[0]), True
        cut = cut or len(kept) > _WINDOW_NAMES
        ordered = heapq.nsmallest(_WINDOW_NAMES, kept, key=lambda one: one[0]) if cut else sorted(kept, key=lambda one: one[0])
        return [(name.decode(), status) for name, status in ordered], cut

    def _matters(self, directory: str, status: FileStatus, low: bytes, wanted: bytes) -> tuple[bytes, FileStatus] | None:
        if not directory and status.name == self._tree.hidden:
            return None
        try:
            name = (status.name if status.is_file else status.name + "/").encode()
        except UnicodeEncodeError:
            return None  # no key can say it
        if name < low or len(directory.encode()) + len(name) > MAX_KEY_BYTES:
            return None
        return (name, status) if name.startswith(wanted) else None
