"""What is at a path, and how Hadoop is told of it.

A directory is whatever has keys below it; a key that ends with a slash only marks one, and an object hides a directory of its
name, as everywhere else in Headrace.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass

import msgspec

from headrace.gateways.fuse.modes import Defaults, modes_of
from headrace.gateways.webhdfs.context import Call
from headrace.gateways.webhdfs.errors import HdfsError, missing
from headrace.model.errors import NotFound
from headrace.model.objects import ObjectInfo, with_key
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.namespace import Namespace

BLOCK_BYTES = 128 << 20
"""What clients are told a block has: only they cut by it."""
GROUP = "supergroup"
_DEFAULTS = Defaults()


class FileStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Hadoop's `FileStatus`. Times in milliseconds since 1970."""

    path_suffix: str
    type: str
    length: int
    owner: str
    group: str
    permission: str
    access_time: int
    modification_time: int
    block_size: int
    replication: int
    file_id: int
    storage_policy: int
    children_num: int = -1
    """Left out for a directory, whose entries nobody has counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path. `info` is None for a directory; `marker` is the object that marks it, where one was met."""

    path: str
    info: ObjectInfo | None = None
    marker: ObjectInfo | None = None


async def find(namespace: Namespace, path: str) -> Found:
    """Raises `HdfsError` where there is nothing."""
    bucket, _, key = path[1:].partition("/")
    if not bucket:
        return Found(path)
    if not key:
        if await NamespaceBuckets(namespace).has(bucket):
            return Found(path)
        raise missing(path)
    try:
        return Found(path, await namespace.info(path))
    except NotFound:
        return await find_directory(namespace, path)


async def find_directory(namespace: Namespace, path: str) -> Found:
    """The directory below a bucket at a path where no object is. Raises `HdfsError`."""
    bucket, _, key = path[1:].partition("/")
    try:
        page = await namespace.list(f"/{bucket}", key + "/", limit=1)
    except NotFound:
        raise missing(path) from None
    if not page.entries:
        raise missing(path)
    first = page.entries[0]
    marked = isinstance(first, ObjectInfo) and first.key == key + "/"
    return Found(path, None, with_key(first, path + "/") if marked and isinstance(first, ObjectInfo) else None)


async def find_file(namespace: Namespace, path: str) -> ObjectInfo:
    """Raises `HdfsError` where there is nothing, or a directory."""
    found = await find(namespace, path)
    if found.info is None:
        raise HdfsError("FileNotFoundException", f"Path is not a file: {path}")
    return found.info


async def with_metadata(namespace: Namespace, found: Found) -> Found:
    """The same, with what is kept beside the mark of a directory: listings of many stores do not tell it."""
    if found.marker is None:
        return found
    try:
        return Found(found.path, None, with_key(await namespace.info(found.path + "/"), found.path + "/"))
    except NotFound:
        return Found(found.path, None, None)


def file_status(call: Call, suffix: str, path: str, info: ObjectInfo | None, marker: ObjectInfo | None = None) -> FileStatus:
    """How Hadoop is told of a file, or of a directory where `info` is None.

    A directory that nothing marks has no time of its own. It is told as changed now, so that nobody removes it for its age.
    """
    kept = info or marker
    metadata = dict(kept.metadata) if kept is not None else {}
    kind = stat.S_IFDIR if info is None else stat.S_IFREG
    owner = call.who.caller.key_id or "headrace"
    mode, changed_ms = (0o755, int(call.now_s * 1000))
    if kept is not None:
        modes = modes_of(kept, _DEFAULTS, kind=kind)
        mode, changed_ms = stat.S_IMODE(modes.mode), modes.mtime_ns // 1_000_000
        changed_ms = changed_ms or int(call.now_s * 1000)
    return FileStatus(
        path_suffix=suffix,
        type="DIRECTORY" if info is None else "FILE",
        length=0 if info is None else info.size,
        owner=metadata.get("owner") or metadata.get("uid") or owner,
        group=metadata.get("group") or metadata.get("gid") or GROUP,
        permission=f"{mode:o}",
        access_time=0 if info is None else _seconds_ms(metadata.get("atime", "")) or changed_ms,
        modification_time=changed_ms,
        block_size=0 if info is None else BLOCK_BYTES,
        replication=0 if info is None else 1,
        file_id=file_id(path, info),
        storage_policy=0,
        children_num=-1 if info is None else 0,
    )


def file_id(path: str, info: ObjectInfo | None) -> int:
    """A number that no other file has, and the same file no more once its bytes are others."""
    said = f"{path}\0{info.version.token if info is not None else '/'}"
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1 or 1


def _seconds_ms(text: str) -> int:
    whole, _, part = text.partition(".")
    if not (whole.isascii() and whole.isdigit()) or len(whole) > 12 or not (part + "0").isascii() or not (part + "0").isdigit():
        return 0
    return int(whole) * 1000 + int((part + "000")[:3])
