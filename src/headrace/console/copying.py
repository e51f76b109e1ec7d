"""Copying one object into a local file: never outside the target directory, never a mix of two versions, verified."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from headrace.model.errors import InvalidKey
from headrace.model.objects import ObjectInfo

if TYPE_CHECKING:
    from headrace.client import Client
    from headrace.openfile import HeadraceFile

CHUNK_BYTES = 4 * 1024 * 1024
_VERSION_ATTRIBUTE = "user.headrace.version"
_MAX_NAME_BYTES = 255

Report = Callable[[int], None]
"""Called with the number of bytes that have just arrived (or were there already)."""


class Copied(msgspec.Struct, frozen=True):
    """What became of one object."""

    key: str
    target: str
    size: int
    skipped: bool
    verified: str = ""
    """What was compared: `etag`, `version`, `read back` when the store's ETag says nothing, `size` when there was no more."""


def target_for(root: Path, relative_key: str) -> Path:
    """Where the object goes below `root`. Raises `InvalidKey` for a key that no file below it can stand for."""
    parts = relative_key.split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        raise InvalidKey(
            f"{relative_key!r} cannot be a file name here: copy it by itself, to a name of your own", path=relative_key
        )
    return root.joinpath(*parts)


def part_name(target: Path, version: str) -> Path:
    """The unfinished copy of one version; another version has another name, so a resumed copy is never a mix."""
    mark = hashlib.blake2b(f"{target.name}\0{version}".encode(), digest_size=8).hexdigest()
    return target.with_name(f".headrace-{mark}.part")


def copy_object(client: Client, key: str, target: Path, report: Report) -> Copied:
    """Copy the object's current version to `target`, which is whole or as it was before.

    An unfinished copy of the same version goes on where it ended; a finished one is left as it is.
    """
    with client.open(key) as opened:
        info = cast("HeadraceFile", opened).reader.info
        if _is_copy(target, info):
            report(info.size)
            return Copied(key, str(target), info.size, True, "version")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_name(target, info.version.token)
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with os.fdopen(fd, "r+b", buffering=0) as file:
            went_on, md5 = _fill(file, opened, info, report)
            if went_on and md5 != info.etag and len(info.etag) == len(md5):
                # What an earlier run left may be damaged; a whole copy whose MD5 is not the ETag has a store with other ETags.
                os.ftruncate(fd, 0)
                _, md5 = _fill(file, opened, info, lambda _count: None)
            _mark(fd, info)
            os.fsync(fd)
        part.replace(target)
    return Copied(key, str(target), info.size, False, "etag" if md5 == info.etag else "size")


def _fill(file: FileIO, opened: BinaryIO, info: ObjectInfo, report: Report) -> tuple[bool, str]:
    """Bring `file` to the object's bytes; whether some were there, and the MD5 of all."""
    digest = hashlib.md5(usedforsecurity=False)
    have = os.fstat(file.fileno()).st_size
    if have > info.size:
        file.truncate(0)
        have = 0
    report(have)
    file.seek(0)
    while file.tell() < have:
        digest.update(file.read(CHUNK_BYTES))
    opened.seek(have)
    while piece := opened.read(CHUNK_BYTES):
        digest.update(piece)
        file.write(piece)
        report(len(piece))
    return have > 0, digest.hexdigest()


def _mark(fd: int, info: ObjectInfo) -> None:
    # Without extended attributes a later run copies again rather than trust a name and a length.
    with contextlib.suppress(OSError):
        os.setxattr(fd, _VERSION_ATTRIBUTE, info.version.token.encode())
    if info.modified_s:
        os.utime(fd, (info.modified_s, info.modified_s))


def _is_copy(target: Path, info: ObjectInfo) -> bool:
    try:
        return target.stat().st_size == info.size and os.getxattr(target, _VERSION_ATTRIBUTE) == info.version.token.encode()
    except OSError:
        return False
