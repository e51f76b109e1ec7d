import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import InvalidKey, Unsupported
from headrace.model.writing import Attributes
from headrace.stores.az_objects import (
    check_new_az_key,
    checked_tags,
    identifier,
    metadata_headers,
    metadata_value,
    read_identifier,
    read_metadata_value,
    read_tag_text,
    tag_text,
)

TOKENS = st.text("abx2d5f_-.0129AZ!~", min_size=1, max_size=20) | st.sampled_from(["headrace_x", "headrace_parts", "_x2d_", "2a"])


@given(TOKENS)
def test_a_name_becomes_an_identifier_and_is_read_again(name: str) -> None:
    assert re.fullmatch("[a-z_][a-z0-9_]*", identifier(name))
    assert not identifier(name).startswith("headrace_")
    assert read_identifier(identifier(name)) == name.lower()


@given(st.text(max_size=30) | st.sampled_from(["=?UTF-8?B?YQ==?=", " a", "a  b", ""]))
def test_a_value_is_kept_exactly_in_a_header_that_nobody_folds(value: str) -> None:
    kept = metadata_value(value)
    assert kept.isascii()
    assert " ".join(kept.split()) == kept != ""
    assert read_metadata_value(kept) == value


@given(st.text(max_size=30) | st.sampled_from(["headrace:x", "a+/=", ""]))
def test_a_tag_has_letters_that_azure_takes_and_is_read_again(text: str) -> None:
    assert re.fullmatch("[A-Za-z0-9 +./:=_-]*", tag_text(text))
    assert read_tag_text(tag_text(text)) == text


@pytest.mark.parametrize(
    "tags", [tuple((str(n), "") for n in range(11)), (("n" * 129, ""),), (("n", "v" * 257),), (("n", "ü" * 128),)]
)
def test_tags_that_a_blob_cannot_have_are_refused(tags: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Unsupported):
        checked_tags(tags)


def test_a_name_that_no_header_can_have_is_refused() -> None:
    with pytest.raises(Unsupported):
        metadata_headers(Attributes(metadata=(("a b", "x"),)))


@pytest.mark.parametrize("key", ["a\x01", "a\n", "a\x7f", "a\x85", "a/../b", ".", "a\\b", ".headrace/uploads/x"])
def test_what_azure_would_not_keep_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidKey, match=re.escape(repr(key))):
        check_new_az_key(key, ".headrace/")
