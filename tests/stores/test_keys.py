import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import InvalidKey, InvalidRange
from headrace.model.objects import ByteRange
from headrace.stores.keys import behind_prefix, check_key, cut_range, rolled_up, text_behind

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(TEXT, TEXT, TEXT)
def test_what_lies_behind_a_prefix_is_behind_all_its_keys_and_before_the_rest(prefix: str, tail: str, other: str) -> None:
    assert (prefix + tail).encode() < behind_prefix(prefix)
    if not other.startswith(prefix) and other > prefix:
        assert other.encode() >= behind_prefix(prefix)


@given(TEXT, TEXT, TEXT)
def test_the_text_behind_a_prefix_passes_no_other_key_by(prefix: str, tail: str, other: str) -> None:
    behind = text_behind(prefix)
    behind.encode()
    if prefix.rstrip("\U0010ffff"):
        assert prefix + tail < behind
    if not other.startswith(prefix) and other > prefix:
        assert other >= behind


@pytest.mark.parametrize("prefix", ["a\ud7ff", "a\U0010ffff", "\U0010ffff", "a\uffff"])
def test_the_text_behind_is_always_utf8(prefix: str) -> None:
    assert text_behind(prefix).encode() > prefix.encode()


@given(TEXT, TEXT, TEXT)
def test_a_key_is_rolled_up_to_its_first_delimiter_behind_the_prefix(prefix: str, middle: str, delimiter: str) -> None:
    common = rolled_up(prefix + middle + delimiter, prefix, delimiter)
    assert common is not None
    assert common.startswith(prefix)
    assert common.endswith(delimiter)
    assert delimiter not in common[len(prefix) : -1] or len(delimiter) > 1 or delimiter in prefix or common.count(delimiter) == 1


@given(st.integers(-5, 50), st.integers(-5, 80), st.integers(0, 40))
def test_a_range_is_cut_or_invalid(start: int, end: int, size: int) -> None:
    body = bytes(size)
    try:
        cut = cut_range(ByteRange(start, end), size, "k")
    except InvalidRange as error:
        assert error.size == size
        assert start < 0 or start >= size or end <= start
    else:
        assert len(body[start:end]) == cut.length > 0
        assert cut.start == start


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_what_no_key_can_be_is_invalid(key: str) -> None:
    with pytest.raises(InvalidKey):
        check_key(key)
