"""The suite that every account passes: a store whose keys begin with a bucket. Subclass `BucketsContract` in a test module."""
# ruff: noqa: S101 - a test suite asserts

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from headrace.model.errors import BucketExists, BucketNotEmpty, InvalidKey, NotFound, Unsupported
from headrace.model.objects import CommonPrefix
from headrace.model.uploads import Bucket
from headrace.model.writing import BytesBody
from headrace.stores.contract_hooks import read_all
from headrace.stores.store import Store

REFUSED_NAMES = ("", "ab", "a" * 64, "Upper", "a_b", "-ab", "ab-", "a..b", "1.2.3.4", "a/b", "..", "ä-ö-ü", ".abc")


class BucketsContract(ABC):
    """Buckets are made, hold what is written, and are removed when they hold nothing."""

    tells_creation = True
    """False where the store does not tell when a bucket was made."""
    refuses_twice = True
    """False where a bucket may be made again by its owner, as in the oldest region of S3."""
    keeps_acls = False
    """Whether a text is kept with a bucket."""
    has_multipart = True
    """False where the store has no multipart uploads."""

    dotted_name = "bucket.c"
    """A name with what else it may have; another one where the store takes no dots."""

    @abstractmethod
    async def make_account(self) -> Store:
        """An account without buckets."""

    @pytest.fixture
    async def account(self) -> AsyncIterator[Store]:
        """The account under test."""
        account = await self.make_account()
        yield account
        await account.close()

    async def test_a_bucket_is_there_once_it_is_made(self, account: Store) -> None:
        buckets = account.buckets()
        assert await buckets.list() == ()
        before = time.time()
        told = await buckets.create("bucket-b")
        await buckets.create("bucket-a")
        await buckets.create(self.dotted_name)
        found = await buckets.list()
        assert [bucket.name for bucket in found] == ["bucket-a", "bucket-b", self.dotted_name]
        assert told.name == "bucket-b"
        if self.tells_creation:
            assert all(abs(bucket.created_s - before) < 60 for bucket in found)

    async def test_a_bucket_is_found_by_its_name(self, account: Store) -> None:
        buckets = account.buckets()
        await buckets.create("bucket-a")
        assert (await buckets.find("bucket-a")).name == "bucket-a"
        for name in ("bucket-b", "bucket", "no/name", ".."):
            with pytest.raises(NotFound):
                await buckets.find(name)

    async def test_a_text_is_kept_with_a_bucket_for_as_long_as_it_is_there(self, account: Store) -> None:
        buckets = account.buckets()
        await buckets.create("bucket-a")
        if not self.keeps_acls:
            with pytest.raises(Unsupported):
                await buckets.set_acl("bucket-a", "x")
            return
        await buckets.set_acl("bucket-a", "x")
        await buckets.set_acl("bucket-a", "é")
        assert [bucket.acl for bucket in await buckets.list()] == [(await buckets.find("bucket-a")).acl] == ["é"]
        with pytest.raises(NotFound):
            await buckets.set_acl("bucket-b", "x")
        await buckets.delete("bucket-a")
        await buckets.create("bucket-a")
        assert (await buckets.find("bucket-a")).acl == ""

    async def test_an_empty_bucket_is_listed(self, account: Store) -> None:
        await account.buckets().create("empty")
        page = await account.list(delimiter="/")
        assert page.entries == (CommonPrefix("empty/"),)
        assert (await account.list("empty/")).entries == ()
        assert (await account.list()).entries == ()

    async def test_what_is_written_lies_in_its_bucket(self, account: Store) -> None:
        for name in ("one", "two"):
            await account.buckets().create(name)
            told = await account.write(f"{name}/a/k", BytesBody(name.encode()))
            assert told.key == f"{name}/a/k"
        assert [entry.key for entry in (await account.list()).entries] == ["one/a/k", "two/a/k"]
        assert await read_all(account, "two/a/k") == b"two"
        copied = await account.copy(await account.info("one/a/k"), "two/b")
        assert copied.key == "two/b"
        assert await read_all(account, "two/b") == b"one"
        await account.delete("one/a/k")
        assert [entry.key for entry in (await account.list()).entries] == ["two/a/k", "two/b"]

    async def test_nothing_is_written_outside_a_bucket(self, account: Store) -> None:
        for key in ("absent/k", "a"):
            with pytest.raises((NotFound, InvalidKey)):
                await account.write(key, BytesBody(b"x"))
        assert await account.buckets().list() == ()

    async def test_a_bucket_is_made_once(self, account: Store) -> None:
        await account.buckets().create("bucket")
        await account.write("bucket/k", BytesBody(b"x"))
        if self.refuses_twice:
            with pytest.raises(BucketExists):
                await account.buckets().create("bucket")
        assert await read_all(account, "bucket/k") == b"x"

    @pytest.mark.parametrize("name", REFUSED_NAMES)
    async def test_a_name_that_s3_does_not_allow_is_refused(self, account: Store, name: str) -> None:
        with pytest.raises(InvalidKey):
            await account.buckets().create(name)
        assert await account.buckets().list() == ()

    async def test_an_empty_bucket_is_removed(self, account: Store) -> None:
        buckets = account.buckets()
        await buckets.create("bucket")
        await account.write("bucket/deep/k", BytesBody(b"x"))
        with pytest.raises(BucketNotEmpty):
            await buckets.delete("bucket")
        assert await read_all(account, "bucket/deep/k") == b"x"
        await account.delete("bucket/deep/k")
        await buckets.delete("bucket")
        assert await buckets.list() == ()
        with pytest.raises(NotFound):
            await account.write("bucket/k", BytesBody(b"x"))
        with pytest.raises(NotFound):
            await buckets.delete("bucket")
        await buckets.create("bucket")
        assert (await account.list("bucket/")).entries == ()

    async def test_a_bucket_with_an_unfinished_upload_loses_nothing(self, account: Store) -> None:
        if not self.has_multipart:
            pytest.skip("this store has no multipart uploads")
        await account.buckets().create("bucket")
        upload = await account.multipart().begin("bucket/k")
        part = await account.multipart().put(upload, 1, BytesBody(b"x"))
        with pytest.raises(BucketNotEmpty):
            await account.buckets().delete("bucket")
        found = await account.multipart().list("bucket/")
        assert [(other.key, other.id) for other in found.uploads] == [("bucket/k", upload.id)]
        info = await account.multipart().complete(upload, (part,))
        assert info.key == "bucket/k"
        assert await read_all(account, "bucket/k") == b"x"

    async def test_a_bucket_is_removed_or_written_to_never_both(self, account: Store) -> None:
        buckets = account.buckets()
        for turn in range(10):
            await buckets.create("bucket")
            calls = [account.write("bucket/a/k", BytesBody(b"x")), buckets.delete("bucket")]
            written, removed = await asyncio.gather(*calls, return_exceptions=True)
            if isinstance(removed, BaseException):
                assert isinstance(removed, BucketNotEmpty), (turn, removed)
                assert await read_all(account, "bucket/a/k") == b"x"
                await account.delete("bucket/a/k")
                await buckets.delete("bucket")
            else:
                assert isinstance(written, NotFound), (turn, written)

    async def test_many_create_one_bucket_at_once(self, account: Store) -> None:
        answers = await asyncio.gather(*(account.buckets().create("bucket") for _ in range(8)), return_exceptions=True)
        made = [answer for answer in answers if isinstance(answer, Bucket)]
        assert made
        if self.refuses_twice:
            assert len(made) == 1
        assert all(isinstance(answer, (Bucket, BucketExists)) for answer in answers)
