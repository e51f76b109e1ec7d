"""The inodes that the kernel knows: which path each stands for, and which version of the object there.

A file's inode stands for one **version**. When the object is another version, its name leads to a new inode, so what the kernel
keeps of the old one (pages, maps, open files) can never be mixed with the new one's bytes. What is written through the mount
itself stays in its inode.
"""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.gateways.fuse.abi import ROOT_ID, Attr
from headrace.gateways.fuse.modes import Modes
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Pairs

if TYPE_CHECKING:
    from headrace.gateways.fuse.staged import StagedFile


@dataclass(slots=True, eq=False)
class Inode:
    """One file or directory. `parent` is None for the root and for what was removed or replaced."""

    id: int
    number: int
    """What `stat` shows: the same for a path over restarts, and for a file that is renamed as long as it is known here."""
    parent: Inode | None
    name: str
    modes: Modes
    info: ObjectInfo | None = None
    """The object; None for a directory, and for a file that its store has not got yet."""
    staged: StagedFile | None = None
    """The bytes of a file that is open for writing."""
    lookups: int = 0
    """How often the kernel was told of it and did not forget."""
    opens: int = 0
    passed: int = 0
    """How many of `opens` the kernel reads and writes by itself."""
    backing: int = 0
    """The kernel's number for the file behind those."""
    new_metadata: Pairs | None = None
    """What is to be kept with the object when it is stored next, besides the modes; None: what it has."""
    changed_ns: int = 0
    """When something but its bytes was last changed through this mount."""
    made_here: bool = False
    """A directory that is there even while its store has nothing in it."""
    children: dict[str, Inode] = field(default_factory=dict)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the object at its path is changed."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.modes.mode)

    @property
    def path(self) -> str:
        """Within the namespace, as `gateways/fsspec.py` writes it."""
        names: list[str] = []
        inode: Inode | None = self
        while inode is not None:
            names.append(inode.name)
            inode = inode.parent
        return "/".join(name for name in reversed(names) if name)

    @property
    def metadata(self) -> Pairs:
        """What is kept with the object, or will be."""
        if self.new_metadata is not None:
            return self.new_metadata
        return self.info.metadata if self.info is not None else ()

    @property
    def size(self) -> int:
        if self.staged is not None:
            return self.staged.size
        return self.info.size if self.info is not None else 0

    def attr(self) -> Attr:
        modes = self.modes
        mtime_ns = self.staged.mtime_ns if self.staged is not None else modes.mtime_ns
        nlink = 2 if self.is_directory else int(self.parent is not None)
        return Attr(
            self.number,
            self.size,
            modes.mode,
            modes.uid,
            modes.gid,
            mtime_ns,
            nlink,
            modes.rdev,
            max(mtime_ns, self.changed_ns),
            modes.atime_ns,
        )


def number_of(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little") >> 1 | 2


class Inodes:
    """All inodes by the number under which the kernel knows them. Bounded by what the kernel itself keeps."""

    def __init__(self, root: str, modes: Modes) -> None:
        self.root = Inode(ROOT_ID, ROOT_ID, None, root, modes, lookups=1)
        self._by_id = {ROOT_ID: self.root}
        self._numbers = {ROOT_ID: self.root}
        self._next = ROOT_ID + 1

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, number: int) -> Inode | None:
        return self._by_id.get(number)

    def add(self, parent: Inode, name: str, modes: Modes, info: ObjectInfo | None = None) -> Inode:
        """A new inode at `name`; what stood there before is detached."""
        old = parent.children.get(name)
        if old is not None:
            self.detach(old)
        made = Inode(self._next, 0, parent, name, modes, info)
        self._next += 1
        made.number = number_of(made.path)
        while made.number in self._numbers:  # a file that was renamed, or one that was replaced and is still open, has it
            made.number += 2
        self._by_id[made.id] = self._numbers[made.number] = made
        parent.children[name] = made
        return made

    def detach(self, inode: Inode) -> None:
        """Its name leads to it no longer; who has it open goes on with it."""
        parent, inode.parent = inode.parent, None
        if parent is not None and parent.children.get(inode.name) is inode:
            del parent.children[inode.name]
        self._drop_unused(inode)
        if parent is not None:
            self._drop_unused(parent)

    def move(self, inode: Inode, parent: Inode, name: str) -> None:
        """It has another name now; what stood there is detached."""
        there = parent.children.get(name)
        if there is not None and there is not inode:
            self.detach(there)
        if inode.parent is not None and inode.parent.children.get(inode.name) is inode:
            del inode.parent.children[inode.name]
        inode.parent, inode.name = parent, name
        parent.children[name] = inode

    def forget(self, number: int, count: int) -> None:
        """The kernel forgot it `count` times."""
        inode = self._by_id.get(number)
        if inode is None or inode.id == ROOT_ID:
            return
        inode.lookups = max(0, inode.lookups - count)
        self._drop_unused(inode)

    def _drop_unused(self, inode: Inode) -> None:
        while inode.id != ROOT_ID and not (inode.lookups or inode.opens or inode.children or (inode.made_here and inode.parent)):
            self._by_id.pop(inode.id, None)
            self._numbers.pop(inode.number, None)
            parent, inode.parent = inode.parent, None
            if parent is None:
                return
            if parent.children.get(inode.name) is inode:
                del parent.children[inode.name]
            inode = parent

    def closed(self, inode: Inode) -> None:
        """One open file less."""
        inode.opens -= 1
        self._drop_unused(inode)

    def staged(self) -> Iterator[Inode]:
        """All files that are open for writing."""
        return (inode for inode in tuple(self._by_id.values()) if inode.staged is not None)
