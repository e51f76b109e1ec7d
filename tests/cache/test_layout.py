"""Names, footers and sidecars: what was written is read back, anything else is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.layout import (
    Geometry,
    Kind,
    SegmentName,
    Sums,
    checksum,
    decode_footer,
    decode_sums,
    encode_footer,
    encode_sums,
    is_last,
    mount_tag,
    object_id,
    parse_segment,
    tag_of,
)

PAGE = 65536
IDS = st.binary(min_size=16, max_size=16)


@given(IDS, st.sampled_from(Kind), st.integers(0, 1 << 40))
def test_names_are_read_back(named: bytes, kind: Kind, index: int) -> None:
    name = SegmentName(named, kind, 0 if kind is Kind.WHOLE else index)
    folder, _, file = name.path.partition("/")
    assert parse_segment(file) == name
    assert file.startswith(folder)


@given(st.text(max_size=60))
def test_strangers_have_no_name(text: str) -> None:
    name = parse_segment(text)
    assert name is None or name.path.endswith(text)


@given(st.integers(0, 2**64 - 1), st.integers(1, PAGE), st.booleans())
def test_footers_are_read_back_and_bound_to_length_and_page(value: int, length: int, last: bool) -> None:
    footer = encode_footer(value, length, PAGE, last=last)
    assert is_last(footer) is last
    assert decode_footer(footer, length, PAGE) == value
    assert decode_footer(footer, length + 1, PAGE) is None
    assert decode_footer(footer, length, PAGE * 2) is None
    assert decode_footer(footer[:-1], length, PAGE) is None


@given(st.integers(1, 40 * PAGE), st.data())
def test_sidecars_are_read_back_and_every_changed_bit_is_seen(length: int, data: st.DataObject) -> None:
    count = Geometry(PAGE).pages(length)
    sums = Sums(PAGE, length, tuple(range(count)), data.draw(st.booleans()))
    encoded = encode_sums(sums)
    assert decode_sums(encoded) == sums
    place = data.draw(st.integers(0, len(encoded) * 8 - 1))
    flipped = bytearray(encoded)
    flipped[place // 8] ^= 1 << place % 8
    assert decode_sums(bytes(flipped)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_no_sidecar(data: bytes) -> None:
    assert decode_sums(data) is None


def test_object_ids_tell_mount_key_and_version_apart() -> None:
    ids = {object_id(m, k, v) for m in ("m", "n") for k in ("a", "b") for v in ("1", "2")}
    assert len(ids) == 8
    assert tag_of(object_id("m", "a", "1")) == mount_tag("m") == tag_of(object_id("m", "b", "2"))


def test_a_page_under_another_name_has_another_checksum() -> None:
    data = bytes(PAGE)
    values = {checksum(data, named, index) for named in (bytes(16), b"x" * 16) for index in (0, 1)}
    assert len(values) == 4
