"""The kernel's FUSE protocol as it lies in memory: structures, opcodes and flags.

Source: include/uapi/linux/fuse.h of Linux, protocol 7.31 to 7.45. Pure.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

MAJOR = 7
MINOR = 40
"""The newest minor version that is spoken here."""
OLDEST_MINOR = 31

MAX_WRITE_BYTES = 1 << 20
MAX_PAGES = 256
REQUEST_BYTES = MAX_WRITE_BYTES + 4096
"""Room for the longest request: a write with its headers."""

ROOT_ID = 1
NAME_MAX_BYTES = 255


class Op(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45


INIT_ASYNC_READ = 1 << 0
INIT_ATOMIC_O_TRUNC = 1 << 3
INIT_BIG_WRITES = 1 << 5
INIT_READDIRPLUS = 1 << 13
INIT_READDIRPLUS_AUTO = 1 << 14
INIT_ASYNC_DIO = 1 << 15
INIT_PARALLEL_DIROPS = 1 << 18
INIT_ABORT_ERROR = 1 << 21
INIT_MAX_PAGES = 1 << 22
INIT_CACHE_SYMLINKS = 1 << 23
INIT_EXPLICIT_INVAL_DATA = 1 << 25
INIT_EXT = 1 << 30
INIT2_DIRECT_IO_ALLOW_MMAP = 1 << 4
INIT2_PASSTHROUGH = 1 << 5

OPEN_DIRECT_IO = 1 << 0
OPEN_KEEP_CACHE = 1 << 1
OPEN_NOFLUSH = 1 << 5
OPEN_PASSTHROUGH = 1 << 7

SET_MODE = 1 << 0
SET_UID = 1 << 1
SET_GID = 1 << 2
SET_SIZE = 1 << 3
SET_ATIME = 1 << 4
SET_MTIME = 1 << 5
SET_HANDLE = 1 << 6
SET_ATIME_NOW = 1 << 7
SET_MTIME_NOW = 1 << 8

RENAME_NOREPLACE = 1

IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
INIT_IN = struct.Struct("<IIIII")
INIT_OUT = struct.Struct("<IIIIHHIIHHII24x")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("<QQQQII")
ATTR_OUT = struct.Struct("<QII")
GETATTR_IN = struct.Struct("<IIQ")
SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIIII")
OPEN_IN = struct.Struct("<II")
OPEN_OUT = struct.Struct("<QIi")
CREATE_IN = struct.Struct("<IIII")
MKNOD_IN = struct.Struct("<IIII")
MKDIR_IN = struct.Struct("<II")
RENAME_IN = struct.Struct("<Q")
RENAME2_IN = struct.Struct("<QII")
READ_IN = struct.Struct("<QQIIQII")
WRITE_IN = struct.Struct("<QQIIQII")
WRITE_OUT = struct.Struct("<II")
RELEASE_IN = struct.Struct("<QIIQ")
HANDLE_IN = struct.Struct("<QII")
"""The beginning of the requests to flush and to fsync."""
STATFS_OUT = struct.Struct("<QQQQQIIII24x")
XATTR_IN = struct.Struct("<II")
"""Of GETXATTR and LISTXATTR the room for the answer; of SETXATTR the value's length and flags."""
XATTR_OUT = struct.Struct("<II")
FALLOCATE_IN = struct.Struct("<QQQII")
FORGET_IN = struct.Struct("<Q")
BATCH_FORGET_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
INTERRUPT_IN = struct.Struct("<Q")
DIRENT = struct.Struct("<QQII")


class Request(NamedTuple):
    """One request: who asks for what of which inode. `body` is what follows the header."""

    op: int
    unique: int
    node: int
    uid: int
    gid: int
    body: memoryview


class Attr(NamedTuple):
    """What `stat` shows of an inode. Times in nanoseconds since 1970."""

    ino: int
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int = 1
    rdev: int = 0
    """Which device, as the kernel writes it; of device files."""
    ctime_ns: int = 0
    """0: as `mtime_ns`; so is the next."""
    atime_ns: int = 0

    def pack(self) -> bytes:
        seconds, rest = divmod(self.mtime_ns, 1_000_000_000)
        changed, changed_rest = divmod(self.ctime_ns or self.mtime_ns, 1_000_000_000)
        used, used_rest = divmod(self.atime_ns or self.mtime_ns, 1_000_000_000)
        return ATTR.pack(
            self.ino, self.size, (self.size + 511) // 512, used, seconds, changed, used_rest, rest, changed_rest,
            self.mode, self.nlink, self.uid, self.gid, self.rdev, 65536, 0,
        )  # fmt: skip


def parse(buffer: memoryview) -> Request:
    """The request in `buffer`, which must hold all of it. Raises `struct.error` for one that is too short."""
    length, op, unique, node, uid, gid, _pid, _ext, _ = IN_HEADER.unpack_from(buffer)
    return Request(op, unique, node, uid, gid, buffer[IN_HEADER.size : length])


def names(body: memoryview, offset: int, count: int) -> list[bytes]:
    """`count` names behind `offset`, each of which ends with a zero byte."""
    return bytes(body[offset:]).split(b"\0", count)[:count]


def entry(node: int, attr: Attr, valid_s: float) -> bytes:
    """The answer to whatever finds or makes an inode."""
    seconds, nanos = _duration(valid_s)
    return ENTRY.pack(node, 0, seconds, seconds, nanos, nanos) + attr.pack()


NO_ENTRY = ENTRY.pack(0, 0, 0, 0, 0, 0) + bytes(ATTR.size)
"""In a READDIRPLUS answer: only the name is told."""


def attributes(attr: Attr, valid_s: float) -> bytes:
    seconds, nanos = _duration(valid_s)
    return ATTR_OUT.pack(seconds, nanos, 0) + attr.pack()


def opened(handle: int, flags: int, backing: int = 0) -> bytes:
    return OPEN_OUT.pack(handle, flags, backing)


def dirent(ino: int, offset: int, name: bytes, kind: int) -> bytes:
    """One name of a directory; `kind` is the type's bits of a mode."""
    return DIRENT.pack(ino, offset, len(name), kind >> 12) + name + bytes(-len(name) % 8)


def _duration(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)
