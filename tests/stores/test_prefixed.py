"""The part of a store below a prefix passes the contract; the key that is the prefix itself has no name there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headrace.model.errors import InvalidKey
from headrace.stores.contract import StoreContract
from headrace.stores.contract_hooks import read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.store import Store

PREFIX = "team/"


class TestPrefixedStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        for stranger in ("team", "team-b/x", "tea", "team0", "z", PREFIX):
            self.memory.put(stranger, b"not mine")
        return PrefixedStore(self.memory, PREFIX)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(PREFIX + key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(PREFIX + key)

    def written(self, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if len((PREFIX + key).encode()) <= 1024]

    async def test_a_key_of_1024_bytes_is_kept(self, store: Store) -> None:
        """The prefix takes its part of the 1,024."""
        longest = "x" * (1024 - len(PREFIX))
        await self.put_behind(longest, b"x")
        assert await read_all(store, longest) == b"x"
        with pytest.raises(InvalidKey):
            await store.info(longest + "x")
