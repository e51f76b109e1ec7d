import asyncio
import itertools
from collections.abc import Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import CorruptData
from headrace.model.mounts import MountSpec
from headrace.stores.az import from_spec
from headrace.stores.contract import StoreContract
from headrace.stores.store import Store
from support.processes import free_port
from support.servers import AZURE_ACCOUNT, AZURE_KEY, AzureServer

_numbers = itertools.count()


@pytest.mark.servers
class TestAzStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _container(self, azurite_server: AzureServer) -> None:
        self.server = azurite_server
        self.container = f"contract-{next(_numbers)}"
        azurite_server.make_bucket(self.container)

    def spec(self, endpoint: str) -> MountSpec:
        return MountSpec("/x", store=f"az://{self.container}", endpoint=endpoint, credentials="env:AZ", timeout="5s")

    def open(self, endpoint: str, key: str = AZURE_KEY) -> Store:
        environ = {"AZ_ACCESS_KEY_ID": AZURE_ACCOUNT, "AZ_SECRET_ACCESS_KEY": key}
        return from_spec(self.spec(endpoint), environ=environ, clock=SystemClock())

    async def make_store(self) -> Store:
        return self.open(self.server.endpoint)

    async def make_unreachable_store(self) -> Store | None:
        return self.open(f"http://127.0.0.1:{free_port()}")

    async def make_denied_store(self) -> Store | None:
        return self.open(self.server.endpoint, "d3Jvbmc=")

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.server.put, self.container, key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, self.container, key)

    def kept(self, keys: Sequence[str]) -> list[str]:
        """What Azurite keeps: no `.` and `..` segments, no back-slash (made a slash), no control characters (500 in

        listings). It sorts by UTF-16 units, so of keys on both sides of the surrogates the upper ones are left out.
        """
        high = any("\ue000" <= letter <= "\uffff" for key in keys for letter in key)
        return [
            key
            for key in keys
            if not any(segment in (".", "..") for segment in key.split("/"))
            and "\\" not in key
            and "\x01" not in key
            and not (high and max(key) > "\uffff")
        ]

    async def test_a_listing_in_another_order_is_an_error_and_has_no_gaps(self, store: Store) -> None:
        await self.put_behind("\U0001f600", b"x")
        await self.put_behind("\uff5e", b"x")
        with pytest.raises(CorruptData):
            await store.list()
