"""Files that the kernel reads and writes by itself (passthrough): which, and from when on.

An object can be handed over once it lies in one file of this machine whose bytes were all proved. Where its pages are there, but
not so, that is brought about behind whoever opens it, and the next open has it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import OrderedDict
from typing import Protocol

from headrace.gateways.fuse.device import Device
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.open_file import OpenFile
from headrace.model.errors import HeadraceError
from headrace.model.objects import ObjectInfo
from headrace.model.reading import FileSlice
from headrace.namespace.namespace import Namespace

_log = logging.getLogger(__name__)

_FROM_BYTES = 128 * 1024
"""Shorter files are one request of the kernel: handing them over and taking them back would cost more."""
_WISHES_MAX = 64


class Wholes(Protocol):
    """Objects of which one file of this machine holds every byte, proved. Paths as `Namespace` takes them."""

    def find(self, path: str, info: ObjectInfo) -> FileSlice | None:
        """The file of that version, without waiting."""

    async def join(self, path: str, info: ObjectInfo) -> bool:
        """Make it where all pages of that version are on a disk; whether `find` has it now. Never asks a store."""


class PeekedWholes:
    """Where another process keeps the pages: what it hands on as one file."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def find(self, path: str, info: ObjectInfo) -> FileSlice | None:
        try:
            reading = self._namespace.peek(path, None)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None or len(reading.ready) != 1 or reading.info.version != info.version:
            return None
        piece = reading.ready[0]
        return piece if isinstance(piece, FileSlice) and not piece.offset else None

    async def join(self, path: str, info: ObjectInfo) -> bool:
        return self.find(path, info) is not None


class Handing:
    """Hands files of one mount to the kernel. `close` it in any case."""

    def __init__(self, device: Device, wholes: Wholes) -> None:
        self._device = device
        self._wholes = wholes
        self._wishes: OrderedDict[int, tuple[Inode, ObjectInfo]] = OrderedDict()
        self._working: asyncio.Task[None] | None = None

    def hand_over(self, inode: Inode) -> int:
        """The kernel's number for the file that has exactly the inode's bytes; 0 where we have to serve them."""
        if inode.passed:
            return inode.backing
        if inode.opens or not self._device.passes:
            return 0
        if inode.staged is not None:
            # The kernel asks nobody for room.
            inode.backing = 0 if inode.staged.bounded else self._device.hand_over(inode.staged.fd)
            return inode.backing
        whole = self._whole(inode)
        inode.backing = self._device.hand_over(whole.fd) if whole is not None else 0
        return inode.backing

    def released(self, file: OpenFile) -> None:
        """The file is open no longer: when it was the last that was passed, so is the kernel's number."""
        inode = file.inode
        if file.passed:
            inode.passed -= 1
            if not inode.passed:
                self._device.take_back(inode.backing)
                inode.backing = 0
        elif inode.info is not None and file.expected >= inode.info.size:
            self._wish(inode, inode.info)  # it was read to its end, so that all its pages are there now

    async def close(self) -> None:
        self._wishes.clear()
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    def _whole(self, inode: Inode) -> FileSlice | None:
        info = inode.info
        if info is None or info.size < _FROM_BYTES:
            return None
        found = self._wholes.find("/" + inode.path, info)
        if found is None:
            self._wish(inode, info)
            return None
        there = os.fstat(found.fd)
        return found if there.st_size == info.size and stat.S_ISREG(there.st_mode) else None

    def _wish(self, inode: Inode, info: ObjectInfo) -> None:
        if info.size < _FROM_BYTES or not self._device.passes or len(self._wishes) >= _WISHES_MAX:
            return  # the next open wishes for it again
        self._wishes[inode.id] = (inode, info)
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        while self._wishes:
            _, (inode, info) = self._wishes.popitem(last=False)
            if inode.parent is None or inode.info is None or inode.info.version != info.version:
                continue  # removed or written meanwhile
            try:
                await self._wholes.join("/" + inode.path, info)
            except Exception:  # noqa: BLE001  whatever it is: the file is served as before, and the others get their turn
                _log.exception("/%s could not be made one file", inode.path)
