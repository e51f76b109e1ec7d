"""One process of several over one page directory: `python cache_process.py HOME STORE KEY READERS DELAY_MS OFFSETS…`.

Reads the key whole with many readers, tells a digest of each body, and appends what it took from the store to STORE/../taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from headrace.cache import fill
from headrace.cache.pages import PageCache
from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.cache.store import CachedStore, CacheOptions
from headrace.model.clock import SystemClock
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.file import FileStore
from headrace.stores.store import Store

_STEP_BYTES = 64 * 1024


class CountingStore(Store):
    """A directory that is slow on purpose and writes down, for all processes, how many bytes it gave."""

    def __init__(self, root: str, taken: Path, delay_s: float) -> None:
        self._inner = FileStore(root)
        self._taken = taken
        self._delay_s = delay_s

    async def info(self, key: str) -> ObjectInfo:
        return await self._inner.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        return _Counted(await self._inner.read(key, byte_range, version=version), self._taken, self._delay_s)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)


class _Counted(Reading):
    def __init__(self, inner: Reading, taken: Path, delay_s: float) -> None:
        super().__init__(inner.info, inner.range)
        self._inner, self._taken, self._delay_s = inner, taken, delay_s

    async def __aiter__(self) -> AsyncIterator[Buffer]:  # type: ignore[override]
        async for piece in self._inner:
            for start in range(0, len(piece), _STEP_BYTES):
                part = piece[start : start + _STEP_BYTES]
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                with self._taken.open("a") as file:
                    file.write(f"{os.getpid()} {len(part)}\n")
                yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _digest(store: CachedStore, key: str) -> str:
    reading = await store.read(key)
    digest = hashlib.sha256()
    try:
        async for piece in reading:
            digest.update(piece)
    finally:
        await reading.aclose()
    return digest.hexdigest()


async def main(home: str, root: str, key: str, readers: int, delay_s: float) -> None:
    clock = SystemClock()
    settings = CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),))
    # A busy machine is not a slow device: on one, a late claim would be passed by, and bytes fetched twice.
    fill._CLAIM_BUDGET_S = 20.0
    pages = PageCache.open(settings, Path(home), clock=clock, emit=lambda event: print(event, file=sys.stderr))
    inner = CountingStore(root, Path(home) / "taken", delay_s)
    store = CachedStore(inner, pages, CacheOptions("/m", "identity"), clock=clock, emit=lambda _: None)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    digests = await asyncio.gather(*(_digest(store, key) for _ in range(readers)))
    print(" ".join(sorted(set(digests))), flush=True)
    await pages.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]) / 1000))
