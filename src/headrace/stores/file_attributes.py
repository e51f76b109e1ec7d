"""What a file cannot say about the object that it is: kept in one extended attribute, or beside it where there is no room.

It is bound to the file's modification time, size and inode: when another program has changed the file, nothing of it holds.
"""

from __future__ import annotations

import base64
import errno
import os
from contextlib import suppress
from itertools import groupby

import msgspec

from headrace.model.objects import ObjectInfo, Version
from headrace.model.uploads import Part
from headrace.model.writing import ACL_TAG, Attributes, Pairs
from headrace.stores.file_own import ATTRIBUTES, OWN, existing_folder, opened_folder, read_whole, write_whole

NAME = "user.headrace"
_FORMAT = 1
_TRIES = 4
_NO_ROOM = frozenset((errno.EOPNOTSUPP, errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE))
_NONE = frozenset((errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENOENT, errno.ELOOP))
Binding = tuple[int, int, int]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is kept with one file."""

    format: int
    binding: Binding
    """Modification time in nanoseconds, size and inode of the file that this is said of."""
    etag: str = ""
    """Empty: the object was not written through this store, and has the ETag of a plain file."""
    content_type: str = ""
    headers: Pairs = ()
    metadata: Pairs = ()
    tags: Pairs = ()
    checksums: Pairs = ()
    part_runs: tuple[tuple[int, int], ...] = ()
    """Sizes of the parts that the object was made from, as (how many, of which size)."""
    part_algorithm: str = ""
    part_sums: bytes = b""
    """The checksums of the parts by `part_algorithm`, decoded, one behind the other, so that an attribute holds those of many."""

    def part_sizes(self) -> tuple[int, ...]:
        return tuple([size for count, size in self.part_runs for _ in range(count)])

    def parts(self, modified_s: float) -> tuple[Part, ...]:
        """The parts that the object was made from, without their ETags."""
        sizes = self.part_sizes()
        length = len(self.part_sums) // len(sizes) if sizes else 0
        return tuple([Part(number, "", size, modified_s, self._part_sum(number, length)) for number, size in enumerate(sizes, 1)])

    def _part_sum(self, number: int, length: int) -> Pairs:
        if not length:
            return ()
        value = self.part_sums[(number - 1) * length : number * length]
        return ((self.part_algorithm, base64.b64encode(value).decode()),)

    def attributes(self) -> Attributes:
        return Attributes(self.content_type, self.headers, self.metadata, self.tags)


class Beside(msgspec.Struct, frozen=True, array_like=True):
    """What is kept beside a file, with the key that it was written under."""

    key: str
    kept: Kept


_BESIDE = msgspec.msgpack.Decoder(Beside)
_DECODER = msgspec.msgpack.Decoder(Kept)


def binding_of(found: os.stat_result) -> Binding:
    """What tells one version of a file from all others."""
    return found.st_mtime_ns, found.st_size, found.st_ino


def kept_with(
    attributes: Attributes, etag: str, checksums: Pairs = (), parts: tuple[Part, ...] = (), part_algorithm: str = ""
) -> Kept:
    """What to keep with a file that is yet to be named by `bound`; checksums of parts where each has one by `part_algorithm`."""
    runs = tuple([(len(list(run)), size) for size, run in groupby([part.size for part in parts])])
    sums = [dict(part.checksums).get(part_algorithm, "") for part in parts]
    keeps_sums = bool(part_algorithm) and all(sums)
    return Kept(
        _FORMAT,
        (0, 0, 0),
        etag,
        attributes.content_type,
        attributes.headers,
        attributes.metadata,
        tuple(sorted(attributes.tags)),
        checksums,
        runs,
        part_algorithm if keeps_sums else "",
        b"".join([base64.b64decode(value) for value in sums]) if keeps_sums else b"",
    )


def bound(kept: Kept, found: os.stat_result) -> Kept:
    """The same, said of the file as it is now."""
    return msgspec.structs.replace(kept, binding=binding_of(found))


def with_tags(kept: Kept | None, found: os.stat_result, tags: Pairs) -> Kept:
    """The same with other tags; who may do what stays as it was unless they say it."""
    kept = kept or Kept(_FORMAT, binding_of(found))
    if all(name != ACL_TAG for name, _ in tags):
        tags = (*tags, *(pair for pair in kept.tags if pair[0] == ACL_TAG))
    return msgspec.structs.replace(kept, tags=tuple(sorted(tags)))


def describe(key: str, found: os.stat_result, kept: Kept | None, content_type: str = "") -> ObjectInfo:
    """A file as an object. Its version is (mtime, size, inode), with the ETag where the file was written through the store."""
    mtime, size = found.st_mtime_ns, found.st_size
    identity = f"{mtime}-{size}-{found.st_ino}"
    if kept is None:
        # By position: this runs once for each listed name.
        return ObjectInfo(key, size, Version("stat:" + identity), mtime / 1e9, identity, "", content_type)
    return ObjectInfo(
        key,
        size,
        Version(f"stat:{identity}-{kept.etag}" if kept.etag else "stat:" + identity),
        mtime / 1e9,
        kept.etag or identity,
        "",
        kept.content_type or content_type,
        kept.headers,
        kept.metadata,
        kept.checksums,
        sum(count for count, _ in kept.part_runs),
        tag_count=sum(name != ACL_TAG for name, _ in kept.tags),
    )


def keeps_anything(root_fd: int) -> bool:
    """Whether anything was ever written through a store at this root: if not, no file is asked for attributes."""
    return _is_there(root_fd, OWN)


def keeps_beside(root_fd: int) -> bool:
    """Whether anything was ever kept beside a file at this root."""
    return _is_there(root_fd, ATTRIBUTES)


def read_kept(root_fd: int, descriptor: int, found: os.stat_result) -> Kept | None:
    """What is kept with an open file (opened for its path alone will do), if it still holds."""
    kept = _attached(f"/proc/self/fd/{descriptor}", follow=True)
    if kept is not None and kept.binding == binding_of(found):
        return kept
    return _kept_beside(root_fd, found)


def stat_and_kept(
    root_fd: int, folder_fd: int, name: str, found: os.stat_result, *, beside: bool
) -> tuple[os.stat_result, Kept | None]:
    """What is kept with a regular file of a folder that was just looked at; looked at again if it was replaced meanwhile."""
    path = f"/proc/self/fd/{folder_fd}/{name}"
    for _ in range(_TRIES):
        kept = _attached(path, follow=False)
        if kept is None or kept.binding == binding_of(found):
            break
        again = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if binding_of(again) == binding_of(found):
            kept = None
            break
        found = again
    else:  # it is being replaced all the time
        kept = None
    if kept is None and beside:
        kept = _kept_beside(root_fd, found)
    return found, kept


def attach(descriptor: int, kept: Kept) -> bool:
    """Keep it with an open file. False where there is no room: then `attach_beside`. Raises `OSError`."""
    try:
        os.setxattr(descriptor, NAME, msgspec.msgpack.encode(kept))
    except OSError as error:
        if error.errno in _NO_ROOM:
            return False
        raise
    return True


def attach_beside(root_fd: int, key: str, kept: Kept) -> None:
    """Keep it in a file of its own, found again by what it is bound to; durable when this returns."""
    folder, name = _beside(kept.binding)
    with opened_folder(root_fd, folder) as descriptor:
        write_whole(descriptor, name, msgspec.msgpack.encode(Beside(key, kept)))


def detach(descriptor: int) -> None:
    """Take the extended attribute away, if there is one."""
    with suppress(OSError):
        os.removexattr(descriptor, NAME)


def forget_beside(root_fd: int, binding: Binding) -> None:
    """Drop what `attach_beside` kept, if it kept anything."""
    folder, name = _beside(binding)
    with suppress(OSError), existing_folder(root_fd, folder) as descriptor:
        os.unlink(name, dir_fd=descriptor)


def _beside(binding: Binding) -> tuple[str, str]:
    mtime, size, inode = binding
    return f"{ATTRIBUTES}/{inode & 0xFF:02x}", f"{inode:x}-{mtime:x}-{size:x}"


def read_beside(root_fd: int, path: str) -> Beside | None:
    """What a file of attributes says, if it can be read. Raises `FileNotFoundError`."""
    try:
        beside = _BESIDE.decode(read_whole(root_fd, path))
    except msgspec.MsgspecError:  # a later release's
        return None
    return beside if beside.kept.format == _FORMAT else None


def _kept_beside(root_fd: int, found: os.stat_result) -> Kept | None:
    folder, name = _beside(binding_of(found))
    try:
        beside = read_beside(root_fd, f"{folder}/{name}")
    except FileNotFoundError:
        return None
    return None if beside is None else beside.kept


def _attached(path: str, *, follow: bool) -> Kept | None:
    """What the extended attribute says, whatever it is bound to."""
    try:
        kept = _DECODER.decode(os.getxattr(path, NAME, follow_symlinks=follow))
    except OSError as error:
        if error.errno not in _NONE:
            raise
        return None
    except msgspec.MsgspecError:  # another program's, or a later release's: the file speaks for itself
        return None
    return kept if kept.format == _FORMAT else None


def _is_there(root_fd: int, path: str) -> bool:
    try:
        os.stat(path, dir_fd=root_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
