from headrace.stores.contract import StoreContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store


class TestMemoryStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        return self.memory

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


class TestVersionedMemoryStore(TestMemoryStore):
    async def make_store(self) -> Store:
        self.memory = MemoryStore(versioned=True, min_part_bytes=self.min_part_bytes)
        return self.memory
