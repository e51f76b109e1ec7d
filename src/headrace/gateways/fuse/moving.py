"""Files and directories that get another name.

Stores have no rename: an object is copied by its store, then removed. A directory is as many such moves as it has objects.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from headrace.gateways import changing
from headrace.gateways.fuse import abi
from headrace.gateways.fuse.files import Files
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.names import Names, decoded, joined
from headrace.gateways.fuse.saving import save
from headrace.gateways.fuse.shared import Refused, Shared
from headrace.model.errors import HeadraceError, NotFound, Unsupported
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import Condition

Named = tuple[Inode, bytes]
"""A directory, and a name in it as the kernel writes it."""


class Moves:
    """Renaming in one mount."""

    def __init__(self, shared: Shared, files: Files, names: Names) -> None:
        self._shared = shared
        self._files = files
        self._names = names
        self._inodes = shared.inodes

    async def rename(self, old: Named, new: Named, flags: int) -> None:
        """Move a file or a whole directory. Within one mount only: what is elsewhere has to be copied (EXDEV)."""
        if flags & ~abi.RENAME_NOREPLACE:
            raise Refused(errno.EINVAL)
        inode = await self._names.lookup(*old)
        parent, name = new[0], decoded(new[1])
        target = joined(parent, name)
        if inode.path == target:
            return
        self._check_may_move(inode.path, target)
        there = await self._there(new)
        if there is not None:
            if flags & abi.RENAME_NOREPLACE:
                raise Refused(errno.EEXIST)
            await self._make_room(inode, there)
        source_parent = inode.parent
        await (self._move_directory if inode.is_directory else self._move_file)(inode, parent, name)
        if source_parent is not None:
            self._names.stays(source_parent)
        self._names.touched(parent)
        inode.changed_ns = self._shared.now_ns()

    def _check_may_move(self, source: str, target: str) -> None:
        if target.startswith(source + "/"):
            raise Refused(errno.EINVAL)
        if "/" not in source or "/" not in target:
            raise Refused(errno.EXDEV)
        here = self._shared.namespace.writable("/" + source).mount
        if here is not self._shared.namespace.writable("/" + target).mount:
            raise Refused(errno.EXDEV)

    async def _there(self, new: Named) -> Inode | None:
        try:
            return await self._names.lookup(*new)
        except Refused:
            return None

    async def _make_room(self, inode: Inode, there: Inode) -> None:
        if there.is_directory != inode.is_directory:
            raise Refused(errno.EISDIR if there.is_directory else errno.ENOTDIR)
        if there.is_directory:
            await self._names.refuse_filled(there)
        else:
            await self._files.keep(there)

    async def _move_file(self, inode: Inode, parent: Inode, name: str) -> None:
        source, target = inode.path, joined(parent, name)
        namespace = self._shared.namespace
        await save(self._shared, inode)
        async with inode.busy:
            info = inode.info
            if info is None:
                self._inodes.move(inode, parent, name)
                return
            modes = inode.modes
            inode.info = await namespace.copy(with_key(info, "/" + source), "/" + target)
            self._inodes.move(inode, parent, name)
            inode.modes = modes
            await self._delete_moved(source, info)

    async def _delete_moved(self, source: str, info: ObjectInfo) -> None:
        condition = Condition(if_match=info.etag)
        try:
            await self._shared.namespace.delete("/" + source, condition=condition)
        except NotFound:
            return
        except Unsupported:
            await self._shared.namespace.delete("/" + source)

    async def _move_directory(self, inode: Inode, parent: Inode, name: str) -> None:
        source, target = inode.path, joined(parent, name)
        for open_below in self._inodes.staged():
            if open_below.path.startswith(source + "/"):
                await save(self._shared, open_below)
        await changing.move_below(self._shared.namespace, source, target)
        self._inodes.move(inode, parent, name)
        inode.made_here = True
        for below in descendants(inode):
            if below.info is not None:
                with suppress(HeadraceError):
                    below.info = await self._shared.namespace.info("/" + below.path)


def descendants(inode: Inode) -> list[Inode]:
    found: list[Inode] = []
    left = list(inode.children.values())
    while left:
        one = left.pop()
        found.append(one)
        left.extend(one.children.values())
    return found
