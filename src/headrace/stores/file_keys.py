"""Finding and listing keys in a directory store: as the paths of files, and as odd keys that are kept aside.

Everything here takes the root's descriptor, blocks, and raises `OSError`.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo
from headrace.stores.beneath import open_beneath
from headrace.stores.file_attributes import Kept, binding_of, describe, keeps_anything, keeps_beside, read_beside, read_kept
from headrace.stores.file_listing import Tree, Windows, walk
from headrace.stores.file_own import OBJECTS, OWN, can_be_path, odd_key, odd_path, odd_prefix
from headrace.stores.file_root import ABSENT, NO_SUCH_NAME
from headrace.stores.keys import behind_prefix, rolled_up

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class FoundFile(NamedTuple):
    """An open regular file that is an object."""

    fd: int
    path: str
    """Below the root."""
    stat: os.stat_result
    kept: Kept | None

    def info(self, key: str, content_type: str = "") -> ObjectInfo:
        return describe(key, self.stat, self.kept, content_type)


def find_file(root_fd: int, key: str, flags: int) -> FoundFile:
    """The file that a key is kept in; the caller closes it. Raises `FileNotFoundError`.

    The key's own path comes first: what another program put there is seen. A key never moves between its two places while
    it is there, so one look at each is enough.
    """
    paths = (key, odd_path(key)) if can_be_path(key) else (odd_path(key),)
    for path in paths:
        try:
            descriptor = open_beneath(root_fd, path, flags)
        except OSError as error:
            if error.errno in ABSENT or error.errno in NO_SUCH_NAME:
                continue
            raise
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                kept = read_kept(root_fd, descriptor, found) if keeps_anything(root_fd) else None
                return FoundFile(descriptor, path, found, kept)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileNotFoundError(2, os.strerror(2), key)


def is_held(root_fd: int, path: str) -> bool:
    """Whether the attributes that are kept beside a file, at `path`, are still those of its key's object."""
    try:
        beside = read_beside(root_fd, path)
        if beside is None:
            return True
        found = find_file(root_fd, beside.key, os.O_PATH)
    except FileNotFoundError:
        return False
    os.close(found.fd)
    return binding_of(found.stat) == beside.kept.binding


class KeyWindows:
    """The windows kept between pages, of each of the two trees."""

    def __init__(self, limit_names: int) -> None:
        self.paths = Windows(limit_names)
        self.odd = Windows(limit_names)


def list_page(root_fd: int, windows: KeyWindows, *, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
    """One page of the keys below the root. Raises `OSError` when a directory cannot be read."""
    entries: list[Entry] = []
    with ExitStack() as stack:
        merged = stack.enter_context(closing(_merged(root_fd, windows, prefix, delimiter, after)))
        for entry in merged:
            if len(entries) == limit:
                last = entries[-1].key if entries else after
                windows.paths.continue_at(last)
                windows.odd.continue_at(odd_start(prefix, delimiter, last))
                return Listing(tuple(entries), last)
            entries.append(entry)
    return Listing(tuple(entries))


def _merged(root_fd: int, windows: KeyWindows, prefix: str, delimiter: str, after: str) -> Generator[Entry]:
    keeps = keeps_anything(root_fd)
    beside = keeps and keeps_beside(root_fd)
    paths: Iterator[Entry] = iter(())
    if prefix.partition("/")[:2] != (OWN, "/"):
        tree = Tree(root_fd, root_fd, keeps, beside, str)
        paths = walk(tree, windows.paths, prefix=prefix, delimiter=delimiter, after=after)
    odd_fd = _open_odd(root_fd) if keeps else None
    if odd_fd is None:
        yield from paths
        return
    try:
        odd = walk_odd(Tree(odd_fd, root_fd, keeps, beside, odd_key), windows.odd, prefix, delimiter, after)
        seen: str | None = None
        for entry in heapq.merge(paths, odd, key=lambda entry: entry.key):
            if entry.key != seen:
                seen = entry.key
                yield entry
    finally:
        os.close(odd_fd)


def walk_odd(tree: Tree, windows: Windows, prefix: str, delimiter: str, after: str) -> Iterator[Entry]:
    """Odd keys in order; their paths sort as they do, so what a prefix rolls up is skipped at once."""
    start = odd_start(prefix, delimiter, after)
    wanted = odd_prefix(prefix.encode())
    while True:
        for entry in walk(tree, windows, prefix=wanted, delimiter="", after=start):
            common = rolled_up(entry.key, prefix, delimiter)
            if common is not None:
                yield CommonPrefix(common)
                start = odd_prefix(behind_prefix(common))
                break
            yield entry
        else:
            return


def odd_start(prefix: str, delimiter: str, after: str) -> str:
    """The path behind which the odd keys lie that a page behind `after` may list."""
    common = rolled_up(after, prefix, delimiter) if after.startswith(prefix) else None
    if common is not None:
        return odd_prefix(behind_prefix(common))
    return odd_prefix(after.encode()) + "-" if after else ""


def _open_odd(root_fd: int) -> int | None:
    try:
        return open_beneath(root_fd, OBJECTS, _FOLDER)
    except FileNotFoundError:
        return None
