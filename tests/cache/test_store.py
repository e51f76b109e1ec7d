"""What a reader of a cached store sees: right bytes, once from the store, at most `freshness` old."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from headrace.cache import fill
from headrace.model.errors import CorruptData, InvalidRange, NotFound, Unavailable, VersionChanged
from headrace.model.events import PagesDropped, TierFault
from headrace.model.mounts import Residency
from headrace.model.objects import ByteRange
from headrace.model.reading import FileSlice, Served
from headrace.stores.faulty import Fault, FaultyStore
from headrace.stores.memory import MemoryStore
from headrace.testing.disk import FaultyDisk
from support.caching import CHUNK, PAGE, Rig, body_of, ready_bytes, until

BIG = os.urandom(5 * CHUNK + 1234)
DAMAGES = (
    Fault(cut_at=0),
    Fault(cut_at=PAGE + 1),
    Fault(silent_cut_at=3),
    Fault(extra=b"more"),
    Fault(wrong_version="etag:x"),
    Fault(wrong_size=9),
)


def rig_of(tmp_path: Path, **options: object) -> tuple[Rig, MemoryStore, FaultyStore]:
    memory = MemoryStore()
    faulty = FaultyStore(memory)
    rig = Rig(tmp_path, faulty, **options)  # type: ignore[arg-type]
    memory.put("big", BIG)
    memory.put("small", b"small body")
    memory.put("empty", b"")
    return rig, memory, faulty


@pytest.mark.parametrize("key", ["big", "small", "empty"])
async def test_second_read_is_a_hit_and_asks_nothing(tmp_path: Path, key: str) -> None:
    rig, memory, _ = rig_of(tmp_path)
    assert await body_of(await rig.store.read(key)) == memory.body(key)
    await rig.settled()
    asked = memory.calls.copy()
    reading = await rig.store.read(key)
    assert reading.served is Served.HIT
    assert await body_of(reading) == memory.body(key)
    assert memory.calls == asked
    assert memory.bytes_read == len(memory.body(key))
    await rig.pages.close()


async def test_cold_object_takes_one_round_trip(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    assert await body_of(await rig.store.read("small")) == b"small body"
    assert memory.calls == {"read": 1}
    await rig.pages.close()


class HeldDisk(FaultyDisk):
    """Growing fills are opened only when `let_go` is set. `parts` counts who wanted to."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.parts = 0

    def open(self, path: str, flags: int) -> int:
        if path.endswith(".part"):
            self.parts += 1
            assert self.let_go.wait(20)
        return super().open(path, flags)


async def test_small_cold_object_reaches_its_reader_before_a_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "_CLAIM_BUDGET_S", 60.0)
    disk = HeldDisk()
    rig, memory, _ = rig_of(tmp_path, disk=disk)
    try:
        reading = await asyncio.wait_for(rig.store.read("small"), 5)
        assert await asyncio.wait_for(body_of(reading), 5) == b"small body"
        assert not rig.segment_files()
        joined = await asyncio.wait_for(rig.store.read("small"), 5)
        assert await asyncio.wait_for(body_of(joined), 5) == b"small body"
        await until(lambda: disk.parts)
    finally:
        disk.let_go.set()
    await rig.settled()
    assert len(rig.segment_files()) == 1
    assert rig.store.peek("small", None) is not None
    assert memory.calls == {"read": 1}
    await rig.pages.close()


async def test_small_body_that_breaks_makes_no_file(tmp_path: Path) -> None:
    disk = HeldDisk()
    disk.let_go.set()
    rig, _, faulty = rig_of(tmp_path, disk=disk)
    faulty.add(Fault(cut_at=3))
    with pytest.raises(Unavailable):
        await body_of(await rig.store.read("small"))
    assert faulty.injected
    await rig.settled()
    assert disk.parts == 0
    assert await body_of(await rig.store.read("small")) == b"small body"
    await rig.settled()
    assert len(rig.segment_files()) == 1
    await rig.pages.close()


@pytest.mark.parametrize("damaged", [False, True])
async def test_short_range_is_verified_at_its_first_reading_and_needs_no_stream(tmp_path: Path, damaged: bool) -> None:
    rig, _, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    if damaged:
        await _damage(rig, "flip")
    await rig.restart()
    await rig.store.info("big")
    reading = rig.store.peek("big", ByteRange(0, CHUNK))
    if damaged:
        assert reading is None
        assert rig.pages.stats().corrupt == 1
    else:
        assert reading is not None
        assert all(isinstance(piece, FileSlice) for piece in reading.ready or ())
        assert ready_bytes(reading) == BIG[:CHUNK]
    assert await body_of(await rig.store.read("big", ByteRange(0, CHUNK))) == BIG[:CHUNK]
    await rig.pages.close()


async def test_peek_answers_only_what_is_at_hand(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    assert rig.store.peek("big", None) is None
    await body_of(await rig.store.read("big", ByteRange(10 * PAGE + 5, 12 * PAGE)))
    await rig.settled()
    reading = rig.store.peek("big", ByteRange(10 * PAGE + 5, 11 * PAGE + 7))
    assert reading is not None
    assert ready_bytes(reading) == BIG[10 * PAGE + 5 : 11 * PAGE + 7]
    assert rig.store.peek("big", ByteRange(10 * PAGE, 13 * PAGE)) is None
    await rig.pages.close()


async def test_large_verified_ranges_are_slices_of_files(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    await body_of(await rig.store.read("big"))
    reading = rig.store.peek("big", None)
    assert reading is not None
    assert all(isinstance(piece, FileSlice) for piece in reading.ready or ())
    assert ready_bytes(reading) == BIG
    assert await body_of(reading) == BIG
    await rig.pages.close()


async def test_small_random_read_fetches_only_its_pages(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await rig.store.info("big")
    assert (
        await body_of(await rig.store.read("big", ByteRange(70 * PAGE + 1, 70 * PAGE + 2))) == BIG[70 * PAGE + 1 : 70 * PAGE + 2]
    )
    await rig.settled()
    assert memory.bytes_read == PAGE
    assert [p.name[32:] for p in rig.segment_files()] == [".p46"]
    await rig.pages.close()


async def test_many_readers_of_one_cold_object_cost_one_fetch(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    bodies = await asyncio.gather(*(_read_all(rig) for _ in range(64)))
    assert all(body == BIG for body in bodies)
    assert memory.bytes_read == len(BIG)
    await rig.pages.close()


async def _read_all(rig: Rig) -> bytes:
    return await body_of(await rig.store.read("big"))


async def test_every_range_has_the_right_bytes(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    for start, end in [(0, 1), (PAGE - 1, PAGE + 1), (CHUNK - 1, CHUNK + 1), (CHUNK, 3 * CHUNK), (len(BIG) - 1, len(BIG) + 99)]:
        assert await body_of(await rig.store.read("big", ByteRange(start, end))) == BIG[start:end]
    with pytest.raises(InvalidRange):
        await rig.store.read("big", ByteRange(len(BIG), len(BIG) + 1))
    with pytest.raises(InvalidRange):
        await rig.store.read("empty", ByteRange(0, 1))
    await rig.pages.close()


async def test_overwrite_is_seen_after_freshness_and_never_mixed(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    other = bytes(reversed(BIG))
    memory.put("big", other)
    rig.clock.advance(29)
    assert await body_of(await rig.store.read("big")) == BIG
    rig.clock.advance(2)
    assert rig.store.peek("big", None) is None
    assert await body_of(await rig.store.read("big")) == other
    await rig.pages.close()


async def test_verify_asks_on_every_open(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path, freshness_s=0.0)
    for body in (b"one", b"two", b"six"):
        memory.put("small", body)
        assert await body_of(await rig.store.read("small")) == body
        assert await body_of(await rig.store.read("small")) == body
    assert rig.store.peek("small", None) is None
    await rig.pages.close()


async def test_object_replaced_behind_known_metadata_is_read_in_its_new_version(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await rig.store.info("big")
    memory.put("big", BIG[::-1])
    reading = await rig.store.read("big")
    assert await body_of(reading) == BIG[::-1]
    assert reading.info.version == (await memory.info("big")).version
    await rig.pages.close()


async def test_change_in_the_middle_of_a_read_is_an_error_not_a_blend(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await rig.store.info("big")
    reading = await rig.store.read("big")
    pieces = aiter(reading)
    got = bytes(await anext(pieces))
    memory.put("big", BIG[::-1])
    with pytest.raises(VersionChanged):
        while len(got) < len(BIG):
            got += bytes(await anext(pieces))
            await asyncio.sleep(0.001)
    assert BIG.startswith(got)
    await reading.aclose()
    await rig.pages.close()


async def test_pinned_version_that_is_gone_raises(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    old = (await rig.store.info("small")).version
    memory.put("small", b"another")
    with pytest.raises(VersionChanged):
        await rig.store.read("small", version=old)
    newer = (await memory.info("small")).version
    assert await body_of(await rig.store.read("small", version=newer)) == b"another"
    await rig.pages.close()


@pytest.mark.parametrize("gone", [False, True])
async def test_whoever_finds_that_an_object_changed_is_the_last_to_be_cut_for_it(tmp_path: Path, gone: bool) -> None:
    memory = MemoryStore()
    memory.put("k", os.urandom(3 * CHUNK))
    rig = Rig(tmp_path, memory, freshness_s=3600)
    await body_of(await rig.store.read("k", ByteRange(0, 100)))
    await rig.settled()
    if gone:
        memory.remove("k")
    else:
        memory.put("k", new := os.urandom(3 * CHUNK))
    with pytest.raises((VersionChanged, NotFound)):
        await body_of(await rig.store.read("k"))
    await rig.settled()
    if gone:
        with pytest.raises(NotFound):
            await rig.store.info("k")
    else:
        assert await body_of(await rig.store.read("k")) == new
    await rig.pages.close()


async def test_missing_key_is_remembered_no_longer_than_freshness(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    for _ in range(2):
        with pytest.raises(NotFound):
            await rig.store.read("nothing")
    with pytest.raises(NotFound):
        rig.store.peek("nothing", None)
    assert memory.calls["read"] + memory.calls["info"] == 1
    memory.put("nothing", b"now there")
    rig.clock.advance(31)
    assert await body_of(await rig.store.read("nothing")) == b"now there"
    await rig.pages.close()


async def test_unreachable_store_is_not_a_missing_key_and_drops_nothing(tmp_path: Path) -> None:
    rig, memory, faulty = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    files = rig.segment_files()
    faulty.add(Fault(verb="*", times=-1, error=Unavailable("injected")))
    assert await body_of(await rig.store.read("big")) == BIG
    rig.clock.advance(31)
    with pytest.raises(Unavailable):
        await rig.store.read("big")
    with pytest.raises(Unavailable):
        await rig.store.info("big")
    assert faulty.injected
    assert rig.segment_files() == files
    faulty.heal()
    assert await body_of(await rig.store.read("big")) == BIG
    assert memory.bytes_read == len(BIG)
    await rig.pages.close()


async def test_serve_stale_answers_from_pages_and_says_so(tmp_path: Path) -> None:
    rig, _, faulty = rig_of(tmp_path, serve_stale=True)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    rig.clock.advance(100)
    faulty.add(Fault(verb="*", times=-1, error=Unavailable("injected")))
    reading = await rig.store.read("big")
    assert (reading.served, reading.age_s) == (Served.STALE, 100)
    assert await body_of(reading) == BIG
    assert (await rig.store.info("big")).size == len(BIG)
    with pytest.raises(Unavailable):
        await rig.store.read("never read")
    await rig.pages.close()


@pytest.mark.parametrize("fault", DAMAGES)
async def test_damaged_answer_leaves_no_page_behind(tmp_path: Path, fault: Fault) -> None:
    rig, _, faulty = rig_of(tmp_path)
    await rig.store.info("big")
    faulty.add(fault)
    with contextlib.suppress(Unavailable, CorruptData, VersionChanged):  # or it was read again before a byte had left
        assert await body_of(await rig.store.read("big", ByteRange(0, 4 * PAGE))) == BIG[: 4 * PAGE]
    assert faulty.injected
    await rig.settled()
    assert await body_of(await rig.store.read("big", ByteRange(0, 4 * PAGE))) == BIG[: 4 * PAGE]
    await rig.settled()
    assert await body_of(await rig.store.read("big", ByteRange(0, 4 * PAGE))) == BIG[: 4 * PAGE]
    await rig.pages.close()


async def _damage(rig: Rig, how: str) -> None:
    for path in rig.segment_files():
        if how == "flip":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        elif how == "truncate":
            os.truncate(path, path.stat().st_size // 2)
        elif how == "unlink":
            path.unlink()
        elif how == "sums" and (sidecar := path.with_name(path.name + ".sum")).exists():
            sidecar.write_bytes(sidecar.read_bytes()[:-3])
        elif how == "directory":
            path.unlink()
            path.mkdir()
            (path / "stranger").touch()


@pytest.mark.parametrize("how", ["flip", "truncate", "unlink", "sums", "directory"])
@pytest.mark.parametrize("restart", [False, True])
async def test_damaged_segments_are_noticed_before_a_byte_leaves(tmp_path: Path, how: str, restart: bool) -> None:
    rig, memory, _ = rig_of(tmp_path)
    for _ in range(2):
        await body_of(await rig.store.read("big"))
        await body_of(await rig.store.read("small"))
        await rig.settled()
    await _damage(rig, how)
    if restart:
        await rig.restart()
    elif how == "sums":
        rig.pages._handles.clear()
    before = memory.bytes_read
    for _ in range(2):
        peeked = rig.store.peek("small", None)
        assert peeked is None or ready_bytes(peeked) == b"small body"
        assert await body_of(await rig.store.read("big")) == BIG
        assert await body_of(await rig.store.read("small")) == b"small body"
    assert memory.bytes_read > before
    if how != "unlink":
        assert any(isinstance(event, PagesDropped) and event.reason == "corrupt" for event in rig.events)
        assert rig.pages.stats().corrupt > 0
    await rig.pages.close()


@pytest.mark.parametrize("call", ["open", "pwrite", "rename", "mkdir", "stat"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_disk_that_fails_costs_the_pages_not_the_reader(tmp_path: Path, call: str, code: int) -> None:
    rig, _, _ = rig_of(tmp_path)
    rig.disk.fail[call] = code
    for _ in range(3):
        assert await body_of(await rig.store.read("big")) == BIG
    await rig.settled()
    if call == "mkdir":
        return
    assert rig.disk.injected[call] > 0
    assert any(isinstance(event, TierFault) and event.remedy for event in rig.events)
    rig.disk.heal()
    rig.clock.advance(60)
    await until(lambda: all(directory.usable() for directory in rig.pages.directories))
    await body_of(await rig.store.read("big"))
    await rig.settled()
    assert rig.segment_files()
    await rig.pages.close()


async def test_disk_that_does_not_read_is_passed_by_and_probed_back(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    rig.disk.fail["pread"] = errno.EIO
    for _ in range(4):
        assert await body_of(await rig.store.read("big")) == BIG
    assert rig.disk.injected["pread"] > 0
    assert rig.pages.stats().disks_out == 1
    rig.disk.heal()
    rig.clock.advance(10)
    await until(lambda: rig.pages.directories[0].usable())
    reading = await rig.store.read("big")
    assert await body_of(reading) == BIG
    assert reading.served is Served.HIT
    await rig.pages.close()


async def test_slow_disk_delays_a_reader_by_its_budget_only(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("small"))
    await rig.settled()
    rig.disk.slow_s = 1.0
    began = asyncio.get_running_loop().time()
    assert await body_of(await rig.store.read("small")) == b"small body"
    assert asyncio.get_running_loop().time() - began < 0.5
    assert rig.disk.injected["slow pread"] > 0
    await rig.pages.close()


async def test_reader_that_leaves_ends_the_fill_and_leaks_nothing(tmp_path: Path) -> None:
    rig, _, faulty = rig_of(tmp_path)
    fds = rig.disk.open_fds
    faulty.add(Fault(times=-1, piece_delay_s=0.01))
    reading = await rig.store.read("big")
    assert len(rig.pages.fills)
    await reading.aclose()
    await rig.settled()
    assert len(asyncio.all_tasks()) == 1
    await until(lambda: not list(tmp_path.glob("pages0/???/*.part")))
    rig.pages._handles.clear()
    assert rig.disk.open_fds == fds
    faulty.heal()
    assert await body_of(await rig.store.read("big")) == BIG
    await rig.pages.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_fill_that_is_given_up_again_while_it_ends_leaves_no_file_and_no_descriptor(tmp_path: Path, turns: int) -> None:
    rig, _, faulty = rig_of(tmp_path)
    fds = rig.disk.open_fds
    faulty.add(Fault(times=-1, piece_delay_s=0.01))
    reading = await rig.store.read("big")
    await until(lambda: list(tmp_path.glob("pages0/???/*.part")))
    tasks = tuple(rig.pages.fills._tasks)
    for task in tasks:
        task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await reading.aclose()
    await rig.settled()
    await until(lambda: not list(tmp_path.glob("pages0/???/*.part")))
    rig.pages._handles.clear()
    await until(lambda: rig.disk.open_fds == fds)
    assert len(asyncio.all_tasks()) == 1
    await rig.pages.close()


async def test_cancelled_reader_does_not_break_the_others(tmp_path: Path) -> None:
    rig, memory, faulty = rig_of(tmp_path)
    faulty.add(Fault(times=-1, piece_delay_s=0.001))
    tasks = [asyncio.ensure_future(_read_all(rig)) for _ in range(8)]
    await until(lambda: len(rig.pages.fills))
    for task in tasks[:7]:
        task.cancel()
    assert await tasks[7] == BIG
    await asyncio.gather(*tasks, return_exceptions=True)
    await rig.settled()
    assert memory.bytes_read <= len(BIG) * 1.5
    await rig.pages.close()


async def test_files_at_hand_are_slices_however_short_the_range(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path, memory_size="64MiB", freshness_s=10.0)
    assert rig.store.peek("small", None, files=True) is None
    for key in ("small", "big", "empty"):
        await body_of(await rig.store.read(key))
    await rig.settled()
    for key, want in (("small", None), ("small", ByteRange(3, 5)), ("big", ByteRange(7, PAGE + 9))):
        assert rig.store.peek(key, want) is not None
        reading = rig.store.peek(key, want, files=True)
        assert reading is not None
        assert reading.ready
        assert all(isinstance(piece, FileSlice) and piece.until == rig.clock.monotonic() + 10.0 for piece in reading.ready)
        end = len(memory.body(key))
        assert ready_bytes(reading) == memory.body(key)[want.start if want else 0 : want.end if want else end]
    with pytest.raises(InvalidRange):
        rig.store.peek("empty", None, files=True)
    rig.clock.advance(10.5)
    assert rig.store.peek("small", None, files=True) is None
    await rig.pages.close()


async def test_a_damaged_file_is_not_handed_on(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("small"))
    await rig.settled()
    await rig.restart()
    (file,) = rig.segment_files()
    damaged = bytearray(file.read_bytes())
    damaged[2] ^= 1
    file.write_bytes(damaged)
    await rig.store.info("small")
    assert rig.store.peek("small", None, files=True) is None
    assert await body_of(await rig.store.read("small")) == memory.body("small")
    await rig.pages.close()


async def test_residency_none_keeps_nothing(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path, residency=Residency.NONE)
    for _ in range(2):
        reading = await rig.store.read("big")
        assert reading.served is Served.BYPASS
        assert await body_of(reading) == BIG
    assert not rig.segment_files()
    await rig.pages.close()


class Shelf:
    """The simplest memory tier."""

    def __init__(self) -> None:
        self.pages: dict[tuple[bytes, int], bytes] = {}

    def get(self, object_id: bytes, page: int) -> bytes | None:
        return self.pages.get((object_id, page))

    def put(self, object_id: bytes, page: int, data: bytes | memoryview) -> bool:
        self.pages[(object_id, page)] = bytes(data)
        return True

    def drop(self, object_id: bytes) -> int:
        gone = [slot for slot in self.pages if slot[0] == object_id]
        for slot in gone:
            del self.pages[slot]
        return len(gone)

    def drop_mount(self, tag: bytes) -> int:
        gone = [slot for slot in self.pages if slot[0].endswith(tag)]
        for slot in gone:
            del self.pages[slot]
        return len(gone)


async def test_residency_memory_touches_no_disk(tmp_path: Path) -> None:
    shelf = Shelf()
    rig, memory, _ = rig_of(tmp_path, residency=Residency.MEMORY, memory=shelf)
    before = sorted(tmp_path.rglob("*"))
    assert await body_of(await rig.store.read("big")) == BIG
    await rig.settled()
    reading = rig.store.peek("big", ByteRange(3, PAGE * 3))
    assert reading is not None
    assert ready_bytes(reading) == BIG[3 : PAGE * 3]
    assert await body_of(await rig.store.read("big")) == BIG
    assert memory.bytes_read == len(BIG)
    assert sorted(tmp_path.rglob("*")) == before
    assert (await rig.store.free("")).bytes > 0
    assert not shelf.pages
    await rig.pages.close()


async def test_pages_survive_a_restart(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    await rig.restart()
    reading = await rig.store.read("big", ByteRange(0, len(BIG)))
    assert await body_of(reading) == BIG
    assert memory.bytes_read < len(BIG) * 1.3
    await rig.pages.close()


async def test_other_page_size_drops_the_directory(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big"))
    await rig.settled()
    assert rig.segment_files()
    await rig.pages.close()
    again, _, _ = rig_of(tmp_path, page=2 * PAGE)
    assert not again.segment_files()
    assert await body_of(await again.store.read("big")) == BIG
    await again.pages.close()


async def test_several_disks_share_the_objects(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path, disks=3)
    for number in range(40):
        memory.put(f"k{number}", b"%d" % number)
        assert await body_of(await rig.store.read(f"k{number}")) == b"%d" % number
    await rig.settled()
    assert {path.parts[-3] for path in rig.segment_files()} == {"pages0", "pages1", "pages2"}
    await rig.pages.close()


async def test_large_pages_pass_a_small_cold_read_through_and_fill_behind(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path, page=256 * 1024)
    await rig.store.info("big")
    reading = await rig.store.read("big", ByteRange(300_000, 300_100))
    assert reading.served is Served.BYPASS
    assert await body_of(reading) == BIG[300_000:300_100]
    await rig.settled()
    assert rig.store.peek("big", ByteRange(300_000, 300_100)) is not None
    cold = await rig.store.read("big", ByteRange(900_000, 900_100))
    assert await body_of(cold) == BIG[900_000:900_100]
    await rig.pages.close()


async def test_sequential_ranges_are_read_ahead(tmp_path: Path) -> None:
    rig, _, _ = rig_of(tmp_path)
    await rig.store.info("big")
    step = 4 * PAGE
    ahead = 0
    for start in range(0, len(BIG), step):
        ahead += rig.store.peek("big", ByteRange(start, min(start + step, len(BIG)))) is not None
        assert await body_of(await rig.store.read("big", ByteRange(start, start + step))) == BIG[start : start + step]
        await rig.settled()
    assert ahead > 40
    await rig.pages.close()


async def test_load_free_pin_and_count(tmp_path: Path) -> None:
    rig, memory, _ = rig_of(tmp_path)
    await body_of(await rig.store.read("big", ByteRange(0, PAGE)))
    loaded = await rig.store.load("big")
    assert loaded.bytes_fetched + loaded.bytes_present >= len(BIG)
    info = await rig.store.info("big")
    assert await rig.store.cached_bytes(info) == len(BIG)
    assert (await rig.store.load("big")).bytes_fetched == 0
    await rig.store.pin("big", True)
    assert len(list(tmp_path.glob("pages0/???/*.pin"))) == 1
    memory.put("big/2", b"pinned when filled")
    await body_of(await rig.store.read("big/2"))
    await rig.settled()
    assert len(list(tmp_path.glob("pages0/???/*.pin"))) == 2
    await rig.store.pin("big", False)
    assert not list(tmp_path.glob("pages0/???/*.pin"))
    freed = await rig.store.free("big")
    assert freed.objects == 2
    assert freed.bytes >= len(BIG)
    assert await rig.store.cached_bytes(info) == 0
    await body_of(await rig.store.read("big/2"))
    await rig.settled()
    assert (await rig.store.free("")).objects == 1
    assert not rig.segment_files()
    await rig.pages.close()


async def test_files_that_were_evicted_are_let_go_though_nobody_asks_for_them_again(tmp_path: Path) -> None:
    inner = MemoryStore()
    for number in range(5):
        inner.put(f"k{number}", os.urandom(PAGE))
    rig = Rig(tmp_path, inner)
    for _ in range(2):
        for number in range(5):
            await body_of(await rig.store.read(f"k{number}"))
            await rig.settled()
        rig.clock.advance(2)
        for number in range(5):
            assert rig.store.peek(f"k{number}", None) is not None
    assert rig.pages.stats().open_segments == 5
    await _damage(rig, "unlink")
    await until(lambda: rig.pages.stats().open_segments == 0)
    await rig.pages.close()


async def test_after_a_restart_an_object_whose_pages_are_there_costs_no_second_body(tmp_path: Path) -> None:
    inner = MemoryStore()
    inner.put("big", BIG)
    rig = Rig(tmp_path, inner)
    assert await body_of(await rig.store.read("big")) == BIG
    await rig.settled()
    await rig.restart()
    assert await body_of(await rig.store.read("big")) == BIG
    assert rig.pages.stats().fetched_bytes == 0
    await rig.pages.close()
