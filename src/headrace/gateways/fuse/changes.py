"""SETATTR: another length, permissions, owner or time."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from headrace.gateways.fuse.files import Files
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.modes import Modes
from headrace.gateways.fuse.saving import save_modes
from headrace.gateways.fuse.shared import Shared


@dataclass(frozen=True, slots=True)
class Change:
    """What SETATTR asks for; None leaves it."""

    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None

    def applied(self, modes: Modes, mtime_ns: int) -> Modes | None:
        """The modes with the change; None where it asks for none of them."""
        if (self.mode, self.uid, self.gid, self.mtime_ns, self.atime_ns) == (None,) * 5:
            return None
        return Modes(
            modes.mode if self.mode is None else stat.S_IFMT(modes.mode) | stat.S_IMODE(self.mode),
            modes.uid if self.uid is None else self.uid,
            modes.gid if self.gid is None else self.gid,
            mtime_ns if self.mtime_ns is None else self.mtime_ns,
            modes.rdev,
            modes.atime_ns if self.atime_ns is None else self.atime_ns,
        )


async def change(shared: Shared, files: Files, inode: Inode, asked: Change) -> None:
    """Do what is asked. Raises as writing and `Store.copy` do."""
    if asked.size is not None:
        await files.resize(inode, asked.size)
    modes = asked.applied(inode.modes, inode.staged.mtime_ns if inode.staged is not None else inode.modes.mtime_ns)
    if modes is not None:
        await save_modes(shared, inode, modes)
