import os
from pathlib import Path

from headrace.cache.folder import look
from headrace.cache.keeper import Change
from headrace.cache.layout import Geometry, Kind, SegmentName, Sums, checksum, encode_footer, encode_sums, object_id
from headrace.cache.scrub import Scrubber, verify

GEOMETRY = Geometry(4096)
OBJECT = object_id("m", "key", "v")
PAGE = SegmentName(OBJECT, Kind.PAGE, 3)
WHOLE = SegmentName(OBJECT, Kind.WHOLE)


def write_page(root: Path) -> Path:
    data = os.urandom(4096)
    path = root / PAGE.path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data + encode_footer(checksum(data, OBJECT, 3), 4096, 4096))
    return path


def write_whole(root: Path) -> Path:
    data = os.urandom(10_000)
    path = root / WHOLE.path
    path.parent.mkdir(exist_ok=True)
    sums = tuple(checksum(data[at : at + 4096], OBJECT, at // 4096) for at in range(0, 10_000, 4096))
    path.with_name(path.name + ".sum").write_bytes(encode_sums(Sums(4096, 10_000, sums)))
    path.write_bytes(data)
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def scrub(scrubber: Scrubber, root: Path, now: float) -> list[Change]:
    return list(scrubber.visit(look(f"{root}/{OBJECT.hex()[:3]}", GEOMETRY, 1e12), now))


def test_good_segments_stay(tmp_path: Path) -> None:
    write_page(tmp_path)
    write_whole(tmp_path)
    scrubber = Scrubber(str(tmp_path), GEOMETRY)
    assert scrub(scrubber, tmp_path, 0.0) == []
    assert scrubber.scrubbed_bytes == 4112 + 10_000
    assert verify(str(tmp_path), GEOMETRY, PAGE)
    assert verify(str(tmp_path), GEOMETRY, WHOLE)


def test_every_flipped_byte_is_found_and_the_segment_dropped(tmp_path: Path) -> None:
    for at in range(0, 4112, 97):
        flip(write_page(tmp_path), at)
        assert scrub(Scrubber(str(tmp_path), GEOMETRY), tmp_path, 0.0) == [Change(PAGE, 0, "corrupt")]
        assert not (tmp_path / PAGE.path).exists()
    whole = write_whole(tmp_path)
    flip(whole, 9_999)
    assert scrub(Scrubber(str(tmp_path), GEOMETRY), tmp_path, 0.0) == [Change(WHOLE, 0, "corrupt")]
    assert not whole.with_name(whole.name + ".sum").exists()


def test_damaged_checksums_are_a_bad_segment(tmp_path: Path) -> None:
    whole = write_whole(tmp_path)
    flip(whole.with_name(whole.name + ".sum"), 40)
    assert verify(str(tmp_path), GEOMETRY, WHOLE) is False


def test_a_folder_is_read_once_a_turn_and_no_faster_than_allowed(tmp_path: Path) -> None:
    flip(write_page(tmp_path), 5)
    scrubber = Scrubber(str(tmp_path), GEOMETRY, bytes_per_s=100, every_s=1000.0)
    scrubber._allowance = 0.0
    assert scrub(scrubber, tmp_path, 0.0) == []
    assert scrub(scrubber, tmp_path, 1.0)
    flip(write_page(tmp_path), 5)
    assert scrub(scrubber, tmp_path, 900.0) == []
    assert scrub(scrubber, tmp_path, 1002.0)


def test_a_segment_that_vanished_is_neither_good_nor_bad(tmp_path: Path) -> None:
    assert verify(str(tmp_path), GEOMETRY, PAGE) is None
