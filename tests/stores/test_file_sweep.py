"""What is old is removed, what is young or another's is not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.model.errors import NoSuchUpload
from headrace.model.writing import Attributes, BytesBody
from headrace.stores import file_sweep
from headrace.stores.contract import read_all
from headrace.stores.file import FileStore
from headrace.stores.file_account import FileAccountStore
from headrace.stores.file_upload_folders import Begun, begun_uploads

DAY_S = 86_400
LARGE = Attributes(metadata=tuple((f"name{number}", "x" * 900) for number in range(6)))


def aged(path: Path, seconds: float) -> None:
    found = path.stat()
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(str(tmp_path))


async def swept(store: FileStore) -> None:
    await store._root.run(store._sweeper.sweep, "")


async def test_only_old_temporary_files_of_ours_are_removed(store: FileStore, tmp_path: Path) -> None:
    await store.write("a", BytesBody(b"x"))
    folder = tmp_path / ".headrace/tmp"
    for name, days in (("w-" + "0" * 32, 2), ("w-" + "1" * 32, 0.5), ("theirs", 9)):
        (folder / name).write_bytes(b"x")
        aged(folder / name, days * DAY_S)
    await swept(store)
    assert sorted(path.name for path in folder.iterdir()) == ["theirs", "w-" + "1" * 32]
    assert await read_all(store, "a") == b"x"
    await store.close()


async def test_what_a_killed_removal_of_a_bucket_left_goes_when_it_is_old(tmp_path: Path) -> None:
    for name, days in (("old.0", 2), ("young.0", 0.5)):
        left = tmp_path / ".headrace/removed" / name
        (left / ".headrace/locks").mkdir(parents=True)
        aged(left, days * DAY_S)
    account = FileAccountStore(str(tmp_path))
    await account.buckets().list()
    account._root.pool.shutdown(wait=True)
    assert [path.name for path in (tmp_path / ".headrace/removed").iterdir()] == ["young.0"]
    await account.close()


async def test_uploads_that_nothing_came_for_are_dropped(store: FileStore, tmp_path: Path) -> None:
    uploads = store.multipart()
    old, young, lively = [await uploads.begin(key) for key in ("old", "young", "lively")]
    for upload, days in ((old, 8), (young, 6), (lively, 8)):
        await uploads.put(upload, 1, BytesBody(b"x"))
        aged(tmp_path / ".headrace/uploads" / upload.id, days * DAY_S)
    part = await uploads.put(lively, 2, BytesBody(b"y"))
    half_begun = tmp_path / ".headrace/uploads" / ("f" * 48)
    half_begun.mkdir()
    aged(half_begun, 8 * DAY_S)
    await swept(store)
    assert {upload.key for upload in (await uploads.list()).uploads} == {"young", "lively"}
    assert not half_begun.exists()
    with pytest.raises(NoSuchUpload):
        await uploads.put(old, 2, BytesBody(b"x"))
    await uploads.complete(lively, (part,))
    assert await read_all(store, "lively") == b"y"
    await store.close()


async def test_a_completed_upload_is_remembered_for_a_day(store: FileStore, tmp_path: Path) -> None:
    uploads = store.multipart()
    upload = await uploads.begin("a")
    part = await uploads.put(upload, 1, BytesBody(b"x"))
    done = await uploads.complete(upload, (part,))
    await swept(store)
    assert await uploads.complete(upload, (part,)) == done
    aged(tmp_path / ".headrace/completed" / upload.id, 2 * DAY_S)
    await swept(store)
    with pytest.raises(NoSuchUpload):
        await uploads.complete(upload, (part,))
    assert await read_all(store, "a") == b"x"
    await store.close()


async def test_attributes_beside_files_go_with_the_files(store: FileStore, tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        await store.write(key, BytesBody(b"x"), LARGE)
    beside = list(tmp_path.glob(".headrace/attributes/*/*"))
    if not beside:
        pytest.skip("this file system has room for large extended attributes")
    (tmp_path / "b").write_bytes(b"another program's")
    (tmp_path / "c").unlink()
    await swept(store)
    assert len(list(tmp_path.glob(".headrace/attributes/*/*"))) == 3
    for path in beside:
        aged(path, 2 * DAY_S)
    await swept(store)
    assert len(list(tmp_path.glob(".headrace/attributes/*/*"))) == 1
    assert (await store.info("a")).metadata == LARGE.metadata
    await store.close()


async def test_a_sweep_that_fails_is_told_and_tried_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await store.write("a", BytesBody(b"x"))
    store._root.pool.submit(bool).result()

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(file_sweep, "_older", failing)
        store._sweeper._due_s = 0.0
        await store.write("a", BytesBody(b"y"))
        store._root.pool.shutdown(wait=True)
    assert "tried again" in caplog.text
    assert not store._sweeper._busy.locked()


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_bucket_that_is_removed_under_a_sweep_is_nothing_to_complain_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_made_again: bool
) -> None:
    account = FileAccountStore(str(tmp_path))
    await account.buckets().create("bucket")
    store, key = account.find("bucket/a")
    assert isinstance(store, FileStore)
    upload = await store.multipart().begin(key)
    aged(tmp_path / "bucket/.headrace/uploads" / upload.id, 8 * DAY_S)

    def removed_meanwhile(root_fd: int) -> Iterator[Begun]:
        found = list(begun_uploads(root_fd))
        (tmp_path / "bucket").rename(tmp_path / "away")
        if is_made_again:
            (tmp_path / "bucket").mkdir()
        yield from found

    monkeypatch.setattr(file_sweep, "begun_uploads", removed_meanwhile)
    await store._root.run(store._sweeper._sweep_safely, "")
    assert (tmp_path / "away/.headrace/uploads" / upload.id).exists()
    assert caplog.messages == []
    await account.close()
