"""The store `webhdfs://` over our own gateway passes the suites of stores: both ends of the protocol are of one mind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence

import pytest

from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.contract import StoreContract
from headrace.stores.contract_changing import ChangingContract
from headrace.stores.contract_writing import ConditionContract, WriteContract
from headrace.stores.memory import MemoryStore
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from stores.test_contract_hdfs import beside
from support.processes import free_port
from support.webhdfs import USER, webhdfs

TRUSTING = WebHdfsSettings(trust_user_name_from=("127.0.0.0/8",))


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, MemoryStore]]:
    backing = MemoryStore()
    policy = Policy((Rule("/data", callers=("stranger",), actions=tuple(Action), effect="deny"),))
    with webhdfs({"/data": backing}, settings=TRUSTING, policy=policy) as (_, client):
        yield f"{client.host}:{client.port}", backing


class OverGateway:
    """Bytes under paths, and nothing with them, as on any HDFS."""

    knows_content_type = False
    keeps_attributes = False
    keeps_tags = False
    etag_is_md5 = False
    keeps_checksums = False

    @pytest.fixture(autouse=True)
    def root_of_its_own(self, place: tuple[str, MemoryStore]) -> None:
        self.web, self.backing = place
        self.root = f"c/{uuid.uuid4().hex}"

    def opened(self, user: str = USER) -> Store:
        spec = MountSpec("/h", f"webhdfs://{self.web}/data/{self.root}", credentials="env:H")
        return open_store(spec, environ={"H_USER_NAME": user}, clock=SystemClock())

    async def make_store(self) -> Store:
        return self.opened()

    async def put_behind(self, key: str, data: bytes) -> None:
        self.backing.put(f"{self.root}/{key}", data)

    async def put_all(self, keys: Sequence[str]) -> list[str]:
        for key in self.kept(keys):
            self.backing.put(f"{self.root}/{key}", key.encode())
        return self.kept(keys)

    async def delete_behind(self, key: str) -> None:
        await self.backing.delete(f"{self.root}/{key}")

    async def make_unreachable_store(self) -> Store:
        spec = MountSpec("/h", f"webhdfs://127.0.0.1:{free_port()}/x")
        return open_store(spec, environ={"HADOOP_USER_NAME": USER}, clock=SystemClock())

    async def make_denied_store(self) -> Store:
        return self.opened("stranger")

    def kept(self, keys: Sequence[str]) -> list[str]:
        return beside(keys)

    def written(self, keys: Sequence[str]) -> list[str]:
        return beside(keys)

    async def left_behind(self) -> Sequence[str]:
        await asyncio.sleep(0)
        found = []
        for folder in ("new", "claims"):
            page = await self.backing.list(f"{self.root}/.headrace/{folder}/")
            found += [entry.key for entry in page.entries if not entry.key.endswith("/")]
        return found


class TestReads(OverGateway, StoreContract):
    """Reading and listing."""


class TestWrites(OverGateway, WriteContract, ConditionContract, ChangingContract):
    """Writing, conditions, removing and copying."""
