"""A directory whose directories are buckets."""

from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, BucketNotEmpty, NotFound, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.objects import CommonPrefix
from headrace.model.writing import BytesBody
from headrace.stores.contract import read_all
from headrace.stores.file import FileStore
from headrace.stores.file_account import FileAccountStore
from headrace.stores.file_open import from_spec
from headrace.stores.urls import can_be_created


@pytest.mark.parametrize(
    ("path", "create", "kind"),
    [("/", True, FileAccountStore), ("/", False, FileStore), ("/data", True, FileStore)],
)
async def test_a_mount_at_the_root_that_makes_buckets_is_an_account(tmp_path: Path, path: str, create: bool, kind: type) -> None:
    spec = MountSpec(path, store=f"file://{tmp_path}", create_buckets=create)
    store = from_spec(spec, environ={}, clock=SystemClock())
    assert type(store) is kind
    await store.close()


async def test_directories_of_others_are_buckets_and_what_else_lies_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "Their_Data/below").mkdir(parents=True)
    (tmp_path / "Their_Data/below/k").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "link").symlink_to("Their_Data")
    (tmp_path / "out").symlink_to("/usr")
    account = FileAccountStore(str(tmp_path))
    assert [bucket.name for bucket in await account.buckets().list()] == ["Their_Data", "link"]
    assert (await account.list(delimiter="/")).entries == (CommonPrefix("Their_Data/"), CommonPrefix("link/"))
    assert await read_all(account, "link/below/k") == b"x"
    for key in ("file/k", ".hidden/k", "../root/k"):
        with pytest.raises(NotFound):
            await account.read(key)
    with pytest.raises(AccessDenied):
        await account.read("out/bin/env")
    with pytest.raises((AccessDenied, BucketNotEmpty)):
        await account.buckets().delete("link")
    assert (tmp_path / "Their_Data/below/k").exists()
    await account.close()


@pytest.mark.parametrize("what", ["a file that no key can say", "a link", "an odd key", "an object"])
async def test_a_bucket_is_removed_only_with_nothing_to_lose(tmp_path: Path, what: str) -> None:
    account = FileAccountStore(str(tmp_path))
    await account.buckets().create("bucket")
    folder = tmp_path / "bucket"
    (folder / "empty/deep").mkdir(parents=True)
    if what == "a file that no key can say":
        Path(str(folder / "empty").encode().decode() + "/bad\udcff").write_bytes(b"x")
    elif what == "a link":
        (folder / "link").symlink_to("/nowhere")
    else:
        await account.write("bucket/a//k" if what == "an odd key" else "bucket/k", BytesBody(b"x"))
    with pytest.raises(BucketNotEmpty):
        await account.buckets().delete("bucket")
    assert folder.exists()
    await account.close()


async def test_an_account_whose_directory_is_gone_is_unavailable(tmp_path: Path) -> None:
    account = FileAccountStore(str(tmp_path / "gone"))
    for call in (
        account.buckets().list(),
        account.buckets().create("bucket"),
        account.buckets().delete("bucket"),
        account.info("bucket/k"),
        account.write("bucket/k", BytesBody(b"x")),
    ):
        with pytest.raises(Unavailable):
            await call
    await account.close()


@pytest.mark.parametrize("name", ["abc", "a-b.c", "0" * 63, "1.2.3", "my.bucket-1"])
def test_names_that_s3_allows_can_be_created(name: str) -> None:
    assert can_be_created(name)
