"""Names: looking them up, making and removing them."""

from __future__ import annotations

import errno
import stat
from contextlib import suppress

import msgspec

from headrace.gateways import changing
from headrace.gateways import fsspec as calls
from headrace.gateways.fuse import abi
from headrace.gateways.fuse.files import Files
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.modes import Modes, metadata_with, modes_of
from headrace.gateways.fuse.saving import check_may_stage
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.model.errors import AccessDenied, InvalidKey, NotFound, ReadOnly, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo, with_key
from headrace.model.writing import Attributes, BytesBody
from headrace.namespace.buckets import NamespaceBuckets
from headrace.stores.keys import MAX_KEY_BYTES

LINK_MAX_BYTES = 4095
_FIRST = ByteRange(0, 1)


class Names:
    """The tree of one mount."""

    def __init__(self, shared: Shared, files: Files) -> None:
        self._shared = shared
        self._files = files
        self._inodes = shared.inodes

    def known(self, inode: Inode) -> bytes:
        """The kernel is told of `inode`."""
        inode.lookups += 1
        return abi.entry(inode.id, inode.attr(), self._shared.valid_s(inode.path))

    def lookup_now(self, parent: Inode, raw: bytes) -> Inode | None:
        """A file that is at the name, if that can be known without waiting."""
        name = decoded(raw)
        there = parent.children.get(name)
        if there is not None and (there.staged is not None or there.is_directory):
            return there if there.staged is not None else None
        path = joined(parent, name)
        if "/" not in path:
            return None
        reading = self._shared.namespace.peek("/" + path, _FIRST)
        return self.found(parent, name, with_key(reading.info, "/" + path)) if reading is not None else None

    async def lookup(self, parent: Inode, raw: bytes) -> Inode:
        """What is at the name now. Raises `NotFound`."""
        name = decoded(raw)
        there = parent.children.get(name)
        if there is not None and there.staged is not None:
            return there
        path = joined(parent, name)
        try:
            node = await calls.stat(self._shared.namespace, path)
        except NotFound:
            return self._gone(parent, name)
        return self.found(parent, name, node.info)

    def _gone(self, parent: Inode, name: str) -> Inode:
        there = parent.children.get(name)
        if there is not None and (there.staged is not None or there.made_here):
            return there
        if there is not None:
            self._inodes.detach(there)
        raise Refused(errno.ENOENT)

    def found(self, parent: Inode, name: str, info: ObjectInfo | None) -> Inode:
        """The inode for what the store has at the name: an object, or a directory where `info` is None."""
        there = parent.children.get(name)
        defaults = self._shared.options.defaults
        if info is None:
            if there is not None and there.is_directory:
                return there
            return self._inodes.add(
                parent, name, Modes(stat.S_IFDIR | defaults.dir_mode, defaults.uid, defaults.gid, parent.modes.mtime_ns)
            )
        if there is not None and there.staged is not None:
            return there
        modes = modes_of(info, defaults)
        if there is not None and there.info is not None and there.info.version == info.version and not there.is_directory:
            there.info, there.modes = info, modes
            return there
        return self._inodes.add(parent, name, modes, info)

    def attr_now(self, inode: Inode) -> bytes | None:
        """The answer to GETATTR, if it can be known without waiting.

        Raises `Refused` with ESTALE for a file that is no longer there and that nobody has open.
        """
        if inode.parent is None and inode.id != abi.ROOT_ID:
            if not inode.opens:
                raise Refused(errno.ESTALE)
            return abi.attributes(inode.attr(), 0)
        if inode.is_directory or inode.opens or inode.staged is not None or self._files.is_current(inode):
            return abi.attributes(inode.attr(), self._shared.valid_s(inode.path))
        return None

    async def attr(self, inode: Inode) -> bytes:
        """The same, with the store asked. Raises `Refused` with ESTALE when the object is another version by now."""
        if inode.info is not None and inode.parent is not None:
            info = await self._shared.namespace.info("/" + inode.path)
            if inode.info is None or info.version != inode.info.version:
                raise Refused(errno.ESTALE)
            if inode.staged is None:
                inode.info, inode.modes = info, modes_of(info, self._shared.options.defaults)
        return abi.attributes(inode.attr(), self._shared.valid_s(inode.path))

    async def create(self, parent: Inode, raw: bytes, mode: int, owner: tuple[int, int]) -> Inode:
        """A new file, which its store gets when it is closed. Raises `Refused` with EEXIST."""
        name = decoded(raw)
        path = joined(parent, name)
        if "/" not in path:
            raise Refused(errno.EPERM)  # a first component is a mount or a bucket, never a file
        check_may_stage(self._shared, path)
        staged = self._shared.area.new()
        there = parent.children.get(name)
        if there is not None and there.staged is not None:
            staged.close()
            raise Refused(errno.EEXIST)
        modes = Modes(stat.S_IFREG | stat.S_IMODE(mode), *owner, self._shared.now_ns())
        made = self._inodes.add(parent, name, modes)
        made.staged = staged
        self.touched(parent)
        return made

    async def make_node(self, parent: Inode, raw: bytes, modes: Modes) -> Inode:
        """An empty file, a pipe, a socket or a device file, which its store has at once: an object that says so in its mode."""
        return await self._make_object(parent, raw, modes, b"")

    async def make_link(self, parent: Inode, raw: bytes, target: bytes, owner: tuple[int, int]) -> Inode:
        """A symbolic link: an object that holds its target, and says so in its mode."""
        if len(target) > LINK_MAX_BYTES:
            raise Refused(errno.ENAMETOOLONG)
        return await self._make_object(parent, raw, Modes(stat.S_IFLNK | 0o777, *owner, self._shared.now_ns()), target)

    async def _make_object(self, parent: Inode, raw: bytes, modes: Modes, body: bytes) -> Inode:
        await self._refuse_existing(parent, raw)
        name = decoded(raw)
        path = joined(parent, name)
        if "/" not in path:
            raise Refused(errno.EPERM)  # a first component is a mount or a bucket, never a file
        info = await self._shared.namespace.write("/" + path, BytesBody(body), Attributes(metadata=metadata_with((), modes)))
        self.touched(parent)
        return self._inodes.add(parent, name, modes, info)

    async def read_link(self, inode: Inode) -> bytes:
        if not inode.modes.is_link or inode.info is None:
            raise Refused(errno.EINVAL)
        if inode.info.size > LINK_MAX_BYTES:
            raise Refused(errno.EIO)
        return (await calls.read_range(self._shared.namespace, inode.path, None, None, version=inode.info.version))[1]

    async def make_directory(self, parent: Inode, raw: bytes, mode: int, owner: tuple[int, int]) -> Inode:
        """A directory, marked in its store where that can keep the mark."""
        await self._refuse_existing(parent, raw)
        name = decoded(raw)
        path = joined(parent, name)
        modes = Modes(stat.S_IFDIR | stat.S_IMODE(mode), *owner, self._shared.now_ns())
        if "/" not in path:
            await NamespaceBuckets(self._shared.namespace).create(path)
        else:
            self._shared.namespace.writable("/" + path)
            with suppress(InvalidKey, Unsupported):
                await self._shared.namespace.write(f"/{path}/", BytesBody(b""), Attributes(metadata=metadata_with((), modes)))
        made = self._inodes.add(parent, name, modes)
        made.made_here = True
        self.touched(parent)
        return made

    async def _refuse_existing(self, parent: Inode, raw: bytes) -> None:
        try:
            await self.lookup(parent, raw)
        except Refused:
            return
        raise Refused(errno.EEXIST)

    async def unlink(self, parent: Inode, raw: bytes) -> None:
        """Remove a file. Whoever has it open goes on with it."""
        inode = await self.lookup(parent, raw)
        if inode.is_directory:
            raise Refused(errno.EISDIR)
        self._shared.namespace.writable("/" + inode.path)
        await self._files.keep(inode)
        async with inode.busy:
            if inode.info is not None:
                await self._shared.namespace.delete("/" + inode.path)
            self._inodes.detach(inode)
        self.stays(parent)

    async def remove_directory(self, parent: Inode, raw: bytes) -> None:
        inode = await self.lookup(parent, raw)
        if not inode.is_directory:
            raise Refused(errno.ENOTDIR)
        await self.refuse_filled(inode)
        path = inode.path
        if "/" not in path:
            try:
                await NamespaceBuckets(self._shared.namespace).delete(path)
            except (AccessDenied, ReadOnly):
                raise Refused(errno.EBUSY) from None
        else:
            self._shared.namespace.writable("/" + path)
            with suppress(NotFound, InvalidKey):
                await changing.remove_directory(self._shared.namespace, path)
        inode.made_here = False
        self._inodes.detach(inode)
        self.stays(parent)

    async def refuse_filled(self, inode: Inode) -> None:
        if any(child.staged is not None or child.made_here for child in inode.children.values()):
            raise Refused(errno.ENOTEMPTY)
        bucket, key = calls.split(inode.path)
        prefix = f"{key}/" if key else ""
        page = await self._shared.namespace.list(f"/{bucket}", prefix, limit=2)
        if any(entry.key != prefix for entry in page.entries):
            raise Refused(errno.ENOTEMPTY)

    def stays(self, directory: Inode) -> None:
        """A name of it went. A directory that was seen here stays when its last file goes, as on any file system."""
        if directory.id != abi.ROOT_ID:
            directory.made_here = True
        self.touched(directory)

    def touched(self, directory: Inode) -> None:
        """A name came or went: that is when a directory was changed, as long as it is known here."""
        directory.modes = msgspec.structs.replace(directory.modes, mtime_ns=self._shared.now_ns())


def decoded(raw: bytes) -> str:
    """A name as text. Raises `Refused` for one that no key can have."""
    if len(raw) > abi.NAME_MAX_BYTES:
        raise Refused(errno.ENAMETOOLONG)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(errno.EILSEQ) from None


def joined(parent: Inode, name: str) -> str:
    """The path of a name in a directory. Raises `Refused` for one that is longer than any key."""
    above = parent.path
    path = f"{above}/{name}" if above else name
    if len(path) * 4 > MAX_KEY_BYTES and len(path.partition("/")[2].encode()) > MAX_KEY_BYTES:
        raise Refused(errno.ENAMETOOLONG)
    return path
