import os
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
from headrace.cache.merge import Merger, merge, plan
from headrace.cache.scrub import Scrubber, verify

GEOMETRY = Geometry(4096)
OBJECT = object_id("m", "key", "v")
CHUNK = GEOMETRY.chunk


def name(kind: Kind, index: int = 0) -> SegmentName:
    return SegmentName(OBJECT, kind, index)


def write(root: Path, segment: SegmentName, data: bytes) -> Path:
    path = root / segment.path
    path.parent.mkdir(exist_ok=True)
    first = 0 if segment.kind is Kind.WHOLE else segment.index * (CHUNK_PAGES if segment.kind is Kind.CHUNK else 1)
    sums = [checksum(data[at : at + 4096], OBJECT, first + at // 4096) for at in range(0, len(data), 4096)]
    if GEOMETRY.has_footer(len(data)):
        path.write_bytes(data + encode_footer(sums[0], len(data), 4096))
    else:
        path.with_name(path.name + SUM_SUFFIX).write_bytes(encode_sums(Sums(4096, len(data), tuple(sums))))
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


def test_the_rate_bounds_what_is_merged(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])
    merger = Merger(str(tmp_path), GEOMETRY, bytes_per_s=CHUNK)
    merger._allowance = 0.0
    assert visit(merger, tmp_path, 0.0) == []
    assert visit(merger, tmp_path, 3.0)


def test_new_segments_are_left_alone_for_a_while(tmp_path: Path) -> None:
    data = os.urandom(CHUNK + 100)
    write(tmp_path, name(Kind.CHUNK, 0), data[:CHUNK])
    path = write(tmp_path, name(Kind.CHUNK, 1), data[CHUNK:])
    folder = look(str(path.parent), GEOMETRY, path.stat().st_ctime + 5)
    assert list(Merger(str(tmp_path), GEOMETRY, quiet_s=30).visit(folder, 0.0)) == []


@given(st.dictionaries(st.tuples(st.sampled_from(list(Kind)), st.integers(0, 130)), st.integers(1, CHUNK), max_size=140))
def test_a_plan_only_joins_neighbours_that_fill_their_target(found: dict[tuple[Kind, int], int]) -> None:
    sizes = {name(kind, 0 if kind is Kind.WHOLE else index): size for (kind, index), size in found.items()}
    for target, parts in plan(sizes, GEOMETRY):
        assert target not in sizes
        assert all(part in sizes for part in parts)
        assert [part.index for part in parts] == list(range(parts[0].index, parts[0].index + len(parts)))


def test_an_object_whose_end_is_not_known_keeps_its_chunks() -> None:
    assert plan({name(Kind.CHUNK, 0): CHUNK, name(Kind.CHUNK, 1): CHUNK}, GEOMETRY) == []
    assert plan({name(Kind.CHUNK, 1): CHUNK, name(Kind.CHUNK, 2): 10}, GEOMETRY) == []
