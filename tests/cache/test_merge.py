import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache import merge as merging
from headrace.cache.folder import look
from headrace.cache.keeper import Change
from headrace.cache.layout import (
    CHUNK_PAGES,
    SUM_SUFFIX,
    Geometry,
    Kind,
    SegmentName,
    Sums,
    checksum,
    encode_footer,
    encode_sums,
    object_id,
)
from headrace.cache.merge import Allowance, Merger, merge, plan, remove_parts
from headrace.cache.scrub import Scrubber, verify
from headrace.model.objects import ByteRange
from headrace.stores.memory import MemoryStore
from support.caching import Rig, body_of, ready_bytes

GEOMETRY = Geometry(4096)
OBJECT = object_id("m", "key", "v")
CHUNK = GEOMETRY.chunk


def name(kind: Kind, index: int = 0) -> SegmentName:
    return SegmentName(OBJECT, kind, index)


def write(root: Path, segment: SegmentName, data: bytes, *, last: bool = False) -> Path:
    path = root / segment.path
    path.parent.mkdir(exist_ok=True)
    first = 0 if segment.kind is Kind.WHOLE else segment.index * (CHUNK_PAGES if segment.kind is Kind.CHUNK else 1)
    sums = [checksum(data[at : at + 4096], OBJECT, first + at // 4096) for at in range(0, len(data), 4096)]
    if GEOMETRY.has_footer(len(data)):
        path.write_bytes(data + encode_footer(sums[0], len(data), 4096, last=last))
    else:
        path.with_name(path.name + SUM_SUFFIX).write_bytes(encode_sums(Sums(4096, len(data), tuple(sums), last)))
        path.write_bytes(data)
    return path


def visit(merger: Merger | Scrubber, root: Path, now: float = 0.0) -> list[Change]:
    return list(merger.visit(look(f"{root}/{OBJECT.hex()[:3]}", GEOMETRY, 1e12), now))


def files(root: Path) -> set[str]:
    return {path.name.partition(".")[2] for path in root.glob("???/*")}


@pytest.mark.parametrize("tail", [1, 4096, 4097, 50_000])
def test_all_chunks_of_an_object_become_one_plain_file(tmp_path: Path, tail: int) -> None:
    data = os.urandom(2 * CHUNK + tail)
    for index in range(3):
        write(tmp_path, name(Kind.CHUNK, index), data[index * CHUNK : (index + 1) * CHUNK])
    changes = visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert files(tmp_path) == {"w", "w.sum"}
    assert (tmp_path / name(Kind.WHOLE).path).read_bytes() == data
    assert verify(str(tmp_path), GEOMETRY, name(Kind.WHOLE))
    assert changes[0] == Change(name(Kind.WHOLE), len(data))
    assert {change.name.index for change in changes[1:]} == {0, 1, 2}


def test_a_full_run_of_pages_becomes_a_chunk(tmp_path: Path) -> None:
    data = os.urandom(CHUNK)
    for page in range(CHUNK_PAGES):
        write(tmp_path, name(Kind.PAGE, CHUNK_PAGES + page), data[page * 4096 : (page + 1) * 4096])
    write(tmp_path, name(Kind.PAGE, 5), b"x" * 4096)
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert files(tmp_path) == {"c1", "c1.sum", "p5"}
    assert (tmp_path / name(Kind.CHUNK, 1).path).read_bytes() == data
    assert verify(str(tmp_path), GEOMETRY, name(Kind.CHUNK, 1))


def test_a_bad_page_stays_bad_when_merged(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    first = write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])
    flipped = bytearray(first.read_bytes())
    flipped[9999] ^= 1
    first.write_bytes(flipped)
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert verify(str(tmp_path), GEOMETRY, name(Kind.WHOLE)) is False


def test_a_part_without_its_checksums_is_left_alone(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    first = write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])
    first.with_name(first.name + SUM_SUFFIX).write_bytes(b"damaged")
    assert not merge(str(tmp_path), GEOMETRY, name(Kind.WHOLE), (name(Kind.CHUNK, 0), name(Kind.CHUNK, 1)))
    assert files(tmp_path) == {"c0", "c0.sum", "c1"}


def test_a_failing_device_leaves_the_parts_and_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(CHUNK + 100)
    write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging.os, "copy_file_range", full)
    assert visit(Merger(str(tmp_path), GEOMETRY), tmp_path) == []
    assert files(tmp_path) == {"c0", "c0.sum", "c1"}


def test_the_rate_bounds_what_is_merged() -> None:
    allowance = Allowance(10, 100)
    assert allowance.take(90, 0.0)
    assert not allowance.take(20, 0.0)
    assert allowance.take(20, 1.0)
    assert not allowance.take(1, 1.0)


def test_what_is_longer_than_a_burst_waits_for_a_whole_one_and_is_paid_back() -> None:
    allowance = Allowance(10, 100)
    assert allowance.take(250, 0.0)
    assert not allowance.take(1, 15.0)
    assert not allowance.take(250, 24.0)
    assert allowance.take(250, 25.0)


def test_what_was_freed_while_it_was_merged_does_not_come_back(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    parts = (name(Kind.CHUNK, 0), name(Kind.CHUNK, 1))
    write(tmp_path, parts[0], data[:CHUNK])
    write(tmp_path, parts[1], data[CHUNK:])
    assert merge(str(tmp_path), GEOMETRY, name(Kind.WHOLE), parts)
    (tmp_path / parts[1].path).unlink()
    assert not remove_parts(str(tmp_path), name(Kind.WHOLE), parts)
    assert files(tmp_path) == set()


def test_a_merge_that_is_stopped_leaves_its_parts(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    parts = (name(Kind.CHUNK, 0), name(Kind.CHUNK, 1))
    write(tmp_path, parts[0], data[:CHUNK])
    write(tmp_path, parts[1], data[CHUNK:])
    before, stop = files(tmp_path), threading.Event()
    stop.set()
    assert merge(str(tmp_path), GEOMETRY, name(Kind.WHOLE), parts, stop=stop) == 0
    assert files(tmp_path) == before


def test_new_segments_are_left_alone_for_a_while(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    path = write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])
    folder = look(str(path.parent), GEOMETRY, path.stat().st_ctime + 5)
    assert list(Merger(str(tmp_path), GEOMETRY, quiet_s=30).visit(folder, 0.0)) == []


@given(st.integers(1, 3 * CHUNK), st.sampled_from(["known", "not known"]), st.data())
def test_a_plan_only_joins_neighbours_that_fill_their_target(size: int, known: str, data: st.DataObject) -> None:
    chunks = [name(Kind.CHUNK, n) for n in range(-(-size // CHUNK)) if size > CHUNK and data.draw(st.booleans())]
    spared = data.draw(st.sets(st.integers(0, GEOMETRY.pages(size) - 1), max_size=2))
    pages = [name(Kind.PAGE, n) for n in range(GEOMETRY.pages(size)) if n not in spared]
    extents = {one: GEOMETRY.extent(one, size) for one in (*chunks, *pages)}
    lengths = {one: end - start for one, (start, end) in extents.items()}
    plans = plan(lengths, GEOMETRY, size if known == "known" else None)
    for target, parts in plans:
        assert target not in lengths
        assert all(extents[one][1] == extents[other][0] for one, other in pairwise(parts))
        assert (extents[parts[0]][0], extents[parts[-1]][1]) == GEOMETRY.extent(target, size)
    if known == "known" and not spared and len(lengths) > 1:
        assert [target.kind for target, _ in plans] == [Kind.WHOLE]


def test_an_object_whose_end_is_not_known_keeps_its_chunks() -> None:
    assert plan({name(Kind.CHUNK, 0): CHUNK, name(Kind.CHUNK, 1): CHUNK}, GEOMETRY, None) == []
    assert plan({name(Kind.CHUNK, 1): CHUNK, name(Kind.CHUNK, 2): 10}, GEOMETRY, 2 * CHUNK + 10) == []


@pytest.mark.parametrize("size", [CHUNK, 2 * CHUNK, 5 * 4096, 5 * 4096 + 1, CHUNK + 4096, CHUNK + 4097, CHUNK + 4100])
def test_single_pages_of_a_whole_object_become_one_plain_file(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    for page in range(GEOMETRY.pages(size)):
        write(tmp_path, name(Kind.PAGE, page), data[page * 4096 : (page + 1) * 4096], last=page == GEOMETRY.pages(size) - 1)
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert files(tmp_path) == {"w", "w.sum"}
    assert (tmp_path / name(Kind.WHOLE).path).read_bytes() == data
    assert verify(str(tmp_path), GEOMETRY, name(Kind.WHOLE))


def test_the_last_pages_of_an_object_become_its_last_chunk(tmp_path: Path) -> None:
    data = os.urandom(3 * 4096)
    for page in range(3):
        write(tmp_path, name(Kind.PAGE, CHUNK_PAGES + page), data[page * 4096 : (page + 1) * 4096], last=page == 2)
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert files(tmp_path) == {"c1", "c1.sum"}
    write(tmp_path, name(Kind.CHUNK, 0), os.urandom(CHUNK))
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert files(tmp_path) == {"w", "w.sum"}


def test_a_chunk_a_little_longer_than_a_page_is_not_taken_for_a_page(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 4101)
    write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:], last=True)
    visit(Merger(str(tmp_path), GEOMETRY), tmp_path)
    assert (tmp_path / name(Kind.WHOLE).path).read_bytes() == data


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("page", [4096, pytest.param(65536, marks=pytest.mark.slow)])
async def test_readers_go_on_while_their_chunks_are_merged(tmp_path: Path, page: int, extra: int) -> None:
    geometry = Geometry(page)
    chunk, size = geometry.chunk, 16 * geometry.chunk + extra
    body = os.urandom(size)
    store = MemoryStore()
    store.put("k", body)
    rig = Rig(tmp_path, store, page=page)
    assert await body_of(await rig.store.read("k")) == body
    await rig.settled()
    assert await body_of(await rig.store.read("k")) == body
    peeked = rig.store.peek("k", ByteRange(0, 10 * chunk))
    assert peeked is not None
    streaming = await rig.store.read("k")
    pieces = aiter(streaming)
    got = bytes(await anext(pieces))
    target = rig.store.target(await rig.store.info("k"))
    folder = f"{rig.pages.directories[0].root}/{target.object_id.hex()[:3]}"
    merger = Merger(rig.pages.directories[0].root, geometry)
    list(merger.visit(look(folder, geometry, 1e12), 0.0))
    assert [path.name[32:] for path in rig.segment_files()] == [".w"]
    assert rig.segment_files()[0].read_bytes() == body
    assert ready_bytes(peeked) == body[: 10 * chunk]
    async for piece in pieces:
        got += bytes(piece)
    assert got == body
    asked = store.bytes_read
    for start in range(0, size, chunk):
        part = ByteRange(start, min(start + 5000, size))
        assert await body_of(await rig.store.read("k", part)) == body[part.start : part.end]
    assert store.bytes_read == asked
    await rig.pages.close()
