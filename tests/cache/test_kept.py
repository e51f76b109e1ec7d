"""Copies that a process keeps of its hottest pages: no call to the disk, and never bytes that are not the object's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.cache.arena import MemoryTier
from headrace.cache.kept import KeptPages
from headrace.model.events import PagesDropped
from headrace.model.mounts import Residency
from headrace.model.objects import ByteRange
from headrace.stores.memory import MemoryStore
from headrace.testing.disk import FaultyDisk
from support.caching import PAGE, Rig, body_of, ready_bytes

BODY = os.urandom(40 * PAGE + 77)
SMALL = ByteRange(3 * PAGE + 5, 3 * PAGE + 900)


class CountingDisk(FaultyDisk):
    """Counts what reads of open files cost."""

    looks = 0

    def fstat(self, fd: int) -> os.stat_result:
        self.looks += 1
        return super().fstat(fd)

    def pread_now(self, fd: int, length: int, offset: int) -> bytes | bytearray:
        self.looks += 1
        return super().pread_now(fd, length, offset)


async def warm(tmp_path: Path, *, residency: Residency = Residency.DISK, memory_size: str = "1MiB") -> tuple[Rig, MemoryStore]:
    store = MemoryStore()
    store.put("key", BODY)
    tier = MemoryTier.create(1 << 20, PAGE)
    rig = Rig(tmp_path, store, disk=CountingDisk(), memory=tier, memory_size=memory_size, residency=residency, freshness_s=3600)
    for _ in range(2):
        assert await body_of(await rig.store.read("key")) == BODY
        await rig.settled()
    return rig, store


def looks_of(rig: Rig, wanted: ByteRange) -> int:
    """Calls to the disk that one read at hand costs; its bytes are right."""
    assert isinstance(rig.disk, CountingDisk)
    before = rig.disk.looks
    reading = rig.store.peek("key", wanted)
    assert reading is not None
    assert ready_bytes(reading) == BODY[wanted.start : wanted.end]
    return rig.disk.looks - before


def heat(rig: Rig, wanted: ByteRange = SMALL) -> None:
    for _ in range(3):
        looks_of(rig, wanted)
    assert looks_of(rig, wanted) == 0


def kept(rig: Rig) -> KeptPages:
    return rig.pages._kept


@pytest.mark.parametrize(
    "wanted",
    [SMALL, ByteRange(0, PAGE), ByteRange(PAGE - 1, 3 * PAGE + 1), ByteRange(40 * PAGE, len(BODY)), ByteRange(7, 20 * PAGE)],
)
async def test_a_page_read_again_and_again_costs_no_call(tmp_path: Path, wanted: ByteRange) -> None:
    rig, _ = await warm(tmp_path)
    assert looks_of(rig, wanted) > 0
    heat(rig, wanted)
    await rig.pages.close()


async def test_a_copy_is_looked_at_again_after_half_a_second(tmp_path: Path) -> None:
    rig, _ = await warm(tmp_path)
    heat(rig)
    rig.clock.advance(0.6)
    assert looks_of(rig, SMALL) == 1
    assert looks_of(rig, SMALL) == 0
    await rig.pages.close()


@pytest.mark.parametrize("how", ["unlink", "truncate", "overwrite"])
async def test_a_file_that_changed_ends_its_copies(tmp_path: Path, how: str) -> None:
    rig, store = await warm(tmp_path)
    heat(rig)
    for path in rig.segment_files():
        if how == "unlink":
            path.unlink()
        elif how == "truncate":
            os.truncate(path, 10)
        else:
            path.write_bytes(bytes(path.stat().st_size))
    asked = store.calls.total()
    rig.clock.advance(0.6)
    assert await body_of(await rig.store.read("key", SMALL)) == BODY[SMALL.start : SMALL.end]
    assert store.calls.total() > asked, "the change was not noticed"
    await rig.pages.close()


@pytest.mark.parametrize("wanted", [SMALL, ByteRange(PAGE - 1, 3 * PAGE + 1)])
async def test_a_flipped_copy_is_never_answered_with_but_dropped_counted_and_read_anew(tmp_path: Path, wanted: ByteRange) -> None:
    rig, _ = await warm(tmp_path)
    heat(rig, wanted)
    copies = list(kept(rig)._found.values())
    for copy in copies:
        copy.data = bytes([copy.data[0] ^ 1]) + copy.data[1:]
    assert looks_of(rig, wanted) > 1, "a copy with a flipped bit was used"
    assert rig.pages.stats().corrupt >= 1
    assert any(isinstance(event, PagesDropped) and (event.tier, event.reason) == ("memory", "corrupt") for event in rig.events)
    await rig.pages.close()


async def test_freed_objects_are_not_answered_from_copies(tmp_path: Path) -> None:
    rig, _ = await warm(tmp_path)
    heat(rig)
    await rig.store.free("key")
    await rig.store.info("key")
    assert rig.store.peek("key", SMALL) is None
    assert not len(kept(rig))
    await rig.pages.close()


async def test_copies_that_nobody_reads_are_let_go(tmp_path: Path) -> None:
    rig, _ = await warm(tmp_path)
    heat(rig)
    rig.clock.advance(2.0)
    kept(rig).sweep(rig.clock.monotonic())
    assert len(kept(rig)) == 1
    rig.clock.advance(1.0)
    kept(rig).sweep(rig.clock.monotonic())
    assert not len(kept(rig))
    await rig.pages.close()


async def test_no_more_than_the_capacity_is_kept_and_pages_in_use_stay(tmp_path: Path) -> None:
    rig, _ = await warm(tmp_path, memory_size=f"{8 * 4 * PAGE}")
    pages = [ByteRange(number * PAGE, number * PAGE + 100) for number in range(12)]
    for wanted in pages * 4:
        looks_of(rig, wanted)
    assert len(kept(rig)) == 4
    assert [looks_of(rig, wanted) for wanted in pages[:4]] == [0] * 4
    rig.clock.advance(0.6)
    for wanted in pages[4:8] * 4:
        looks_of(rig, wanted)
    assert [looks_of(rig, wanted) for wanted in pages[4:8]] == [0] * 4
    await rig.pages.close()


@pytest.mark.parametrize(("residency", "memory_size"), [(Residency.MEMORY, "1MiB"), (Residency.DISK, "0")])
async def test_nothing_is_kept_of_memory_mounts_or_without_memory(tmp_path: Path, residency: Residency, memory_size: str) -> None:
    rig, _ = await warm(tmp_path, residency=residency, memory_size=memory_size)
    for _ in range(5):
        assert await body_of(await rig.store.read("key", SMALL)) == BODY[SMALL.start : SMALL.end]
    assert not len(kept(rig))
    await rig.pages.close()
