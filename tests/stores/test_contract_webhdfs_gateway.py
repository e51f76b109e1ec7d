"""The store `webhdfs://` over our own gateway passes the suite of listings: both ends of the protocol are of one mind.

It reads and replaces files by their inode numbers, which only HDFS itself has paths for, so there is no more to be had here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.contract_listing import ListingContract
from headrace.stores.memory import MemoryStore
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from stores.test_contract_hdfs import beside
from support.webhdfs import USER, webhdfs


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, MemoryStore]]:
    backing = MemoryStore()
    with webhdfs({"/data": backing}) as (_, client):
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

    async def make_store(self) -> Store:
        spec = MountSpec("/h", f"webhdfs://{self.web}/data/{self.root}", credentials="env:H")
        return open_store(spec, environ={"H_USER_NAME": USER}, clock=SystemClock())

    async def put_behind(self, key: str, data: bytes) -> None:
        self.backing.put(f"{self.root}/{key}", data)

    async def put_all(self, keys: Sequence[str]) -> list[str]:
        for key in self.kept(keys):
            self.backing.put(f"{self.root}/{key}", key.encode())
        return self.kept(keys)

    async def delete_behind(self, key: str) -> None:
        await self.backing.delete(f"{self.root}/{key}")

    def kept(self, keys: Sequence[str]) -> list[str]:
        return beside(keys)


class TestListings(OverGateway, ListingContract):
    """Directories, page by page and in one piece."""
