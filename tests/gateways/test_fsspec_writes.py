"""What the filesystem promises of writes beyond fsspec's own tests."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.callbacks import Callback

from headrace.fs import HeadraceFileSystem
from headrace.gateways import writing
from headrace.gateways.writing import PART_BYTES, Outgoing
from headrace.model.errors import AccessDenied, ConditionFailed, Unavailable, Unsupported
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, Body, Condition
from headrace.namespace.namespace import Namespace
from headrace.session import SessionOptions
from headrace.stores.memory import MemoryStore
from support.accounts import MemoryAccount
from support.node import RunningNode, running_node
from support.writable import config_of, embedded_fs, memory_fs, remote_fs, writable_namespace

LARGE = os.urandom(3 * PART_BYTES + 17)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def fs(store: MemoryStore) -> HeadraceFileSystem:
    return memory_fs(store)


def uploads_of(store: MemoryStore) -> int:
    return len(store.multipart()._begun)  # what no verb of the contract tells without a loop


def test_a_small_file_is_one_write_and_a_large_one_is_parts(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    with fs.open("b/small", "wb") as file:
        file.write(b"x" * PART_BYTES)
        assert not fs.exists("b/small"), "nothing is seen before it is closed"
    with fs.open("b/large", "wb") as file:
        for start in range(0, len(LARGE), 1_000_003):
            file.write(LARGE[start : start + 1_000_003])
        assert file.tell() == len(LARGE)
        assert not fs.exists("b/large")
    assert store.calls["write"] == 1
    assert store.body("large") == LARGE
    assert fs.info("b/large")["ETag"].endswith("-4")
    assert fs.ls("b", detail=False) == ["b/large", "b/small"]


def test_a_large_file_is_written_with_bounded_memory(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    """The writer waits while as many parts are on their way as may be."""
    held, most = 0, 0
    free = threading.Event()
    inner = store.multipart()
    put = inner.put

    async def slow(upload: Upload, number: int, body: Body) -> Part:
        nonlocal held, most
        held += 1
        most = max(most, held)
        if most == writing.PARTS_AT_ONCE:
            free.set()
        assert free.is_set() or held < writing.PARTS_AT_ONCE
        try:
            return await put(upload, number, body)
        finally:
            held -= 1

    inner.put = slow  # type: ignore[method-assign]
    with fs.open("b/large", "wb") as file:
        for _ in range(20):
            file.write(b"y" * PART_BYTES)
    assert 1 <= most <= writing.PARTS_AT_ONCE
    assert fs.info("b/large")["size"] == 20 * PART_BYTES


@pytest.mark.parametrize("size", [10, len(LARGE)])
@pytest.mark.parametrize("options", [{"mode": "wb"}, {"mode": "w"}, {"mode": "wb", "compression": "gzip"}])
def test_an_exception_inside_with_leaves_nothing(
    fs: HeadraceFileSystem, store: MemoryStore, size: int, options: dict[str, Any]
) -> None:
    store.put("k", b"before")
    piece: Any = LARGE[:size] if "b" in options["mode"] else "t" * size
    with pytest.raises(KeyError), fs.open("b/k", **options) as file:
        file.write(piece)
        raise KeyError("x")
    assert store.body("k") == b"before"
    assert uploads_of(store) == 0


def test_a_discarded_or_forgotten_file_leaves_nothing(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    file = fs.open("b/k", "wb")
    file.write(LARGE)
    file.discard()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    for mode in ("wb", "w"):
        forgotten = fs.open("b/k", mode)
        forgotten.write("text" if mode == "w" else LARGE)
        del forgotten
        gc.collect()
    fs.pipe_file("b/fence", b"")  # on the same loop, behind what the finalisers began
    assert fs.ls("b", detail=False) == ["b/fence"]


def test_packed_and_text_files_are_whole(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    with fs.open("b/k.gz", "wt", compression="infer", encoding="utf-8") as file:
        file.write("grüße\n" * 1000)
    assert gzip.decompress(store.body("k.gz")).decode() == "grüße\n" * 1000
    with fs.open("b/k.gz", "rt", compression="infer", encoding="utf-8") as file:
        assert file.readline() == "grüße\n"


def test_exclusive_writes_find_what_appeared_meanwhile(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    file = fs.open("b/k", "xb")
    file.write(b"mine")
    store.put("k", b"theirs")
    with pytest.raises(FileExistsError):
        file.close()
    assert store.body("k") == b"theirs"
    with pytest.raises(FileExistsError):
        fs.pipe("b/k", b"", mode="create")
    with pytest.raises(Unsupported, match="time"):
        fs.touch("b/k", truncate=False)


@pytest.mark.parametrize("size", [0, 10, PART_BYTES - 1, PART_BYTES, len(LARGE)])
def test_appending_keeps_what_was_there(fs: HeadraceFileSystem, store: MemoryStore, size: int) -> None:
    store.put("k", LARGE[:size])
    with fs.open("b/k", "ab") as file:
        assert file.tell() == size
        file.write(b"more")
    assert store.body("k") == LARGE[:size] + b"more"
    with fs.open("b/new", "ab") as file:
        file.write(b"first")
    assert store.body("new") == b"first"


def test_appending_is_refused_where_it_would_copy_too_much_or_undo_a_change(
    fs: HeadraceFileSystem, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("k", b"12345")
    file = fs.open("b/k", "ab")
    file.write(b"6")
    store.put("k", b"changed")
    with pytest.raises(ConditionFailed):
        file.close()
    assert store.body("k") == b"changed"
    monkeypatch.setattr(writing, "APPEND_MAX_BYTES", 3)
    with pytest.raises(Unsupported, match="at most 3"):
        fs.open("b/k", "ab")


def test_a_failing_part_fails_the_file_and_leaves_nothing(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    async def away(upload: Upload, number: int, body: Body) -> Part:
        raise Unavailable("the store does not answer")

    store.multipart().put = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable), fs.open("b/k", "wb") as file:
        file.write(LARGE)
    assert not fs.exists("b/k")
    assert uploads_of(store) == 0


async def test_parts_that_are_given_up_before_they_begin_leave_their_room_to_others(store: MemoryStore) -> None:
    gate = asyncio.Semaphore(2)
    made = Outgoing(writable_namespace(b=store), "b/k", gate=gate)
    await made.add(LARGE[:PART_BYTES])
    await made.add(LARGE[PART_BYTES:])
    await made.discard()
    async with asyncio.timeout(5), gate, gate:
        assert uploads_of(store) == 0


def test_a_transaction_appears_at_its_end_or_not_at_all(fs: HeadraceFileSystem, store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)

    def write_all() -> None:
        with fs.open("b/one", "wb") as file:
            file.write(LARGE)
        fs.pipe_file("b/two", b"2" * 100_000)
        fs.put_file(str(tmp_path / "file"), "b/three")
        assert not any(fs.exists(f"b/{name}") for name in ("one", "two", "three"))

    with pytest.raises(KeyError), fs.transaction:
        write_all()
        raise KeyError("x")
    assert fs.find("b") == []
    assert uploads_of(store) == 0
    with fs.transaction:
        write_all()
    assert store.body("one") == LARGE == store.body("three")
    assert store.body("two") == b"2" * 100_000
    fs.pipe_file("b/after", b"a")
    assert fs.exists("b/after")


def test_removing_a_tree_removes_markers_and_tells_what_was_not_removed(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    for number in range(100):
        store.put(f"d/{number % 7}/{number}", b"x")
    store.put("d/", b"")
    store.put("deep", b"stays")
    delete = store.delete
    refused = {"d/3/3", "d/4/4"}

    async def partly(key: str, *, condition: Condition = ALWAYS) -> None:
        if key in refused:
            raise AccessDenied(f"{key} may not be removed", path=key)
        await delete(key, condition=condition)

    store.delete = partly  # type: ignore[method-assign]
    with pytest.raises(AccessDenied) as caught:
        fs.rm("b/d", recursive=True)
    assert caught.value.__notes__ == ["2 of 101 objects were not removed"]
    assert sorted(fs.find("b/d")) == ["b/d/3/3", "b/d/4/4"]
    refused.clear()
    fs.rm("b/d", recursive=True)
    assert fs.find("b") == ["b/deep"]
    for recursive in (True, False):
        with pytest.raises(FileNotFoundError):
            fs.rm("b/d", recursive=recursive)
    with pytest.raises(ValueError, match="name a bucket"):
        fs.rm("", recursive=True)
    store.put("dir/x", b"")
    with pytest.raises(IsADirectoryError):
        fs.rm("b/dir")


def test_moving_removes_only_what_was_copied(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    for key in ("d/a", "d/sub/b"):
        store.put(key, key.encode())
    copy = store.copy

    async def meanwhile(source: Any, key: str, *rest: Any, **options: Any) -> Any:
        made = await copy(source, key, *rest, **options)
        store.put("d/late", b"appeared while it was moved")
        return made

    store.copy = meanwhile  # type: ignore[method-assign]
    fs.mv("b/d", "b/e", recursive=True)
    assert fs.find("b") == ["b/d/late", "b/e/a", "b/e/sub/b"]
    with pytest.raises(IsADirectoryError):
        fs.mv("b/e", "b/f")
    fs.mv("b/e/a", "b/a")
    assert store.body("a") == b"d/a" and not fs.exists("b/e/a")


def test_directories_are_prefixes_and_buckets_belong_to_mounts(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    fs.mkdir("b/new/deeper")
    fs.makedirs("b/new", exist_ok=True)
    assert not fs.exists("b/new")
    with pytest.raises(FileExistsError):
        fs.mkdir("b")
    fs.makedirs("b", exist_ok=True)
    with pytest.raises(AccessDenied, match="mount"):
        fs.mkdir("other")
    store.put("marked/", b"")
    fs.rmdir("b/marked")
    with pytest.raises(FileNotFoundError):
        fs.rmdir("b/marked")
    store.put("full/x", b"")
    with pytest.raises(OSError, match="recursive"):
        fs.rmdir("b/full")


def test_buckets_are_made_and_removed_where_an_account_allows_it() -> None:
    account = MemoryAccount("kept")

    async def opener(_: SessionOptions) -> Namespace:
        return writable_namespace(root=account)

    fs = HeadraceFileSystem(opener=opener, skip_instance_cache=True)
    fs.mkdir("made")
    fs.makedirs("other/a/b")
    assert fs.ls("", detail=False) == ["kept", "made", "other"]
    fs.pipe({"other/a/b/x": b"x", "other/y": b"y", "made/z": b"z"})
    with pytest.raises(OSError, match="holds something"):
        fs.rmdir("made")
    fs.rm("other", recursive=True)
    fs.rm("made/z")
    fs.rmdir("made")
    assert fs.ls("", detail=False) == ["kept"]
    with pytest.raises(FileNotFoundError):
        fs.rmdir("made")
    with pytest.raises(FileNotFoundError):
        fs.mkdir("missing/below", create_parents=False)


def test_progress_of_a_put_is_told_part_by_part(fs: HeadraceFileSystem, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_bytes(LARGE)
    callback = Callback()
    fs.put_file(str(tmp_path / "file.csv"), "b/file.csv", callback=callback)
    assert (callback.size, callback.value) == (len(LARGE), len(LARGE))
    assert fs.info("b/file.csv")["content_type"] == "text/csv"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_neither_writes_to_nor_ends_the_parents_file(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    file = fs.open("b/k", "wb")
    file.write(b"parent")
    pid = os.fork()
    if pid == 0:
        try:
            file.write(b"child")
        except ValueError:
            file.close()
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    file.close()
    assert store.body("k") == b"parent"


def test_threads_write_through_one_filesystem(fs: HeadraceFileSystem, store: MemoryStore) -> None:
    def write(number: int) -> None:
        for round_ in range(5):
            with fs.open(f"b/{number}/{round_}", "wb") as file:
                file.write(b"%d-%d" % (number, round_) * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: store.body(key[2:]) for key in fs.find("b")} == {
        f"b/{n}/{r}": b"%d-%d" % (n, r) * 1000 for n in range(8) for r in range(5)
    }


def check_real(fs: HeadraceFileSystem, root: Path, tmp_path: Path, settle: Callable[[], None]) -> None:
    fsspec.register_implementation("headrace", HeadraceFileSystem, clobber=True)
    frame = pandas.DataFrame({"a": range(1000), "b": [f"row {n}" for n in range(1000)]})
    options = fs.session.options
    frame.to_parquet(
        "headrace://b/frames/part-0.parquet", storage_options={name: getattr(options, name) for name in options.__struct_fields__}
    )
    pq.write_to_dataset(pa.Table.from_pandas(frame), "b/data", filesystem=fs)
    (tmp_path / "large").write_bytes(LARGE)
    fs.put(str(tmp_path / "large"), "b/large")
    assert fs.cat_file("b/large") == LARGE
    fs.pipe_file("b/large", b"short")
    assert fs.cat_file("b/large") == b"short" and fs.info("b/large")["size"] == 5
    fs.cp_file("b/large", "b/copy")
    fs.mv("b/copy", "b/moved")
    with fs.open("b/moved", "ab") as file:
        file.write(b"er")
    settle()
    assert pandas.read_parquet(root / "frames" / "part-0.parquet").equals(frame)
    assert sum(pq.read_metadata(path).num_rows for path in (root / "data").rglob("*.parquet")) == 1000
    assert (root / "moved").read_bytes() == b"shorter"
    assert not (root / "copy").exists()
    assert pq.read_table("b/data", filesystem=fs).num_rows == 1000
    fs.rm("b/data", recursive=True)
    settle()
    assert not (root / "data").exists()


def test_what_is_written_inside_the_process_is_in_the_directory(tmp_path: Path) -> None:
    fs = embedded_fs(tmp_path)
    try:
        check_real(fs, tmp_path / "store", tmp_path, lambda: None)
    finally:
        fs.session.close()


@pytest.fixture(scope="module", params=["through", "back"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    root = tmp_path_factory.mktemp("node")
    with running_node(root / "home", config_of(root / "store", request.param), processes=2) as running:
        yield running


@pytest.mark.servers
def test_what_is_written_through_a_node_is_in_the_directory(node: RunningNode, tmp_path: Path) -> None:
    fs = remote_fs(node)
    try:
        check_real(fs, node.home.parent.parent / "store", tmp_path, lambda: node.cli("sync", "--wait", "/b") and None)
        with pytest.raises(AccessDenied, match=r"mount|bucket"):
            fs.mkdir("other")
        put = urllib.request.Request(fs.sign("b/odd name+%", method="PUT"), data=b"by URL", method="PUT")
        with urllib.request.urlopen(put, timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(fs.sign("b/odd name+%"), timeout=10) as answer:
            assert answer.read() == b"by URL"
    finally:
        fs.session.close()
