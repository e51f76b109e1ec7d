"""Readers of what lies in a page directory: any bytes are the page that was written, or nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache.layout import (
    FOOTER_BYTES,
    SUM_SUFFIX,
    Geometry,
    Kind,
    SegmentName,
    Sums,
    checksum,
    decode_footer,
    decode_sums,
    encode_footer,
    encode_sums,
    parse_segment,
)
from headrace.cache.segment import SegmentBad, open_segment
from headrace.model.disk import SystemDisk

PAGE = 4096
GEOMETRY = Geometry(PAGE)
OBJECT = bytes(range(16))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=64), length=st.integers(0, PAGE))
def test_a_footer_is_read_only_where_one_was_written(data: bytes, length: int) -> None:
    found = decode_footer(data, length, PAGE)
    assert found is None or encode_footer(found, length, PAGE) == data


@settings(max_examples=300, deadline=None)
@given(
    sums=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    short=st.integers(0, PAGE - 1),
    at=st.integers(0, 200),
    bit=st.integers(0, 7),
    cut=st.integers(0, 100),
)
def test_a_sidecar_with_any_bit_changed_or_cut_is_none(sums: list[int], short: int, at: int, bit: int, cut: int) -> None:
    written = Sums(PAGE, len(sums) * PAGE - short, tuple(sums))
    data = encode_sums(written)
    assert decode_sums(data) == written
    place = at % len(data)
    flipped = data[:place] + bytes((data[place] ^ (1 << bit),)) + data[place + 1 :]
    assert decode_sums(flipped) is None
    assert decode_sums(data[: cut % len(data)]) is None
    assert decode_sums(data + b"\0") is None


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda tail: b"HRsm\x01\x0c\0\0" + tail)))
def test_any_bytes_are_a_sidecar_or_none(data: bytes) -> None:
    found = decode_sums(data)
    assert found is None or encode_sums(found) == data


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.from_regex(r"\A[0-9a-f]{31,33}\.[wcp]?[0-9a-fA-F]{0,14}(\.part|\.sum|\n)?\Z")))
def test_any_file_name_is_a_segment_that_has_just_this_name_or_none(text: str) -> None:
    found = parse_segment(text)
    assert found is None or Path(found.path).name == text


def read_all(root: Path, name: SegmentName, size: int) -> bytes | None:
    """What a reader gets of a segment: the whole of it, or None where it is bad or absent."""
    start, end = GEOMETRY.extent(name, size)
    try:
        segment = open_segment(SystemDisk(), str(root), name, GEOMETRY, size=size, now=False)
        if segment is None:
            return None
        return bytes(segment.read(start, end, now=False))
    except SegmentBad:
        return None


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(min_size=1, max_size=300),
    damage=st.sampled_from(["flip", "cut", "grow", "foreign", "renamed"]),
    at=st.integers(0, 1000),
    bit=st.integers(0, 7),
    foreign=st.binary(max_size=400),
)
def test_a_page_that_was_damaged_is_never_read(body: bytes, damage: str, at: int, bit: int, foreign: bytes) -> None:
    name = SegmentName(OBJECT, Kind.PAGE, 0)
    good = body + encode_footer(checksum(body, OBJECT, 0), len(body), PAGE)
    place = at % len(good)
    damaged = {
        "flip": good[:place] + bytes((good[place] ^ (1 << bit),)) + good[place + 1 :],
        "cut": good[:place],
        "grow": good + foreign,
        "foreign": foreign,
        "renamed": good,
    }[damage]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / name.path, good)
        assert read_all(root, name, len(body)) == body
        if damage == "renamed":
            name = SegmentName(bytes(reversed(OBJECT)), Kind.PAGE, 0)
        write(root / name.path, damaged)
        found = read_all(root, name, len(body))
        assert found is None or damaged == good
        assert damage != "renamed" or found is None


@settings(max_examples=80, deadline=None)
@given(
    pages=st.integers(2, 4),
    short=st.integers(0, PAGE - 1),
    side=st.booleans(),
    at=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
    swap=st.booleans(),
)
def test_a_long_segment_with_any_bit_changed_in_it_or_beside_it_is_never_read(
    pages: int, short: int, side: bool, at: int, bit: int, swap: bool
) -> None:
    size = pages * PAGE - short
    body = os.urandom(size)
    name = SegmentName(OBJECT, Kind.WHOLE)
    parts = [body[start : start + PAGE] for start in range(0, size, PAGE)]
    sums = encode_sums(Sums(PAGE, size, tuple(checksum(part, OBJECT, index) for index, part in enumerate(parts))))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / name.path
        write(path, body)
        write(path.with_name(path.name + SUM_SUFFIX), sums)
        assert read_all(root, name, size) == body
        target = path.with_name(path.name + SUM_SUFFIX) if side else path
        data = bytearray(target.read_bytes())
        if swap and not side:
            data[:PAGE], data[PAGE : 2 * PAGE] = data[PAGE : 2 * PAGE], data[:PAGE]
        else:
            data[at % len(data)] ^= 1 << bit
        if bytes(data) == target.read_bytes():
            return
        target.write_bytes(bytes(data))
        assert read_all(root, name, size) is None


def test_a_footer_is_as_long_as_is_said() -> None:
    assert len(encode_footer(1, 1, PAGE)) == FOOTER_BYTES
