"""From where to where `headrace cp` copies: which of two paths lies in the namespace, and which files lie below a local one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from headrace.console.reading import namespace_path
from headrace.model.errors import InvalidKey, SettingsError

_SCHEME = "headrace:/"
_LOCAL = ("./", "../", "~")
_OWN_PARTS = ".headrace-"


class Ends(msgspec.Struct, frozen=True):
    """Both ends of a copy; paths of the namespace are whole, `/bucket/key`."""

    source: str
    target: str
    out_of: bool
    """Whether `source` lies in the namespace."""
    into: bool
    """Whether `target` does."""

    @property
    def path(self) -> str:
        """The end that lies in the namespace; the source where both do."""
        return self.source if self.out_of else self.target


def ends_of(source: str, target: str) -> Ends:
    """Which end lies where. Raises `SettingsError` when none lies in the namespace."""
    into = target.startswith(_SCHEME) or (_is_local(source) and not _is_local(target))
    out_of = source.startswith(_SCHEME) or not (into or _is_local(source))
    if not into and not out_of:
        raise SettingsError(f"both {source} and {target} are local: write headrace://bucket/key for a path of the namespace")
    return Ends(namespace_path(source) if out_of else source, namespace_path(target) if into else target, out_of, into)


def _is_local(path: str) -> bool:
    return path.startswith(_LOCAL) or path in (".", "..")


def files_below(root: Path, refused: Callable[[str, Exception], None]) -> Iterator[tuple[Path, str]]:
    """Every file below the directory `root`, sorted, with its path below it. Links to files are followed, to directories not.

    What no object can stand for is handed to `refused`. Raises `OSError` when `root` cannot be listed.
    """
    if not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no directory: without -r, cp copies one file", str(root))

    def unreadable(error: OSError) -> None:
        refused(str(error.filename), error)

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith(_OWN_PARTS) and name.endswith(".part"):
                continue
            relative = file.relative_to(root).as_posix()
            if not relative.isascii() and any("\ud800" <= char <= "\udfff" for char in relative):
                refused(ascii(str(file)), InvalidKey(f"{relative!a} is not UTF-8: rename it, keys are UTF-8"))
            elif not file.is_file():
                refused(str(file), InvalidKey(f"{file} is no regular file: it was left out"))
            else:
                yield file, relative
