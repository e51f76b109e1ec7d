"""One folder of a page directory as it is found: segments with their sizes, pins, and what nobody needs any more."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from headrace.cache.layout import FOOTER_BYTES, PART_SUFFIX, PIN_SUFFIX, SUM_SUFFIX, Geometry, Kind, SegmentName, is_segment

ORPHAN_AGE_S = 60.0
"""Parts without a leader and checksums without a segment are left alone for so long."""
_BLOCK = 4096
_INDEX_BITS = 48
_KINDS = (Kind.WHOLE, Kind.CHUNK, Kind.PAGE)
_KIND_BITS: dict[str, int] = {kind.value: number << _INDEX_BITS for number, kind in enumerate(_KINDS)}
_KIND_MASK = 3 << _INDEX_BITS
_PAGE_BITS, _WHOLE_BITS = _KIND_BITS[Kind.PAGE.value], _KIND_BITS[Kind.WHOLE.value]


class Found(msgspec.Struct, frozen=True, gc=False):
    """One segment file. There may be millions, so its name is an int until somebody asks."""

    ident: int
    size: int
    length: int
    """Bytes of the object that it holds."""
    used_s: int
    """Seconds since 1970 of its last known use."""
    settled_s: float
    """Seconds since it was named."""

    @property
    def name(self) -> SegmentName:
        return name_of(self.ident)


@dataclass(slots=True)
class Folder:
    """What a folder holds."""

    segments: list[Found] = field(default_factory=list)
    bad: list[SegmentName] = field(default_factory=list)
    """Of a size that no such segment can have, without their checksums, or no files at all."""
    pinned: set[int] = field(default_factory=set)
    """Ids of objects, as `object_of` tells them."""
    orphans: list[str] = field(default_factory=list)
    """Paths of parts and checksums that nobody works on."""


def ident_of(name: SegmentName) -> int:
    """The segment's name as one int, for `eviction.py`."""
    return int.from_bytes(name.object_id, "big") << _INDEX_BITS + 2 | _KIND_BITS[name.kind.value] | name.index


def ident_of_file(filename: str) -> int | None:
    """`ident_of` for the segment that a file's own name means; None where `parse_segment` answers None."""
    if not is_segment(filename):
        return None
    return int(filename[:32], 16) << _INDEX_BITS + 2 | _KIND_BITS[filename[33]] | int(filename[34:] or "0", 16)


def object_of(ident: int) -> int:
    """The object's id in an ident, as an int."""
    return ident >> _INDEX_BITS + 2


def name_of(ident: int) -> SegmentName:
    """The name behind `ident_of`."""
    kind = _KINDS[ident >> _INDEX_BITS & 3]
    return SegmentName((ident >> _INDEX_BITS + 2).to_bytes(16, "big"), kind, ident & (1 << _INDEX_BITS) - 1)


def space(size: int) -> int:
    """Bytes of disk that a file of `size` bytes takes."""
    return -(-size // _BLOCK) * _BLOCK


def folders(root: str) -> list[str]:
    """Paths of the folders of a page directory. Raises `OSError`."""
    with os.scandir(root) as entries:
        return sorted(entry.path for entry in entries if len(entry.name) == 3 and entry.is_dir(follow_symlinks=False))


def look(path: str, geometry: Geometry, now: float, *, part_age_s: float = ORPHAN_AGE_S) -> Folder:
    """Read one folder. What vanishes meanwhile is passed over. Raises `OSError` when the folder cannot be read.

    Growing fills younger than `part_age_s` are no orphans.
    """
    folder = Folder()
    names: dict[str, os.stat_result] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                names[entry.name] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
    found_one = folder.segments.append
    for filename, status in names.items():
        ident = ident_of_file(filename)
        if ident is not None:
            size, has_sums = status.st_size, filename[33] != "p" and filename + SUM_SUFFIX in names
            if is_sound(ident, status, geometry, has_sums=has_sums):
                used_s = int(max(status.st_mtime, status.st_atime))
                found_one(Found(ident, size, size if has_sums else size - FOOTER_BYTES, used_s, now - status.st_ctime))
            else:
                folder.bad.append(name_of(ident))
        elif filename.endswith(PIN_SUFFIX) and len(filename) == 36:
            with contextlib.suppress(ValueError):
                folder.pinned.add(int(filename[:32], 16))
        elif _is_orphan(filename, now - status.st_mtime, names, part_age_s):
            folder.orphans.append(f"{path}/{filename}")
    return folder


def _is_orphan(filename: str, age_s: float, names: Collection[str], part_age_s: float) -> bool:
    if filename.endswith(SUM_SUFFIX):
        return age_s > ORPHAN_AGE_S and filename[: -len(SUM_SUFFIX)] not in names
    if not filename.endswith(PART_SUFFIX):
        return False
    # Checksums on their way to their name are locked by nobody: only their age tells.
    return age_s > (ORPHAN_AGE_S if filename.endswith(SUM_SUFFIX + PART_SUFFIX) else part_age_s)


def is_sound(ident: int, status: os.stat_result, geometry: Geometry, *, has_sums: bool) -> bool:
    """Whether a file can be the segment that its name says, by its size alone."""
    if not stat.S_ISREG(status.st_mode):
        return False
    size = status.st_size
    if not has_sums and not FOOTER_BYTES < size <= geometry.page + FOOTER_BYTES:
        return False
    kind = ident & _KIND_MASK
    if kind == _PAGE_BITS:
        return size <= geometry.page + FOOTER_BYTES
    return kind == _WHOLE_BITS or size <= geometry.chunk


def remove_orphan(path: str) -> bool:
    """Unlink a part or checksums that nobody holds locked. False when somebody does, or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have got its final name since it was opened, and another fill may have begun under the old one.
        if os.lstat(path).st_ino != os.fstat(fd).st_ino:
            return False
        os.unlink(path)  # noqa: PTH108
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
