"""Modes, owners and times of files, kept in the user metadata of their objects.

The names and forms are those of s3fs-fuse (`mode` and `uid` as decimal numbers, `mtime` in seconds), which rclone reads and
writes, too; its octal `mode` is understood. Objects without them show the mount's defaults and the time that their store tells.
Pure.
"""

from __future__ import annotations

import stat
from decimal import Decimal, InvalidOperation

import msgspec

from headrace.model.objects import ObjectInfo
from headrace.model.writing import Pairs

_NAMES = frozenset({"mode", "uid", "gid", "mtime", "rdev", "atime"})
_SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
_KINDS = frozenset({stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR}) | _SPECIAL
_MOST_NS = 1 << 62


class Defaults(msgspec.Struct, frozen=True):
    """What is shown where an object does not say it."""

    uid: int = 0
    gid: int = 0
    file_mode: int = 0o644
    dir_mode: int = 0o755


class Modes(msgspec.Struct, frozen=True):
    """Type and permissions, owner, and the time of the last change in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    rdev: int = 0
    """Which device; of device files. What they are is kept, and that alone: a mount opens none."""
    atime_ns: int = 0
    """The time of the last use, where a program set it: reading does not change it. 0: as the last change."""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


def modes_of(info: ObjectInfo, defaults: Defaults, *, kind: int = stat.S_IFREG) -> Modes:
    """What an object shows as. `kind` is what it is where its metadata do not say so."""
    kept = dict(info.metadata)
    permissions = defaults.dir_mode if kind == stat.S_IFDIR else defaults.file_mode
    mode = _mode(kept.get("mode", "")) or kind | permissions
    if kind == stat.S_IFDIR or stat.S_IFMT(mode) == stat.S_IFDIR or (info.size and stat.S_IFMT(mode) in _SPECIAL):
        mode = kind | stat.S_IMODE(mode)
    return Modes(
        mode,
        _number(kept.get("uid", ""), defaults.uid),
        _number(kept.get("gid", ""), defaults.gid),
        _time_ns(kept.get("mtime", "")) or round(info.modified_s * 1e9),
        _number(kept.get("rdev", ""), 0) if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
        _time_ns(kept.get("atime", "")),
    )


def metadata_with(metadata: Pairs, modes: Modes) -> Pairs:
    """`metadata` with all that `modes` say."""
    said = {"mode": str(modes.mode), "uid": str(modes.uid), "gid": str(modes.gid), "mtime": _time(modes.mtime_ns)}
    if modes.rdev:
        said["rdev"] = str(modes.rdev)
    if modes.atime_ns:
        said["atime"] = _time(modes.atime_ns)
    return tuple(sorted({**{name: value for name, value in metadata if name not in _NAMES}, **said}.items()))


def _mode(text: str) -> int:
    """A mode with a type that is known here, else 0."""
    for base in (10, 8):
        try:
            mode = int(text, base)
        except ValueError:
            continue
        if 0 < mode <= 0xFFFF and stat.S_IFMT(mode) in _KINDS:
            return mode
    return 0


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 32 else otherwise


def _time(ns: int) -> str:
    return f"{ns // 10**9}.{ns % 10**9:09}"


def _time_ns(text: str) -> int:
    try:
        nanos = int(Decimal(text) * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return nanos if 0 < nanos < _MOST_NS else 0
