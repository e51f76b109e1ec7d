"""Pages between the real memory tier and a page directory, as readers of a cached store make them move."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cache.arena import MemoryTier
from headrace.cache.scrub import verify
from headrace.model.mounts import Residency
from headrace.model.objects import ByteRange
from headrace.model.reading import FileSlice
from headrace.stores.memory import MemoryStore
from support.caching import PAGE, Rig, body_of, ready_bytes, until

BIG = os.urandom(40 * PAGE + 77)


@pytest.fixture
def tier() -> Iterator[MemoryTier]:
    tier = MemoryTier.create(1 << 20, PAGE)
    yield tier
    tier.close()


def rig_of(tmp_path: Path, tier: MemoryTier, residency: Residency = Residency.DISK) -> tuple[Rig, MemoryStore]:
    memory = MemoryStore()
    memory.put("big", BIG)
    memory.put("small", b"small body")
    return Rig(tmp_path, memory, memory=tier, residency=residency), memory


async def filled(rig: Rig, key: str = "big") -> None:
    assert await body_of(await rig.store.read(key))
    await rig.settled()


async def flood(rig: Rig, memory: MemoryStore, bytes_in_all: int) -> None:
    """Put so much into memory that what was there must leave."""
    for number in range(bytes_in_all // len(BIG) + 1):
        memory.put(f"other{number}", os.urandom(len(BIG)))
        await filled(rig, f"other{number}")


async def test_a_page_that_the_device_was_asked_for_twice_is_answered_from_memory(tmp_path: Path, tier: MemoryTier) -> None:
    rig, _ = rig_of(tmp_path, tier)
    await filled(rig)
    rig.disk.cold = True
    wanted = ByteRange(5 * PAGE + 10, 5 * PAGE + 20)
    assert rig.store.peek("big", wanted) is None
    for _ in range(2):
        assert await body_of(await rig.store.read("big", wanted)) == BIG[wanted.start : wanted.end]
    peeked = rig.store.peek("big", wanted)
    assert peeked is not None
    assert ready_bytes(peeked) == BIG[wanted.start : wanted.end]
    whole = rig.store.peek("big", ByteRange(5 * PAGE, 6 * PAGE))
    assert whole is not None
    assert ready_bytes(whole) == BIG[5 * PAGE : 6 * PAGE]
    assert rig.store.peek("big", ByteRange(5 * PAGE, 6 * PAGE + 1)) is None
    assert rig.pages.stats().promoted == 1
    await rig.pages.close()


async def test_the_last_short_page_is_promoted_whole(tmp_path: Path, tier: MemoryTier) -> None:
    rig, _ = rig_of(tmp_path, tier)
    await filled(rig)
    rig.disk.cold = True
    for _ in range(2):
        await body_of(await rig.store.read("big", ByteRange(len(BIG) - 1, len(BIG))))
    peeked = rig.store.peek("big", ByteRange(40 * PAGE, len(BIG)))
    assert peeked is not None
    assert ready_bytes(peeked) == BIG[40 * PAGE :]
    await rig.pages.close()


async def test_what_the_system_holds_in_memory_is_not_promoted(tmp_path: Path, tier: MemoryTier) -> None:
    rig, _ = rig_of(tmp_path, tier)
    await filled(rig)
    for _ in range(5):
        assert rig.store.peek("big", ByteRange(0, 10)) is not None
    assert rig.pages.stats().promoted == 0
    assert tier.stats().filled == 0
    await rig.pages.close()


async def test_promoted_pages_are_read_on_when_the_disk_is_out_of_service(tmp_path: Path, tier: MemoryTier) -> None:
    rig, memory = rig_of(tmp_path, tier)
    await filled(rig)
    rig.disk.cold = True
    for _ in range(2):
        await body_of(await rig.store.read("big", ByteRange(0, 10)))
    before = memory.bytes_read
    for directory in rig.pages.directories:
        for _ in range(3):
            directory.fault("read", OSError(errno.EIO, "broken"))
    assert await body_of(await rig.store.read("big", ByteRange(100, 200))) == BIG[100:200]
    assert memory.bytes_read == before
    await rig.pages.close()


async def test_a_flip_on_disk_is_not_carried_into_memory(tmp_path: Path, tier: MemoryTier) -> None:
    rig, _ = rig_of(tmp_path, tier)
    await filled(rig)
    assert await body_of(await rig.store.read("big")) == BIG
    path = rig.segment_files()[0]
    status = path.stat()
    with path.open("r+b") as file:
        file.write(bytes([BIG[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    rig.disk.cold = True
    for _ in range(3):
        assert await body_of(await rig.store.read("big", ByteRange(0, 10))) == BIG[:10]
    assert tier.get(rig.store.target(await rig.store.info("big")).object_id, 0) in (None, BIG[:PAGE])
    await rig.pages.close()


async def test_a_page_that_is_on_no_disk_is_written_when_it_leaves_memory(tmp_path: Path, tier: MemoryTier) -> None:
    rig, memory = rig_of(tmp_path, tier)
    rig.disk.fail["open"] = errno.EIO
    await filled(rig)
    await filled(rig, "small")
    assert not rig.segment_files()
    rig.disk.heal()
    rig.clock.advance(60)
    rig.pages.directories[0].usable()
    await until(lambda: not rig.pages.directories[0].health.out)
    target = rig.store.target(await rig.store.info("big"))
    filler = 0
    while rig.pages.stats().demoted < 3:
        filler += 1
        assert filler < 4000, "nothing was written"
        tier.put(filler.to_bytes(16, "big"), filler, os.urandom(PAGE))
        await asyncio.sleep(0)
    await rig.pages.close()
    names = rig.pages.directories[0].segments(target.object_id)
    assert len(names) >= 2
    assert all(verify(rig.pages.directories[0].root, target.geometry, name) for name in names)
    rig.open()
    await rig.store.info("big")
    before = memory.bytes_read
    start, end = target.geometry.extent(names[0], target.size)
    assert await body_of(await rig.store.read("big", ByteRange(start, end))) == BIG[start:end]
    assert memory.bytes_read == before
    await rig.pages.close()


async def test_pages_of_a_memory_only_mount_never_reach_a_disk(tmp_path: Path, tier: MemoryTier) -> None:
    rig, memory = rig_of(tmp_path, tier, Residency.MEMORY)
    await filled(rig)
    await flood(rig, memory, 3 << 20)
    assert tier.stats().evicted > 0
    await rig.pages.close()
    assert rig.pages.stats().demoted == 0
    assert not list(tmp_path.glob("pages*/???/*"))


async def test_what_was_freed_is_not_written_any_more(tmp_path: Path, tier: MemoryTier) -> None:
    rig, _ = rig_of(tmp_path, tier)
    for _ in range(3):
        rig.pages.directories[0].fault("read", OSError(errno.EIO, "broken"))
    await filled(rig)
    assert tier.stats().filled
    rig.pages.directories[0].health.success()
    await rig.store.free("")
    assert tier.stats().filled == 0
    for filler in range(600):
        tier.put(filler.to_bytes(16, "big"), filler, os.urandom(PAGE))
    await rig.pages.close()
    assert not rig.segment_files()


async def test_long_warm_answers_of_the_memory_tier_are_ready(tmp_path: Path) -> None:
    tier = MemoryTier.create(64 << 20, PAGE)
    rig, memory = rig_of(tmp_path, tier, Residency.MEMORY)
    body = os.urandom((8 << 20) + 1)
    memory.put("long", body)
    await filled(rig, "long")
    peeked = rig.store.peek("long", ByteRange(1, len(body)))
    assert peeked is not None
    assert not any(isinstance(piece, FileSlice) for piece in peeked.ready or ())
    assert ready_bytes(peeked) == body[1:]
    assert rig.store.peek("long", None) is None
    assert await body_of(await rig.store.read("long")) == body
    await rig.pages.close()
    tier.close()
