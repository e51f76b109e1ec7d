"""Sums of objects made from parts."""

import pytest

from headrace.model.errors import CorruptData, InvalidPart, Unsupported
from headrace.model.uploads import Part
from headrace.stores.parts import can_keep, check_checksums, named_parts, part_bounds, parts_checksums


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
