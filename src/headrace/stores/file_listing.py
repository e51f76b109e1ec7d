"""Listing a directory tree in the order of keys, page by page, with bounded memory.

A directory is scanned into a window: the smallest names behind a point, sorted. Pages are cut from
it; when it is used up the directory is scanned again. So a directory of any size costs memory for
one window only. A window is used again when the directory has not changed since, or when the call
goes on where the last page ended (a listing is not a snapshot) and the window is young.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from headrace.model.objects import CommonPrefix, Entry
from headrace.stores.beneath import open_beneath, stat_beneath
from headrace.stores.file_attributes import Kept, describe, read_kept, stat_and_kept
from headrace.stores.file_names import SmallestNames, SortedNames
from headrace.stores.file_own import OWN, valid_segments
from headrace.stores.keys import MAX_KEY_BYTES, rolled_up

WINDOW_NAMES = 2_000_000
WINDOW_BYTES = 30 << 20
_WINDOWS_KEPT = 64
_CONTINUED_S = 5.0
_TICK_NS = 50_000_000  # file systems may stamp all changes within some milliseconds alike
_SURELY_SHORT = MAX_KEY_BYTES // 4
_NOT_LISTED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.ELOOP))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class Tree(NamedTuple):
    """A directory whose files are objects."""

    root_fd: int
    store_fd: int
    """The root of the store, below which attributes are kept."""
    keeps: bool
    """Whether files may have attributes."""
    beside: bool
    """Whether they may lie beside the files."""
    key_of: Callable[[str], str]
    """The key of a path below `root_fd`. Raises `ValueError` for what is no object's."""


class _Window:
    """The names from `low` on, sorted, directories with a slash; `complete` when none is left out behind the last."""

    __slots__ = ("changed_ns", "complete", "continued_at", "low", "made_s", "names")

    def __init__(self, names: SortedNames, low: str, *, complete: bool, changed_ns: int, made_s: float) -> None:
        self.names = names
        self.low = low
        self.complete = complete
        self.changed_ns = changed_ns
        self.made_s = made_s
        self.continued_at = ""

    def covers(self, low: str) -> bool:
        return self.low <= low and (self.complete or low <= self.names.last)


class Windows:
    """The windows kept between pages; bounded by count and by names. Safe among threads."""

    def __init__(self, limit_names: int = WINDOW_NAMES) -> None:
        self.limit_names = limit_names
        self._kept: OrderedDict[tuple[str, str], _Window] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: tuple[str, str], low: str, changed_ns: int, after: str) -> _Window | None:
        with self._lock:
            window = self._kept.get(place)
            if window is None or not window.covers(low):
                return None
            young = time.monotonic() - window.made_s < _CONTINUED_S
            unchanged = changed_ns != 0 and window.changed_ns == changed_ns
            if not unchanged and not (young and after and window.continued_at == after):
                return None
            self._kept.move_to_end(place)
            return window

    def keep(self, place: tuple[str, str], window: _Window) -> None:
        with self._lock:
            self._kept[place] = window
            self._kept.move_to_end(place)
            names = sum(other.names.count for other in self._kept.values())
            while len(self._kept) > 1 and (len(self._kept) > _WINDOWS_KEPT or names > self.limit_names):
                names -= self._kept.popitem(last=False)[1].names.count

    def make_room(self, place: tuple[str, str]) -> None:
        """Let go of what a new scan of this place replaces, before it takes memory of its own."""
        with self._lock:
            self._kept.pop(place, None)

    def continue_at(self, after: str) -> None:
        """A page ended at `after`: the windows on its way may be used to go on from there."""
        with self._lock:
            for (directory, _), window in self._kept.items():
                if after.startswith(directory):
                    window.continued_at = after


def walk(tree: Tree, windows: Windows, *, prefix: str, delimiter: str, after: str) -> Iterator[Entry]:
    """Entries of the tree in order, by their paths. Raises `OSError` when a directory cannot be read."""
    start, _, _ = prefix.rpartition("/")
    if (start and not valid_segments(start)) or "\0" in prefix or prefix.startswith("/"):
        return iter(())
    return _Walk(tree, windows, prefix, delimiter, after).below(start + "/" if start else "", ())


class _Walk:
    """One walk through the tree in key order, from behind `after`."""

    def __init__(self, tree: Tree, windows: Windows, prefix: str, delimiter: str, after: str) -> None:
        self._tree = tree
        self._root_fd = tree.root_fd
        self._windows = windows
        self._prefix = prefix
        self._delimiter = delimiter
        self._after = after
        self._common = ""

    def below(self, directory: str, ancestors: tuple[tuple[int, int], ...]) -> Generator[Entry]:
        """Entries of `directory` (empty, or ending with a slash) and of all below it."""
        descriptor = _open_directory(self._root_fd, directory)
        if descriptor is None:
            return
        try:
            found = os.fstat(descriptor)
            identity = (found.st_dev, found.st_ino)
            if identity in ancestors:  # a link back to a directory above it
                return
            for name in self._names(descriptor, directory):
                path = directory + name
                if not directory and name.rstrip("/") == OWN:
                    continue
                if self._common and path.startswith(self._common):
                    continue
                if name.endswith("/"):
                    yield from self._directory(path, (*ancestors, identity))
                elif path > self._after:
                    entry = self._file(descriptor, name, path)
                    if entry is not None:
                        yield entry
        finally:
            os.close(descriptor)

    def _directory(self, path: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
        common = rolled_up(path, self._prefix, self._delimiter)
        if common is None:
            if path > self._after or self._after.startswith(path):
                yield from self.below(path, ancestors)
        elif common > self._after and self._holds_file(path, ancestors):
            self._common = common
            yield CommonPrefix(common)

    def _file(self, descriptor: int, name: str, path: str) -> Entry | None:
        tree = self._tree
        try:
            key = tree.key_of(path)
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            kind, kept = stat.S_IFMT(found.st_mode), None
            if kind == stat.S_IFLNK:
                found, kept = self._linked(path)
                kind = stat.S_IFMT(found.st_mode)
            elif tree.keeps and kind == stat.S_IFREG:
                found, kept = stat_and_kept(tree.store_fd, descriptor, name, found, beside=tree.beside)
        except (OSError, ValueError):  # it went away, is a link that leads nowhere or outside, or no key: not an object
            return None
        if kind != stat.S_IFREG or (len(key) > _SURELY_SHORT and len(key.encode()) > MAX_KEY_BYTES):
            return None
        if not self._delimiter:
            return describe(key, found, kept)
        common = rolled_up(path, self._prefix, self._delimiter)
        if common is None:
            return describe(key, found, kept)
        if common <= self._after:
            return None
        self._common = common
        return CommonPrefix(common)

    def _linked(self, path: str) -> tuple[os.stat_result, Kept | None]:
        descriptor = open_beneath(self._root_fd, path, os.O_PATH)
        try:
            found = os.fstat(descriptor)
            return found, read_kept(self._tree.store_fd, descriptor, found) if self._tree.keeps else None
        finally:
            os.close(descriptor)

    def _holds_file(self, directory: str, ancestors: tuple[tuple[int, int], ...]) -> bool:
        """Whether any file lies below: empty directories are not listed."""
        descriptor = _open_directory(self._root_fd, directory)
        if descriptor is None:
            return False
        folders: list[str] = []
        try:
            found = os.fstat(descriptor)
            identity = (found.st_dev, found.st_ino)
            if identity in ancestors:
                return False
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    name = _listed_name(self._root_fd, directory, entry)
                    if name is not None and not name.endswith("/"):
                        return True
                    if name is not None and len(folders) < WINDOW_NAMES:
                        folders.append(name)
        finally:
            os.close(descriptor)
        return any(self._holds_file(directory + folder, (*ancestors, identity)) for folder in folders)

    def _names(self, descriptor: int, directory: str) -> Iterator[str]:
        """Sorted names of one directory that may matter, directories with a slash behind them."""
        wanted = self._prefix[len(directory) :] if self._prefix.startswith(directory) else ""
        low = wanted
        if self._after.startswith(directory):
            first, slash, _ = self._after[len(directory) :].partition("/")
            low = max(low, first + slash)
        elif self._after > directory:
            return
        place = (directory, wanted)
        while True:
            changed_ns = _settled(os.fstat(descriptor).st_mtime_ns)
            window = self._windows.find(place, low, changed_ns, self._after)
            if window is None:
                self._windows.make_room(place)
                window = _scan(self._root_fd, descriptor, place, low, changed_ns, self._windows.limit_names)
                self._windows.keep(place, window)
            yield from window.names.iterate_from(low)
            if window.complete:
                return
            low = window.names.last + "\0"
            del window  # before the next scan takes its memory


def _open_directory(root_fd: int, directory: str) -> int | None:
    """None for what is not there, is no directory, or is a link that leads outside: nothing of it is listed."""
    try:
        return open_beneath(root_fd, directory.rstrip("/") or ".", _DIRECTORY)
    except OSError as error:
        if error.errno in _NOT_LISTED:
            return None
        raise


def _settled(changed_ns: int) -> int:
    """The time of a directory's last change, or 0 when another change may still get the same time."""
    return changed_ns if time.time_ns() - changed_ns > _TICK_NS else 0


def _scan(root_fd: int, descriptor: int, place: tuple[str, str], low: str, changed_ns: int, limit: int) -> _Window:
    """The smallest names from `low` on, as many as a window holds."""
    directory, wanted = place
    made_s = time.monotonic()
    names = SmallestNames(limit, WINDOW_BYTES)
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name
            if (names.high is not None and name > names.high) or (name < low and not low.startswith(name)):
                continue
            plain = name.isascii() and entry.is_file(follow_symlinks=False)
            listed = name if plain else _listed_name(root_fd, directory, entry)
            if listed is not None and listed >= low and listed.startswith(wanted):
                names.add(listed)
    found = names.take()
    return _Window(found, low, complete=names.high is None, changed_ns=changed_ns, made_s=made_s)


def _listed_name(root_fd: int, directory: str, entry: os.DirEntry[str]) -> str | None:
    """The name as it stands in keys; None for what is no object, nor leads to one."""
    name = entry.name
    if not name.isascii() and any("\udc80" <= letter <= "\udcff" for letter in name):
        return None  # not UTF-8: no key can say it
    if entry.is_symlink():
        try:
            kind = stat_beneath(root_fd, directory + name).st_mode
        except OSError:
            return None
        return name + "/" if stat.S_ISDIR(kind) else name if stat.S_ISREG(kind) else None
    if entry.is_dir(follow_symlinks=False):
        return name + "/"
    return name if entry.is_file(follow_symlinks=False) else None
