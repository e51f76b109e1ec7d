import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import (
    BucketExists,
    BucketNotEmpty,
    InvalidKey,
    InvalidPart,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    Unavailable,
    Unsupported,
)
from headrace.model.mounts import MountSpec
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import Bucket
from headrace.model.writing import BytesBody, Condition
from headrace.stores.contract import StoreContract, read_all
from headrace.stores.contract_buckets import BucketsContract
from headrace.stores.contract_tools import ATTRIBUTES, PIECE, PiecesBody, agree
from headrace.stores.contract_writing import WritingContract
from headrace.stores.keys import PROOF_NAME
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.s3 import from_spec
from headrace.stores.store import Store
from support.processes import free_port
from support.s3_stores import s3_account
from support.servers import S3Server

_numbers = itertools.count()


def empty_bucket(client: Any, name: str) -> None:
    """Remove a bucket with all it holds."""
    for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    while held := client.list_objects_v2(Bucket=name).get("Contents"):
        for entry in held:
            client.delete_object(Bucket=name, Key=entry["Key"])
    client.delete_bucket(Bucket=name)


class S3Contract(StoreContract, WritingContract):
    server: S3Server
    bucket: str

    etag_is_md5 = False
    """A large body of unknown length is written in parts, as S3 asks."""

    def open(self, endpoint: str, secret: str = "", prefix: str = "") -> Store:
        environ = {"S3_ACCESS_KEY_ID": self.server.access_key, "S3_SECRET_ACCESS_KEY": secret or self.server.secret_key}
        spec = MountSpec("/x", store=f"s3://{self.bucket}{prefix}", endpoint=endpoint, credentials="env:S3", timeout="20s")
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

    async def left_behind(self) -> Sequence[str]:
        """Unfinished uploads, and objects that proved something."""
        client = self.server.client()
        uploads = await asyncio.to_thread(client.list_multipart_uploads, Bucket=self.bucket)
        objects = await asyncio.to_thread(client.list_objects_v2, Bucket=self.bucket)
        keys = [entry["Key"] for entry in objects.get("Contents", ())]
        return [upload["UploadId"] for upload in uploads.get("Uploads", ())] + [key for key in keys if PROOF_NAME in key]

    @pytest.mark.parametrize("count", [10, 70, 200])
    async def test_a_write_in_parts_that_is_given_up_leaves_none(self, store: Store, count: int) -> None:
        begun, never = asyncio.Event(), asyncio.Event()

        class Stuck(PiecesBody):
            async def __aiter__(self) -> AsyncIterator[Buffer]:
                for _ in range(count):
                    yield PIECE
                    await asyncio.sleep(0)
                begun.set()
                await never.wait()

        task = asyncio.create_task(store.write("d/a", Stuck([])))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await self.left_behind() == []
        with pytest.raises(NotFound):
            await store.info("d/a")

    async def test_a_conditional_write_leaves_no_proof(self, store: Store) -> None:
        condition = Condition(if_none_match="*")
        for verb in ("write", "complete"):
            upload = await store.multipart().begin("d/b")
            part = await store.multipart().put(upload, 1, BytesBody(b"x"))
            if self.takes("complete", condition):
                await store.multipart().complete(upload, (part,), condition=condition)
            else:
                with pytest.raises(Unsupported):
                    await store.multipart().complete(upload, (part,), condition=condition)
                await store.multipart().abort(upload)
            await store.write(f"d/{verb}", BytesBody(b"x"), condition=condition)
            assert await self.left_behind() == []
            await store.delete("d/b")

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, self.bucket, key)


@pytest.mark.servers
@pytest.mark.slow
class TestS3StoreOnCeph(S3Contract):
    """Ceph's gateway keeps every key; of writes, Ceph 16 knows what S3 knew long ago."""

    keeps_checksums = False
    part_checksums = ()
    """It knows no checksums but MD5."""
    keeps_part_bounds = False
    """It knows no part numbers."""
    remembers_parts = False
    """It answers with the object when its attributes are asked for."""
    settles_races = False
    """It answers 500 to some of those that lose a race."""

    def takes(self, verb: str, condition: Condition) -> bool:
        """It ignores conditions on everything but PUT, and refuses a PUT of what is not there unless it is `another` ETag."""
        return verb in ("write", "copy") and condition.if_none_match in ("", "*")

    async def test_an_upload_is_invisible_until_it_is_complete(self, store: Store) -> None:
        """It drops the tags of uploads, so they are refused; everything else holds."""
        with pytest.raises(Unsupported):
            await store.multipart().begin("d/a", ATTRIBUTES)
        upload = await store.multipart().begin("d/a", msgspec.structs.replace(ATTRIBUTES, tags=()))
        parts = await self.put_parts(store, upload, [1, 2])
        assert (await store.list()).entries == ()
        await store.multipart().complete(upload, parts)
        info = await agree(store, "d/a", self.part_body(1) + self.part_body(2))
        assert (info.content_type, info.metadata) == (ATTRIBUTES.content_type, ATTRIBUTES.metadata)

    async def test_parts_that_are_not_named_are_dropped(self, store: Store) -> None:
        """It wants all parts to be named."""
        upload = await store.multipart().begin("a")
        parts = await self.put_parts(store, upload, [1, 2, 3])
        with pytest.raises(InvalidPart):
            await store.multipart().complete(upload, (parts[0], parts[2]))
        await store.multipart().complete(upload, parts)

    async def test_a_part_that_is_too_small_is_named(self, store: Store) -> None:
        upload = await store.multipart().begin("a")
        small = await store.multipart().put(upload, 1, BytesBody(b"small"))
        last = await store.multipart().put(upload, 2, BytesBody(b"x"))
        with pytest.raises(PartTooSmall):
            await store.multipart().complete(upload, (small, last))

    async def test_completing_at_once_makes_one_object(self, store: Store) -> None:
        """It says to some that the completion is under way."""
        upload = await store.multipart().begin("a")
        parts = await self.put_parts(store, upload, [1, 2])
        calls = [store.multipart().complete(upload, parts) for _ in range(4)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(answer, ObjectInfo) for answer in answers)
        assert all(isinstance(answer, (ObjectInfo, NoSuchUpload, Unavailable)) for answer in answers), answers
        await agree(store, "a", self.part_body(1) + self.part_body(2))

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

    def written(self, keys: Sequence[str]) -> list[str]:
        return [key for key in super().written(keys) if len(f"in/here/{key}".encode()) <= 1024]

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
    remembers_part_checksums = False

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


class S3AccountBuckets(BucketsContract):
    server: S3Server

    async def make_account(self) -> Store:
        client = self.server.client()
        for bucket in client.list_buckets()["Buckets"]:
            await asyncio.to_thread(empty_bucket, client, bucket["Name"])
        return s3_account(self.server)


@pytest.mark.servers
@pytest.mark.slow
class TestS3BucketsOnCeph(S3AccountBuckets):
    refuses_twice = False
    """It says yes to a bucket's owner, so of many that make it at once several are told so."""

    @pytest.fixture(autouse=True)
    def _server(self, ceph_server: S3Server) -> None:
        self.server = ceph_server


@pytest.mark.servers
class TestS3BucketsOnSeaweedFS(S3AccountBuckets):
    @pytest.fixture(autouse=True)
    def _server(self, seaweedfs_server: S3Server) -> None:
        self.server = seaweedfs_server

    async def test_a_bucket_is_removed_or_written_to_never_both(self, account: Store) -> None:
        """SeaweedFS removes buckets with all that they hold: only what is there when we look is safe."""
        await account.buckets().create("bucket")
        await account.write("bucket/a/k", BytesBody(b"x"))
        with pytest.raises(BucketNotEmpty):
            await account.buckets().delete("bucket")
        assert await read_all(account, "bucket/a/k") == b"x"

    async def test_many_create_one_bucket_at_once(self, account: Store) -> None:
        """SeaweedFS says yes to several that come in the same moment; they then have the same bucket."""
        answers = await asyncio.gather(*(account.buckets().create("bucket") for _ in range(8)), return_exceptions=True)
        assert any(isinstance(answer, Bucket) for answer in answers)
        assert all(isinstance(answer, (Bucket, BucketExists)) for answer in answers), answers
        assert [bucket.name for bucket in await account.buckets().list()] == ["bucket"]
