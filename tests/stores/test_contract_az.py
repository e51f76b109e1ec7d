import asyncio
import itertools
from collections.abc import Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import BucketNotEmpty, CorruptData
from headrace.model.mounts import MountSpec
from headrace.model.writing import BytesBody
from headrace.stores.az import from_spec
from headrace.stores.contract import StoreContract, read_all
from headrace.stores.contract_buckets import BucketsContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.store import Store
from support.cloud_stores import az_containers, az_store
from support.processes import free_port
from support.servers import AZURE_ACCOUNT, AZURE_KEY, AzureServer

_numbers = itertools.count()


@pytest.mark.servers
class TestAzStore(StoreContract, WritingContract):
    min_part_bytes = 1000

    etag_is_md5 = False
    """The service makes them otherwise."""

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
        return az_store(self.server.endpoint, self.container, min_part_bytes=self.min_part_bytes)

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

    def written(self, keys: Sequence[str]) -> list[str]:
        """Azure takes no control characters."""
        return [key for key in self.kept(keys) if not any(letter < " " for letter in key)]

    async def left_behind(self) -> Sequence[str]:
        target = f"/{self.server.account}/{self.container}?restype=container&comp=list&prefix=.headrace/"
        listing = await asyncio.to_thread(self.server.signed, "GET", target)
        return ["something"] if b"<Name>" in listing else []

    async def test_a_listing_in_another_order_is_an_error_and_has_no_gaps(self, store: Store) -> None:
        await self.put_behind("\U0001f600", b"x")
        await self.put_behind("\uff5e", b"x")
        with pytest.raises(CorruptData):
            await store.list()


@pytest.mark.servers
class TestAzContainers(BucketsContract):
    dotted_name = "bucket-c"

    @pytest.fixture(autouse=True)
    def _server(self, azurite_server: AzureServer) -> None:
        self.server = azurite_server

    async def make_account(self) -> Store:
        account = az_containers(self.server.endpoint)
        for bucket in await account.buckets().list():
            target = f"/{self.server.account}/{bucket.name}?restype=container"
            await asyncio.to_thread(self.server.signed, "DELETE", target)
        return account

    async def test_a_bucket_is_removed_or_written_to_never_both(self, account: Store) -> None:
        """Azure removes containers with all that they hold: only what is there when we look is safe."""
        await account.buckets().create("bucket")
        await account.write("bucket/a/k", BytesBody(b"x"))
        with pytest.raises(BucketNotEmpty):
            await account.buckets().delete("bucket")
        assert await read_all(account, "bucket/a/k") == b"x"
