import asyncio
import itertools
from collections.abc import Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.contract import StoreContract
from headrace.stores.gs import from_spec
from headrace.stores.store import Store
from support.processes import free_port
from support.servers import GcsServer

_numbers = itertools.count()


@pytest.mark.servers
class TestGsStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _bucket(self, gcs_server: GcsServer) -> None:
        self.server = gcs_server
        self.bucket = f"contract-{next(_numbers)}"
        gcs_server.make_bucket(self.bucket)

    def spec(self, endpoint: str) -> MountSpec:
        return MountSpec("/x", store=f"gs://{self.bucket}", endpoint=endpoint, credentials="anonymous", timeout="5s")

    async def make_store(self) -> Store:
        return from_spec(self.spec(self.server.endpoint), environ={}, clock=SystemClock())

    async def make_unreachable_store(self) -> Store | None:
        return from_spec(self.spec(f"http://127.0.0.1:{free_port()}"), environ={}, clock=SystemClock())

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.server.put, self.bucket, key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, self.bucket, key)

    def kept(self, keys: Sequence[str]) -> list[str]:
        """GCS itself allows no `.`, `..` and no line ends in names."""
        return [key for key in keys if key not in (".", "..") and "\n" not in key]
