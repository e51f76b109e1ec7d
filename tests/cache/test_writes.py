"""Writes past the cache: another process, which knew the old version, serves the new one at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cache.marks import Marks
from headrace.cache.pages import PageCache, no_touches
from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.cache.store import CachedStore, CacheOptions
from headrace.cache.writes import CacheWrites
from headrace.model.errors import NotFound, Unavailable
from headrace.model.mounts import Freshness
from headrace.model.objects import ByteRange
from headrace.model.reading import Served
from headrace.model.writing import BytesBody
from headrace.stores.contract import StoreContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.faulty import FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from headrace.testing.clock import ManualClock
from support.caching import body_of, until
from support.taking import TakingStore

SETTINGS = CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),), page="4KiB")


class Process:
    """One process's cache over a store that others share."""

    def __init__(self, home: Path, inner: Store, *, clock: ManualClock | None = None, serve_stale: bool = False) -> None:
        clock = clock or ManualClock()
        self.pages = PageCache.open(SETTINGS, home, clock=clock, emit=lambda _: None, touches=no_touches)
        options = CacheOptions("/m", "identity", Freshness(3600.0), serve_stale=serve_stale, place="memory://")
        marks = Marks.open(home / "marks")
        self.cached = CachedStore(inner, self.pages, options, clock=clock, emit=lambda _: None, marks=marks)
        self.store = CacheWrites(self.cached)

    async def close(self) -> None:
        await self.store.close()
        await self.pages.close()


class TestCacheWrites(StoreContract, WritingContract):
    """What is written through a cache must look as it does at the store."""

    min_part_bytes = 5_000

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path) -> None:
        self.home = tmp_path

    async def make_store(self) -> Store:
        self.memory = MemoryStore(min_part_bytes=self.min_part_bytes)
        clock = ManualClock()
        pages = PageCache.open(SETTINGS, self.home, clock=clock, emit=lambda _: None, touches=no_touches)
        options = CacheOptions("/m", "identity", Freshness(0.0))
        return CacheWrites(CachedStore(self.memory, pages, options, clock=clock, emit=lambda _: None))

    async def put_behind(self, key: str, data: bytes) -> None:
        self.memory.put(key, data, content_type="text/plain")

    async def delete_behind(self, key: str) -> None:
        self.memory.remove(key)


async def seen(process: Process, key: str) -> bytes:
    reading = process.store.peek(key, None) or await process.store.read(key)
    return await body_of(reading)


async def test_a_write_is_seen_by_a_process_that_knew_the_old_version(tmp_path: Path) -> None:
    memory = MemoryStore()
    one, two = Process(tmp_path, memory), Process(tmp_path, memory)
    for number in range(3):
        body = b"%d" % number * 5000
        await one.store.write("k", BytesBody(body))
        assert await seen(two, "k") == body
        assert await seen(two, "k") == await seen(one, "k")
    await one.store.delete("k")
    with pytest.raises(NotFound):
        await seen(two, "k")
    await two.store.write("k", BytesBody(b"again"))
    assert await seen(one, "k") == b"again"
    await one.close()
    await two.close()


async def test_that_there_was_nothing_is_forgotten_too(tmp_path: Path) -> None:
    memory = MemoryStore()
    one, two = Process(tmp_path, memory), Process(tmp_path, memory)
    with pytest.raises(NotFound):
        await two.store.info("k")
    await one.store.write("k", BytesBody(b"new"))
    assert (await two.store.info("k")).size == 3
    upload = await one.store.multipart().begin("m")
    part = await one.store.multipart().put(upload, 1, BytesBody(b"part"))
    with pytest.raises(NotFound):
        await two.store.info("m")
    await one.store.multipart().complete(upload, (part,))
    assert (await two.store.info("m")).size == 4
    await one.store.copy(await one.store.info("m"), "c")
    assert (await two.store.info("c")).size == 4
    await one.close()
    await two.close()


async def test_a_write_that_failed_may_have_happened_so_the_store_is_asked(tmp_path: Path) -> None:
    memory = MemoryStore()
    clock = ManualClock()
    faulty = FaultyStore(memory)
    one, two = Process(tmp_path, faulty, clock=clock), Process(tmp_path, memory, clock=clock)
    memory.put("k", b"old")
    assert await seen(two, "k") == b"old"

    async def lost(*_args: object, **_options: object) -> None:
        memory.put("k", b"new")
        raise Unavailable("the answer did not come")

    faulty.write = lost  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await one.store.write("k", BytesBody(b"new"))
    assert await seen(two, "k") == b"new"
    await one.close()
    await two.close()


async def test_what_was_replaced_is_not_served_as_stale_either(tmp_path: Path) -> None:
    memory = MemoryStore()
    clock = ManualClock()
    away = FaultyStore(memory)
    one, two = Process(tmp_path, memory, clock=clock), Process(tmp_path, away, clock=clock, serve_stale=True)
    memory.put("k", b"old")
    assert await seen(two, "k") == b"old"
    await one.store.write("k", BytesBody(b"new"))

    async def unreachable(*_args: object, **_options: object) -> None:
        raise Unavailable("away")

    away.info = away.read = unreachable  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await two.store.read("k")
    await one.close()
    await two.close()


@pytest.mark.parametrize("store", [MemoryStore, TakingStore])
async def test_a_small_body_is_kept_as_pages(tmp_path: Path, store: type[MemoryStore]) -> None:
    memory = store()
    process = Process(tmp_path, memory)
    body = bytes(range(256)) * 100
    info = await process.store.write("k", BytesBody(body))
    await until(lambda: not process.store._keeping)
    assert await process.cached.cached_bytes(info) == len(body)
    reading = await process.store.read("k", ByteRange(5000, 9000))
    assert reading.served is Served.HIT
    assert await body_of(reading) == body[5000:9000]
    assert memory.bytes_read < len(body) / 2  # the first bytes told the version
    await process.close()


async def test_writers_of_one_key_cost_the_readers_of_others_nothing(tmp_path: Path) -> None:
    memory = MemoryStore()
    one, two = Process(tmp_path, memory), Process(tmp_path, memory)
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        memory.put(key, key.encode() * 3000)
        for process in (one, two):
            assert await seen(process, key) == key.encode() * 3000
            await until(lambda process=process, key=key: process.store.peek(key, None) is not None)
    calls = memory.bytes_read
    for number in range(50):
        await one.store.write("other", BytesBody(b"%d" % number * 3000))
        for process in (one, two):
            for key in keys:
                reading = process.store.peek(key, None)
                assert reading is not None, "an answer at once"
                assert reading.served is Served.HIT
    assert memory.bytes_read == calls
    await one.close()
    await two.close()


async def test_a_body_whose_pages_are_there_is_not_kept_again(tmp_path: Path) -> None:
    process = Process(tmp_path, MemoryStore())
    info = await process.store.write("k", BytesBody(b"x" * 10_000))
    await until(lambda: not process.store._keeping)
    assert await process.cached.cached_bytes(info) == 10_000
    await process.store.write("k", BytesBody(b"x" * 10_000))
    assert not process.store._keeping
    await process.cached.free("")
    assert await process.cached.cached_bytes(info) == 0
    await process.store.write("k", BytesBody(b"x" * 10_000))
    await until(lambda: not process.store._keeping)
    assert await process.cached.cached_bytes(info) == 10_000
    await process.close()


@pytest.mark.parametrize(
    "key",
    [
        "t/_delta_log/_last_checkpoint", "t/_delta_log/00000000000000000007.json", "_delta_log/x", "t/metadata/version-hint.text",
        "t/metadata/v3.metadata.json", "t/metadata/00002-uuid.metadata.json", "t/.hoodie/hoodie.properties", ".hoodie/1.commit",
    ],
)  # fmt: skip
async def test_what_points_at_a_tables_state_is_asked_for_at_every_open(tmp_path: Path, key: str) -> None:
    memory = MemoryStore()
    process = Process(tmp_path, memory)
    with pytest.raises(NotFound):
        await process.store.info(key)
    for body in (b"one", b"two"):
        memory.put(key, body)
        assert await seen(process, key) == body
        assert (await process.store.info(key)).size == 3
    await process.close()


@pytest.mark.parametrize(
    "key", ["t/part-0.parquet", "t/data/_delta_logs/x", "metadata.json", "t/metadata/snap-1.avro", "a.hoodie/x"]
)
async def test_data_files_are_used_for_as_long_as_the_mount_says(tmp_path: Path, key: str) -> None:
    memory = MemoryStore()
    process = Process(tmp_path, memory)
    memory.put(key, b"one")
    assert await seen(process, key) == b"one"
    asked = memory.calls.copy()
    assert await seen(process, key) == b"one"
    assert memory.calls == asked
    await process.close()


@pytest.mark.parametrize("size", [1, 4096, 100_000, 256 * 1024, 256 * 1024 + 1, 1_000_000])
async def test_bodies_of_any_length_are_kept_and_read_without_the_store(tmp_path: Path, size: int) -> None:
    memory = MemoryStore()
    process = Process(tmp_path, memory)
    body = (b"%d " % size * size)[:size]
    info = await process.store.write("k", BytesBody(body))
    await until(lambda: not process.store._keeping)
    assert await process.cached.cached_bytes(info) == size
    assert await body_of(await process.store.read("k")) == body
    again = process.store.peek("k", None)
    assert again is not None
    assert await body_of(again) == body
    await process.close()


def length_of(path: Path) -> int:
    """Of a file that may have got its own name meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def test_a_process_that_ends_while_it_keeps_bodies_leaves_nothing_half_done(tmp_path: Path) -> None:
    process = Process(tmp_path, MemoryStore())
    infos = [await process.store.write(f"k{number}", BytesBody(bytes([number]) * 9_000)) for number in range(8)]
    await process.close()
    assert not process.store._keeping
    # A thread that was in the middle of a file publishes it or leaves it empty.
    await until(lambda: not [path for path in tmp_path.rglob("*.part") if length_of(path)])
    later = Process(tmp_path, MemoryStore())
    assert {await later.cached.cached_bytes(info) for info in infos} <= {0, 9_000}
    await later.close()
