import asyncio
import itertools
from collections.abc import Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import InvalidKey
from headrace.model.mounts import MountSpec
from headrace.model.writing import BytesBody
from headrace.stores.contract import StoreContract, read_all
from headrace.stores.contract_writing import WritingContract
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.s3 import from_spec
from headrace.stores.store import Store
from support.processes import free_port
from support.servers import S3Server

_numbers = itertools.count()


class S3Contract(StoreContract, WritingContract):
    server: S3Server
    bucket: str

    etag_is_md5 = False
    """A large body of unknown length is written in parts, as S3 asks."""

    def open(self, endpoint: str, secret: str = "", prefix: str = "") -> Store:
        environ = {"S3_ACCESS_KEY_ID": self.server.access_key, "S3_SECRET_ACCESS_KEY": secret or self.server.secret_key}
        spec = MountSpec("/x", store=f"s3://{self.bucket}{prefix}", endpoint=endpoint, credentials="env:S3", timeout="5s")
        return from_spec(spec, environ=environ, clock=SystemClock())

    def use(self, server: S3Server) -> None:
        self.server = server
        self.bucket = f"contract-{next(_numbers)}"
        server.make_bucket(self.bucket)

    async def make_store(self) -> Store:
        return self.open(self.server.endpoint)

    async def make_unreachable_store(self) -> Store | None:
        return self.open(f"http://127.0.0.1:{free_port()}")

    async def make_denied_store(self) -> Store | None:
        return self.open(self.server.endpoint, "not-the-secret")

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.server.put, self.bucket, key, data, ContentType="text/plain")

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, self.bucket, key)


@pytest.mark.servers
@pytest.mark.slow
class TestS3StoreOnCeph(S3Contract):
    """Ceph's gateway keeps every key."""

    @pytest.fixture(autouse=True)
    def _bucket(self, ceph_server: S3Server) -> None:
        self.use(ceph_server)


@pytest.mark.servers
@pytest.mark.slow
class TestS3StoreBelowAPrefixOnCeph(TestS3StoreOnCeph):
    async def make_store(self) -> Store:
        return self.open(self.server.endpoint, prefix="/in/here")

    async def put_behind(self, key: str, data: bytes) -> None:
        await super().put_behind("in/here/" + key, data)

    async def delete_behind(self, key: str) -> None:
        await super().delete_behind("in/here/" + key)

    async def test_a_key_of_1024_bytes_is_kept(self, store: Store) -> None:
        """The prefix takes its part of the 1,024."""
        longest = "x" * (1024 - len("in/here/"))
        await self.put_behind(longest, b"x")
        assert await read_all(store, longest) == b"x"
        with pytest.raises(InvalidKey):
            await store.info(longest + "x")


@pytest.mark.servers
@pytest.mark.slow
class TestS3AccountOnCeph(TestS3StoreOnCeph):
    """All buckets as one store, seen through one bucket's name."""

    async def make_store(self) -> Store:
        environ = {"S3_ACCESS_KEY_ID": self.server.access_key, "S3_SECRET_ACCESS_KEY": self.server.secret_key}
        spec = MountSpec("/", store="s3://", endpoint=self.server.endpoint, credentials="env:S3")
        return PrefixedStore(from_spec(spec, environ=environ, clock=SystemClock()), self.bucket + "/")


@pytest.mark.servers
class TestS3StoreOnSeaweedFS(S3Contract):
    @pytest.fixture(autouse=True)
    def _bucket(self, seaweedfs_server: S3Server) -> None:
        self.use(seaweedfs_server)

    hides_directories = False

    def kept(self, keys: Sequence[str]) -> list[str]:
        """SeaweedFS keeps clean paths only (it refuses `.` and `..` segments and folds away or adds slashes at `//` and at

        the ends, and for back-slashes), and what is a file cannot be a directory too.
        """
        kept: list[str] = []
        for key in keys:
            clean = "\\" not in key and all(segment not in ("", ".", "..") for segment in key.split("/"))
            if clean and not any(other.startswith(key + "/") or key.startswith(other + "/") for other in kept):
                kept.append(key)
        return kept

    def written(self, keys: Sequence[str]) -> list[str]:
        """Names are names of files."""
        return [key for key in self.kept(keys) if all(len(segment.encode()) <= 255 for segment in key.split("/"))]

    keeps_part_bounds = False
    """SeaweedFS goes by the numbers that the parts were uploaded with."""

    async def test_a_part_put_again_takes_the_place_of_the_first(self, store: Store) -> None:
        """SeaweedFS keeps every body of a part, and completes from the one that is named."""
        uploads = store.multipart()
        upload = await uploads.begin("a")
        await self.put_parts(store, upload, [1])
        second = await uploads.put(upload, 1, BytesBody(b"second"))
        await uploads.complete(upload, (second,))
        assert await read_all(store, "a") == b"second"

    async def test_a_race_of_abort_and_complete_has_one_outcome(self, store: Store) -> None:
        """SeaweedFS may say yes to both; what it keeps then is whole or nothing."""
        uploads = store.multipart()
        for _ in range(10):
            upload = await uploads.begin("a")
            part = await uploads.put(upload, 1, BytesBody(b"x" * 1000))
            await asyncio.gather(uploads.complete(upload, (part,)), uploads.abort(upload), return_exceptions=True)
            if (await store.list()).entries:
                assert await read_all(store, "a") == b"x" * 1000
            await store.delete("a")
