"""What a store's test hands to the contract suite, and how the suite reads a body."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace.model.objects import ByteRange, Version
from headrace.model.reading import Buffer, FileSlice, Piece, Reading
from headrace.stores.store import Store


class StoreHooks(ABC):
    """What a store's test says about it. A fresh, empty store is made for every test."""

    knows_content_type = True
    """False where objects carry no media type."""
    hides_directories = True
    """False where the store answers for `a`, an empty object, when there is only `a/b`."""

    @abstractmethod
    async def make_store(self) -> Store:
        """A store that holds nothing yet."""

    @abstractmethod
    async def put_behind(self, key: str, data: bytes) -> None:
        """Make or overwrite an object (`text/plain`) without the store's knowledge."""

    @abstractmethod
    async def delete_behind(self, key: str) -> None:
        """Remove an object without the store's knowledge."""

    async def make_unreachable_store(self) -> Store | None:
        """A store of this kind that cannot be reached now, or None where there is no such thing."""
        return None

    async def make_denied_store(self) -> Store | None:
        """A store of this kind that refuses its caller, or None where there is no such thing."""
        return None

    def kept(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that this store can hold side by side, in the same order."""
        return list(keys)

    async def put_all(self, keys: Sequence[str]) -> list[str]:
        """Put small objects under those keys that can be kept; answers which."""
        kept = self.kept(keys)
        gate = asyncio.Semaphore(16)

        async def put(key: str) -> None:
            async with gate:
                await self.put_behind(key, key.encode())

        await asyncio.gather(*(put(key) for key in kept))
        return kept

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        """The store under test."""
        store = await self.make_store()
        yield store
        await store.close()


async def body_of(reading: Reading) -> bytes:
    """All bytes of a reading, also of one that was ready."""
    if reading.ready is not None:
        return b"".join([_bytes_of(piece) for piece in reading.ready])
    try:
        return b"".join([bytes(piece) async for piece in reading])
    finally:
        await reading.aclose()


def _bytes_of(piece: Piece) -> Buffer:
    return os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSlice) else piece


async def read_all(store: Store, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> bytes:
    """Read and collect."""
    return await body_of(await store.read(key, byte_range, version=version))
