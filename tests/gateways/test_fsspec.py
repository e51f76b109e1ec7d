"""The fsspec filesystem as it reads. `test_fsspec_writes.py` has fsspec's own abstract tests."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.fs import HeadraceFileSystem
from headrace.gateways.fsspec import Span, merge_spans
from headrace.model.errors import ReadOnly, Unavailable
from headrace.model.objects import ObjectInfo
from headrace.namespace.namespace import Namespace
from headrace.session import SessionOptions
from headrace.stores.memory import MemoryStore
from support.opener import BODY, open_small, read_length
from support.sliced import SlicedStore, namespace_of


class MemoryFileSystem(HeadraceFileSystem):
    """Over a store in memory at `/b`, which tests change behind its back."""

    cachable = False

    def __init__(self, store: MemoryStore) -> None:
        async def opener(_: SessionOptions) -> Namespace:
            return namespace_of(b=store)

        super().__init__(opener=opener)
        self.store = store


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for key in ("a/one", "a/deep/two", "a/deep/three.csv", "b.csv", "dir/", "dir/x"):
        store.put(key, key.encode(), modified_s=1_700_000_000.0)
    store.put("big", BODY)
    return store


@pytest.fixture
def fs(store: MemoryStore) -> MemoryFileSystem:
    return MemoryFileSystem(store)


def test_lists_directories_as_prefixes(fs: MemoryFileSystem) -> None:
    assert fs.ls("", detail=False) == ["b"]
    assert fs.ls("headrace://b/", detail=False) == ["b/a", "b/b.csv", "b/big", "b/dir"]
    assert fs.ls("b/a", detail=False) == ["b/a/deep", "b/a/one"]
    assert fs.ls("b/dir", detail=False) == ["b/dir/x"]
    assert fs.ls("b/b.csv", detail=False) == ["b/b.csv"]
    with pytest.raises(FileNotFoundError):
        fs.ls("b/nothing")


def test_tells_files_from_directories(fs: MemoryFileSystem) -> None:
    assert fs.info("b/a")["type"] == "directory"
    assert fs.info("b/a/one")["size"] == 5
    assert fs.isdir("b") and fs.isdir("") and fs.isdir("b/a/deep")
    assert fs.isfile("b/big") and not fs.isfile("b/a")
    assert not fs.exists("b/nothing") and not fs.exists("nobucket/x")
    with pytest.raises(IsADirectoryError):
        fs.open("b/a")


def test_walks_globs_finds_and_sums(fs: MemoryFileSystem) -> None:
    assert [(d, sorted(s), sorted(f)) for d, s, f in fs.walk("b/a")] == [
        ("b/a", ["deep"], ["one"]),
        ("b/a/deep", [], ["three.csv", "two"]),
    ]
    assert fs.glob("b/**/*.csv") == ["b/a/deep/three.csv", "b/b.csv"]
    assert fs.glob("b/*.csv") == ["b/b.csv"]
    assert fs.find("b/a") == ["b/a/deep/three.csv", "b/a/deep/two", "b/a/one"]
    assert list(fs.find("b/a", withdirs=True)) == ["b/a", "b/a/deep", "b/a/deep/three.csv", "b/a/deep/two", "b/a/one"]
    assert fs.find("b/a", maxdepth=1) == ["b/a/one"]
    assert fs.du("b/a") == 5 + 10 + 16
    assert fs.du("b/a", total=False)["b/a/one"] == 5


def test_finding_a_large_tree_asks_for_flat_pages(fs: MemoryFileSystem, store: MemoryStore) -> None:
    for number in range(2500):
        store.put(f"tree/{number % 50}/{number}", b"x")
    store.calls.clear()
    assert len(fs.find("b/tree")) == 2500
    assert store.calls["list"] <= 4


def test_cat_file_counts_as_slices_do(fs: MemoryFileSystem) -> None:
    for start, end in ((None, None), (0, 10), (-10, None), (5, -5), (100, 50), (len(BODY), None), (len(BODY) - 3, len(BODY) + 9)):
        assert fs.cat_file("b/big", start, end) == BODY[start:end]
    assert fs.cat(["b/a/one", "b/b.csv"]) == {"b/a/one": b"a/one", "b/b.csv": b"b.csv"}


def test_cat_ranges_joins_neighbours(fs: MemoryFileSystem, store: MemoryStore) -> None:
    starts = [0, 100, 400_000, 400_050, 511_990]
    ends = [50, 200, 400_010, 400_100, 600_000]
    store.calls.clear()
    assert fs.cat_ranges(["b/big"] * 5, starts, ends) == [BODY[s:e] for s, e in zip(starts, ends, strict=True)]
    assert store.calls["read"] == 3


def test_cat_ranges_puts_an_error_in_its_place_or_raises_it(fs: MemoryFileSystem) -> None:
    good, bad = fs.cat_ranges(["b/big", "b/nothing"], [0, 0], [3, 3])
    assert good == BODY[:3]
    assert isinstance(bad, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["b/big", "b/nothing"], 0, 3, on_error="raise")


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)), max_size=30))
def test_merged_spans_cover_every_span_once(pairs: list[tuple[int, int]]) -> None:
    spans = [Span(i, start, start + length) for i, (start, length) in enumerate(pairs)]
    merged = merge_spans(spans)
    assert sorted(s.index for _, members in merged for s in members) == list(range(len(spans)))
    assert all(group.start <= s.start and s.end <= group.end for group, members in merged for s in members)


def test_ukey_changes_with_the_bytes_alone(fs: MemoryFileSystem, store: MemoryStore) -> None:
    before = fs.ukey("b/b.csv"), fs.checksum("b/b.csv")
    assert (fs.ukey("b/b.csv"), fs.checksum("b/b.csv")) == before
    store.put("b.csv", b"other")
    assert fs.ukey("b/b.csv") != before[0]
    assert fs.checksum("b/b.csv") != before[1]


def test_knows_when_an_object_was_written(fs: MemoryFileSystem) -> None:
    assert fs.modified("b/b.csv") == datetime.fromtimestamp(1_700_000_000, UTC) == fs.created("b/b.csv")


def test_writes_to_a_mount_without_them_are_refused_in_words(fs: MemoryFileSystem) -> None:
    for write in (
        lambda: fs.pipe_file("b/x", b""),
        lambda: fs.put_file(__file__, "b/x"),
        lambda: fs.cp_file("b/big", "b/x"),
        lambda: fs.rm_file("b/big"),
        lambda: fs.open("b/x", "wb"),
    ):
        with pytest.raises(ReadOnly, match='set write = "through"'):
            write()


def test_a_store_that_cannot_be_asked_is_an_error_and_not_an_absence(fs: MemoryFileSystem, store: MemoryStore) -> None:
    async def away(key: str) -> ObjectInfo:
        raise Unavailable("the store does not answer")

    store.info = away  # type: ignore[method-assign]
    for question in (fs.exists, fs.isfile, fs.isdir, fs.info):
        with pytest.raises(Unavailable):
            question("b/big")


def test_get_leaves_no_half_file_behind(fs: MemoryFileSystem, store: MemoryStore, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    fs.get_file("b/big", str(target))
    assert target.read_bytes() == BODY
    with pytest.raises(FileNotFoundError):
        fs.get_file("b/nothing", str(tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_get_copies_pages_at_hand(tmp_path: Path) -> None:
    store = SlicedStore(tmp_path)
    store.put("k", BODY)
    store.warm("k")
    MemoryFileSystem(store).get_file("b/k", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == BODY


def test_instances_are_shared_and_pickled() -> None:
    one = HeadraceFileSystem(opener=open_small)
    assert HeadraceFileSystem(opener=open_small) is one
    again = pickle.loads(pickle.dumps(one))
    assert again.cat_file("b/k", 0, 3) == BODY[:3]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_child_processes_read_with_a_filesystem_of_the_parent(method: str) -> None:
    fs = HeadraceFileSystem(opener=open_small)
    assert fs.cat_file("b/k", 0, 1) == BODY[:1]
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        assert list(pool.map(read_length, [fs, fs])) == [len(BODY)] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reads_with_the_parents_instance() -> None:
    fs = HeadraceFileSystem(opener=open_small)
    opened = fs.open("b/k")
    assert opened.read(3) == BODY[:3]
    pid = os.fork()
    if pid == 0:
        opened.seek(300_000)
        right = fs.cat_file("b/k") == BODY and opened.read(5) == BODY[300_000:300_005]
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_share_a_filesystem() -> None:
    fs = HeadraceFileSystem(opener=open_small, skip_instance_cache=True)
    wrong: list[int] = []

    def reads(seed: int) -> None:
        for at in range(seed, 400_000, 40_000):
            if fs.cat_file("b/k", at, at + 1000) != BODY[at : at + 1000]:
                wrong.append(at)

    threads = [threading.Thread(target=reads, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


async def test_coroutines_await_it_from_a_loop_of_their_own() -> None:
    fs = HeadraceFileSystem(opener=open_small, asynchronous=True, skip_instance_cache=True)
    assert await fs._cat_file("b/k", 0, 4) == BODY[:4]
    assert await fs._cat_ranges(["b/k"], [4], [8]) == [BODY[4:8]]
    assert (await fs._info("b/k"))["size"] == len(BODY)


def test_fsspec_knows_the_protocol_and_pandas_reads_through_it() -> None:
    fsspec.register_implementation("headrace", HeadraceFileSystem, clobber=True)
    frame = pandas.read_csv("headrace://b/t.csv", storage_options={"opener": open_small})
    assert frame["b"].tolist() == [2, 4]
    with fsspec.open("headrace://b/t.csv", "rt", opener=open_small) as text:
        assert text.readline() == "a,b\n"
