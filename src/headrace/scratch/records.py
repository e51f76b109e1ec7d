"""What is remembered of each key that was written or removed here, beside the files themselves.

`.headrace/written/<key>` says what was acknowledged under a key: an object without it does not count, and it without its object
means that the object was lost. `.headrace/hidden/<key>` says that a key was removed here, so that the store's object of that
name is not shown. Everything takes the root's descriptor, blocks, raises `OSError`, and is called under the key's lock when it
changes something.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum

import msgspec
import xxhash

from headrace.model.objects import SCRATCH_LOST, ObjectInfo, Version
from headrace.stores.beneath import open_beneath
from headrace.stores.file_own import (
    OWN,
    discard,
    existing_folder,
    odd_prefix,
    open_temporary,
    opened_folder,
    read_whole,
    write_all,
)

WRITTEN = f"{OWN}/written"
HIDDEN = f"{OWN}/hidden"
BLOCK_BYTES = 256 * 1024
"""What one checksum is made of: whoever reads a byte reads its block."""
_SUM_BYTES = 8


class Touch(Enum):
    """What was done to a key."""

    WRITTEN = "written"
    REMOVED = "removed"


class Written(msgspec.Struct, frozen=True, array_like=True):
    """One object that was acknowledged. `sums` are the XXH3-64 of its blocks, one behind the other."""

    version: str
    size: int
    etag: str
    modified_s: float
    sums: bytes

    def sum_of(self, block: int) -> int:
        return int.from_bytes(self.sums[block * _SUM_BYTES : (block + 1) * _SUM_BYTES], "little")

    def lost(self, key: str) -> ObjectInfo:
        """What a listing says of it when its bytes are gone."""
        return ObjectInfo(key, self.size, Version(self.version), self.modified_s, self.etag, storage_class=SCRATCH_LOST)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What a key holds. While an object takes another's place, either of the two may be the file that is there."""

    now: Written
    before: Written | None = None

    def of(self, version: str) -> Written | None:
        """What was acknowledged as this very version."""
        for written in (self.now, self.before):
            if written is not None and written.version == version:
                return written
        return None


UNREADABLE = Record(Written("", 0, "", 0.0, b""))
"""A record that cannot be read: something was written, and nothing that is there can be trusted to be it."""
_DECODER = msgspec.msgpack.Decoder(Record)


def sums_of(fd: int, size: int) -> bytes:
    """The checksums of a file's blocks."""
    sums = [
        xxhash.xxh3_64_intdigest(os.pread(fd, BLOCK_BYTES, start)).to_bytes(_SUM_BYTES, "little")
        for start in range(0, size, BLOCK_BYTES)
    ]
    return b"".join(sums)


def written_as(info: ObjectInfo, sums: bytes) -> Written:
    return Written(info.version.token, info.size, info.etag, info.modified_s, sums)


def read_record(root_fd: int, key: str) -> Record | None:
    """What was written under the key; None when nothing was."""
    try:
        data = read_whole(root_fd, f"{WRITTEN}/{_name(key)}")
    except FileNotFoundError:
        return None
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError:
        return UNREADABLE


def put_record(root_fd: int, key: str, record: Record) -> None:
    """At once, in the place of an earlier one; durable when this returns."""
    _put(root_fd, WRITTEN, key, msgspec.msgpack.encode(record))


def drop_record(root_fd: int, key: str) -> bool:
    """Whether there was one."""
    return _drop(root_fd, WRITTEN, key)


def hide(root_fd: int, key: str) -> bool:
    """Remember that the key was removed here. False where that was known already."""
    if is_hidden(root_fd, key):
        return False
    _put(root_fd, HIDDEN, key, b"")
    return True


def show(root_fd: int, key: str) -> bool:
    """Forget that the key was removed. Whether it was."""
    return _drop(root_fd, HIDDEN, key)


def is_hidden(root_fd: int, key: str) -> bool:
    return _is_there(root_fd, HIDDEN, key)


def is_written(root_fd: int, key: str) -> bool:
    return _is_there(root_fd, WRITTEN, key)


def any_records(root_fd: int) -> bool:
    """Whether any key was ever touched here."""
    return any(_is_tree(root_fd, tree) for tree in (WRITTEN, HIDDEN))


def touch_of(root_fd: int, key: str) -> Touch | None:
    """What was last done to the key here; None when nothing was.

    What hides a key is put there before its record goes, and taken away behind the next one, so who looks at the two only once
    may see neither. Who sees neither twice has met none of these changes.
    """
    for _ in range(2):
        if is_written(root_fd, key):
            return Touch.WRITTEN
        if is_hidden(root_fd, key):
            return Touch.REMOVED
    return None


def _name(key: str) -> str:
    return odd_prefix(key.encode()) + "-"


def _put(root_fd: int, tree: str, key: str, data: bytes) -> None:
    above, _, name = f"{tree}/{_name(key)}".rpartition("/")
    with opened_folder(root_fd, above) as folder:
        descriptor, temporary = open_temporary(folder)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except OSError:
            discard(folder, temporary)
            raise
        finally:
            os.close(descriptor)


def _drop(root_fd: int, tree: str, key: str) -> bool:
    above, _, name = f"{tree}/{_name(key)}".rpartition("/")
    try:
        with existing_folder(root_fd, above) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        return False
    return True


def _is_tree(root_fd: int, tree: str) -> bool:
    try:
        os.stat(tree, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_there(root_fd: int, tree: str, key: str) -> bool:
    with suppress(FileNotFoundError):
        os.close(open_beneath(root_fd, f"{tree}/{_name(key)}", os.O_PATH))
        return True
    return False
