"""A cached store over a scripted one, for tests of the cache."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headrace.cache.layout import parse_segment
from headrace.cache.moves import PageTier
from headrace.cache.pages import PageCache, no_touches
from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.cache.store import CachedStore, CacheOptions
from headrace.model.mounts import Freshness, Residency
from headrace.model.reading import FileSlice, Reading
from headrace.stores.store import Store
from headrace.testing.clock import ManualClock
from headrace.testing.disk import FaultyDisk

PAGE = 4096
CHUNK = 64 * PAGE


@dataclass
class Rig:
    """One process's cache over `inner`, with its clock, disk and events in hand."""

    home: Path
    inner: Store
    clock: ManualClock = field(default_factory=ManualClock)
    disk: FaultyDisk = field(default_factory=FaultyDisk)
    events: list[object] = field(default_factory=list)
    page: int = PAGE
    disks: int = 1
    memory: PageTier | None = None
    memory_size: str = "0"
    residency: Residency = Residency.DISK
    freshness_s: float = 30.0
    serve_stale: bool = False

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        settings = CacheSettings(
            memory=self.memory_size, disk=tuple(DiskSettings(f"pages{n}", "1GiB") for n in range(self.disks)), page=f"{self.page}"
        )
        self.pages = PageCache.open(
            settings,
            self.home,
            clock=self.clock,
            emit=self.events.append,
            disk=self.disk,
            memory_tier=self.memory,
            touches=no_touches,
        )
        options = CacheOptions(
            "/m", "identity", Freshness(self.freshness_s), self.residency, serve_stale=self.serve_stale, quota_bytes=None
        )
        self.store = CachedStore(self.inner, self.pages, options, clock=self.clock, emit=self.events.append)

    async def restart(self) -> None:
        await self.pages.close()
        self.open()

    def segment_files(self) -> list[Path]:
        return sorted(p for p in self.home.glob("pages*/???/*") if parse_segment(p.name) is not None)

    async def settled(self) -> None:
        """No fill is under way."""
        await until(lambda: not len(self.pages.fills))


async def until(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """Poll until `condition` holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the state that was waited for did not come"
        await asyncio.sleep(0.002)


async def body_of(reading: Reading) -> bytes:
    try:
        return b"".join([bytes(piece) async for piece in reading])
    finally:
        await reading.aclose()


def ready_bytes(reading: Reading) -> bytes:
    """The bytes of a ready reading, as a gateway would send them."""
    assert reading.ready is not None
    parts = []
    for piece in reading.ready:
        parts.append(os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSlice) else bytes(piece))
    return b"".join(parts)
