from pathlib import Path

import pytest

from headrace.model.writing import Attributes, BytesBody
from headrace.scratch.store import ScratchFolder, ScratchStore
from headrace.stores.contract import StoreContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store


class TestScratchStore(StoreContract, WritingContract):
    """What is behind is what another process of the node writes to the same scratch."""

    min_part_bytes = 5_000

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.path = tmp_path / "scratch"

    def opened(self, inner: Store) -> ScratchStore:
        folder = ScratchFolder(str(self.path), 1 << 30, "test")
        return ScratchStore(inner, folder, mount="/m", emit=lambda _event: None, min_part_bytes=self.min_part_bytes)

    async def make_store(self) -> Store:
        return self.opened(MemoryStore())

    async def put_behind(self, key: str, data: bytes) -> None:
        other = self.opened(MemoryStore())
        await other.write(key, BytesBody(data), Attributes("text/plain"))
        await other.close()

    async def delete_behind(self, key: str) -> None:
        other = self.opened(MemoryStore())
        await other.delete(key)
        await other.close()


class TestScratchStoreOverObjects(TestScratchStore):
    """What is behind is in the store beneath."""

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return self.opened(self.memory)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)
