"""`Range` against a plain reading of RFC 9110."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.s3.ranges import fit_range, parse_range
from headrace.model.objects import ByteRange

SIZE = 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100)),
        (b"bytes=0-0", (0, 1)),
        (b"bytes=10-19", (10, 20)),
        (b"bytes=90-", (90, 100)),
        (b"bytes=90-200", (90, 100)),
        (b"bytes=-10", (90, 100)),
        (b"bytes=-1000", (0, 100)),
        (b"BYTES=1-2", (1, 3)),
        (b"bytes=0-18446744073709551616", (0, 100)),
        (b"bytes=100-", None),
        (b"bytes=18446744073709551616-", None),
        (b"bytes=-0", None),
        (b"bytes=5-4", (0, 100)),
        (b"bytes=0-1,3-4", (0, 100)),
        (b"bytes=,", (0, 100)),
        (b"bytes=-", (0, 100)),
        (b"bytes=a-b", (0, 100)),
        (b"bytes=--1", (0, 100)),
        (b"bytes=1-2-3", (0, 100)),
        (b"items=0-1", (0, 100)),
        (b"bytes 0-1", (0, 100)),
        (b"", (0, 100)),
        (b"bytes=\xb2-5", (0, 100)),
    ],
)
def test_each_form(header: bytes | None, expected: tuple[int, int] | None) -> None:
    assert fit_range(parse_range(header), SIZE) == (ByteRange(*expected) if expected else None)


def test_no_range_of_an_empty_object_can_be_had() -> None:
    assert fit_range(parse_range(b"bytes=0-"), 0) is None
    assert fit_range(parse_range(b"bytes=-5"), 0) is None
    assert fit_range(None, 0) == ByteRange(0, 0)


@given(st.integers(0, 2**70), st.integers(0, 2**70), st.integers(1, 2**40))
def test_ranges_are_what_arithmetic_says(first: int, last: int, size: int) -> None:
    found = fit_range(parse_range(b"bytes=%d-%d" % (first, last)), size)
    if last < first:
        assert found == ByteRange(0, size)
    elif first >= size:
        assert found is None
    else:
        assert found == ByteRange(first, min(last + 1, size))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_range_or_none(header: bytes) -> None:
    found = fit_range(parse_range(b"bytes=" + header), SIZE)
    assert found is None or 0 <= found.start < found.end <= SIZE


def test_ten_thousand_ranges_cost_nothing() -> None:
    header = b"bytes=" + b",".join(b"%d-" % i for i in range(10_000))
    begin = time.process_time()
    assert parse_range(header) is None
    assert time.process_time() - begin < 0.01
