import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache import merge as merging
from headrace.cache.handles import CachedObject
from headrace.cache.layout import Geometry, SegmentName
from headrace.cache.merge import merge
from headrace.model.events import PagesDropped
from headrace.model.mounts import Residency
from headrace.model.objects import ByteRange
from headrace.model.reading import FileSlice
from headrace.stores.memory import MemoryStore
from support.caching import CHUNK, PAGE, Rig, body_of

SIZE = 2 * CHUNK + 3 * PAGE + 17


async def filled(home: Path, *, residency: Residency = Residency.DISK) -> tuple[Rig, CachedObject, bytes]:
    """An object that was read once: all its pages are there, in several files."""
    body, store = os.urandom(SIZE), MemoryStore()
    store.put("k", body)
    rig = Rig(home, store, residency=residency)
    assert await body_of(await rig.store.read("k")) == body
    await rig.settled()
    return rig, rig.store.target(await rig.store.info("k")), body


def bytes_of(found: FileSlice | None) -> bytes:
    assert found is not None
    return os.pread(found.fd, found.length, found.offset)


def kinds(rig: Rig) -> set[str]:
    return {path.name[33:] for path in rig.segment_files()}


async def test_a_wholly_cached_object_becomes_one_proved_file_at_once(tmp_path: Path) -> None:
    rig, target, body = await filled(tmp_path)
    assert len(rig.segment_files()) > 1
    assert rig.pages.wholes.find(target) is None
    assert await rig.pages.wholes.join(target)
    assert kinds(rig) == {"w"}
    assert bytes_of(rig.pages.wholes.find(target)) == body
    assert await body_of(await rig.store.read("k")) == body
    await rig.pages.close()


async def test_it_begins_when_the_last_page_is_still_on_its_way(tmp_path: Path) -> None:
    body, store = os.urandom(SIZE), MemoryStore()
    store.put("k", body)
    rig = Rig(tmp_path, store)
    assert await body_of(await rig.store.read("k")) == body
    assert await rig.pages.wholes.join(rig.store.target(await rig.store.info("k")))
    await rig.pages.close()


@settings(deadline=None, max_examples=50)
@given(st.data())
async def test_pages_that_came_in_any_order_become_one_file_when_the_last_is_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    size = data.draw(st.integers(PAGE + 1, CHUNK + 3 * PAGE))
    body, store = os.urandom(size), MemoryStore()
    store.put("k", body)
    rig = Rig(tmp_path_factory.mktemp("home"), store)
    try:
        target = rig.store.target(await rig.store.info("k"))
        order = data.draw(st.permutations(range(-(-size // PAGE))))
        for page in order[:-1]:
            await body_of(await rig.store.read("k", ByteRange(page * PAGE, min(size, page * PAGE + 1))))
        await rig.settled()
        joined = await rig.pages.wholes.join(target)
        assert joined == all(rig.pages.holds(target, page) for page in order)
        await body_of(await rig.store.read("k", ByteRange(order[-1] * PAGE, min(size, order[-1] * PAGE + 1))))
        assert await rig.pages.wholes.join(target)
        assert bytes_of(rig.pages.wholes.find(target)) == body
    finally:
        await rig.pages.close()


async def test_an_object_with_an_absent_page_is_left_as_it_is_and_no_store_is_asked(tmp_path: Path) -> None:
    body, store = os.urandom(SIZE), MemoryStore()
    store.put("k", body)
    rig = Rig(tmp_path, store)
    await body_of(await rig.store.read("k", ByteRange(0, CHUNK)))
    await rig.settled()
    before, asked = rig.segment_files(), store.bytes_read
    assert not await rig.pages.wholes.join(rig.store.target(await rig.store.info("k")))
    assert rig.segment_files() == before
    assert store.bytes_read == asked
    await rig.pages.close()


async def test_what_may_not_lie_on_a_disk_is_never_made_a_file(tmp_path: Path) -> None:
    for residency in (Residency.MEMORY, Residency.NONE):
        rig, target, _ = await filled(tmp_path / residency.value, residency=residency)
        assert not await rig.pages.wholes.join(target)
        assert rig.pages.wholes.find(target) is None
        assert rig.segment_files() == []
        await rig.pages.close()


async def test_a_page_that_was_spoilt_is_never_handed_on(tmp_path: Path) -> None:
    rig, target, body = await filled(tmp_path)
    victim = next(path for path in rig.segment_files() if path.name.endswith(".c1"))
    with open(victim, "r+b") as file:
        file.seek(5 * PAGE)
        file.write(b"spoilt")
    assert not await rig.pages.wholes.join(target)
    assert rig.pages.wholes.find(target) is None
    assert any(isinstance(event, PagesDropped) and event.reason == "corrupt" for event in rig.events)
    assert await body_of(await rig.store.read("k")) == body
    await rig.pages.close()


async def test_what_a_killed_merge_left_beside_its_result_goes_when_that_is_proved(tmp_path: Path) -> None:
    rig, target, body = await filled(tmp_path)
    left = {path: (path.read_bytes(), path.with_name(path.name + ".sum")) for path in rig.segment_files()}
    sums = {path: path.read_bytes() for _, path in left.values() if path.exists()}
    assert await rig.pages.wholes.join(target)
    for path, (data, _) in left.items():
        path.write_bytes(data)
    for path, data in sums.items():
        path.write_bytes(data)
    assert kinds(rig) > {"w"}
    await rig.restart()
    assert await rig.pages.wholes.join(rig.store.target(await rig.store.info("k")))
    assert kinds(rig) == {"w"}
    assert await body_of(await rig.store.read("k")) == body
    await rig.pages.close()


async def test_a_file_that_changed_after_its_proof_is_proved_no_longer(tmp_path: Path) -> None:
    rig, target, _ = await filled(tmp_path)
    assert await rig.pages.wholes.join(target)
    (whole,) = rig.segment_files()
    with open(whole, "r+b") as file:
        file.write(b"spoilt")
    assert rig.pages.wholes.find(target) is None
    await rig.pages.close()


async def test_what_was_evicted_is_found_no_longer_and_readers_keep_it(tmp_path: Path) -> None:
    rig, target, body = await filled(tmp_path)
    assert await rig.pages.wholes.join(target)
    held = rig.pages.wholes.find(target)
    rig.pages.drop(target, "evicted")
    assert rig.segment_files() == []
    assert rig.pages.wholes.find(target) is None
    assert bytes_of(held) == body
    await rig.pages.close()


async def test_those_who_ask_together_get_one_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, target, _ = await filled(tmp_path)
    merges: list[str] = []

    def counted(
        root: str, geometry: Geometry, name: SegmentName, parts: tuple[SegmentName, ...], *, stop: threading.Event
    ) -> int:
        merges.append(name.path)
        return merge(root, geometry, name, parts, stop=stop)

    monkeypatch.setattr("headrace.cache.wholes.merge", counted)
    assert await asyncio.gather(*(rig.pages.wholes.join(target) for _ in range(5))) == [True] * 5
    assert len(merges) == 1
    await rig.pages.close()


async def test_a_device_without_room_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, target, body = await filled(tmp_path)
    before = rig.segment_files()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(merging.os, "copy_file_range", full)
    assert not await rig.pages.wholes.join(target)
    assert rig.segment_files() == before
    assert await body_of(await rig.store.read("k")) == body
    await rig.pages.close()


async def test_a_close_ends_what_runs_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    rig, target, body = await filled(tmp_path)
    joining = asyncio.ensure_future(rig.pages.wholes.join(target))
    await asyncio.sleep(0)
    await rig.pages.close()
    await joining
    assert not list(tmp_path.rglob("*.part"))
    rig.open()
    assert await body_of(await rig.store.read("k")) == body
    await rig.pages.close()


async def test_a_mount_that_leaves_its_disks_waits_for_what_is_being_joined(tmp_path: Path) -> None:
    rig, target, _ = await filled(tmp_path)
    joining = asyncio.ensure_future(rig.pages.wholes.join(target))
    await asyncio.sleep(0)
    await rig.store.leave_disks()
    await joining
    assert rig.segment_files() == []
    await rig.pages.close()
