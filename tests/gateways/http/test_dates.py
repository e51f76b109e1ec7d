"""HTTP's three forms of dates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.http.dates import format_date, parse_date

NOW = 1_795_000_000.0


@given(st.integers(0, 4_000_000_000))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_date(format_date(seconds).encode(), NOW) == seconds


@pytest.mark.parametrize(
    "text", [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"]
)
def test_all_three_forms_are_read(text: bytes) -> None:
    assert parse_date(text, NOW) == 784111777


@pytest.mark.parametrize(
    "text", [b"", b"0", b"Sun, 31 Feb 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 25:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37"]
)
def test_anything_else_is_no_date(text: bytes) -> None:
    assert parse_date(text, NOW) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_date_or_none(text: bytes) -> None:
    found = parse_date(text, NOW)
    assert found is None or parse_date(format_date(found).encode(), NOW) == found
