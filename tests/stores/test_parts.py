"""Sums of objects made from parts."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import CorruptData, InvalidPart, Unsupported
from headrace.model.uploads import Part
from headrace.stores.crc import COMBINED, combine
from headrace.stores.parts import can_keep, check_checksums, named_parts, part_bounds, parts_checksums

CHECK_VALUES = {"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}


@pytest.mark.parametrize("algorithm", COMBINED)
def test_the_published_check_values_come_out(algorithm: str) -> None:
    assert COMBINED[algorithm].of(b"123456789").hex() == CHECK_VALUES[algorithm]


@given(st.sampled_from(sorted(COMBINED)), st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_combined_checks_are_those_of_the_joined_bytes(algorithm: str, runs: list[bytes]) -> None:
    crc = COMBINED[algorithm]
    assert combine(algorithm, [crc.of(run) for run in runs], [len(run) for run in runs]) == crc.of(b"".join(runs))


@given(st.lists(st.integers(0, 2**33), max_size=3), st.binary(max_size=40))
def test_lengths_of_many_bytes_are_combined_quickly(zeros: list[int], data: bytes) -> None:
    known = zlib.crc32(bytes(1000))
    whole = combine("crc32", [known.to_bytes(4, "big"), zlib.crc32(data).to_bytes(4, "big")], [1000, len(data)])
    assert int.from_bytes(whole, "big") == zlib.crc32(bytes(1000) + data)
    assert all(combine("crc32", [whole, b"\0\0\0\0"], [0, length]) for length in zeros)


def test_a_part_without_the_checksum_leaves_the_whole_without_one() -> None:
    parts = [Part(1, "a" * 32, 5, checksums=(("crc32", "AAAAAA=="),)), Part(2, "b" * 32, 5)]
    assert parts_checksums("crc32", "FULL_OBJECT", parts) == ()
    assert parts_checksums("", "", parts) == ()


@pytest.mark.parametrize(
    ("algorithm", "kind", "kept"),
    [
        ("", "", True),
        ("crc64nvme", "FULL_OBJECT", True),
        ("crc32c", "COMPOSITE", True),
        ("sha256", "COMPOSITE", True),
        ("sha256", "FULL_OBJECT", False),
        ("md4", "COMPOSITE", False),
    ],
)
def test_only_checksums_that_can_be_told_are_promised(algorithm: str, kind: str, kept: bool) -> None:
    assert can_keep(algorithm, kind) is kept


def test_a_checksum_that_is_not_known_is_not_taken_for_right() -> None:
    with pytest.raises(Unsupported):
        check_checksums("k", (("crc32", "AAAAAA=="),), ())
    with pytest.raises(CorruptData):
        check_checksums("k", (("crc32", "AAAAAA=="),), (("crc32", "AAAAAQ=="),))
    with pytest.raises(InvalidPart):
        named_parts("k", [Part(1, "e", checksums=(("crc32", "AAAAAA=="),))], [Part(1, "e", 3)], 0)


def test_bounds_follow_from_sizes() -> None:
    assert [part_bounds((3, 0, 5), number) for number in (0, 4)] == [None, None]
    found = part_bounds((3, 0, 5), 3)
    assert found is not None
    assert (found.start, found.end) == (3, 8)
