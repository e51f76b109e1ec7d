import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.contract import StoreContract
from headrace.stores.contract_buckets import BucketsContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.gs import from_spec
from headrace.stores.store import Store
from support.cloud_stores import gs_buckets, gs_store
from support.gcs_double import GcsDouble, gcs_double
from support.processes import free_port
from support.servers import GcsServer

_numbers = itertools.count()


def nameable(keys: Sequence[str]) -> list[str]:
    """GCS allows no `.`, `..` and no line ends in names."""
    return [key for key in keys if key not in (".", "..") and "\n" not in key]


class GsContract(StoreContract, WritingContract):
    min_part_bytes = 1000

    etag_is_md5 = False
    """It is the generation."""

    def kept(self, keys: Sequence[str]) -> list[str]:
        return nameable(keys)

    def written(self, keys: Sequence[str]) -> list[str]:
        return nameable(keys)


class TestGsStoreAtItsStrictest(GsContract):
    """Against a service in this process that obeys all preconditions."""

    @pytest.fixture(autouse=True)
    async def _bucket(self) -> AsyncIterator[None]:
        async with gcs_double() as double:
            self.server: GcsDouble = double
            double.make_bucket("bucket")
            yield

    async def make_store(self) -> Store:
        return gs_store(self.server.endpoint, "bucket", min_part_bytes=self.min_part_bytes)

    async def put_behind(self, key: str, data: bytes) -> None:
        self.server.put("bucket", key, data, {"contentType": "text/plain"})

    async def delete_behind(self, key: str) -> None:
        self.server.buckets["bucket"].pop(key, None)

    async def left_behind(self) -> Sequence[str]:
        return [name for name in self.server.buckets["bucket"] if name.startswith(".headrace/")]


@pytest.mark.servers
class TestGsStore(GsContract):
    settles_races = False
    """fake-gcs-server obeys no precondition but that of an upload."""

    @pytest.fixture(autouse=True)
    def _bucket(self, gcs_server: GcsServer) -> None:
        self.server = gcs_server
        self.bucket = f"contract-{next(_numbers)}"
        gcs_server.make_bucket(self.bucket)

    async def make_store(self) -> Store:
        return gs_store(self.server.endpoint, self.bucket, min_part_bytes=self.min_part_bytes)

    async def make_unreachable_store(self) -> Store | None:
        store = f"gs://{self.bucket}"
        endpoint = f"http://127.0.0.1:{free_port()}"
        spec = MountSpec("/x", store=store, endpoint=endpoint, credentials="anonymous", timeout="5s")
        return from_spec(spec, environ={}, clock=SystemClock())

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.server.put, self.bucket, key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, self.bucket, key)

    async def test_a_copy_obeys_its_condition(self, store: Store) -> None:
        pytest.skip("fake-gcs-server ignores the preconditions of copies")

    async def test_a_copy_onto_itself_changes_its_attributes(self, store: Store) -> None:
        pytest.skip("fake-gcs-server keeps the old metadata when the new is empty")


class GsBucketsContract(BucketsContract):
    endpoint: str

    async def make_account(self) -> Store:
        return gs_buckets(self.endpoint)


class TestGsBucketsAtTheirStrictest(GsBucketsContract):
    @pytest.fixture(autouse=True)
    async def _server(self) -> AsyncIterator[None]:
        async with gcs_double() as double:
            self.endpoint = double.endpoint
            yield
