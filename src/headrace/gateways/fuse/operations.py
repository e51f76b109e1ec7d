"""The kernel's requests one by one: what is asked is read from its structure, done, and answered in another."""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace.gateways.fuse import abi
from headrace.gateways.fuse.abi import Op
from headrace.gateways.fuse.changes import Change, change
from headrace.gateways.fuse.directories import Directories
from headrace.gateways.fuse.files import Files
from headrace.gateways.fuse.handing import Handing, Wholes
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.modes import Modes
from headrace.gateways.fuse.moving import Moves
from headrace.gateways.fuse.names import Names
from headrace.gateways.fuse.reading import Reader
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.gateways.fuse.xattrs import list_xattrs, remove_xattr, set_xattr, xattr
from headrace.model.reading import Buffer


@dataclass(frozen=True, slots=True)
class Mounted:
    """The parts of one mount."""

    shared: Shared
    handing: Handing
    files: Files
    reader: Reader
    names: Names
    moves: Moves
    directories: Directories

    @classmethod
    def of(cls, shared: Shared, wholes: Wholes) -> Mounted:
        handing = Handing(shared.device, wholes)
        files = Files(shared, handing)
        names = Names(shared, files)
        return cls(shared, handing, files, Reader(shared), names, Moves(shared, files, names), Directories(shared))

    def inode(self, request: abi.Request) -> Inode:
        """Raises `Refused` for one that the kernel forgot."""
        inode = self.shared.inodes.get(request.node)
        if inode is None:
            raise Refused(errno.ESTALE)
        return inode


Handler = Callable[[Mounted, abi.Request], Awaitable[bytes | tuple[Buffer, ...]]]
"""Answers in one piece, or in several."""


async def _read(mount: Mounted, request: abi.Request) -> tuple[Buffer, ...]:
    handle, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
    return await mount.reader.read(mount.files.get(handle), offset, size)


async def _lookup(mount: Mounted, request: abi.Request) -> bytes:
    (name,) = abi.names(request.body, 0, 1)
    return mount.names.known(await mount.names.lookup(mount.inode(request), name))


async def _getattr(mount: Mounted, request: abi.Request) -> bytes:
    inode = mount.inode(request)
    return mount.names.attr_now(inode) or await mount.names.attr(inode)


async def _setattr(mount: Mounted, request: abi.Request) -> bytes:
    valid, _, _fh, size, _, atime, mtime, _, atime_nanos, mtime_nanos, _, mode, _, uid, gid, _ = abi.SETATTR_IN.unpack_from(
        request.body
    )
    mtime_ns = mtime * 10**9 + mtime_nanos if valid & abi.SET_MTIME else None
    atime_ns = atime * 10**9 + atime_nanos if valid & abi.SET_ATIME else None
    now_ns = mount.shared.now_ns()
    inode = mount.inode(request)
    await change(
        mount.shared,
        mount.files,
        inode,
        Change(
            size if valid & abi.SET_SIZE else None,
            mode if valid & abi.SET_MODE else None,
            uid if valid & abi.SET_UID else None,
            gid if valid & abi.SET_GID else None,
            now_ns if valid & abi.SET_MTIME_NOW else mtime_ns,
            now_ns if valid & abi.SET_ATIME_NOW else atime_ns,
        ),
    )
    return abi.attributes(inode.attr(), mount.shared.valid_s(inode.path))


async def _readlink(mount: Mounted, request: abi.Request) -> bytes:
    return await mount.names.read_link(mount.inode(request))


async def _symlink(mount: Mounted, request: abi.Request) -> bytes:
    name, target = abi.names(request.body, 0, 2)
    return mount.names.known(await mount.names.make_link(mount.inode(request), name, target, (request.uid, request.gid)))


async def _mknod(mount: Mounted, request: abi.Request) -> bytes:
    mode, rdev, *_ = abi.MKNOD_IN.unpack_from(request.body)
    (name,) = abi.names(request.body, abi.MKNOD_IN.size, 1)
    modes = Modes(mode, request.uid, request.gid, mount.shared.now_ns(), rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0)
    return mount.names.known(await mount.names.make_node(mount.inode(request), name, modes))


async def _mkdir(mount: Mounted, request: abi.Request) -> bytes:
    mode, _ = abi.MKDIR_IN.unpack_from(request.body)
    (name,) = abi.names(request.body, abi.MKDIR_IN.size, 1)
    return mount.names.known(await mount.names.make_directory(mount.inode(request), name, mode, (request.uid, request.gid)))


async def _unlink(mount: Mounted, request: abi.Request) -> bytes:
    (name,) = abi.names(request.body, 0, 1)
    await mount.names.unlink(mount.inode(request), name)
    return b""


async def _rmdir(mount: Mounted, request: abi.Request) -> bytes:
    (name,) = abi.names(request.body, 0, 1)
    await mount.names.remove_directory(mount.inode(request), name)
    return b""


async def _rename(mount: Mounted, request: abi.Request) -> bytes:
    if request.op == Op.RENAME2:
        number, flags, _ = abi.RENAME2_IN.unpack_from(request.body)
        old, new = abi.names(request.body, abi.RENAME2_IN.size, 2)
    else:
        (number,), flags = abi.RENAME_IN.unpack_from(request.body), 0
        old, new = abi.names(request.body, abi.RENAME_IN.size, 2)
    parent = mount.shared.inodes.get(number)
    if parent is None:
        raise Refused(errno.ESTALE)
    await mount.moves.rename((mount.inode(request), old), (parent, new), flags)
    return b""


async def _open(mount: Mounted, request: abi.Request) -> bytes:
    flags, _ = abi.OPEN_IN.unpack_from(request.body)
    return await mount.files.open(mount.inode(request), flags)


async def _create(mount: Mounted, request: abi.Request) -> bytes:
    _flags, mode, _umask, _ = abi.CREATE_IN.unpack_from(request.body)
    (name,) = abi.names(request.body, abi.CREATE_IN.size, 1)
    inode = await mount.names.create(mount.inode(request), name, mode, (request.uid, request.gid))
    opened = mount.files.opened(inode, writes=True)
    return mount.names.known(inode) + opened


async def _release(mount: Mounted, request: abi.Request) -> bytes:
    handle, *_ = abi.RELEASE_IN.unpack_from(request.body)
    await mount.files.release(handle)
    return b""


async def _flush(mount: Mounted, request: abi.Request) -> bytes:
    handle, *_ = abi.HANDLE_IN.unpack_from(request.body)
    await mount.files.flush(handle)
    return b""


async def _fallocate(mount: Mounted, request: abi.Request) -> bytes:
    handle, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(request.body)
    await asyncio.to_thread(mount.files.allocate, handle, offset, length, mode)
    return b""


async def _opendir(mount: Mounted, request: abi.Request) -> bytes:
    return mount.directories.open(mount.inode(request))


async def _readdir(mount: Mounted, request: abi.Request) -> bytes:
    handle, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
    return await mount.directories.get(handle).read(offset, size)


async def _readdirplus(mount: Mounted, request: abi.Request) -> bytes:
    handle, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
    return await mount.directories.get(handle).read_plus(offset, size, mount.names)


async def _releasedir(mount: Mounted, request: abi.Request) -> bytes:
    handle, *_ = abi.RELEASE_IN.unpack_from(request.body)
    mount.directories.release(handle)
    return b""


async def _nothing(_mount: Mounted, _request: abi.Request) -> bytes:
    return b""


async def _statfs(mount: Mounted, _request: abi.Request) -> bytes:
    # The stores tell no capacity: tools must find room, whatever block size they reckon in.
    blocks = free = 1 << 38
    room = mount.shared.area.room
    if room.limit:
        free = max(0, room.limit - room.used) // 4096
    return abi.STATFS_OUT.pack(blocks, free, free, 1 << 40, 1 << 40, 4096, abi.NAME_MAX_BYTES, 4096, 0)


async def _getxattr(mount: Mounted, request: abi.Request) -> bytes:
    size, _ = abi.XATTR_IN.unpack_from(request.body)
    (name,) = abi.names(request.body, abi.XATTR_IN.size, 1)
    return _sized(xattr(mount.inode(request), name), size)


async def _listxattr(mount: Mounted, request: abi.Request) -> bytes:
    size, _ = abi.XATTR_IN.unpack_from(request.body)
    return _sized(list_xattrs(mount.inode(request)), size)


async def _setxattr(mount: Mounted, request: abi.Request) -> bytes:
    size, flags = abi.XATTR_IN.unpack_from(request.body)
    (name,) = abi.names(request.body, abi.XATTR_IN.size, 1)
    start = abi.XATTR_IN.size + len(name) + 1
    await set_xattr(mount.shared, mount.inode(request), name, bytes(request.body[start : start + size]), flags)
    return b""


async def _removexattr(mount: Mounted, request: abi.Request) -> bytes:
    (name,) = abi.names(request.body, 0, 1)
    await remove_xattr(mount.shared, mount.inode(request), name)
    return b""


def _sized(value: bytes, size: int) -> bytes:
    """The answer where the caller gave `size` bytes of room, or asked for the length with 0."""
    if not size:
        return abi.XATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return value


HANDLERS: dict[int, Handler] = {
    Op.LOOKUP: _lookup,
    Op.GETATTR: _getattr,
    Op.SETATTR: _setattr,
    Op.READLINK: _readlink,
    Op.SYMLINK: _symlink,
    Op.MKNOD: _mknod,
    Op.MKDIR: _mkdir,
    Op.UNLINK: _unlink,
    Op.RMDIR: _rmdir,
    Op.RENAME: _rename,
    Op.RENAME2: _rename,
    Op.OPEN: _open,
    Op.READ: _read,
    Op.STATFS: _statfs,
    Op.RELEASE: _release,
    Op.FSYNC: _flush,
    Op.FLUSH: _flush,
    Op.OPENDIR: _opendir,
    Op.READDIR: _readdir,
    Op.READDIRPLUS: _readdirplus,
    Op.RELEASEDIR: _releasedir,
    Op.FSYNCDIR: _nothing,
    Op.CREATE: _create,
    Op.FALLOCATE: _fallocate,
    Op.GETXATTR: _getxattr,
    Op.LISTXATTR: _listxattr,
    Op.SETXATTR: _setxattr,
    Op.REMOVEXATTR: _removexattr,
}
"""Requests that may have to wait."""
