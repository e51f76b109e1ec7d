"""What nobody waits for: scratch is counted anew, what crashes left is removed, and what a mount's `ttl` ends is let go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from headrace.model.objects import ObjectInfo
from headrace.scratch.records import HIDDEN, WRITTEN
from headrace.scratch.room import OVERHEAD_BYTES
from headrace.scratch.root import ScratchRoot
from headrace.stores.file import FileStore
from headrace.stores.file_own import LOCKS

EVERY_S = 600.0
_ELECT_S = 5.0
_STRAY_S = 3600.0
"""A file without a record may be about to get one; not for so long."""


class Sweeper:
    """Sweeps one mount's scratch, in one process of the node at a time: the one that holds the lock."""

    def __init__(self, root: ScratchRoot, files: FileStore, lock: Callable[[], bool], *, ttl_s: float | None) -> None:
        self._root = root
        self._files = files
        self._lock = lock
        self._ttl_s = ttl_s

    async def run(self, failed: Callable[[Exception], None]) -> None:
        """For ever, until it is cancelled."""
        while True:
            wait_s = _ELECT_S
            try:
                if self._lock():
                    await self.sweep(time.time())
                    wait_s = EVERY_S if self._ttl_s is None else min(EVERY_S, max(1.0, self._ttl_s / 4))
            except Exception as error:  # noqa: BLE001  the loop must outlive whatever one sweep meets
                failed(error)
            await asyncio.sleep(wait_s)

    async def sweep(self, now_s: float) -> None:
        """Once. `now_s` is in seconds since 1970 UTC."""
        await self._root.run(self._recount, "")
        after: str | None = ""
        while after is not None:
            page = await self._files.list(after=after)
            after = page.after
            found = [entry for entry in page.entries if isinstance(entry, ObjectInfo)]
            await self._root.run(partial(self._look_at, found, now_s), "")

    def _look_at(self, found: list[ObjectInfo], now_s: float) -> None:
        for info in found:
            if self._ttl_s is not None and info.modified_s < now_s - self._ttl_s:
                self._root.lose(info.key, info.version.token)
            elif info.modified_s < now_s - _STRAY_S and not self._root.has_record(info.key):
                self._root.clear(info.key)

    def _recount(self) -> None:
        before = self._root.room.used()
        counted = sum(_sizes(self._root.path))
        self._root.room.add(counted - before)


def _sizes(path: str) -> Iterator[int]:
    """What each file below a directory counts."""
    records = tuple(f"{path}/{tree}" for tree in (WRITTEN, HIDDEN))
    for folder, _, names in os.walk(path):
        if folder.startswith(records):
            yield OVERHEAD_BYTES * len(names)
        elif folder != f"{path}/{LOCKS}":
            for name in names:
                with suppress(FileNotFoundError):
                    yield os.lstat(f"{folder}/{name}").st_size
